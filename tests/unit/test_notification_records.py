"""A bucket's notification configuration is checked in S3's words, and events are written as S3 writes them."""

from typing import Any
from urllib.parse import unquote_plus

import pytest
from botocore.model import ServiceModel
from botocore.serialize import create_serializer

from helpers.local_aws.notifications import configuration, records
from helpers.local_aws.notifications.configuration import Configuration
from helpers.local_aws.notifications.records import Happened, Request, Sequencer
from helpers.local_aws.wire import AwsError, service_model

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:f"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:q"
TOPIC = "arn:aws:sns:us-east-1:123456789012:t"
AMBIGUOUS = "Configuration is ambiguously defined"
OVERLAP = "Configurations overlap"


def to_function(*events: str, id: str = "one", arn: str = FUNCTION, **rules: str) -> dict[str, Any]:
    made: dict[str, Any] = {"Id": id, "LambdaFunctionArn": arn, "Events": list(events or ("s3:ObjectCreated:*",))}
    if rules:
        made["Filter"] = {"Key": {"FilterRules": [{"Name": name, "Value": value} for name, value in rules.items()]}}
    return made


def document(**parts: Any) -> str:
    """Return the XML that boto3 sends."""
    model: ServiceModel = service_model("s3")
    params = {"Bucket": "b", "NotificationConfiguration": parts}
    operation = model.operation_model("PutBucketNotificationConfiguration")
    return create_serializer("rest-xml", False).serialize_to_request(params, operation)["body"].decode()


def checked(*functions: dict[str, Any], **parts: Any) -> tuple[Configuration, ...]:
    found = configuration.parse(document(LambdaFunctionConfigurations=list(functions), **parts))
    configuration.check(found, "us-east-1")
    return found


def refused(*functions: dict[str, Any], **parts: Any) -> tuple[str, str]:
    with pytest.raises(AwsError) as caught:
        checked(*functions, **parts)
    return caught.value.code, caught.value.message


def test_what_was_put_comes_back() -> None:
    found = checked(
        to_function("s3:ObjectCreated:Put", "s3:ObjectCreated:CompleteMultipartUpload", prefix="a b/", suffix=".csv"),
        QueueConfigurations=[{"Id": "two", "QueueArn": QUEUE, "Events": ["s3:ObjectRemoved:*"]}],
        TopicConfigurations=[{"Id": "three", "TopicArn": TOPIC, "Events": ["s3:ObjectCreated:Copy"]}],
    )
    assert configuration.parse(configuration.to_xml(found)) == found
    [function] = [one for one in found if one.service == "lambda"]
    assert (function.id, function.arn) == ("one", FUNCTION)
    assert function.rules == (("Prefix", "a b/"), ("Suffix", ".csv"))  # S3 gives the names back like this
    assert {one.service: one.arn for one in found} == {"lambda": FUNCTION, "sqs": QUEUE, "sns": TOPIC}


def test_the_newer_spelling_means_the_same() -> None:
    older = document(LambdaFunctionConfigurations=[to_function()])
    newer = older.replace("CloudFunctionConfiguration", "LambdaFunctionConfiguration")
    newer = newer.replace("<CloudFunction>", "<LambdaFunctionArn>").replace("</CloudFunction>", "</LambdaFunctionArn>")
    assert newer != older
    assert configuration.parse(newer) == configuration.parse(older)


def test_an_id_is_made_up_where_none_is_given() -> None:
    [first], [second] = checked(to_function(id="")), checked(to_function(id=""))
    assert first.id
    assert first.id != second.id


@pytest.mark.parametrize(
    ("rules", "key", "wanted"),
    [
        ({}, "anything", True),
        ({"prefix": "meta-data/"}, "meta-data/a.csv", True),
        ({"prefix": "meta-data/"}, "other/meta-data/a.csv", False),
        ({"suffix": ".csv"}, "a.csv.txt", False),
        ({"suffix": ".csv"}, "a.CSV", False),
        ({"prefix": "a b+ü/", "suffix": "100%.csv"}, "a b+ü/x100%.csv", True),
        ({"prefix": "a+b/"}, "a b/x", False),  # the key as it was given, not as events write it
        ({"prefix": "aa", "suffix": "aa"}, "aaa", True),
    ],
)
def test_a_filter_looks_at_the_key_itself(rules: dict[str, str], key: str, wanted: bool) -> None:
    [one] = checked(to_function(**rules))
    assert one.wants("s3:ObjectCreated:Put", key) is wanted


@pytest.mark.parametrize(
    ("asked", "event", "wanted"),
    [
        ("s3:ObjectCreated:*", "s3:ObjectCreated:CompleteMultipartUpload", True),
        ("s3:ObjectCreated:*", "s3:ObjectRemoved:Delete", False),
        ("s3:ObjectCreated:Put", "s3:ObjectCreated:Copy", False),
        ("s3:ObjectRemoved:*", "s3:ObjectRemoved:DeleteMarkerCreated", True),
        ("s3:ObjectRemoved:Delete", "s3:ObjectRemoved:DeleteMarkerCreated", False),
    ],
)
def test_only_the_events_that_were_asked_for_are_sent(asked: str, event: str, wanted: bool) -> None:
    [one] = checked(to_function(asked))
    assert one.wants(event, "key") is wanted


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ({}, {}, OVERLAP),
        ({}, {"prefix": "a"}, AMBIGUOUS),
        ({"prefix": "a"}, {"prefix": "ab"}, AMBIGUOUS),
        ({"prefix": "a"}, {"suffix": "b"}, AMBIGUOUS),
        ({"prefix": "a", "suffix": ".csv"}, {"prefix": "a", "suffix": "x.csv"}, AMBIGUOUS),
    ],
)
def test_two_configurations_for_one_object_are_refused(
    one: dict[str, str], other: dict[str, str], message: str
) -> None:
    code, said = refused(to_function(**one), to_function("s3:ObjectCreated:Put", id="two", **other))
    assert code == "InvalidArgument"
    assert said.startswith(message)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (to_function(prefix="a/"), to_function(id="two", prefix="b/")),
        (to_function(suffix=".csv"), to_function(id="two", suffix=".json")),
        (to_function(prefix="a", suffix=".csv"), to_function(id="two", prefix="ab", suffix=".json")),
        (to_function("s3:ObjectCreated:Put"), to_function("s3:ObjectCreated:Copy", id="two")),
        (to_function("s3:ObjectCreated:*"), to_function("s3:ObjectRemoved:*", id="two")),
    ],
)
def test_configurations_that_share_no_object_live_together(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert len(checked(one, other)) == 2


def test_a_queue_and_a_function_may_not_share_an_object_either() -> None:
    queue = {"Id": "two", "QueueArn": QUEUE, "Events": ["s3:ObjectCreated:Put"]}
    assert refused(to_function(), QueueConfigurations=[queue])[1].startswith(OVERLAP)


@pytest.mark.parametrize(
    ("function", "code", "message"),
    [
        (to_function("s3:ObjectMade:Put"), "InvalidArgument", "The event is not supported for notifications"),
        (to_function("s3:ObjectTagging:Put"), "NotImplemented", "s3:ObjectTagging:Put"),
        (to_function("s3:ObjectRestore:*"), "NotImplemented", "s3:ObjectRestore:*"),
        (to_function(arn="f"), "InvalidArgument", "The ARN is not well formed"),
        (to_function(arn=QUEUE), "InvalidArgument", "The ARN is not well formed"),
        (to_function(arn=FUNCTION.replace("us-east-1", "eu-west-1")), "InvalidArgument", "region is not valid"),
        (to_function(infix="a"), "InvalidArgument", "must be either prefix or suffix"),
        (to_function(prefix="a", Prefix="b"), "InvalidArgument", "more than one prefix rule"),
        (to_function(prefix="ü" * 513), "InvalidArgument", "cannot exceed 1024 bytes"),
    ],
)
def test_what_s3_does_not_take_is_refused(function: dict[str, Any], code: str, message: str) -> None:
    got, said = refused(function)
    assert (got, message in said) == (code, True), said


def test_ids_are_unique() -> None:
    assert refused(to_function(prefix="a"), to_function(prefix="b"))[1].startswith("Same ID used")


def test_fifo_queues_and_eventbridge_are_refused() -> None:
    queue = {"Id": "two", "QueueArn": f"{QUEUE}.fifo", "Events": ["s3:ObjectCreated:Put"]}
    assert refused(QueueConfigurations=[queue])[0] == "InvalidArgument"
    code, message = refused(EventBridgeConfiguration={})
    assert (code, "EventBridgeConfiguration" in message) == ("NotImplemented", True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<NotificationConfiguration>",
        "<Other/>",
        "<NotificationConfiguration><Unknown/></NotificationConfiguration>",
        "<NotificationConfiguration><QueueConfiguration><Id>a</Id></QueueConfiguration></NotificationConfiguration>",
        '<!DOCTYPE x [<!ENTITY e "e">]><NotificationConfiguration>&e;</NotificationConfiguration>',
    ],
)
def test_xml_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(AwsError) as caught:
        configuration.parse(text)
    assert caught.value.code == "MalformedXML"


def record(happened: Happened) -> dict[str, Any]:
    request = Request("AWS:AIDAEXAMPLE", "127.0.0.1", ("REQUEST", "HOST"))
    event = records.event(
        happened, request, sequencer="0A", region="us-east-1", owner_id="AOWNER", configuration_id="one"
    )
    [found] = event["Records"]
    return found


def test_a_put_is_told_as_s3_tells_it() -> None:
    found = record(Happened("b", "k", "s3:ObjectCreated:Put", 5, '"e"', None))
    time = found.pop("eventTime")
    assert len(time) == len("2026-11-22T09:32:20.604Z")
    assert time.endswith("Z")
    assert found == {
        "eventVersion": "2.6",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "AWS:AIDAEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": "REQUEST", "x-amz-id-2": "HOST"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "one",
            "bucket": {"name": "b", "ownerIdentity": {"principalId": "AOWNER"}, "arn": "arn:aws:s3:::b"},
            "object": {"key": "k", "size": 5, "eTag": "e", "sequencer": "0A"},
        },
    }


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("a b.csv", "a+b.csv"),
        ("a+b", "a%2Bb"),
        ("meta-data/x", "meta-data/x"),
        ("100%", "100%25"),
        ("ü", "%C3%BC"),
        ("it's (1)", "it%27s+%281%29"),
        ("😀", "%F0%9F%98%80"),
    ],
)
def test_keys_are_written_as_in_a_form(key: str, written: str) -> None:
    found = record(Happened("b", key, "s3:ObjectCreated:Put"))["s3"]["object"]["key"]
    assert (found, unquote_plus(found)) == (written, key)


def test_what_was_removed_has_no_size() -> None:
    assert record(Happened("b", "k", "s3:ObjectRemoved:Delete"))["s3"]["object"] == {"key": "k", "sequencer": "0A"}
    marker = record(Happened("b", "k", "s3:ObjectRemoved:DeleteMarkerCreated", version_id="v"))["s3"]["object"]
    assert marker == {
        "key": "k", "eTag": "d41d8cd98f00b204e9800998ecf8427e", "versionId": "v", "sequencer": "0A"
    }  # fmt: skip


def test_sequencers_grow_over_a_restart_too() -> None:
    first = Sequencer()
    numbers = [first.next() for _ in range(1000)]
    numbers.append(Sequencer().next())
    assert numbers == sorted(set(numbers))
    assert {len(number) for number in numbers} == {18}

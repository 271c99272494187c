"""SNS delivers to queues and functions as far as their policies let it, and queues keep what they were given."""

import json
import re
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from clients import ACCOUNT, allow, arn, eventually, function_settings, refused

REPORTS = """
import json, os, boto3
def handler(event, context):
    boto3.client("sqs").send_message(QueueUrl=os.environ["QUEUE"], MessageBody=json.dumps(event))
"""


def name(kind: str) -> str:
    return f"msg-{kind}-{uuid.uuid4().hex[:8]}"


class Post:
    """A topic, and short ways to subscribe things to it."""

    def __init__(self, embedded: Any) -> None:
        self.embedded = embedded
        self.sns, self.sqs, self.functions = (embedded.client(service) for service in ("sns", "sqs", "lambda"))
        self.topic = self.sns.create_topic(Name=name("topic"))["TopicArn"]

    def queue(self, *, open_to: str | None = None) -> tuple[str, str]:
        """Make a queue, open to messages of a topic. Returns its URL and its ARN."""
        queue = name("queue")
        url = self.sqs.create_queue(QueueName=queue)["QueueUrl"]
        if open_to:
            self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy(arn("sqs", queue), open_to)})
        return url, arn("sqs", queue)

    def subscribed(self, **attributes: str) -> str:
        url, queue = self.queue(open_to=self.topic)
        self.sns.subscribe(TopicArn=self.topic, Protocol="sqs", Endpoint=queue, Attributes=attributes)
        return url

    def received(self, url: str, count: int = 1) -> list[dict[str, Any]]:
        """Take the messages out of a queue: what is there once there are ``count``, and with 0 what is there now."""
        got: list[dict[str, Any]] = []

        def enough() -> bool:
            answer = self.sqs.receive_message(
                QueueUrl=url, WaitTimeSeconds=min(count, 1), MaxNumberOfMessages=10, MessageAttributeNames=["All"]
            )
            for message in answer.get("Messages", []):
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                got.append(message)
            return len(got) >= count

        eventually(enough)
        return got

    def function(self, report_to: str) -> str:
        """Make a function that sends each event to a queue. Returns its ARN."""
        queue = arn("sqs", report_to.rpartition("/")[2])
        role = self.embedded.make_role([allow("sqs:SendMessage", queue)], service="lambda.amazonaws.com")
        settings = function_settings(name("f"), role, REPORTS, Environment={"Variables": {"QUEUE": report_to}})
        return self.functions.create_function(**settings)["FunctionArn"]

    def let_in(self, function: str, source: str, principal: str = "sns.amazonaws.com") -> None:
        self.functions.add_permission(
            FunctionName=function, StatementId="in", Action="lambda:InvokeFunction", Principal=principal,
            SourceArn=source,
        )  # fmt: skip


def policy(queue: str, topic: str) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture
def post(embedded: Any) -> Post:
    return Post(embedded)


# --- queues ---


def test_a_queue_gets_the_message_in_its_envelope(post: Post) -> None:
    url = post.subscribed()
    attributes = {"unit": {"DataType": "String", "StringValue": "d1/u1"}}
    sent = post.sns.publish(TopicArn=post.topic, Message="done", Subject="unit", MessageAttributes=attributes)
    (message,) = post.received(url)
    body = json.loads(message["Body"])
    assert body["Type"] == "Notification"
    assert (body["MessageId"], body["TopicArn"]) == (sent["MessageId"], post.topic)
    assert (body["Subject"], body["Message"]) == ("unit", "done")
    assert body["MessageAttributes"] == {"unit": {"Type": "String", "Value": "d1/u1"}}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["Timestamp"])


def test_raw_delivery_is_the_message_itself_with_its_attributes(post: Post) -> None:
    url = post.subscribed(RawMessageDelivery="true")
    attributes = {"unit": {"DataType": "String", "StringValue": "ü"}}
    post.sns.publish(TopicArn=post.topic, Message='{"a": 1}', MessageAttributes=attributes)
    (message,) = post.received(url)
    assert message["Body"] == '{"a": 1}'
    assert message["MessageAttributes"] == attributes


def test_only_a_queue_whose_policy_names_the_topic_gets_its_messages(post: Post) -> None:
    closed, closed_arn = post.queue()
    other, other_arn = post.queue(open_to=f"{post.topic}-2")
    for queue in (closed_arn, other_arn):
        post.sns.subscribe(TopicArn=post.topic, Protocol="sqs", Endpoint=queue)
    right = post.subscribed()
    post.sns.publish(TopicArn=post.topic, Message="m")
    assert len(post.received(right)) == 1
    assert [post.received(url, 0) for url in (closed, other)] == [[], []]


def test_a_filter_policy_chooses_messages(post: Post) -> None:
    url = post.subscribed(FilterPolicy=json.dumps({"status": ["WorkerFailed", {"prefix": "Not"}]}))
    in_body = post.subscribed(FilterPolicy=json.dumps({"n": [{"numeric": [">", 2]}]}), FilterPolicyScope="MessageBody")
    for number, status in enumerate(("WorkerFinished", "WorkerFailed", "NotStarted", None)):
        attributes = {"status": {"DataType": "String", "StringValue": status}} if status else {}
        post.sns.publish(TopicArn=post.topic, Message=json.dumps({"n": number}), MessageAttributes=attributes)

    def numbers(queue: str, count: int) -> list[int]:
        messages = post.received(queue, count)
        return sorted(json.loads(json.loads(message["Body"])["Message"])["n"] for message in messages)

    assert numbers(url, 2) == [1, 2]
    assert numbers(in_body, 1) == [3]


def test_a_message_for_each_protocol(post: Post) -> None:
    url = post.subscribed(RawMessageDelivery="true")
    message = json.dumps({"default": "d", "sqs": "s"})
    post.sns.publish(TopicArn=post.topic, Message=message, MessageStructure="json")
    assert [one["Body"] for one in post.received(url)] == ["s"]
    code, text = refused(lambda: post.sns.publish(TopicArn=post.topic, Message='{"sqs": "s"}', MessageStructure="json"))
    assert (code, "default" in text) == ("InvalidParameter", True)


def test_subscribing_again_is_the_same_subscription_and_an_unsubscribed_queue_gets_nothing(post: Post) -> None:
    url, queue = post.queue(open_to=post.topic)
    made = [
        post.sns.subscribe(TopicArn=post.topic, Protocol="sqs", Endpoint=queue, ReturnSubscriptionArn=True)
        for _ in range(2)
    ]
    assert made[0]["SubscriptionArn"] == made[1]["SubscriptionArn"]
    post.sns.unsubscribe(SubscriptionArn=made[0]["SubscriptionArn"])
    post.sns.publish(TopicArn=post.topic, Message="m")
    assert post.received(url, 0) == []


def test_what_would_leave_the_machine_is_refused(post: Post) -> None:
    for protocol, endpoint in (("https", "https://example.com/x"), ("email", "a@example.com"), ("sms", "+15550100")):
        code, message = refused(
            lambda p=protocol, e=endpoint: post.sns.subscribe(TopicArn=post.topic, Protocol=p, Endpoint=e)
        )
        assert (code, f"sns:Subscribe with the protocol '{protocol}'" in message) == ("NotImplemented", True)
    assert refused(lambda: post.sns.publish(PhoneNumber="+15550100", Message="m"))[0] == "NotImplemented"


def test_wrong_parameters_are_sns_own_errors(post: Post) -> None:
    sns = post.sns
    with pytest.raises(sns.exceptions.InvalidParameterException):
        sns.create_topic(Name="not a name")
    with pytest.raises(sns.exceptions.InvalidParameterException):
        sns.set_topic_attributes(TopicArn=post.topic, AttributeName="Policy", AttributeValue="{")
    with pytest.raises(sns.exceptions.InvalidParameterException):
        sns.subscribe(TopicArn=post.topic, Protocol="sqs", Endpoint="queue")
    with pytest.raises(sns.exceptions.InvalidParameterException):
        sns.publish(TopicArn=post.topic, Message="m", Subject="line\nbreak")
    with pytest.raises(sns.exceptions.InvalidParameterException):
        sns.publish(TopicArn=post.topic, Message="m" * (256 * 1024 + 1))
    with pytest.raises(sns.exceptions.NotFoundException):
        sns.publish(TopicArn=f"{post.topic}-2", Message="m")
    url, _ = post.queue()
    code, _ = refused(lambda: post.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": "{"}))
    assert code == "InvalidAttributeValue"


# --- functions ---


def test_a_function_gets_the_event_that_is_documented(post: Post) -> None:
    report, _ = post.queue()
    function = post.function(report)
    post.let_in(function, post.topic)
    made = post.sns.subscribe(
        TopicArn=post.topic, Protocol="lambda", Endpoint=function, ReturnSubscriptionArn=True
    )["SubscriptionArn"]  # fmt: skip
    sent = post.sns.publish(TopicArn=post.topic, Message="done")["MessageId"]
    (message,) = post.received(report)
    (record,) = json.loads(message["Body"])["Records"]
    assert (record["EventSource"], record["EventVersion"], record["EventSubscriptionArn"]) == ("aws:sns", "1.0", made)
    notification = record["Sns"]
    assert (notification["MessageId"], notification["TopicArn"], notification["Message"]) == (sent, post.topic, "done")
    assert (notification["Subject"], notification["MessageAttributes"]) == (None, {})
    assert {"SigningCertUrl", "UnsubscribeUrl"} < notification.keys()


def test_a_function_whose_policy_does_not_name_the_topic_is_not_invoked(post: Post) -> None:
    report, _ = post.queue()
    function = post.function(report)
    post.let_in(function, f"{post.topic}-2")
    post.sns.subscribe(TopicArn=post.topic, Protocol="lambda", Endpoint=function)
    post.sns.publish(TopicArn=post.topic, Message="not let in")
    post.functions.remove_permission(FunctionName=function, StatementId="in")
    post.let_in(function, post.topic)
    post.sns.publish(TopicArn=post.topic, Message="let in")
    (message,) = post.received(report)
    assert json.loads(message["Body"])["Records"][0]["Sns"]["Message"] == "let in"
    assert post.received(report, 0) == []


# --- SQS by itself ---


def test_a_message_is_hidden_while_it_is_worked_on_and_comes_back(post: Post) -> None:
    url = post.sqs.create_queue(QueueName=name("q"), Attributes={"VisibilityTimeout": "600"})["QueueUrl"]
    post.sqs.send_message(QueueUrl=url, MessageBody="m")
    (first,) = post.sqs.receive_message(QueueUrl=url)["Messages"]
    assert "Messages" not in post.sqs.receive_message(QueueUrl=url)
    seen = {"QueueUrl": url, "ReceiptHandle": first["ReceiptHandle"]}
    post.sqs.change_message_visibility(**seen, VisibilityTimeout=1)
    (again,) = eventually(lambda: post.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages"))
    assert again["MessageId"] == first["MessageId"]
    post.sqs.delete_message(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])
    counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    left = post.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=counts)["Attributes"]
    assert left == dict.fromkeys(counts, "0")


def test_who_waits_for_a_message_holds_nobody_up(post: Post) -> None:
    url, _ = post.queue()
    sts, sqs = (post.embedded.client(service) for service in ("sts", "sqs"))
    got: list[Any] = []

    def wait() -> None:  # as long as SQS lets anybody wait, and just once
        got.append(post.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20).get("Messages", []))

    waiting = threading.Thread(target=wait)
    waiting.start()
    for _ in range(5):
        sts.get_caller_identity()
    sqs.send_message(QueueUrl=url, MessageBody="m")
    waiting.join()
    assert [[message["Body"] for message in messages] for messages in got] == [["m"]]


def test_messages_that_fail_too_often_go_to_the_dead_letter_queue(post: Post) -> None:
    dead, dead_arn = post.queue()
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 1})
    url = post.sqs.create_queue(
        QueueName=name("q"), Attributes={"RedrivePolicy": redrive, "VisibilityTimeout": "0"}
    )["QueueUrl"]  # fmt: skip
    post.sqs.send_message(QueueUrl=url, MessageBody="m")
    assert len(post.sqs.receive_message(QueueUrl=url)["Messages"]) == 1
    assert "Messages" not in post.sqs.receive_message(QueueUrl=url)
    assert [message["Body"] for message in post.received(dead)] == ["m"]


def test_a_queue_that_is_not_there_is_named_in_sqs_own_error(post: Post) -> None:
    with pytest.raises(post.sqs.exceptions.QueueDoesNotExist):
        post.sqs.get_queue_url(QueueName=name("none"))
    with pytest.raises(post.sqs.exceptions.QueueDoesNotExist):
        post.sqs.receive_message(QueueUrl=f"{post.embedded.endpoint_url}/{ACCOUNT}/{name('none')}")


def test_a_burst_reaches_the_queue_whole(post: Post) -> None:
    url = post.subscribed(RawMessageDelivery="true")
    sent = [f"m{number}" for number in range(60)]
    for start in range(0, len(sent), 10):
        entries = [{"Id": text, "Message": text} for text in sent[start : start + 10]]
        assert len(post.sns.publish_batch(TopicArn=post.topic, PublishBatchRequestEntries=entries)["Successful"]) == 10
    assert sorted(message["Body"] for message in post.received(url, len(sent))) == sorted(sent)


# --- SSM ---


def test_parameters_are_kept_with_their_versions(post: Post) -> None:
    ssm, path = post.embedded.client("ssm"), f"/{name('p')}"
    put: Callable[..., Any] = ssm.put_parameter
    put(Name=f"{path}/a", Value="1", Type="String", Tags=[{"Key": "k", "Value": "v"}])
    assert refused(lambda: put(Name=f"{path}/a", Value="2", Type="String"))[0] == "ParameterAlreadyExists"
    assert put(Name=f"{path}/a", Value="2", Overwrite=True)["Version"] == 2
    assert ssm.get_parameter(Name=f"{path}/a")["Parameter"]["Value"] == "2"
    assert ssm.get_parameter(Name=f"{path}/a:1")["Parameter"]["Value"] == "1"
    assert [p["Name"] for p in ssm.get_parameters_by_path(Path=path)["Parameters"]] == [f"{path}/a"]
    assert ssm.get_parameters(Names=[f"{path}/a", f"{path}/b"])["InvalidParameters"] == [f"{path}/b"]
    ssm.delete_parameter(Name=f"{path}/a")
    with pytest.raises(ssm.exceptions.ParameterNotFound):
        ssm.get_parameter(Name=f"{path}/a")
    assert refused(lambda: put(Name=f"{path}/s", Value="x", Type="SecureString"))[0] == "NotImplemented"


def test_run_command_and_sessions_are_refused_by_name(post: Post) -> None:
    ssm = post.embedded.client("ssm")
    calls = {
        "ssm:SendCommand": lambda: ssm.send_command(DocumentName="AWS-RunShellScript", InstanceIds=["i-0"]),
        "ssm:StartSession": lambda: ssm.start_session(Target="i-0123456789abcdef0"),
    }
    for action, call in calls.items():
        assert refused(call) == ("NotImplemented", f"the embedded AWS does not support {action}")

"""S3 tells functions, queues and topics of objects: what is sent, when it is refused, and who may be told."""

import json
import uuid
from typing import Any
from urllib.parse import unquote_plus

import pytest
from clients import ACCOUNT, allow, arn, eventually, refused
from lab import Lab
from uploads import Uploads

UNABLE = ("InvalidArgument", "Unable to validate the following destination configurations")
ODD = ("a b.csv", "a+b.csv", "100%.csv", "für/Größe.csv", "it's (1).csv", "😀.csv", "a  b//c.csv", "%2B.csv")


@pytest.fixture
def uploads(embedded: Any) -> Uploads:
    made = Uploads(embedded)
    made.permit()
    return made


def service_policy(service: str, action: str, resource: str, source: str) -> str:
    """Return a resource policy that lets a service act for one source."""
    condition = {"ArnLike": {"aws:SourceArn": source}, "StringEquals": {"aws:SourceAccount": ACCOUNT}}
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": action, "Resource": resource,
                 "Condition": condition}  # fmt: skip
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_a_put_is_told_with_all_that_s3_tells(uploads: Uploads, embedded: Any) -> None:
    uploads.notify(id="standardize")
    made = uploads.put("meta-data/a b.csv", b"12345")
    [record] = uploads.records(1)
    assert record["eventName"] == "ObjectCreated:Put"
    assert (record["eventSource"], record["awsRegion"]) == ("aws:s3", "us-east-1")
    user = embedded.client("iam").get_user(UserName="workshop-admin")["User"]["UserId"]
    assert record["userIdentity"] == {"principalId": f"AWS:{user}"}
    headers = made["ResponseMetadata"]["HTTPHeaders"]
    assert record["responseElements"] == {name: headers[name] for name in ("x-amz-request-id", "x-amz-id-2")}
    s3 = record["s3"]
    assert s3["configurationId"] == "standardize"
    assert (s3["bucket"]["name"], s3["bucket"]["arn"]) == (uploads.bucket, f"arn:aws:s3:::{uploads.bucket}")
    told = s3["object"]
    assert int(told.pop("sequencer"), 16)
    assert told == {"key": "meta-data/a+b.csv", "size": 5, "eTag": made["ETag"].strip('"')}


def test_filters_decide_on_the_key_itself(uploads: Uploads) -> None:
    put = uploads.notify("s3:ObjectCreated:Put", prefix="meta data/", suffix=".csv")
    found = uploads.s3.get_bucket_notification_configuration(Bucket=uploads.bucket)["LambdaFunctionConfigurations"]
    rules = found[0]["Filter"]["Key"]["FilterRules"]
    assert [(rule["Name"].lower(), rule["Value"]) for rule in rules] == [("prefix", "meta data/"), ("suffix", ".csv")]
    assert {**found[0], "Filter": None} == {**put["LambdaFunctionConfigurations"][0], "Filter": None}
    for key in ("meta data/a.txt", "x/meta data/a.csv", "meta+data/a.csv", "meta data/ü 1.csv", "meta data/.csv"):
        uploads.put(key)
    assert [unquote_plus(key) for key in uploads.keys(2)] == ["meta data/ü 1.csv", "meta data/.csv"]


def test_odd_keys_lead_back_to_their_objects(uploads: Uploads) -> None:
    uploads.notify()
    for key in ODD:
        uploads.put(key, key.encode())
    told = [unquote_plus(key) for key in uploads.keys(len(ODD))]
    assert told == list(ODD)
    assert [uploads.s3.get_object(Bucket=uploads.bucket, Key=key)["Body"].read().decode() for key in told] == told


def test_every_way_to_make_an_object_is_told(uploads: Uploads, embedded: Any) -> None:
    uploads.notify()
    s3, bucket = uploads.s3, uploads.bucket
    uploads.put("put")
    s3.copy_object(Bucket=bucket, Key="copied", CopySource={"Bucket": bucket, "Key": "put"})
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="parts", UploadId=upload, PartNumber=1, Body=b"x" * 7)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload=parts)
    lab = Lab(embedded)
    role = embedded.make_role([allow("s3:PutObject", f"arn:aws:s3:::{bucket}/*")], service="states.amazonaws.com")
    task = {"Type": "Task", "Resource": "arn:aws:states:::aws-sdk:s3:putObject", "End": True,
            "Parameters": {"Bucket": bucket, "Key": "by a task", "Body": {"n": 1}}}  # fmt: skip
    assert lab.run({"Put": task}, role=role)["status"] == "SUCCEEDED"
    records = uploads.records(4)
    assert [(one["s3"]["object"]["key"], one["eventName"]) for one in records] == [
        ("put", "ObjectCreated:Put"),
        ("copied", "ObjectCreated:Copy"),
        ("parts", "ObjectCreated:CompleteMultipartUpload"),
        ("by+a+task", "ObjectCreated:Put"),
    ]
    assert records[2]["s3"]["object"]["size"] == 7
    session = records[3]["userIdentity"]["principalId"]
    assert session.startswith(
        f"AWS:{embedded.client('iam').get_role(RoleName=role.rpartition('/')[2])['Role']['RoleId']}:"
    )


def test_what_a_job_writes_is_told(uploads: Uploads, embedded: Any) -> None:
    uploads.notify(prefix="out/")
    lab = Lab(embedded)
    script = "open('/opt/ml/processing/output/result.txt', 'w').write('done')"
    output = {"OutputName": "out", "S3Output": {"S3Uri": f"s3://{uploads.bucket}/out/", "LocalPath":
              "/opt/ml/processing/output", "S3UploadMode": "EndOfJob"}}  # fmt: skip
    statement = allow(
        "s3:PutObject s3:ListBucket", f"arn:aws:s3:::{uploads.bucket}", f"arn:aws:s3:::{uploads.bucket}/*"
    )
    embedded.client("iam").put_role_policy(
        RoleName=lab.job_role.rpartition("/")[2], PolicyName="out", PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": [statement]})
    )  # fmt: skip
    job = lab.job(script, parameters={"ProcessingOutputConfig": {"Outputs": [output]}})
    assert lab.run({"Job": job})["status"] == "SUCCEEDED"
    assert uploads.keys(1) == ["out/result.txt"]


def test_removals_are_told_when_they_are_asked_for(uploads: Uploads) -> None:
    uploads.notify("s3:ObjectRemoved:*")
    for key in ("one", "two", "three"):
        uploads.put(key)
    uploads.s3.delete_object(Bucket=uploads.bucket, Key="one")
    uploads.s3.delete_objects(Bucket=uploads.bucket, Delete={"Objects": [{"Key": "two"}, {"Key": "three"}]})
    records = uploads.records(3)
    assert [record["s3"]["object"]["key"] for record in records] == ["one", "two", "three"]
    assert {record["eventName"] for record in records} == {"ObjectRemoved:Delete"}
    assert "size" not in records[0]["s3"]["object"]


def test_versions_are_named_only_where_there_are_some(uploads: Uploads) -> None:
    uploads.notify("s3:ObjectCreated:*", "s3:ObjectRemoved:*")
    uploads.put("k")
    uploads.s3.put_bucket_versioning(Bucket=uploads.bucket, VersioningConfiguration={"Status": "Enabled"})
    made = uploads.put("k")
    marker = uploads.s3.delete_object(Bucket=uploads.bucket, Key="k")
    first, second, third = (record["s3"]["object"] for record in uploads.records(3))
    assert "versionId" not in first
    assert second["versionId"] == made["VersionId"]
    assert third["versionId"] == marker["VersionId"]
    assert uploads.records(3)[2]["eventName"] == "ObjectRemoved:DeleteMarkerCreated"


def test_the_same_object_twice_is_two_events_in_order(uploads: Uploads) -> None:
    uploads.notify()
    tags = [uploads.put("k", body)["ETag"].strip('"') for body in (b"1", b"2", b"1")]
    records = uploads.records(3)
    assert [record["s3"]["object"]["eTag"] for record in records] == tags
    assert len({record["s3"]["object"]["sequencer"] for record in records}) == 3


def test_an_empty_configuration_ends_it(uploads: Uploads) -> None:
    uploads.notify()
    uploads.put("told")
    uploads.s3.put_bucket_notification_configuration(Bucket=uploads.bucket, NotificationConfiguration={})
    found = uploads.s3.get_bucket_notification_configuration(Bucket=uploads.bucket)
    assert found.keys() == {"ResponseMetadata"}
    uploads.put("not told")
    uploads.notify()
    uploads.put("told again")
    assert uploads.keys(2) == ["told", "told+again"]


@pytest.mark.parametrize(
    "source", [{"SourceArn": "arn:aws:s3:::another-bucket"}, {"SourceAccount": "210987654321"}, None]
)
def test_a_function_that_does_not_let_the_bucket_in_is_refused(embedded: Any, source: dict[str, str] | None) -> None:
    uploads = Uploads(embedded)
    if source is not None:
        uploads.permit(**source)
    assert refused(uploads.notify) == UNABLE
    found = uploads.s3.get_bucket_notification_configuration(Bucket=uploads.bucket)
    assert "LambdaFunctionConfigurations" not in found


def test_a_function_that_is_not_there_is_refused_and_a_failed_put_changes_nothing(uploads: Uploads) -> None:
    uploads.notify(id="kept")
    kept, uploads.function = uploads.function, f"{uploads.function}-gone"
    assert refused(uploads.notify) == UNABLE
    found = uploads.s3.get_bucket_notification_configuration(Bucket=uploads.bucket)["LambdaFunctionConfigurations"]
    assert [(one["Id"], one["LambdaFunctionArn"]) for one in found] == [("kept", kept)]


def test_a_permission_that_is_taken_away_counts_at_once(uploads: Uploads) -> None:
    uploads.notify()
    uploads.put("before")
    assert uploads.keys(1) == ["before"]
    uploads.lambdas.remove_permission(FunctionName=uploads.name, StatementId="s3")
    uploads.put("without")
    uploads.permit()
    uploads.put("after")
    assert uploads.keys(2) == ["before", "after"]


def test_a_deleted_function_gets_nothing_and_uploads_go_on(uploads: Uploads, embedded: Any) -> None:
    uploads.notify()
    uploads.lambdas.delete_function(FunctionName=uploads.name)
    assert uploads.put("k")["ResponseMetadata"]["HTTPStatusCode"] == 200
    log = (embedded.state_dir / "server.log").read_text()
    assert f"an event of bucket {uploads.bucket} is dropped: ResourceNotFoundException" in log


def test_who_may_not_configure_a_bucket_is_refused(uploads: Uploads, embedded: Any) -> None:
    bucket = f"arn:aws:s3:::{uploads.bucket}"
    other = embedded.client("s3", embedded.variables_of([allow("s3:GetBucketNotification s3:PutObject", bucket)]))
    assert other.get_bucket_notification_configuration(Bucket=uploads.bucket)
    put = {"Bucket": uploads.bucket, "NotificationConfiguration": {}}
    code, message = refused(lambda: other.put_bucket_notification_configuration(**put))
    assert (code, "s3:PutBucketNotification" in message) == ("AccessDenied", True)
    allowed = embedded.client("s3", embedded.variables_of([allow("s3:PutBucketNotification", bucket)]))
    allowed.put_bucket_notification_configuration(**put)


def test_overlapping_configurations_are_refused(uploads: Uploads) -> None:
    one = uploads.notify()["LambdaFunctionConfigurations"][0]
    both = {"LambdaFunctionConfigurations": [one, {**one, "Id": "two"}]}
    code, message = refused(
        lambda: uploads.s3.put_bucket_notification_configuration(Bucket=uploads.bucket, NotificationConfiguration=both)
    )
    assert (code, message.startswith("Configurations overlap.")) == ("InvalidArgument", True)


def test_a_queue_gets_events_only_with_its_policy(uploads: Uploads, embedded: Any) -> None:
    sqs, name = embedded.client("sqs"), f"q-{uuid.uuid4().hex[:8]}"
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    queue = arn("sqs", name)
    made = {"QueueConfigurations": [{"Id": "q", "QueueArn": queue, "Events": ["s3:ObjectCreated:*"]}]}

    def put() -> None:
        uploads.s3.put_bucket_notification_configuration(Bucket=uploads.bucket, NotificationConfiguration=made)

    assert refused(put) == UNABLE
    policy = service_policy("s3.amazonaws.com", "sqs:SendMessage", queue, f"arn:aws:s3:::{uploads.bucket}")
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    put()
    uploads.put("k")
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    uploads.put("not told")
    messages = [json.loads(body) for body in received(sqs, url)]
    assert messages[0]["Event"] == "s3:TestEvent"
    assert [one["Records"][0]["s3"]["object"]["key"] for one in messages[1:]] == ["k"]


def test_a_topic_passes_events_on(uploads: Uploads, embedded: Any) -> None:
    sns, sqs, name = embedded.client("sns"), embedded.client("sqs"), f"t-{uuid.uuid4().hex[:8]}"
    topic = sns.create_topic(Name=name)["TopicArn"]
    source = f"arn:aws:s3:::{uploads.bucket}"
    policy = service_policy("s3.amazonaws.com", "sns:Publish", topic, source)
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)
    to_queue = service_policy("sns.amazonaws.com", "sqs:SendMessage", arn("sqs", name), topic)
    url = sqs.create_queue(QueueName=name, Attributes={"Policy": to_queue})["QueueUrl"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn("sqs", name))
    made = {"TopicConfigurations": [{"Id": "t", "TopicArn": topic, "Events": ["s3:ObjectCreated:Put"]}]}
    uploads.s3.put_bucket_notification_configuration(Bucket=uploads.bucket, NotificationConfiguration=made)
    uploads.put("k")
    messages = [json.loads(json.loads(body)["Message"]) for body in received(sqs, url)]
    assert messages[0]["Event"] == "s3:TestEvent"
    assert [one["Records"][0]["s3"]["object"]["key"] for one in messages[1:]] == ["k"]


def received(sqs: Any, url: str) -> list[str]:
    """Return the bodies of the messages in a queue, oldest first, once there are two."""
    found: list[str] = []

    def two() -> bool:
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=600).get("Messages", [])
        found.extend(message["Body"] for message in messages)
        return len(found) >= 2

    eventually(two)
    return found

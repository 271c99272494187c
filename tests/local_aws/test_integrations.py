"""Tasks that call S3, SageMaker and Lambda as the machine's role: real calls, AWS's answers and names of errors."""

import json
import uuid
from typing import Any

import pytest
from clients import allow, arn, function_settings, refused
from lab import Lab, job_of

S3, SAGEMAKER = "arn:aws:states:::aws-sdk:s3:", "arn:aws:states:::aws-sdk:sagemaker:"


@pytest.fixture(scope="module")
def lab(embedded: Any) -> Lab:
    return Lab(embedded)


def task(resource: str, **parameters: Any) -> dict[str, Any]:
    return {"Type": "Task", "Resource": resource, "Parameters": parameters, "End": True}


def role_for(lab: Lab, actions: str, *resources: str, **more: Any) -> str:
    return lab.embedded.make_role([allow(actions, *resources, **more)], service="states.amazonaws.com")


def output(execution: dict[str, Any]) -> Any:
    assert execution["status"] == "SUCCEEDED", (execution.get("error"), execution.get("cause"))
    return json.loads(execution["output"])


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ({"key": "ü", "n": 1.5}, '{"key":"ü","n":1.5}'),
        (["a", None], '["a",null]'),
        ("text", '"text"'),  # as AWS does it: what a task writes is JSON, text included
        (False, "false"),
    ],
)
def test_a_body_is_stored_as_json(lab: Lab, body: Any, stored: str) -> None:
    key = f"bodies/{uuid.uuid4().hex} ?#.json"
    role = role_for(lab, "s3:PutObject", f"arn:aws:s3:::{lab.bucket}/bodies/*")
    put = task(f"{S3}putObject", Bucket=lab.bucket, Key=key, **{"Body.$": "$.body"}, ContentType="application/json")
    answer = output(lab.run({"put": put}, {"body": body}, role=role))
    found = lab.s3.get_object(Bucket=lab.bucket, Key=key)
    assert (found["Body"].read().decode(), found["ContentType"]) == (stored, "application/json")
    assert answer["ETag"] == found["ETag"]


def test_an_object_is_read_as_text_with_its_description(lab: Lab) -> None:
    lab.s3.put_object(Bucket=lab.bucket, Key="read/me", Body='{"a": "é"}'.encode(), Metadata={"who": "w"})
    place = {"Bucket": lab.bucket, "Key": "read/me"}
    role = role_for(lab, "s3:GetObject", f"arn:aws:s3:::{lab.bucket}/read/*")
    got = output(lab.run({"get": task(f"{S3}getObject", **place)}, role=role))
    assert (got["Body"], got["ContentLength"], got["Metadata"]) == ('{"a": "é"}', 11, {"who": "w"})
    head = output(lab.run({"head": task(f"{S3}headObject", **place)}, role=role))
    assert "Body" not in head
    assert (head["ETag"], head["ContentLength"]) == (got["ETag"], 11)
    assert head["LastModified"].endswith("Z")


def test_a_listing_counts_what_is_there(lab: Lab) -> None:
    for name in ("a/1", "a/2", "b"):
        lab.s3.put_object(Bucket=lab.bucket, Key=f"listed/{name}", Body=name.encode())
    role = role_for(lab, "s3:ListBucket", f"arn:aws:s3:::{lab.bucket}")

    def listing(**more: Any) -> Any:
        return output(lab.run({"list": task(f"{S3}listObjectsV2", Bucket=lab.bucket, **more)}, role=role))

    assert listing(Prefix="listed/none", MaxKeys=1)["KeyCount"] == 0
    first = listing(Prefix="listed/", MaxKeys=1)
    assert (first["KeyCount"], first["IsTruncated"], first["Contents"][0]["Key"]) == (1, True, "listed/a/1")
    assert first["Contents"][0]["Size"] == 3
    rest = listing(Prefix="listed/", ContinuationToken=first["NextContinuationToken"])
    assert [item["Key"] for item in rest["Contents"]] == ["listed/a/2", "listed/b"]
    folders = listing(Prefix="listed/", Delimiter="/")
    assert [item["Prefix"] for item in folders["CommonPrefixes"]] == ["listed/a/"]


@pytest.mark.parametrize(
    ("operation", "parameters", "error"),
    [
        ("getObject", {"Key": "nowhere"}, "S3.NoSuchKeyException"),
        ("headObject", {"Key": "nowhere"}, "S3.NoSuchKeyException"),
        ("getObject", {"Bucket": "no-such-bucket-at-all", "Key": "k"}, "S3.NoSuchBucketException"),
        ("listObjectsV2", {"Bucket": "no-such-bucket-at-all"}, "S3.NoSuchBucketException"),
        ("putObject", {"Bucket": "no-such-bucket-at-all", "Key": "k", "Body": "b"}, "S3.NoSuchBucketException"),
        ("getObject", {"Key": "k", "Kye": "k"}, "States.Runtime"),
    ],
)
def test_errors_have_the_names_of_the_sdk(lab: Lab, operation: str, parameters: dict, error: str) -> None:
    role = role_for(lab, "s3:*")
    execution = lab.run({"call": task(S3 + operation, **{"Bucket": lab.bucket, **parameters})}, role=role)
    assert (execution["status"], execution["error"]) == ("FAILED", error)


@pytest.mark.parametrize(
    ("operation", "parameters", "granted"),
    [
        ("getObject", {"Key": "private/k"}, "s3:PutObject s3:ListBucket"),
        ("headObject", {"Key": "private/k"}, "s3:PutObject s3:ListBucket"),
        ("putObject", {"Key": "private/k", "Body": {}}, "s3:GetObject s3:ListBucket"),
        ("listObjectsV2", {"Prefix": "private/"}, "s3:GetObject s3:PutObject"),
        ("getObject", {"Key": "private/absent"}, "s3:GetObject"),  # who may not list is not told that it is absent
    ],
)
def test_the_role_decides(lab: Lab, operation: str, parameters: dict, granted: str) -> None:
    call = task(S3 + operation, Bucket=lab.bucket, **parameters)
    execution = lab.run({"call": call}, role=role_for(lab, granted))
    assert (execution["status"], execution["error"]) == ("FAILED", "S3.S3Exception")
    assert "Status Code: 403" in execution["cause"]


def test_a_condition_on_the_prefix_holds(lab: Lab) -> None:
    limited = {"condition": {"StringLike": {"s3:prefix": "mine/*"}}}
    role = role_for(lab, "s3:ListBucket", f"arn:aws:s3:::{lab.bucket}", **limited)
    runs = [
        lab.run({"list": task(f"{S3}listObjectsV2", Bucket=lab.bucket, Prefix=prefix)}, role=role)
        for prefix in ("mine/x", "other/x")
    ]
    assert [run.get("error") for run in runs] == [None, "S3.S3Exception"]


def test_a_job_is_described_with_times_as_text(lab: Lab) -> None:
    done = lab.run({"only": lab.job()})
    waited = json.loads(done["output"])
    name = job_of(done["executionArn"])
    describe = {"describe": task(f"{SAGEMAKER}describeProcessingJob", ProcessingJobName=name)}
    told = output(lab.run(describe, role=lab.role))
    real = lab.sagemaker.describe_processing_job(ProcessingJobName=name)
    assert told["ProcessingJobStatus"] == "Completed"
    assert told["CreationTime"].startswith(real["CreationTime"].strftime("%Y-%m-%dT"))
    assert told["CreationTime"].endswith("Z")
    # The optimized integration, which waited for the job, counts milliseconds.
    assert waited["ProcessingEndTime"] == round(real["ProcessingEndTime"].timestamp() * 1000)
    absent = lab.run({"describe": task(f"{SAGEMAKER}describeProcessingJob", ProcessingJobName="absent")})
    assert absent["error"].startswith("SageMaker.")
    denied = lab.run(describe, role=lab.make_role(without="describe"))
    assert (denied["error"], "is not authorized" in denied["cause"]) == ("SageMaker.SageMakerException", True)


def test_a_caught_error_of_the_sdk_goes_on(lab: Lab) -> None:
    get = task(f"{S3}getObject", Bucket=lab.bucket, Key="absent")
    get["Catch"] = [{"ErrorEquals": ["S3.NoSuchKeyException"], "ResultPath": "$.error", "Next": "caught"}]
    states = {"get": get, "caught": {"Type": "Pass", "Parameters": {"error.$": "$.error.Error"}, "End": True}}
    found = output(lab.run(states, {}, role=role_for(lab, "s3:*")))
    assert found == {"error": "S3.NoSuchKeyException"}


def test_a_function_is_invoked_in_each_item_of_a_map(lab: Lab) -> None:
    source = "def handler(event, context):\n    return {'double': 2 * event['n']}\n"
    settings = function_settings(
        f"maps-{uuid.uuid4().hex[:8]}", lab.embedded.make_role([], service="lambda.amazonaws.com"), source
    )
    function = lab.embedded.client("lambda").create_function(**settings)["FunctionArn"]
    invoke = task("arn:aws:states:::lambda:invoke", FunctionName=function, **{"Payload": {"n.$": "$"}})
    invoke["ResultSelector"] = {"double.$": "$.Payload.double"}
    processor = {"StartAt": "invoke", "States": {"invoke": invoke}}
    states = {"map": {"Type": "Map", "ItemProcessor": processor, "End": True}}
    assert output(lab.run(states, [1, 2, 3], role=role_for(lab, "lambda:InvokeFunction", function))) == [
        {"double": 2}, {"double": 4}, {"double": 6},
    ]  # fmt: skip
    other = arn("lambda", "function:other")
    denied = lab.run(states, [1], role=role_for(lab, "lambda:InvokeFunction", other))
    assert denied["error"] == "Lambda.AWSLambdaException"


def test_other_operations_are_refused_by_name(lab: Lab) -> None:
    for resource in (f"{S3}deleteObject", f"{SAGEMAKER}stopProcessingJob", "arn:aws:states:::s3:getObject"):
        refusal = refused(lambda resource=resource: lab.machine({"only": task(resource, Bucket="b", Key="k")}))
        assert (refusal[0], resource in refusal[1]) == ("NotImplemented", True)

"""Distributed Map: items from S3, each an execution of its own, as the machine's role."""

import json
from typing import Any

import pytest
from clients import allow, arn, eventually, refused
from lab import PASS, SLEEP, Lab

READ = "arn:aws:states:::s3:getObject"


@pytest.fixture(scope="module")
def lab(embedded: Any) -> Lab:
    return Lab(embedded)


def distributed(states: dict[str, Any], **more: Any) -> dict[str, Any]:
    config = {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    processor = {"ProcessorConfig": config, "StartAt": next(iter(states)), "States": states}
    return {"Type": "Map", "ItemProcessor": processor, "End": True, **more}


def reading(lab: Lab, key: str, text: str, **config: Any) -> dict[str, Any]:
    lab.s3.put_object(Bucket=lab.bucket, Key=key, Body=text.encode())
    reader = {"Resource": READ, "Parameters": {"Bucket": lab.bucket, "Key.$": "$.key"}}
    return {**reader, "ReaderConfig": config} if config else reader


def role_of(lab: Lab, *, without: str = "") -> str:
    statements = {
        **lab.statements,
        "start": allow("states:StartExecution", arn("states", "stateMachine:*")),
        "follow": allow("states:DescribeExecution", arn("states", "execution:*")),
        "read": allow("s3:GetObject", f"arn:aws:s3:::{lab.bucket}/*"),
        "list": allow("s3:ListBucket", f"arn:aws:s3:::{lab.bucket}"),
    }
    kept = [statement for name, statement in statements.items() if name != without]
    return lab.embedded.make_role(kept, service="states.amazonaws.com")


def run(lab: Lab, state: dict[str, Any], document: Any, **more: Any) -> dict[str, Any]:
    return lab.run({"map": state}, document, role=more.pop("role", None) or role_of(lab), **more)


def kinds(lab: Lab, execution: str) -> list[str]:
    events = lab.states.get_execution_history(executionArn=execution, maxResults=1000)["events"]
    return [event["type"] for event in events]


def map_run(lab: Lab, execution: dict[str, Any]) -> dict[str, Any]:
    (found,) = lab.states.list_map_runs(executionArn=execution["executionArn"])["mapRuns"]
    return lab.states.describe_map_run(mapRunArn=found["mapRunArn"])


@pytest.mark.parametrize(
    ("text", "config", "wanted"),
    [
        ('[{"n": 1}, {"n": 2}]', {}, [{"n": 1}, {"n": 2}]),
        ('{"n": 1}\n\n{"n": 2}\n', {"InputType": "JSONL"}, [{"n": 1}, {"n": 2}]),
        ("n,m\n1,2\n3\n", {"InputType": "CSV"}, [{"n": "1", "m": "2"}, {"n": "3", "m": ""}]),
        ("[1, 2, 3]", {"InputType": "JSON", "MaxItems": 2}, [1, 2]),
    ],
)  # fmt: skip
def test_items_are_read_from_an_object(lab: Lab, text: str, config: dict[str, Any], wanted: list[Any]) -> None:
    state = distributed({"one": PASS}, ItemReader=reading(lab, "items", text, **config))
    execution = run(lab, state, {"key": "items"})
    assert execution["status"] == "SUCCEEDED", execution
    assert json.loads(execution["output"]) == wanted


def test_items_are_the_objects_of_a_bucket(lab: Lab) -> None:
    for name in "ab":
        lab.s3.put_object(Bucket=lab.bucket, Key=f"parts/{name}", Body=b"12")
    parameters = {"Bucket": lab.bucket, "Prefix": "parts/"}
    reader = {"Resource": "arn:aws:states:::s3:listObjectsV2", "Parameters": parameters}
    execution = run(lab, distributed({"one": PASS}, ItemReader=reader), {})
    listed = json.loads(execution["output"])
    assert [(item["Key"], item["Size"]) for item in listed] == [("parts/a", 2), ("parts/b", 2)]


def test_each_item_is_an_execution_of_its_own(lab: Lab) -> None:
    inner = {"Type": "Pass", "Parameters": {"mine.$": "$$.Execution.Input.v", "id.$": "$$.Execution.Id"}, "End": True}
    selector = {"v.$": "$$.Map.Item.Value", "i.$": "$$.Map.Item.Index", "who.$": "$$.Execution.Name"}
    state = distributed({"one": inner}, ItemsPath="$.items", ItemSelector=selector, Label="each", MaxConcurrency=2)
    execution = run(lab, state, {"items": ["a", "b", "c"]})
    told = json.loads(execution["output"])
    assert [item["mine"] for item in told] == ["a", "b", "c"]
    whole = map_run(lab, execution)
    assert (whole["status"], whole["maxConcurrency"]) == ("SUCCEEDED", 2)
    assert (whole["itemCounts"]["total"], whole["itemCounts"]["succeeded"]) == (3, 3)
    children = lab.states.list_executions(mapRunArn=whole["mapRunArn"])["executions"]
    assert {child["executionArn"] for child in children} == {item["id"] for item in told}
    first = lab.states.describe_execution(executionArn=told[0]["id"])
    assert json.loads(first["input"]) == {"v": "a", "i": 0, "who": execution["name"]}
    assert first["mapRunArn"] == whole["mapRunArn"]
    wanted = ["ExecutionStarted", "PassStateEntered", "PassStateExited", "ExecutionSucceeded"]
    assert kinds(lab, told[0]["id"]) == wanted
    assert kinds(lab, execution["executionArn"]) == [
        "ExecutionStarted", "MapStateEntered", "MapStateStarted", "MapRunStarted", "MapRunSucceeded",
        "MapStateSucceeded", "MapStateExited", "ExecutionSucceeded",
    ]  # fmt: skip
    machine = execution["stateMachineArn"]
    listed = lab.states.list_executions(stateMachineArn=machine)["executions"]
    assert [item["executionArn"] for item in listed] == [execution["executionArn"]]


def test_items_run_jobs(lab: Lab) -> None:
    job = lab.job()
    job["Parameters"]["ProcessingJobName.$"] = "$.name"
    job["ResultSelector"] = {"status.$": "$.ProcessingJobStatus"}
    selector = {"name.$": "States.Format('{}-{}', $$.Execution.Name, $$.Map.Item.Index)"}
    state = distributed({"job": job}, ItemReader=reading(lab, "jobs", "[0, 1, 2]"), ItemSelector=selector)
    execution = run(lab, state, {"key": "jobs"})
    assert json.loads(execution["output"]) == [{"status": "Completed"}] * 3, execution
    assert lab.status(f"{execution['name']}-2") == "Completed"


BAD = {"Type": "Fail", "Error": "Bad", "Cause": "c"}
LOOK = {"Type": "Choice", "Choices": [{"Variable": "$", "NumericLessThan": 2, "Next": "bad"}], "Default": "good"}


@pytest.mark.parametrize(
    ("tolerance", "status"),
    [
        ({}, "FAILED"),
        ({"ToleratedFailureCount": 1}, "FAILED"),
        ({"ToleratedFailureCount": 2}, "SUCCEEDED"),
        ({"ToleratedFailurePercentage": 49}, "FAILED"),
        ({"ToleratedFailurePercentage": 50}, "SUCCEEDED"),
        ({"ToleratedFailureCountPath": "$.most"}, "SUCCEEDED"),
    ],
)
def test_so_many_items_may_fail(lab: Lab, tolerance: dict[str, Any], status: str) -> None:
    state = distributed({"look": LOOK, "bad": BAD, "good": PASS}, ItemsPath="$.items", **tolerance)
    execution = run(lab, state, {"items": [0, 1, 2, 3], "most": 2})
    assert execution["status"] == status
    if status == "FAILED":
        assert execution["error"] == "States.ExceedToleratedFailureThreshold"
        assert kinds(lab, execution["executionArn"])[-3:] == ["MapRunFailed", "MapStateFailed", "ExecutionFailed"]
        assert map_run(lab, execution)["status"] == "FAILED"
    else:
        assert json.loads(execution["output"]) == [2, 3]
        assert map_run(lab, execution)["itemCounts"]["failed"] == 2


@pytest.mark.parametrize(("missing", "error"), [
    ("start", "States.Permissions"), ("follow", "States.Permissions"), ("read", "States.ItemReaderFailed"),
])  # fmt: skip
def test_each_permission_of_the_role_is_needed(lab: Lab, missing: str, error: str) -> None:
    state = distributed({"one": PASS}, ItemReader=reading(lab, "permitted", "[1]"))
    execution = run(lab, state, {"key": "permitted"}, role=role_of(lab, without=missing))
    assert (execution["status"], execution["error"]) == ("FAILED", error)
    assert "not authorized" in execution["cause"]


@pytest.mark.parametrize(("key", "text"), [("absent", None), ("object", "{}"), ("broken", "[1,")])
def test_items_that_cannot_be_read_fail_the_map(lab: Lab, key: str, text: str | None) -> None:
    reader = reading(lab, "other" if text is None else key, text or "[]")
    execution = run(lab, distributed({"one": PASS}, ItemReader=reader), {"key": key})
    assert (execution["status"], execution["error"]) == ("FAILED", "States.ItemReaderFailed")


def test_stopping_the_execution_ends_its_children_and_their_jobs(lab: Lab) -> None:
    job = lab.job(SLEEP)
    job["Parameters"]["ProcessingJobName.$"] = "$.name"
    selector = {"name.$": "States.Format('{}-{}', $$.Execution.Name, $$.Map.Item.Index)"}
    state = distributed({"job": job}, ItemsPath="$.items", ItemSelector=selector, MaxConcurrency=2)
    execution = lab.start(lab.machine({"map": state}, role=role_of(lab)), {"items": [1, 2, 3]})
    name = execution.rpartition(":")[2]
    eventually(lambda: all(lab.running(f"{name}-{n}")() for n in (0, 1)))
    lab.states.stop_execution(executionArn=execution)
    eventually(lambda: all(lab.status(f"{name}-{n}") == "Stopped" for n in (0, 1)))
    assert refused(lambda: lab.status(f"{name}-2"))[0] == "ValidationException"
    (found,) = lab.states.list_map_runs(executionArn=execution)["mapRuns"]

    def aborted() -> bool:
        children = lab.states.list_executions(mapRunArn=found["mapRunArn"])["executions"]
        return [child["status"] for child in children] == ["ABORTED"] * 2

    eventually(aborted)
    eventually(lambda: lab.states.describe_map_run(mapRunArn=found["mapRunArn"])["status"] == "ABORTED")


def test_what_is_not_run_is_refused_by_name(lab: Lab) -> None:
    writer = {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": lab.bucket, "Prefix": "p"}}
    manifest = {"Resource": READ, "ReaderConfig": {"InputType": "MANIFEST"}, "Parameters": {}}
    for field, value in (("ItemBatcher", {"MaxItemsPerBatch": 2}), ("ResultWriter", writer), ("ItemReader", manifest)):
        state = distributed({"one": PASS}, **{field: value})
        code, message = refused(lambda state=state: lab.machine({"m": state}))
        assert (code, field in message) == ("NotImplemented", True)
    state = distributed({"one": PASS})
    state["ItemProcessor"]["ProcessorConfig"] = {"Mode": "DISTRIBUTED"}
    code, message = refused(lambda: lab.machine({"m": state}))
    assert (code, "ExecutionType" in message) == ("InvalidDefinition", True)

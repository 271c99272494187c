"""The system of notebook 07, deployed for real: units that succeed, fail and hang, and nothing that is left running."""

import json
import uuid
from typing import Any

import pytest
from clients import eventually
from worker_workshop import STALL, WorkerStack

from helpers import stacks, units


@pytest.fixture(scope="module")
def stack(embedded: Any) -> WorkerStack:
    """Deploy the stack once."""
    return WorkerStack(embedded, "demo-worker").deploy()


def statuses(record: dict[str, Any]) -> list[str]:
    return [entry["status"] for entry in record["StatusHistory"]]


def test_a_unit_is_worked_on_and_told_of_and_its_instance_ended(stack: WorkerStack) -> None:
    unit = stack.upload()
    assert stack.ended(unit)["status"] == "SUCCEEDED"
    record = stack.record(unit)
    assert statuses(record) == ["Received", "WorkerStarting", "WorkerRunning", "WorkerFinished"]
    assert record["Metrics"]["rows"] == 1000
    told = stack.messages(unit)
    assert (told["status"], told["results"]) == ("WorkerFinished", f"s3://{stack.bucket}/results/{unit}/")
    metrics = stack.client("s3").get_object(Bucket=stack.bucket, Key=f"results/{unit}/metrics.json")["Body"]
    assert json.load(metrics) == told["metrics"]
    assert stack.left(unit) == []


def test_bad_data_fail_the_unit_with_the_reason(stack: WorkerStack) -> None:
    unit = stack.upload(target="no such column")
    ended = stack.ended(unit)
    reason = "data.csv: there is no column 'no such column', which is the target"
    assert (ended["status"], ended["error"], ended["cause"]) == ("FAILED", "WorkerFailed", reason)
    assert stack.messages(unit)["reason"] == reason
    assert stack.left(unit) == []


def test_a_bad_metainfo_launches_nothing_and_is_told(stack: WorkerStack) -> None:
    unit = stack.upload(data_="../other/data.csv")
    reason = "UnitRefused: metainfo.json: unknown fields: data_"
    assert stack.ended(unit)["cause"] == reason
    assert statuses(stack.record(unit)) == ["Received", "WorkerFailed"]
    assert stack.messages(unit)["reason"] == reason
    assert "InstanceId" not in stack.record(unit)


def test_a_worker_that_hangs_is_ended_when_its_heartbeats_stop(stack: WorkerStack) -> None:
    with stack.impatient(HeartbeatSeconds="10"):
        unit = stack.upload(**STALL)
        ended = stack.ended(unit)
    assert ended["cause"] == "HeartbeatLost: no heartbeat for more than 10 seconds"
    assert statuses(stack.record(unit)) == ["Received", "WorkerStarting", "WorkerRunning", "WorkerFailed"]
    assert stack.left(unit) == []


def test_the_same_event_and_a_second_upload_start_nothing(stack: WorkerStack) -> None:
    unit = stack.upload(**STALL)
    first = stack.wait(unit, "WorkerRunning")
    key = f"{unit}/metainfo.json"
    for count, more in enumerate((STALL, {"target": "another"}), 1):
        stack.upload(unit, **more)
        eventually(lambda count=count: _told_of(stack, key, "the unit is in progress") == count)
    record = stack.record(unit)
    assert (record["Execution"], record["InstanceId"]) == (first["Execution"], first["InstanceId"])
    assert len(_instances(stack, unit)) == 1
    etag = stack.client("s3").head_object(Bucket=stack.bucket, Key=key)["ETag"].strip('"')
    assert record["ETag"] != etag  # what is worked on, not what came later
    _finish_by_hand(stack, unit)
    assert stack.ended(unit)["status"] == "SUCCEEDED"


def test_one_event_that_is_delivered_three_times_starts_one_worker(stack: WorkerStack) -> None:
    unit = stack.upload()
    eventually(lambda: stack.record(unit))
    record = stack.record(unit)
    thing = {"key": record["MetainfoKey"], "eTag": record["ETag"], "sequencer": record["Sequencer"]}
    event = {"Records": [{"s3": {"bucket": {"name": stack.bucket}, "object": thing}}]}
    decisions = [_register(stack, event)]
    assert stack.ended(unit)["status"] == "SUCCEEDED"
    decisions.append(_register(stack, event))
    assert decisions[1] == {"decisions": {record["MetainfoKey"]: "delivered before"}}
    assert len(_instances(stack, unit)) == 1
    assert statuses(stack.record(unit)).count("Received") == 1


def test_after_success_the_same_content_starts_nothing_and_another_one_does(stack: WorkerStack) -> None:
    unit = stack.upload()
    first = stack.ended(unit)
    stack.upload(unit)
    # A later upload of this very unit tells that the one before has been looked at.
    stack.upload(unit, stall_seconds=0)
    eventually(lambda: stack.record(unit)["Execution"] != first["executionArn"])
    assert stack.ended(unit)["status"] == "SUCCEEDED"
    assert statuses(stack.record(unit)).count("Received") == 2


def test_after_a_failure_a_new_upload_starts_the_unit_again(stack: WorkerStack) -> None:
    unit = stack.upload(target="no such column")
    failed = stack.ended(unit)
    stack.upload(unit)
    eventually(lambda: stack.record(unit)["Execution"] != failed["executionArn"])
    assert stack.ended(unit)["status"] == "SUCCEEDED"
    record = stack.record(unit)
    assert record["JobStatus"] == "WorkerFinished"
    assert "Reason" not in record
    assert "WorkerFailed" in statuses(record)


def test_the_status_set_by_hand_lets_the_machine_finish(stack: WorkerStack) -> None:
    unit = stack.upload(**STALL)
    stack.wait(unit, "WorkerRunning")
    _finish_by_hand(stack, unit)
    assert stack.ended(unit)["status"] == "SUCCEEDED"
    assert stack.left(unit) == []
    assert stack.record(unit)["JobStatus"] == "WorkerFinished"


def test_a_record_that_is_deleted_meanwhile_ends_the_instance(stack: WorkerStack) -> None:
    unit = stack.upload(**STALL)
    execution = stack.wait(unit, "WorkerRunning")["Execution"]
    stack.client("dynamodb").delete_item(TableName=stack.outputs["Table"], Key={"Unit": {"S": unit}})
    ended = stack.execution_ended(execution)
    assert (ended["status"], ended["error"]) == ("FAILED", "WorkerFailed")
    assert ended["cause"].startswith("RecordGone: ")
    assert stack.left(unit) == []
    assert stack.record(unit) == {}


def test_the_reaper_ends_the_worker_of_an_execution_that_was_stopped(stack: WorkerStack) -> None:
    unit = stack.upload(**STALL)
    record = stack.wait(unit, "WorkerRunning")
    stack.client("stepfunctions").stop_execution(executionArn=record["Execution"])
    assert stack.left(unit) == [record["InstanceId"]]
    done = stack.reap()
    assert done["ended"] == {record["InstanceId"]: "its execution does not run"}
    assert stack.record(unit)["Reason"] == "its execution ended before it: ABORTED"
    assert stack.messages(unit)["status"] == "WorkerFailed"
    assert stack.left(unit) == []


def test_the_reaper_fails_a_unit_whose_instance_was_ended_by_hand(stack: WorkerStack) -> None:
    unit = stack.upload(**STALL)
    record = stack.wait(unit, "WorkerRunning")
    stack.client("ec2").terminate_instances(InstanceIds=[record["InstanceId"]])
    assert stack.reap()["failed"] == {unit: "its instance is gone"}
    assert stack.ended(unit)["cause"] == "its instance is gone"


def test_an_upload_that_names_no_unit_is_recorded_nowhere(stack: WorkerStack) -> None:
    name = uuid.uuid4().hex
    stack.client("s3").put_object(Bucket=stack.bucket, Key=f"{name}/metainfo.json", Body=b"{}")
    stack.client("s3").put_object(Bucket=stack.bucket, Key=f"a/b/{name}/metainfo.json", Body=b"{}")
    eventually(lambda: _told_of(stack, name, "refused") == 2)
    found = units.read(stack.client("dynamodb"), stack.outputs["Table"])
    assert not [record for record in found if name in record["Unit"]]


def test_many_units_at_once_are_each_worked_on_once(stack: WorkerStack) -> None:
    names = [stack.upload() for _ in range(6)]
    for unit in names:
        assert stack.ended(unit)["status"] == "SUCCEEDED"
        assert len(_instances(stack, unit)) == 1
    assert [unit for unit in names if stack.left(unit)] == []


def test_the_stack_is_deleted_with_everything_in_it(embedded: Any) -> None:
    other = WorkerStack(embedded, "demo-worker-gone").deploy()
    unit = other.upload()
    assert other.ended(unit)["status"] == "SUCCEEDED"
    s3 = other.client("s3")
    for entry in s3.list_objects_v2(Bucket=other.bucket)["Contents"]:
        s3.delete_object(Bucket=other.bucket, Key=entry["Key"])
    cloudformation = other.client("cloudformation")
    cloudformation.delete_stack(StackName=other.name)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=other.name, WaiterConfig=stacks.PATIENCE)
    groups = other.client("logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{other.name}")["logGroups"]
    found = [role["RoleName"] for role in other.client("iam").list_roles()["Roles"]]
    assert groups == []
    assert [name for name in found if name.startswith(f"{other.name}-") and not name.endswith("-deployer")] == []


def _told_of(stack: WorkerStack, key: str, decision: str) -> int:
    """Return how often the function that registers uploads has decided so about a key."""
    pages = stack.client("logs").get_paginator("filter_log_events")
    found = pages.paginate(logGroupName=f"/aws/lambda/{stack.name}-register", filterPattern=f'"{key}"')
    return sum(f'"decision": "{decision}' in event["message"] for page in found for event in page["events"])


def _finish_by_hand(stack: WorkerStack, unit: str) -> None:
    stack.client("dynamodb").update_item(
        TableName=stack.outputs["Table"],
        Key={"Unit": {"S": unit}},
        UpdateExpression="SET JobStatus = :finished",
        ExpressionAttributeValues={":finished": {"S": "WorkerFinished"}},
    )


def _register(stack: WorkerStack, event: dict[str, Any]) -> dict[str, Any]:
    found = stack.client("cloudformation").describe_stack_resource(StackName=stack.name, LogicalResourceId="Register")
    name = found["StackResourceDetail"]["PhysicalResourceId"]
    return json.load(stack.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event))["Payload"])


def _instances(stack: WorkerStack, unit: str) -> list[str]:
    filters = [{"Name": "tag:unit", "Values": [unit]}]
    found = stack.client("ec2").describe_instances(Filters=filters)["Reservations"]
    return [one["InstanceId"] for group in found for one in group["Instances"]]

"""The system of notebook 07 with a permission missing: the unit fails and says which, and no instance is left."""

from typing import Any

import pytest
from clients import eventually
from worker_workshop import STALL, WorkerStack

from helpers import units


@pytest.fixture(scope="module")
def stack(embedded: Any) -> WorkerStack:
    """Deploy the stack once."""
    return WorkerStack(embedded, "demo-worker").deploy()


@pytest.mark.parametrize(
    ("role", "action", "named"),
    [
        ("LaunchRole", "ec2:RunInstances", "ec2:RunInstances"),
        ("LaunchRole", "ec2:CreateTags", "ec2:CreateTags"),
        ("LaunchRole", "iam:PassRole", "iam:PassRole"),
        ("LaunchRole", "dynamodb:GetItem", "dynamodb:GetItem"),
        ("LaunchRole", "dynamodb:UpdateItem", "dynamodb:UpdateItem"),
        ("LaunchRole", "s3:GetObject", "s3:GetObject"),
        ("LaunchRole", "s3:ListBucket", "s3:ListBucket"),
        ("PollRole", "dynamodb:GetItem", "dynamodb:GetItem"),
        ("WorkerRole", "s3:GetObject", "s3:GetObject"),
        ("WorkerRole", "s3:PutObject", "s3:PutObject"),
    ],
)
def test_a_permission_that_is_missing_fails_the_unit_and_leaves_no_instance(
    stack: WorkerStack, role: str, action: str, named: str
) -> None:
    # A worker that is done before the machine knows that it may not look has finished: this one is not.
    stall = STALL if role == "PollRole" else {}
    with stack.without(role, action):
        unit = stack.upload(**stall)
        ended = stack.ended(unit)
    assert (ended["status"], ended["error"]) == ("FAILED", "WorkerFailed")
    assert named in ended["cause"]
    assert stack.messages(unit)["reason"] == ended["cause"]
    assert stack.left(unit) == []


@pytest.mark.parametrize(
    ("action", "metainfo"),
    [
        ("ec2:TerminateInstances", {}),
        ("ec2:DescribeInstances", {}),
        ("sns:Publish", {}),
        ("dynamodb:GetItem", {}),
        ("dynamodb:UpdateItem", {"unknown": 1}),  # what fails before its worker starts is written by finish
    ],
)
def test_finish_without_a_permission_names_it_and_the_reaper_does_the_rest(
    stack: WorkerStack, action: str, metainfo: dict[str, Any]
) -> None:
    with stack.without("FinishRole", action):
        unit = stack.upload(**metainfo)
        ended = stack.ended(unit)
        assert (ended["status"], ended["error"]) == ("FAILED", "FinishFailed")
        # SNS has its own word for an action
        assert action.replace("sns:", "SNS:") in ended["cause"] or action in ended["cause"]
    if action == "dynamodb:GetItem":
        assert action in stack.messages(unit)["reason"]
    stack.reap()
    assert stack.left(unit) == []
    assert stack.record(unit)["JobStatus"] in units.FINAL


def test_a_reaper_that_may_not_read_records_still_ends_the_worker_of_a_stopped_execution(stack: WorkerStack) -> None:
    unit = stack.upload(**STALL)
    record = stack.wait(unit, "WorkerRunning")
    with stack.without("ReapRole", "dynamodb:GetItem"):
        stack.client("stepfunctions").stop_execution(executionArn=record["Execution"])
        assert "dynamodb:GetItem" in stack.reap()["errorMessage"]
        assert stack.left(unit) == []


def test_a_machine_that_may_not_invoke_finish_leaves_it_to_the_reaper(stack: WorkerStack) -> None:
    with stack.without("MachineRole", "lambda:InvokeFunction"):
        unit = stack.upload()
        ended = stack.ended(unit)  # of Lambda's errors, which are tried again, it is not told apart
        assert (ended["status"], ended["error"]) == ("FAILED", "Lambda.AWSLambdaException")
        assert "lambda:InvokeFunction" in ended["cause"]
    stack.reap()
    assert stack.left(unit) == []
    assert stack.record(unit)["JobStatus"] == "WorkerFailed"


def test_a_worker_that_may_not_write_its_status_is_ended_in_time(stack: WorkerStack) -> None:
    with stack.without("WorkerRole", "dynamodb:UpdateItem"):
        unit = stack.upload()
        instance = eventually(lambda: stack.record(unit).get("InstanceId"))
        console = eventually(lambda: "script failed" in (text := _console(stack, instance)) and text)
        with stack.impatient(StartSeconds="20"):  # only now: a worker that begins late has not said why
            ended = stack.ended(unit)
    assert ended["cause"].startswith("WorkerLate: the worker did not begin within 20 seconds")
    assert "dynamodb:UpdateItem" in ended["cause"]  # from the instance's console
    assert stack.messages(unit)["reason"] == ended["cause"]
    assert "is not authorized to perform: dynamodb:UpdateItem" in console
    assert stack.left(unit) == []


def _console(stack: WorkerStack, instance: str) -> str:
    return stack.client("ec2").get_console_output(InstanceId=instance).get("Output", "")

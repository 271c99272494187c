"""Units and stacks in a notebook: what is shown while they run, and what stays."""

import json
from typing import Any

import pytest
from answers import Aws, in_turn, refuse
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from helpers import stacks, units

STACK = "arn:aws:cloudformation:us-east-1:123456789012:stack/demo/1"


def item(unit: str, *statuses: str, reason: str = "", accuracy: str = "") -> dict[str, Any]:
    history = [
        {"M": {"status": {"S": status}, "at": {"S": f"2026-11-22T12:00:0{n}Z"}}} for n, status in enumerate(statuses)
    ]
    if reason:
        history[-1]["M"]["reason"] = {"S": reason}
    found: dict[str, Any] = {"Unit": {"S": unit}, "JobStatus": {"S": statuses[-1]}, "StatusHistory": {"L": history}}
    if reason:
        found["Reason"] = {"S": reason}
    if accuracy:
        found["Metrics"] = {"M": {"accuracy": {"N": accuracy}, "rows": {"N": "100"}}}
    return found


RUNNING = item("d/a", "Received", "WorkerStarting", "WorkerRunning")
DONE = item("d/a", "Received", "WorkerStarting", "WorkerRunning", "WorkerFinished", accuracy="0.75")
BAD = item("d/b", "Received", "WorkerFailed", reason="metainfo.json is not JSON")


def test_following_ends_when_every_unit_is_final_and_returns_how_they_ended() -> None:
    aws = Aws({"dynamodb:Scan": in_turn({"Items": []}, {"Items": [RUNNING, BAD]}, {"Items": [BAD, DONE]})})
    slept: list[float] = []
    table = units.follow(aws.client("dynamodb"), "units", ["d/b", "d/a"], sleep=slept.append)
    assert len(slept) == 2
    assert list(table.columns) == ["status", "reason", "accuracy", "rows"]
    assert table.loc["d/a", ["status", "reason", "accuracy"]].tolist() == ["WorkerFinished", "", 0.75]
    assert table.loc["d/b", ["status", "reason"]].tolist() == ["WorkerFailed", "metainfo.json is not JSON"]


def test_what_stays_in_the_notebook_is_the_same_however_long_it_took() -> None:
    InteractiveShell.instance()
    shown = []
    for looks in ([{"Items": [DONE]}], [{"Items": [RUNNING]}, {"Items": [RUNNING]}, {"Items": [DONE]}]):
        aws = Aws({"dynamodb:Scan": in_turn(*looks)})
        with capture_output() as captured:
            table = units.follow(aws.client("dynamodb"), "units", ["d/a"], sleep=lambda _: None)
        last = captured.outputs[-1]
        shown.append((last.data["text/markdown"], table.to_html()))
    assert shown[0] == shown[1]


def test_following_gives_up_and_says_how_the_units_stand() -> None:
    aws = Aws({"dynamodb:Scan": {"Items": [RUNNING]}})
    with pytest.raises(TimeoutError, match=r"d/a: WorkerRunning, d/x: no record"):
        units.follow(aws.client("dynamodb"), "units", ["d/a", "d/x"], seconds=1, sleep=lambda _: None)


def test_a_history_has_times_only_where_they_are_asked_for() -> None:
    aws = Aws({"dynamodb:GetItem": {"Item": BAD}})
    table = units.history(aws.client("dynamodb"), "units", "d/b")
    assert table.to_numpy().tolist() == [["Received", ""], ["WorkerFailed", "metainfo.json is not JSON"]]
    assert "at" in units.history(aws.client("dynamodb"), "units", "d/b", times=True)
    assert units.history(Aws({"dynamodb:GetItem": {}}).client("dynamodb"), "units", "d/b").empty


def message(unit: str, execution: str = "e") -> dict[str, Any]:
    told = {"unit": unit, "status": "WorkerFinished", "reason": "", "results": "s3://b/r/", "execution": execution}
    body = {"Type": "Notification", "Message": json.dumps(told)}
    return {"Body": json.dumps(body), "ReceiptHandle": f"handle of {unit}", "MessageId": unit}


def test_messages_are_taken_until_all_have_come_each_once() -> None:
    answers = in_turn({}, {"Messages": [message("d/b"), message("d/b")]}, {"Messages": [message("d/a")]})
    aws = Aws({"sqs:ReceiveMessage": answers, "sqs:DeleteMessage": {}})
    sqs, inbox = aws.client("sqs"), {}
    table = units.receive(sqs, "https://sqs.us-east-1.amazonaws.com/1/q", ["d/b", "d/a"], inbox=inbox)
    assert table.index.tolist() == ["d/a", "d/b"]
    assert len(aws.asked("sqs:DeleteMessage")) == 3
    again = units.receive(sqs, "https://sqs.us-east-1.amazonaws.com/1/q", ["d/a"], inbox=inbox)
    assert again.index.tolist() == ["d/a"]
    assert len(aws.asked("sqs:ReceiveMessage")) == 3


def test_messages_that_do_not_come_are_not_waited_for_for_ever() -> None:
    ticks = iter(range(0, 1000, 50))
    aws = Aws({"sqs:ReceiveMessage": {}})
    with pytest.raises(TimeoutError, match="no message about d/a"):
        units.receive(aws.client("sqs"), "https://q", ["d/a"], inbox={}, clock=lambda: float(next(ticks)))


def test_a_status_is_waited_for_unless_the_unit_ends_otherwise() -> None:
    def waiting(*looks: Any) -> Any:
        return Aws({"dynamodb:GetItem": in_turn(*looks)}).client("dynamodb")

    def wait(dynamodb: Any) -> Any:
        return units.wait_for_status(dynamodb, "units", "d/a", "WorkerRunning", seconds=2, sleep=lambda _: None)

    assert wait(waiting({}, {"Item": RUNNING}))["Unit"] == "d/a"
    with pytest.raises(ValueError, match="d/a is WorkerFailed: metainfo"):
        wait(waiting({"Item": BAD}))
    with pytest.raises(TimeoutError, match="not WorkerRunning after 2 seconds"):
        wait(waiting({}))


def test_instances_are_waited_for_until_none_is_left() -> None:
    there = {"Reservations": [{"Instances": [{"InstanceId": "i-1"}]}]}
    aws = Aws({"ec2:DescribeInstances": in_turn(there, {"Reservations": []})})
    assert units.wait_until_none_left(aws.client("ec2"), "demo", sleep=lambda _: None) == []
    aws = Aws({"ec2:DescribeInstances": there})
    assert units.wait_until_none_left(aws.client("ec2"), "demo", seconds=1, sleep=lambda _: None) == ["i-1"]


def test_a_notification_is_waited_for_with_an_upload_again_and_again() -> None:
    failed = item("probe/1", "Received", "WorkerFailed", reason="metainfo.json: device is missing")
    looks = [{}] * 31 + [{"Item": item("probe/1", "Received")}, {"Item": failed}]
    aws, slept = Aws({"dynamodb:GetItem": in_turn(*looks), "s3:PutObject": {}}), []
    units.wait_for_notification(aws.client("s3"), "b", aws.client("dynamodb"), "units", sleep=slept.append)
    assert len(slept) == 32
    first, second = aws.asked("s3:PutObject")
    assert first["Key"] == second["Key"]
    assert first["Key"].startswith("probe/")
    assert first["Key"].endswith("/metainfo.json")


def test_a_notification_that_never_comes_is_an_error() -> None:
    aws = Aws({"dynamodb:GetItem": {}, "s3:PutObject": {}})
    with pytest.raises(TimeoutError, match="no upload to b was heard of within 60 seconds"):
        units.wait_for_notification(
            aws.client("s3"), "b", aws.client("dynamodb"), "units", seconds=60, sleep=lambda _: None
        )


# Stacks


@pytest.mark.parametrize(("status", "kind"), [("REVIEW_IN_PROGRESS", "CREATE"), ("UPDATE_COMPLETE", "UPDATE")])
def test_the_type_of_the_next_change_set_follows_from_the_status(status: str, kind: str) -> None:
    aws = Aws({"cloudformation:DescribeStacks": stack(status)})
    assert stacks.change_set_type(aws.client("cloudformation"), "demo") == kind


def test_a_stack_that_is_not_there_is_created() -> None:
    gone = refuse("ValidationError", "Stack with id demo does not exist")
    aws = Aws({"cloudformation:DescribeStacks": gone})
    assert stacks.change_set_type(aws.client("cloudformation"), "demo") == "CREATE"


def test_a_stack_that_was_rolled_back_is_deleted_before_it_is_created_again() -> None:
    answers = in_turn(stack("ROLLBACK_COMPLETE"), stack("DELETE_COMPLETE"))
    aws = Aws({"cloudformation:DescribeStacks": answers, "cloudformation:DeleteStack": {}})
    assert stacks.change_set_type(aws.client("cloudformation"), "demo") == "CREATE"
    assert aws.asked("cloudformation:DeleteStack") == [{"StackName": "demo"}]


def change_set(status: str, reason: str = "") -> Aws:
    answer = {"Status": status, "StatusReason": reason}
    return Aws({"cloudformation:DescribeChangeSet": answer, "cloudformation:DeleteChangeSet": {}})


def test_a_change_set_that_changes_nothing_is_no_error_and_is_deleted() -> None:
    aws = change_set("FAILED", "The submitted information didn't contain changes. Submit different information")
    assert not stacks.wait_for_change_set(aws.client("cloudformation"), "demo", "one")
    assert aws.asked("cloudformation:DeleteChangeSet") == [{"StackName": "demo", "ChangeSetName": "one"}]
    assert stacks.wait_for_change_set(change_set("CREATE_COMPLETE").client("cloudformation"), "demo", "one")


def test_a_change_set_that_cannot_be_made_says_why() -> None:
    with pytest.raises(stacks.StackFailed, match="demo: no such parameter"):
        stacks.wait_for_change_set(change_set("FAILED", "no such parameter").client("cloudformation"), "demo", "one")


def stack(status: str) -> dict[str, Any]:
    outputs = [{"OutputKey": "Table", "OutputValue": "demo-Table-1"}]
    one = {"StackId": STACK, "StackName": "demo", "CreationTime": "2026-11-22T12:00:00Z", "StackStatus": status}
    return {"Stacks": [{**one, "Outputs": outputs}]}


def event(resource: str, status: str, reason: str = "", *, own: bool = False) -> dict[str, Any]:
    return {
        "StackId": STACK,
        "EventId": "1",
        "StackName": "demo",
        "Timestamp": "2026-11-22T12:00:00Z",
        "LogicalResourceId": resource,
        "PhysicalResourceId": STACK if own else "p",
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
    }


SUMMARIES = {
    "StackResourceSummaries": [
        {"LogicalResourceId": name, "ResourceType": kind, "ResourceStatus": "CREATE_COMPLETE"}
        for name, kind in (("Topic", "AWS::SNS::Topic"), ("Bucket", "AWS::S3::Bucket"))
    ]
}


def test_a_stack_is_followed_until_its_operation_has_ended() -> None:
    statuses = in_turn(*map(stack, ["CREATE_IN_PROGRESS"] * 3 + ["CREATE_COMPLETE"]))
    aws = Aws({"cloudformation:DescribeStacks": statuses, "cloudformation:ListStackResources": SUMMARIES})
    slept: list[float] = []
    table = stacks.follow(aws.client("cloudformation"), "demo", sleep=slept.append)
    assert table["status"].to_dict() == {"Bucket": "CREATE_COMPLETE", "Topic": "CREATE_COMPLETE"}
    assert len(slept) == 2
    assert stacks.outputs(aws.client("cloudformation"), "demo") == {"Table": "demo-Table-1"}


def test_a_stack_that_was_rolled_back_says_which_resource_failed_and_why() -> None:
    events = [
        event("demo", "ROLLBACK_COMPLETE", own=True),
        event("Topic", "CREATE_FAILED", "Resource creation cancelled"),
        event("Bucket", "CREATE_FAILED", "not authorized to perform: s3:CreateBucket"),
        event("demo", "CREATE_IN_PROGRESS", own=True),
        event("Table", "CREATE_FAILED", "of an earlier operation"),
    ]
    aws = Aws(
        {
            "cloudformation:DescribeStacks": stack("ROLLBACK_COMPLETE"),
            "cloudformation:ListStackResources": SUMMARIES,
            "cloudformation:DescribeStackEvents": {"StackEvents": events},
        }
    )
    with pytest.raises(stacks.StackFailed) as failed:
        stacks.follow(aws.client("cloudformation"), "demo", sleep=lambda _: None)
    assert str(failed.value) == "demo: ROLLBACK_COMPLETE\nBucket: not authorized to perform: s3:CreateBucket"


def test_a_change_set_is_a_table() -> None:
    made = {"LogicalResourceId": "Bucket", "Action": "Add", "ResourceType": "AWS::S3::Bucket"}
    aws = Aws({"cloudformation:DescribeChangeSet": {"Changes": [{"Type": "Resource", "ResourceChange": made}]}})
    table = stacks.changes(aws.client("cloudformation"), "demo", "first")
    assert table.loc["Bucket"].tolist() == ["Add", "AWS::S3::Bucket", ""]


def test_a_rolled_back_stack_has_half_an_hour_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.waiter.time.sleep", lambda _: None)
    answers = in_turn(stack("ROLLBACK_COMPLETE"), *[stack("DELETE_IN_PROGRESS")] * 600, stack("DELETE_COMPLETE"))
    aws = Aws({"cloudformation:DescribeStacks": answers, "cloudformation:DeleteStack": {}})
    assert stacks.change_set_type(aws.client("cloudformation"), "demo") == "CREATE"

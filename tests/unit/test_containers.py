"""Tasks of ECS and jobs of Batch, as notebooks wait for them and read them."""

import json
from typing import Any

import pytest
from answers import Aws, in_turn

from helpers import containers

TASK = "arn:aws:ecs:us-east-1:123456789012:task/demo-exp/"


def task(name: str, status: str, code: int | None = None, stopped_for: str = "", **more: str) -> dict[str, Any]:
    container = {**({"exitCode": code} if code is not None else {}), **more}
    stopped = {"stoppedReason": stopped_for} if stopped_for else {}
    return {"taskArn": f"{TASK}{name}", "lastStatus": status, "containers": [container], **stopped}


def test_tasks_are_waited_for_and_become_a_table_in_their_order() -> None:
    ended = "Essential container in task exited"
    answers = in_turn(
        {"tasks": [task("b", "STOPPED", 0)]},  # the other one is not known yet
        {"tasks": [task("b", "PENDING"), task("a", "RUNNING")]},
        {"tasks": [task("b", "STOPPED", None, "CannotPull"), task("a", "STOPPED", 1, ended, reason="OutOfMemory")]},
    )
    aws = Aws({"ecs:DescribeTasks": answers})
    table = containers.wait_for_tasks(aws.client("ecs"), "c", [f"{TASK}a", f"{TASK}b"], sleep=lambda _: None)
    assert list(table["reason"]) == [f"{ended}: OutOfMemory", "CannotPull"]
    assert list(table["exit code"].map(str)) == ["1", "<NA>"]
    assert list(table.index) == [1, 2]


def test_more_tasks_than_one_call_describes_take_two() -> None:
    arns = [f"{TASK}{number}" for number in range(101)]
    aws = Aws(
        {"ecs:DescribeTasks": lambda asked: {"tasks": [task(a.split("/")[-1], "STOPPED", 0) for a in asked["tasks"]]}}
    )
    assert len(containers.wait_for_tasks(aws.client("ecs"), "c", arns)) == 101
    assert [len(asked["tasks"]) for asked in aws.asked("ecs:DescribeTasks")] == [100, 1]


def job(name: str, status: str, code: int | None = None, attempts: int = 1, **more: Any) -> dict[str, Any]:
    found = {"jobId": name, "jobName": f"summarize-{name}", "jobQueue": "q", "status": status, "startedAt": 0}
    container = {"exitCode": code, "logStreamName": "d/default/1"} if code is not None else {}
    return {**found, "jobDefinition": "d", "attempts": [{}] * attempts, "container": container, **more}


def test_jobs_are_waited_for_with_their_attempts() -> None:
    answers = in_turn(
        {"jobs": [job("1", "RUNNING"), job("2", "SUCCEEDED", 0)]},
        {
            "jobs": [
                job("1", "FAILED", 75, 3, statusReason="Essential container in task exited"),
                job("2", "SUCCEEDED", 0),
            ]
        },
    )
    table = containers.wait_for_jobs(Aws({"batch:DescribeJobs": answers}).client("batch"), "12", sleep=lambda _: None)
    assert table.reset_index().to_dict("split")["data"] == [
        ["summarize-1", "FAILED", 3, 75, "Essential container in task exited"],
        ["summarize-2", "SUCCEEDED", 1, 0, ""],
    ]


def test_a_job_that_batch_does_not_know_yet_is_waited_for() -> None:
    answers = in_turn({"jobs": []}, {"jobs": [job("1", "SUCCEEDED", 0)]})
    table = containers.wait_for_jobs(Aws({"batch:DescribeJobs": answers}).client("batch"), "1", sleep=lambda _: None)
    assert list(table["status"]) == ["SUCCEEDED"]


def test_the_children_of_an_array_are_counted() -> None:
    parent = job("1", "PENDING", arrayProperties={"size": 3, "statusSummary": {"RUNNING": 1, "RUNNABLE": 2}})
    aws = Aws({"batch:DescribeJobs": {"jobs": [parent]}})
    assert containers.array_children(aws.client("batch"), "1") == ["1:0", "1:1", "1:2"]
    with pytest.raises(TimeoutError, match=r"(?s)RUNNING \| 1 \|.*RUNNABLE \| 2 \|"):
        containers.wait_for_jobs(aws.client("batch"), ["1"], seconds=1, sleep=lambda _: None)


def test_logs_are_found_by_the_names_of_their_streams() -> None:
    events = {"events": [{"message": "failed: BadInput", "timestamp": 0}]}
    aws = Aws(
        {
            "logs:GetLogEvents": events,
            "batch:DescribeJobs": in_turn({"jobs": [job("1", "FAILED", 1)]}, {"jobs": [job("1", "FAILED")]}),
        }
    )
    logs, batch = aws.client("logs"), aws.client("batch")
    assert containers.task_log(logs, "/ecs/x", f"{TASK}abc", prefix="s", container="summarize") == ["failed: BadInput"]
    assert containers.job_log(logs, batch, "1") == ["failed: BadInput"]
    assert [asked["logStreamName"] for asked in aws.asked("logs:GetLogEvents")] == ["s/summarize/abc", "d/default/1"]
    assert containers.job_log(logs, batch, "1") == []


def test_the_containers_that_failed_are_read_from_the_history() -> None:
    def failed(number: int, cause: str) -> dict[str, Any]:
        details = {"resourceType": "ecs", "resource": "runTask.sync", "cause": cause}
        return {"id": number, "type": "TaskFailed", "timestamp": 0, "taskFailedEventDetails": details}

    events = [failed(1, json.dumps({"TaskArn": "t"})), failed(2, "AccessDenied"), failed(3, '{"errorMessage": "x"}')]
    aws = Aws({"stepfunctions:GetExecutionHistory": {"events": events}})
    assert containers.failures(aws.client("stepfunctions"), "arn") == [{"TaskArn": "t"}]

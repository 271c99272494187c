"""Notebook 08b's system: an image built by CodeBuild, parts that go through Fargate tasks, and what breaks it."""

import json
from typing import Any

import pytest
from clients import eventually
from processing_workshop import SAMPLE, ProcessingWorkshop

from helpers import comparison, containers, processing


@pytest.fixture(scope="module")
def system(embedded: Any) -> ProcessingWorkshop:
    """Build the system once."""
    return ProcessingWorkshop(embedded, "fargate-system").build_fargate()


def differences(system: ProcessingWorkshop, run: dict[str, Any]) -> float:
    found = processing.statistics(system.s3, system.bucket, run["name"])
    return processing.largest_difference(found, processing.expected_statistics(SAMPLE))


@pytest.mark.parametrize("machine", ["fargate", "fargate-token"])
def test_parts_become_statistics(system: ProcessingWorkshop, machine: str) -> None:
    run = system.run(machine)
    assert run["status"] == "SUCCEEDED", run
    assert json.loads(run["output"]) == {
        "statistics": f"results/{run['name']}/statistics.json", "parts": 4, "rows": 2000,
    }  # fmt: skip
    assert differences(system, run) < 1e-9
    measured = comparison.measured(system.states, {"Fargate": [run["executionArn"]]})
    assert measured.loc["Fargate", "pieces"] == (4 if machine == "fargate" else 0)


def test_a_bad_part_fails_alone_and_its_log_says_why(system: ProcessingWorkshop) -> None:
    system.s3.put_object(Bucket=system.bucket, Key="parts/bad/part-1.csv", Body=b"age,weeks\n39,52\n41,many\n")
    system.s3.put_object(Bucket=system.bucket, Key="parts/bad/part-2.csv", Body=b"age,weeks\n39,52\n")
    waited = system.run("fargate", {"prefix": "parts/bad/"})
    assert (waited["status"], waited["error"]) == ("FAILED", "PartsFailed")
    assert waited["cause"] == "parts/bad/part-1.csv: exit code 1, see its log"
    (failed,) = containers.failures(system.states, waited["executionArn"])
    lines = containers.task_log(system.logs, system.group, failed["TaskArn"], prefix="summarize", container="summarize")
    reason = "parts/bad/part-1.csv, line 3: 'many' in the column of numbers 'weeks'"
    assert lines[-1] == f"failed: BadInput: {reason}"
    told = system.run("fargate-token", {"prefix": "parts/bad/"})
    assert told["cause"] == f"parts/bad/part-1.csv: BadInput: {reason}"
    for name in (waited["name"], told["name"]):  # the other part was worked on
        assert processing.read_json(system.s3, system.bucket, f"summaries/{name}/part-2.json")["rows"] == 1


def test_no_parts_is_an_error_that_says_so(system: ProcessingWorkshop) -> None:
    run = system.run("fargate", {"prefix": "parts/none/"})
    assert (run["error"], run["cause"]) == (
        "NoParts",
        f"there is no .csv file below parts/none/ in the bucket {system.bucket}",
    )


def test_a_task_that_hangs_is_found_by_its_missing_heartbeat(system: ProcessingWorkshop) -> None:
    part = system.parts[1]
    with system.silent_after(3):
        run = system.run("fargate-token", {"prefix": part, "trouble": {part: {"STALL_SECONDS": 300}}})
    assert run["error"] == "PartsFailed"
    assert run["cause"] == f"{part}: no heartbeat for 3 seconds"


def test_a_stopped_execution_stops_its_tasks(system: ProcessingWorkshop) -> None:
    ecs, cluster = system.client("ecs"), system.connection.prefix
    trouble = {part: {"STALL_SECONDS": 300} for part in system.parts[:2]}
    execution = system.start("fargate", {"trouble": trouble})
    eventually(lambda: "TaskSubmitted" in system.events(execution))
    running = eventually(lambda: ecs.list_tasks(cluster=cluster, desiredStatus="RUNNING")["taskArns"])
    system.states.stop_execution(executionArn=execution)
    table = containers.wait_for_tasks(ecs, cluster, running)
    assert set(table["status"]) == {"STOPPED"}
    eventually(lambda: not ecs.list_tasks(cluster=cluster, desiredStatus="RUNNING")["taskArns"])


@pytest.mark.parametrize(("suffix", "kind", "service", "action", "reason"), [
    ("fargate-machine", "fargate-machine", "states", "ecs:RunTask", "ECS.AccessDeniedException"),
    ("fargate-machine", "fargate-machine", "states", "iam:PassRole", "iam:PassRole"),
    ("fargate-machine", "fargate-machine", "states", "lambda:InvokeFunction", "lambda:InvokeFunction"),
    ("containers", "execution", "ecs-tasks", "ecr:BatchGetImage", "CannotPullContainerError"),
    ("containers", "execution", "ecs-tasks", "ecr:GetAuthorizationToken", "ecr:GetAuthorizationToken"),
    ("containers", "execution", "ecs-tasks", "logs:CreateLogStream", "logs:CreateLogStream"),
    ("summarize", "task", "ecs-tasks", "s3:GetObject", "exit code 1"),
    ("summarize", "task", "ecs-tasks", "s3:PutObject", "exit code 1"),
    ("list-parts", "list-parts", "lambda", "s3:ListBucket", "s3:ListBucket"),
    ("combine", "combine", "lambda", "s3:GetObject", "s3:GetObject"),
    ("combine", "combine", "lambda", "s3:PutObject", "s3:PutObject"),
])  # fmt: skip
def test_each_permission_is_needed(
    system: ProcessingWorkshop, suffix: str, kind: str, service: str, action: str, reason: str
) -> None:
    with system.without(suffix, kind, service, action):
        run = system.run(system.impatient("fargate"), {"prefix": system.parts[0]})  # one part is enough
    assert run["status"] == "FAILED"
    assert reason in f"{run['error']}: {run['cause']}"


def test_a_task_that_may_not_report_success_reports_that(system: ProcessingWorkshop) -> None:
    with system.without("summarize", "task", "ecs-tasks", "states:SendTaskSuccess"):
        run = system.run("fargate-token", {"prefix": system.parts[0]})
    assert f"{system.parts[0]}: ClientError: " in run["cause"]
    assert "SendTaskSuccess" in run["cause"]


def test_a_task_that_may_not_report_failure_is_found_by_its_missing_heartbeat(system: ProcessingWorkshop) -> None:
    with system.silent_after(3), system.without("summarize", "task", "ecs-tasks", "states:SendTaskFailure"):
        run = system.run(
            "fargate-token", {"prefix": system.parts[0], "trouble": {system.parts[0]: {"FAIL": "as asked"}}}
        )
    assert f"{system.parts[0]}: no heartbeat for 3 seconds" in run["cause"]

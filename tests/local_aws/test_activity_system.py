"""The system of notebook 08a: tasks of an activity, handed to a function by a checker, started through an API."""

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from activity_workshop import STALL, TABLE, ActivityWorkshop, at_once
from clients import eventually

from helpers import apis


@pytest.fixture(scope="module")
def system(embedded: Any) -> ActivityWorkshop:
    """Build notebook 08a's system once."""
    return ActivityWorkshop(embedded, "activities").build()


def only_row(system: ActivityWorkshop, execution: str) -> tuple[str, str]:
    row = system.ended(execution).iloc[0]
    return row["status"], row["reason"]


def taken(system: ActivityWorkshop, execution: str) -> dict[str, Any]:
    """Take an execution's task as the checker does. Returns the event for a worker."""
    eventually(lambda: "ActivityScheduled" in system.history(execution))
    task = system.states.get_activity_task(activityArn=system.activity_arn, workerName="test")
    return {"token": task["taskToken"], "input": json.loads(task["input"])}


def test_twenty_tasks_at_once_through_the_api(system: ActivityWorkshop) -> None:
    run = f"run-{uuid.uuid4().hex[:8]}"
    keys = [system.put(number, TABLE + f"{number}, 1, clerk\n".encode()) for number in range(1, 21)]
    executions = at_once(20, lambda number: system.begin(keys[number], run=run))
    assert system.hand_over(*executions) == {"running": 20, "waiting": 20, "handed": 20, "empty": 0, "failed": 0}
    table = system.ended(*executions)
    assert table["part"].tolist() == [f"part-{number}.csv" for number in range(1, 21)]
    assert set(table["status"]) == {"SUCCEEDED"}, table["reason"].tolist()
    assert set(table["rows"]) == {"3"}
    summary = system.s3.get_object(Bucket=system.bucket, Key=f"summaries/{run}/part-7.json")["Body"].read()
    assert json.loads(summary)["columns"]["age"]["sum"] == 41 + 43 + 7
    assert system.check() == {"running": 0, "waiting": 0, "handed": 0, "empty": 0, "failed": 0}
    assert system.call({"key": keys[0], "run": run}).status == 409


def test_a_schedule_is_made_for_the_checker(system: ActivityWorkshop) -> None:
    system.schedule("rate(1 minute)")
    try:
        events = system.client("events")
        (target,) = events.list_targets_by_rule(Rule=system.checker)["Targets"]
        assert target["Arn"] == system.checker_arn
        (rule,) = events.list_rules(NamePrefix=system.checker)["Rules"]
        assert rule["State"] == "ENABLED"
    finally:
        system.unschedule()


def test_what_goes_wrong_ends_in_a_state_of_its_own(system: ActivityWorkshop) -> None:
    executions = [system.begin(system.put(1), fail="the disk is full"), system.begin("parts/part-404.csv")]
    assert system.hand_over(*executions)["handed"] == 2
    table = system.ended(*executions)
    assert set(table["status"]) == {"FAILED"}
    missing = f"there is no such object in the bucket {system.bucket}"
    assert table["reason"].tolist() == [
        "RequestedFailure: parts/part-1.csv: the disk is full",
        f"BadInput: parts/part-404.csv: parts/part-404.csv: {missing}",
    ]


def test_a_silent_worker_and_a_slow_one_are_told_apart(system: ActivityWorkshop) -> None:
    with system.impatient(timeout=300, heartbeat=3):
        silent = system.begin(system.put(2), **STALL)
    # Its worker sends a heartbeat each second: one between the second and the tenth shows that.
    with system.impatient(timeout=12, heartbeat=10):
        slow = system.begin(system.put(3), slow_seconds=300)
    assert system.hand_over(silent, slow)["handed"] == 2
    assert system.ended(silent, slow)["reason"].tolist() == [
        "WorkerSilent: parts/part-2.csv: no heartbeat for 3 seconds",
        "TooSlow: parts/part-3.csv: not done after 12 seconds",
    ]


def test_a_worker_whose_task_was_given_up_does_nothing(system: ActivityWorkshop) -> None:
    execution = system.begin(system.put(77))
    event = taken(system, execution)
    system.states.stop_execution(executionArn=execution)
    answer = system.functions.invoke(FunctionName=system.worker, Payload=json.dumps(event))
    assert "FunctionError" not in answer  # so Lambda does not try again
    eventually(lambda: '"too late", "key": "parts/part-77.csv"' in system.log("worker"))
    written = system.s3.list_objects_v2(Bucket=system.bucket, Prefix=f"summaries/{event['input']['run']}/")
    assert written["KeyCount"] == 0


def test_an_unsigned_call_starts_nothing(system: ActivityWorkshop) -> None:
    before = len(system.states.list_executions(stateMachineArn=system.machine_arn)["executions"])
    answer = apis.call_unsigned(f"{system.api.endpoint}/start", {"key": system.put(1)})
    assert answer == (403, {"message": "Forbidden"})
    assert len(system.states.list_executions(stateMachineArn=system.machine_arn)["executions"]) == before


@pytest.mark.parametrize("document", [{}, {"key": "secrets.csv"}, {"key": "parts/part-1.csv", "bucket": "other"}, []])
def test_a_request_that_makes_no_sense_is_answered(system: ActivityWorkshop, document: Any) -> None:
    answer = system.call(document)
    assert answer.status == 400
    assert answer.document["message"]


def test_a_start_that_comes_twice_works_once(system: ActivityWorkshop) -> None:
    key, run = system.put(1), f"run-{uuid.uuid4().hex[:8]}"
    first, second = (system.begin(key, run=run) for _ in range(2))
    assert first == second
    system.hand_over(first)
    assert only_row(system, first) == ("SUCCEEDED", "")


def test_an_event_that_comes_twice_does_no_harm(system: ActivityWorkshop) -> None:
    execution = system.begin(system.put(1))
    event = taken(system, execution)
    payload = json.dumps(event)
    answers = [system.functions.invoke(FunctionName=system.worker, Payload=payload) for _ in range(2)]
    assert not any("FunctionError" in answer for answer in answers)
    assert only_row(system, execution) == ("SUCCEEDED", "")
    assert system.history(execution).count("ActivitySucceeded") == 1
    assert event["token"] not in system.log("worker") + system.log("checker")


def test_two_ticks_at_once_hand_each_task_over_once(system: ActivityWorkshop) -> None:
    executions = [system.begin(system.put(number)) for number in range(1, 5)]
    with ThreadPoolExecutor(2) as pool:
        ticks = [pool.submit(system.hand_over, *executions) for _ in range(2)]
        # A poll that finds nothing waits a minute for a task to come: give those one that do.
        while not all(tick.done() for tick in ticks):
            time.sleep(0.3)
            executions.append(system.begin(system.put(5)))
    system.hand_over(*executions)
    assert set(system.ended(*executions)["status"]) == {"SUCCEEDED"}
    assert all(system.history(execution).count("ActivityStarted") == 1 for execution in executions)


@pytest.mark.parametrize("action", ["states:ListExecutions", "states:GetExecutionHistory", "states:GetActivityTask"])
def test_the_checker_needs_each_permission(system: ActivityWorkshop, action: str) -> None:
    execution = system.begin(system.put(1))
    with system.without("checker", action):
        error = system.hand_over(execution)
        assert error["errorType"] == "ClientError"
        assert action in error["errorMessage"]
    assert system.check()["handed"] == 1
    assert only_row(system, execution) == ("SUCCEEDED", "")


def test_a_worker_that_cannot_be_invoked_fails_the_task(system: ActivityWorkshop) -> None:
    execution = system.begin(system.put(1))
    with system.without("checker", "lambda:InvokeFunction"):
        assert system.hand_over(execution)["failed"] == 1
    status, reason = only_row(system, execution)
    assert status == "FAILED"
    assert reason.startswith(f"NotHandedOver: parts/part-1.csv: {system.worker} was not invoked: ")
    assert "lambda:InvokeFunction" in reason


def test_the_api_answers_500_when_its_function_may_not_start(system: ActivityWorkshop) -> None:
    with system.without("start", "states:StartExecution"):
        answer = system.call({"key": system.put(1)})
    assert answer == (500, {"message": "Internal Server Error"})


@pytest.mark.parametrize("action", ["s3:GetObject", "s3:PutObject"])
def test_the_worker_needs_each_permission(system: ActivityWorkshop, action: str) -> None:
    execution = system.begin(system.put(1))
    with system.without("worker", action):
        system.hand_over(execution)
        status, reason = only_row(system, execution)
    assert status == "FAILED"
    assert reason.startswith("AccessDenied: parts/part-1.csv: ")
    assert action in reason


@pytest.mark.parametrize("action", ["states:SendTaskHeartbeat", "states:SendTaskSuccess"])
def test_a_worker_that_may_not_report_says_so(system: ActivityWorkshop, action: str) -> None:
    execution = system.begin(system.put(1))
    with system.without("worker", action):
        system.hand_over(execution)
        status, reason = only_row(system, execution)
    assert status == "FAILED"
    assert reason.startswith("AccessDeniedException: parts/part-1.csv: ")
    assert action in reason


def test_a_worker_that_may_not_even_report_a_failure_falls_silent(system: ActivityWorkshop) -> None:
    with system.impatient(timeout=300, heartbeat=3):
        execution = system.begin(system.put(1), fail="x")
    with system.without("worker", "states:SendTaskFailure"):
        system.hand_over(execution)
        assert only_row(system, execution)[1].startswith("WorkerSilent")

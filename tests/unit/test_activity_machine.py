"""The state machine of notebook 08a, and what its executions came to."""

import datetime as dt
import json
from typing import Any

import pytest
from answers import Aws, in_turn
from statelint.config import Config
from statelint.linter import Linter

from helpers import activities
from helpers.local_aws.states.definition import problems

ACTIVITY = "arn:aws:states:us-east-1:123456789012:activity:demo-exp-summarize"
MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:demo-exp-activity"
DEFINITION = activities.definition(ACTIVITY, timeout_seconds=60, heartbeat_seconds=10, machine_seconds=600)


def test_two_validators_find_nothing() -> None:
    assert Linter.validate(DEFINITION, Config([], False, True)) == []
    assert problems(json.dumps(DEFINITION)) == []


def test_the_limits_are_those_that_were_asked_for() -> None:
    task = DEFINITION["States"]["summarize"]
    assert (task["Resource"], task["TimeoutSeconds"], task["HeartbeatSeconds"]) == (ACTIVITY, 60, 10)
    assert DEFINITION["TimeoutSeconds"] == 600
    assert "no heartbeat for 10 seconds" in DEFINITION["States"]["worker silent"]["Cause"]
    assert "not done after 60 seconds" in DEFINITION["States"]["too slow"]["Cause"]


def test_nothing_is_tried_again_and_silence_is_told_from_slowness() -> None:
    task = DEFINITION["States"]["summarize"]
    assert "Retry" not in task
    assert [(each["ErrorEquals"], each["Next"]) for each in task["Catch"]] == [
        (["States.HeartbeatTimeout"], "worker silent"),
        (["States.Timeout"], "too slow"),
        (["States.ALL"], "worker failed"),
    ]


def execution(part: int, status: str, **more: Any) -> dict[str, Any]:
    given = json.dumps({"bucket": "b", "key": f"parts/part-{part}.csv", "run": "first"})
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    known = {"executionArn": f"{MACHINE}:{part}", "stateMachineArn": MACHINE, "startDate": moment, "input": given}
    return {**known, "status": status, **more}


def described(*executions: dict[str, Any]) -> Aws:
    found = {each["executionArn"]: each for each in executions}
    return Aws({"stepfunctions:DescribeExecution": lambda params: found[params["executionArn"]]})


def test_a_table_of_executions() -> None:
    known = [
        execution(10, "SUCCEEDED", output='{"rows": 5}'),
        execution(9, "FAILED", error="WorkerSilent", cause="parts/part-9.csv: no heartbeat"),
        execution(1, "TIMED_OUT"),
    ]
    states = described(*known).client("stepfunctions")
    table = activities.overview(states, [each["executionArn"] for each in known])
    assert table.to_numpy().tolist() == [
        ["part-1.csv", "first", "TIMED_OUT", "", ""],
        ["part-9.csv", "first", "FAILED", "", "WorkerSilent: parts/part-9.csv: no heartbeat"],
        ["part-10.csv", "first", "SUCCEEDED", "5", ""],
    ]


def test_waiting_ends_with_the_last_execution() -> None:
    running, done = execution(1, "RUNNING"), execution(1, "SUCCEEDED", output="{}")
    aws = Aws({"stepfunctions:DescribeExecution": in_turn(running, running, done)})
    slept: list[float] = []
    table = activities.wait(aws.client("stepfunctions"), [done["executionArn"]], sleep=slept.append)
    assert table["status"].tolist() == ["SUCCEEDED"]
    assert len(slept) == 2


def test_waiting_ends_at_its_limit() -> None:
    states = described(execution(1, "RUNNING")).client("stepfunctions")
    with pytest.raises(TimeoutError, match="not ended after 9 seconds:\n0 of 1 executions have ended"):
        activities.wait(states, [f"{MACHINE}:1"], seconds=9, sleep=lambda seconds: None)

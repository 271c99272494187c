"""The checker: as many polls as tasks wait, each task handed over once, and nobody left to wait for a timeout."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from answers import Aws, in_turn, refuse
from botocore.exceptions import ClientError
from function_modules import load_function

from helpers import functions

(checker,) = load_function(functions.SOURCES / "activity_checker", "lambda_function")
ACCOUNT = "arn:aws:states:us-east-1:123456789012"
MACHINES = [f"{ACCOUNT}:stateMachine:demo-exp-activity", f"{ACCOUNT}:stateMachine:demo-exp-activity-impatient"]
PLACE = checker.Place(f"{ACCOUNT}:activity:demo-exp-summarize", MACHINES, "worker")
WAITING, TAKEN = ["TaskStateEntered", "ActivityScheduled"], ["TaskStateEntered", "ActivityScheduled", "ActivityStarted"]


class System:
    """Executions with their histories, and the tasks that an activity has."""

    def __init__(self, *histories: list[str], tasks: int | None = None) -> None:
        # In turn an execution of the one machine and of the other.
        self.histories = {f"{MACHINES[number % 2]}:{number}": types for number, types in enumerate(histories)}
        waiting = sum(types == WAITING for types in histories)
        self.left = [f"token-{number}" for number in range(waiting if tasks is None else tasks)]
        self.lock = threading.Lock()
        self.aws = Aws(
            {
                "stepfunctions:ListExecutions": self.executions,
                "stepfunctions:GetExecutionHistory": self.history,
                "stepfunctions:GetActivityTask": self.poll,
                "stepfunctions:SendTaskFailure": {},
                "lambda:Invoke": {"StatusCode": 202},
            }
        )

    def executions(self, params: dict[str, Any]) -> dict[str, Any]:
        assert params["statusFilter"] == "RUNNING"
        machine = params["stateMachineArn"]
        found = {"stateMachineArn": machine, "name": "x", "status": "RUNNING", "startDate": 0}
        own = [arn for arn in self.histories if arn.startswith(f"{machine}:")]
        return {"executions": [{"executionArn": arn, **found} for arn in own]}

    def history(self, params: dict[str, Any]) -> dict[str, Any]:
        assert params["reverseOrder"]
        types = self.histories[params["executionArn"]][::-1]
        return {"events": [{"timestamp": 0, "type": name, "id": 1} for name in types]}

    def poll(self, params: dict[str, Any]) -> dict[str, Any]:
        assert params["activityArn"] == PLACE.activity
        with self.lock:
            token = self.left.pop(0) if self.left else None
        return {"taskToken": token, "input": '{"key": "parts/part-1.csv"}'} if token else {}

    def check(self, remaining: Callable[[], float] = lambda: 120.0) -> dict[str, int]:
        clients = self.aws.client("stepfunctions"), self.aws.client("lambda")
        return checker.check(PLACE, *clients, remaining)

    @property
    def handed(self) -> list[dict[str, Any]]:
        asked = self.aws.asked("lambda:Invoke")
        assert all((each["FunctionName"], each["InvocationType"]) == (PLACE.worker, "Event") for each in asked)
        return [json.loads(each["Payload"]) for each in asked]


def test_a_tick_without_executions_makes_one_call_for_each_machine() -> None:
    system = System()
    assert system.check() == {"running": 0, "waiting": 0, "handed": 0, "empty": 0, "failed": 0}
    assert system.aws.names() == ["stepfunctions:ListExecutions"] * 2


def test_a_tick_without_waiting_tasks_does_not_poll() -> None:
    system = System(TAKEN, ["ExecutionStarted"])
    assert system.check()["waiting"] == 0
    assert "stepfunctions:GetActivityTask" not in system.aws.names()


def test_each_waiting_task_is_handed_over_once() -> None:
    system = System(*[WAITING] * 25, *[TAKEN] * 5)
    assert system.check() == {"running": 30, "waiting": 25, "handed": 25, "empty": 0, "failed": 0}
    assert sorted(each["token"] for each in system.handed) == sorted(f"token-{number}" for number in range(25))
    assert all(each["input"] == {"key": "parts/part-1.csv"} for each in system.handed)
    assert len(system.aws.asked("stepfunctions:GetActivityTask")) == 25


def test_an_empty_poll_is_fine_and_the_last_of_its_poller() -> None:
    system = System(*[WAITING] * 30, tasks=3)
    counts = system.check()
    assert counts["handed"] == 3
    assert counts["empty"] == checker.AT_ONCE
    assert len(system.aws.asked("stepfunctions:GetActivityTask")) == 3 + checker.AT_ONCE


@pytest.mark.parametrize(
    ("types", "waits"),
    [
        (WAITING, True),
        (TAKEN, False),
        ([*TAKEN, "ActivityTimedOut", "ActivityScheduled"], True),
        ([*TAKEN, "ActivitySucceeded", "TaskStateExited"], False),
        ([*WAITING, "ActivityScheduleFailed"], False),
        ([], False),
    ],
)
def test_what_a_history_says(types: list[str], waits: bool) -> None:
    assert checker.waits([{"type": name} for name in reversed(types)]) is waits


def test_no_poll_begins_when_the_time_gets_short() -> None:
    system = System(*[WAITING] * 20)
    assert system.check(lambda: checker.READ_SECONDS + checker.MARGIN_SECONDS)["handed"] == 0
    assert "stepfunctions:GetActivityTask" not in system.aws.names()


def test_a_task_that_cannot_be_handed_over_fails_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    system = System(WAITING, WAITING)
    system.aws.answers["lambda:Invoke"] = in_turn(refuse("TooManyRequestsException", "too many"), {"StatusCode": 202})
    counts = system.check()
    assert (counts["handed"], counts["failed"]) == (1, 1)
    (failed,) = system.aws.asked("stepfunctions:SendTaskFailure")
    assert failed["error"] == "NotHandedOver"
    assert failed["cause"].startswith("worker was not invoked: ")
    assert "too many" in failed["cause"]
    assert "token-" not in capsys.readouterr().out


def test_a_token_that_is_over_by_then_is_let_go() -> None:
    system = System(WAITING)
    system.aws.answers["lambda:Invoke"] = refuse("ServiceException")
    system.aws.answers["stepfunctions:SendTaskFailure"] = refuse("TaskTimedOut")
    assert system.check()["failed"] == 1


def test_an_error_of_one_poll_loses_no_other_task() -> None:
    system = System(*[WAITING] * 12)
    poll = system.poll
    system.aws.answers["stepfunctions:GetActivityTask"] = in_turn(refuse("AccessDeniedException"), poll)
    with pytest.raises(ClientError, match="AccessDeniedException"):
        system.check()
    assert len(system.handed) == 11


def test_an_execution_that_is_gone_waits_for_nobody() -> None:
    system = System(WAITING)
    system.aws.answers["stepfunctions:GetExecutionHistory"] = refuse("ExecutionDoesNotExist")
    assert system.check()["waiting"] == 0


def test_a_client_waits_longer_than_step_functions_holds_a_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    states, _ = checker.clients()
    assert states.meta.config.read_timeout >= 65

"""The state machine that waits for an activity, and what its executions came to."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from helpers import live
from helpers.histories import FINAL
from helpers.states_language import jsonata

TIMEOUT_SECONDS = 300  # for the work, once somebody has taken the task
HEARTBEAT_SECONDS = 30  # of silence at most
MACHINE_SECONDS = 3600  # for all of it: a task that nobody takes has no other limit
COLUMNS = ("part", "run", "status", "rows", "reason")

KEY = "$states.context.Execution.Input.key"


def definition(
    activity_arn: str,
    *,
    timeout_seconds: int = TIMEOUT_SECONDS,
    heartbeat_seconds: int = HEARTBEAT_SECONDS,
    machine_seconds: int = MACHINE_SECONDS,
) -> dict[str, Any]:
    """Return the definition of a state machine that hands its input to an activity, in the Amazon States Language.

    Both limits of the task count from when a worker takes it. There is no Retry: each way to
    fail ends in a Fail state of its own, whose Cause names the part.
    """
    return {
        "Comment": "Waits until somebody has summarized a part",
        "QueryLanguage": "JSONata",
        "StartAt": "summarize",
        "TimeoutSeconds": machine_seconds,
        "States": {
            "summarize": {
                "Type": "Task",
                "Resource": activity_arn,
                "TimeoutSeconds": timeout_seconds,
                "HeartbeatSeconds": heartbeat_seconds,
                # In this order: States.Timeout would also match a heartbeat that is missing.
                "Catch": [
                    {"ErrorEquals": ["States.HeartbeatTimeout"], "Next": "worker silent"},
                    {"ErrorEquals": ["States.Timeout"], "Next": "too slow"},
                    {
                        "ErrorEquals": ["States.ALL"],
                        "Output": jsonata("$states.errorOutput"),
                        "Next": "worker failed",
                    },
                ],
                "Next": "summarized",
            },
            "summarized": {"Type": "Succeed"},
            "worker silent": _fail("'WorkerSilent'", f"'no heartbeat for {heartbeat_seconds} seconds'"),
            "too slow": _fail("'TooSlow'", f"'not done after {timeout_seconds} seconds'"),
            "worker failed": _fail("$states.input.Error", "$states.input.Cause"),
        },
    }


def wait(
    states: Any,
    arns: Iterable[str],
    *,
    seconds: float = MACHINE_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> pd.DataFrame:
    """Show how many executions have ended, and return ``overview`` of them once all have.

    ``states``: a Step Functions client. Raises TimeoutError after ``seconds``.
    """
    total = list(arns)
    left = list(total)

    def look() -> list[str]:
        left[:] = [arn for arn in left if states.describe_execution(executionArn=arn)["status"] not in FINAL]
        return left

    live.follow(
        "Executions:",
        look,
        lambda left: not left,
        lambda left: f"{len(total) - len(left)} of {len(total)} executions have ended",
        seconds=seconds,
        sleep=sleep,
    )
    return overview(states, total)


def overview(states: Any, arns: Iterable[str]) -> pd.DataFrame:
    """Return executions as a table in the order of their parts: status, rows, and the reason of a failure."""
    table = pd.DataFrame([_row(states.describe_execution(executionArn=arn)) for arn in arns], columns=list(COLUMNS))
    return table.sort_values("part", key=lambda parts: parts.map(_in_order), ignore_index=True, kind="stable")


def _row(execution: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    given, output = json.loads(execution["input"]), json.loads(execution.get("output") or "{}")
    reason = ": ".join(filter(None, [execution.get("error"), execution.get("cause")]))
    rows = str(output.get("rows", ""))
    return given["key"].rpartition("/")[2], given["run"], execution["status"], rows, reason


def _in_order(name: str) -> tuple[int, str]:
    return int("".join(filter(str.isdigit, name)) or 0), name  # part-10 after part-9


def _fail(error: str, cause: str) -> dict[str, Any]:
    return {"Type": "Fail", "Error": jsonata(error), "Cause": jsonata(f"{KEY} & ': ' & {cause}")}

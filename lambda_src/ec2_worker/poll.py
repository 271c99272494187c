"""Tell whether a unit's record is final; the state machine asks again and again.

A worker that is late is an error with a name of its own, which the state
machine catches. Seconds are those of the limits and not measured ones, so that
the same failure always has the same reason.

Environment: TABLE, HEARTBEAT_SECONDS, START_SECONDS, LIMIT_SECONDS.

IAM actions, and nothing else:
    dynamodb:GetItem    on the table
    logs                of the function itself
"""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import boto3
from units import FINAL, RUNNING, UNDER_WAY, Record, RecordChanged, RecordGone, Table, age


class HeartbeatLost(Exception):
    """The worker runs but has not been heard of for too long."""


class WorkerLate(Exception):
    """The worker has not begun in time."""


class LimitReached(Exception):
    """The unit has taken too long in all."""


@dataclass(frozen=True)
class Limits:
    """How long to wait, in seconds: for a heartbeat, for the worker's first word, for all of the work."""

    heartbeat: int
    start: int
    total: int


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Look at the unit of ``event``: unit, execution (ARN), started (time)."""
    table = Table(client(), os.environ["TABLE"])
    limits = Limits(*(int(os.environ[f"{name}_SECONDS"]) for name in ("HEARTBEAT", "START", "LIMIT")))
    record = table.find(event["unit"])
    return {"final": judge(record, event["execution"], event["started"], limits, table.clock())}


@cache
def client() -> Any:
    """Return the DynamoDB client, made once in the life of the worker."""
    return boto3.client("dynamodb")


def judge(record: Record | None, execution: str, started: str, limits: Limits, moment: datetime) -> bool:
    """Return whether a record is final. ``started``: when the execution was.

    Raises HeartbeatLost, WorkerLate, LimitReached, and RecordGone or RecordChanged
    when the record is no longer one that this execution can wait for.
    """
    if record is None:
        raise RecordGone("the unit's record was deleted while the worker was at it")
    if record.get("Execution") != execution:
        raise RecordChanged("the unit's record belongs to another execution")
    status = record.get("JobStatus")
    if status in FINAL:
        return True
    if status not in UNDER_WAY:
        raise RecordChanged(f"the unit's status is {str(status)[:40]!r}, which is none")
    elapsed = age(started, moment)
    if elapsed > timedelta(seconds=limits.total):
        raise LimitReached(f"the unit was not finished in {limits.total} seconds")
    if status == RUNNING and age(record.get("HeartbeatAt", record["UpdatedAt"]), moment) > timedelta(
        seconds=limits.heartbeat
    ):
        raise HeartbeatLost(f"no heartbeat for more than {limits.heartbeat} seconds")
    if status != RUNNING and elapsed > timedelta(seconds=limits.start):
        raise WorkerLate(f"the worker did not begin within {limits.start} seconds: its instance's console says more")
    return False

"""End workers that nobody needs any more, and fail units that nobody works on. Runs on a schedule.

The state machine ends its instance on every path of its own. This is for what
it cannot: it was stopped by hand or timed out, or its last step failed.

Environment: TABLE, STACK, TOPIC (ARN), MACHINE (ARN of the state machine), LIMIT_SECONDS.

IAM actions, and nothing else:
    ec2:DescribeInstances, TerminateInstances   the latter with the stack's tag
    dynamodb:GetItem, Scan, UpdateItem          on the table
    states:DescribeExecution                    on the state machine's executions
    sns:Publish                                 on the topic
    logs                                        of the function itself
"""

import json
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any

import boto3
from outcome import Outcome, attempt_all, publish
from units import FAILED, FINAL, UNDER_WAY, Record, RecordChanged, Table, age
from workers import ENDED, LIVE, Worker, end, find_workers

MARGIN = timedelta(minutes=5)  # for the state machine to end its instance itself; for EC2 to list a new one
UNSTARTED = timedelta(minutes=10)  # Lambda tries an event that failed twice more, within some minutes


class ReapFailed(Exception):
    """Something could not be done; the message names all that could not. The schedule tries again."""


@dataclass(frozen=True)
class Services:
    """The clients, and the names of what they are asked about."""

    ec2: Any
    states: Any
    sns: Any
    stack: str
    topic: str
    machine: str


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Look at every worker, then at every unit that is not final."""
    dynamodb, ec2, states, sns = clients()
    aws = Services(ec2, states, sns, *(os.environ[name] for name in ("STACK", "TOPIC", "MACHINE")))
    limit = timedelta(seconds=int(os.environ["LIMIT_SECONDS"])) + MARGIN
    return reap(Table(dynamodb, os.environ["TABLE"]), aws, limit)


@cache
def clients() -> tuple[Any, Any, Any, Any]:
    """Return the clients, made once in the life of the worker."""
    return boto3.client("dynamodb"), boto3.client("ec2"), boto3.client("stepfunctions"), boto3.client("sns")


def reap(table: Table, aws: Services, limit: timedelta) -> dict[str, Any]:
    """Return what was ended and failed, and why. Raises ReapFailed once everything has been tried."""
    done: dict[str, dict[str, str]] = {"ended": {}, "failed": {}}
    workers = find_workers(aws.ec2, aws.stack, states=(*LIVE, *ENDED))
    live = [worker for worker in workers if worker.state in LIVE]
    problems = [each for worker in live for each in _look_at_worker(worker, table, aws, limit, done["ended"])]
    found: list[Record] = []
    problems += attempt_all(lambda: found.extend(table.under_way()))
    problems += attempt_all(*(partial(_look_at_unit, record, workers, table, aws, done["failed"]) for record in found))
    print(json.dumps(done))
    if problems:
        raise ReapFailed("; ".join(problems))
    return done


def why_end(worker: Worker, record: Record | None, execution: str, limit: timedelta, moment: datetime) -> str:
    """Return why a worker must end, "" if it must not. ``execution``: the status of its execution, "" without one."""
    if moment - worker.launched > limit:
        return "older than the limit"
    if execution != "RUNNING":
        return "its execution does not run"
    if record and record.get("JobStatus") in FINAL and record["Execution"].endswith(f":{worker.execution}"):
        return "its unit is final"
    return ""


def why_fail(record: Record, workers: list[Worker], execution: str, moment: datetime) -> str:
    """Return why a unit that is not final must fail, "" if it must not.

    ``workers``: those of the stack, the ended ones too, as far as EC2 still tells of them.
    """
    idle = age(record["UpdatedAt"], moment)
    if not execution:
        return "its execution was never started" if idle > UNSTARTED else ""
    if execution != "RUNNING":
        return f"its execution ended before it: {execution}"
    states = {worker.id: worker.state for worker in workers}
    instance = record.get("InstanceId")
    if instance and (states.get(instance) in ENDED or (instance not in states and idle > MARGIN)):
        return "its instance is gone"
    return ""


def _look_at_worker(worker: Worker, table: Table, aws: Services, limit: timedelta, ended: dict[str, str]) -> list[str]:
    """End a worker if it must. Returns what went wrong: one question without an answer leaves the other reasons."""
    execution: str = "RUNNING"  # what is not known is no reason
    record: Record | None = None

    def ask_execution() -> None:
        nonlocal execution
        arn = f"{aws.machine.replace(':stateMachine:', ':execution:')}:{worker.execution}"
        execution = _status(aws.states, arn) if worker.execution else ""

    def ask_record() -> None:
        nonlocal record
        record = table.find(worker.unit) if worker.unit else None

    def decide() -> None:
        if why := why_end(worker, record, execution, limit, table.clock()):
            end(aws.ec2, [worker.id])
            ended[worker.id] = why

    return attempt_all(ask_execution, ask_record, decide)


def _look_at_unit(record: Record, workers: list[Worker], table: Table, aws: Services, failed: dict[str, str]) -> None:
    unit, execution = record["Unit"], record["Execution"]
    status = _status(aws.states, execution)
    why = why_fail(record, workers, status, table.clock())
    if not why:
        return
    try:
        table.change(unit, execution=execution, expected=UNDER_WAY, status=FAILED, reason=why)
    except RecordChanged:
        return  # it became final a moment ago
    failed[unit] = why
    if status != "RUNNING":  # a running one will tell it itself
        publish(aws.sns, aws.topic, Outcome(unit, FAILED, why), execution)


def _status(states: Any, arn: str) -> str:
    try:
        return states.describe_execution(executionArn=arn)["status"]
    except states.exceptions.ExecutionDoesNotExist:
        return ""

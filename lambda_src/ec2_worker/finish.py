"""End a unit's instance, settle its status and tell the topic; the state machine's last step on every path.

One thing that fails does not keep the others from being done. The instance
comes first, because it costs money; before it only a look at the console of a
worker that never spoke.

Environment: TABLE, STACK, TOPIC (ARN).

IAM actions, and nothing else:
    ec2:DescribeInstances
    ec2:TerminateInstances, GetConsoleOutput    on instances with the stack's tag
    dynamodb:GetItem, UpdateItem                on the table
    sns:Publish                                 on the topic
    logs                                        of the function itself
"""

import os
from functools import cache
from typing import Any

import boto3
from outcome import Outcome, attempt_all, publish, reason_of
from units import FAILED, FINAL, LONGEST_REASON, UNDER_WAY, RecordChanged, Table
from workers import end, find_workers, last_words

SILENT = "WorkerLate"  # the error of a worker that could not even say what is wrong


class FinishFailed(Exception):
    """Not everything could be done; the message names what. The reaper ends an instance that is left."""


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Finish the unit of ``event``: execution (ARN), and ``state``, the state machine's data."""
    ec2, dynamodb, sns = clients()
    table = Table(dynamodb, os.environ["TABLE"])
    return finish(event, table, ec2, sns, os.environ["STACK"], os.environ["TOPIC"])


@cache
def clients() -> tuple[Any, Any, Any]:
    """Return the EC2, DynamoDB and SNS clients, made once in the life of the worker."""
    return boto3.client("ec2"), boto3.client("dynamodb"), boto3.client("sns")


def finish(event: dict[str, Any], table: Table, ec2: Any, sns: Any, stack: str, topic: str) -> dict[str, Any]:
    """Return how the unit ended: its status, and the reason of a failure. Raises FinishFailed."""
    state, execution = event["state"], event["execution"]
    unit = state["unit"]
    known = state.get("launched", {}).get("instance", "")
    name = execution.rpartition(":")[2]
    reason = reason_of(state["error"]) if "error" in state else ""
    outcome = Outcome(unit, FAILED, reason)

    def ask_console() -> None:  # while there is an instance to ask
        nonlocal reason
        if known and state.get("error", {}).get("Error") == SILENT and (words := last_words(ec2, known)):
            reason = f"{reason}: {words}"[:LONGEST_REASON]

    def end_known() -> None:
        end(ec2, [known] if known else [])

    def end_found() -> None:  # also one whose launch was not answered
        end(ec2, [worker.id for worker in find_workers(ec2, stack, execution=name) if worker.id != known])

    def settle() -> None:
        nonlocal outcome
        try:
            outcome = _settle(table, unit, execution, reason)
        except Exception as error:
            unread = f"how the unit ended could not be read: {type(error).__name__}: {error}"
            outcome = Outcome(unit, FAILED, reason or unread)
            raise

    def tell() -> None:
        publish(sns, topic, outcome, execution)

    if problems := attempt_all(ask_console, end_known, end_found, settle, tell):
        raise FinishFailed("; ".join(problems))
    return {"status": outcome.status, "reason": outcome.reason}


def _settle(table: Table, unit: str, execution: str, reason: str) -> Outcome:
    """Fail the unit for ``reason`` unless its status is final already, and return how it ended."""
    if reason:
        try:
            table.change(unit, execution=execution, expected=UNDER_WAY, status=FAILED, reason=reason)
        except RecordChanged:
            print("the unit's status is final, or its record is gone or another execution's")
    record = table.find(unit)
    if record is None or record.get("Execution") != execution or record.get("JobStatus") not in FINAL:
        return Outcome(unit, FAILED, reason or "the unit's record was changed by somebody else")
    return Outcome.of(record)

"""Start the state machine once for every object that an S3 event tells of.

S3 delivers an event at least once, now and then twice. An execution is named
after what happened (bucket, key, version, and the sequencer that orders the
writes of a key), so the second delivery finds the name in use and starts
nothing.

Environment: state_machine_name. Its ARN follows from this function's own.

IAM actions, and nothing else:
    states:StartExecution       on the state machine
    logs                        of the function itself
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote_plus

import boto3
from botocore.exceptions import BotoCoreError, ClientError

NAME_CHARACTERS = 24


class NotStarted(Exception):
    """Records that started nothing; raised when all were tried, so that Lambda delivers the event again."""


@dataclass(frozen=True)
class Start:
    """An execution to start: its name and its input, which is the record's ``s3`` part with the key decoded."""

    name: str
    input: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The object's key."""
        return self.input["object"]["key"]


@dataclass(frozen=True)
class Plan:
    """What an event asks for. ``ignored``: what starts nothing, and why; ``unreadable``: records that make no sense."""

    starts: tuple[Start, ...] = ()
    ignored: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Start what an S3 event asks for."""
    machine = machine_arn(context.invoked_function_arn, os.environ["state_machine_name"])  # noqa: SIM112 - its name is given
    return dispatch(plan(event), machine, client())


def plan(event: Mapping[str, Any]) -> Plan:
    """Return what ``event`` asks for: one execution for each record of an object that was created."""
    if "Records" not in event:
        # S3 sends s3:TestEvent when the notification is set up.
        return Plan(ignored=(str(event.get("Event") or "an event without records"),))
    starts, ignored, unreadable = [], [], []
    for number, record in enumerate(event["Records"]):
        try:
            if not record["eventName"].startswith("ObjectCreated:"):
                ignored.append(record["eventName"])
            else:
                starts.append(_start(record["s3"]))
        except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
            unreadable.append(f"record {number}: {error!r}")
    return Plan(tuple(starts), tuple(ignored), tuple(unreadable))


def dispatch(planned: Plan, machine: str, states: Any) -> dict[str, Any]:
    """Start each execution of a plan. Returns the names of those that run now and of those that were there before.

    ``states``: a Step Functions client. Raises NotStarted, once every record was
    tried, with the reason of each that failed.
    """
    names: dict[str, list[str]] = {"started": [], "repeated": []}
    failed = list(planned.unreadable)
    for reason in planned.ignored:
        _log("ignored", reason=reason)
    for start in planned.starts:
        try:
            states.start_execution(stateMachineArn=machine, name=start.name, input=json.dumps(start.input))
            outcome = "started"
        except states.exceptions.ExecutionAlreadyExists:
            outcome = "repeated"
        except (ClientError, BotoCoreError) as error:
            failed.append(f"{start.key}: {error}")
            continue
        names[outcome].append(start.name)
        _log(outcome, execution=start.name, key=start.key)
    if failed:
        _log("not started", reasons=failed)
        total = len(planned.starts) + len(planned.ignored) + len(planned.unreadable)
        raise NotStarted(f"{len(failed)} of {total} records started nothing: {'; '.join(failed)}")
    return {**names, "ignored": list(planned.ignored)}


def machine_arn(function_arn: str, name: str) -> str:
    """Return the ARN of a state machine in the account and region of this function."""
    partition, _, region, account = function_arn.split(":")[1:5]
    return f"arn:{partition}:states:{region}:{account}:stateMachine:{name}"


@cache
def client() -> Any:
    """Return the Step Functions client, made once in the life of the worker."""
    return boto3.client("stepfunctions")


def _start(s3: Mapping[str, Any]) -> Start:
    # In an event a key is encoded as in a form: a blank is a plus sign.
    key = unquote_plus(s3["object"]["key"], errors="strict")
    content = s3["object"].get("versionId") or s3["object"]["eTag"]
    happened = json.dumps([s3["bucket"]["name"], key, content, s3["object"]["sequencer"]])
    name = hashlib.sha256(happened.encode()).hexdigest()[:NAME_CHARACTERS]
    return Start(name, {**s3, "object": {**s3["object"], "key": key}})


def _log(outcome: str, **details: Any) -> None:
    """Print one line of JSON, which CloudWatch Logs Insights can query."""
    print(json.dumps({"outcome": outcome, **details}))


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    client()  # while the worker starts: later it would keep the first event waiting

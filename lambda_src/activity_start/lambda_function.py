"""Start the state machine for one part of the data: the function behind `POST /start`.

The request's body is JSON: ``{"bucket": …, "key": "parts/part-1.csv", "run": "first"}``.
``bucket`` and ``run`` may be left out. The answer is 202 with the execution's ARN;
400 with a message for a request that makes no sense; 409 when this part has been
worked on in this run.

For trying out what goes wrong, a request may also hold, for the worker:
    fail            a text: the worker fails with it
    stall_seconds   the worker hangs that long, without a heartbeat
    slow_seconds    the worker takes that much longer, with heartbeats

Environment: STATE_MACHINE_ARN, BUCKET.

IAM actions, and nothing else:
    states:StartExecution       on the state machine
    logs                        of the function itself
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3

KEY = re.compile(r"parts/[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.csv")
RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
MEMBERS = {"bucket", "key", "run", "fail", "stall_seconds", "slow_seconds"}
MOST_SECONDS = 600
MOST_TEXT = 200


class BadRequest(Exception):
    """A request that starts nothing; the message tells the caller why."""


@dataclass(frozen=True)
class Start:
    """An execution to start: its name, and its input."""

    name: str
    input: Mapping[str, Any]


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer a request of the HTTP API (payload format 2.0)."""
    try:
        start = plan(event, os.environ["BUCKET"])
    except BadRequest as refused:
        return answer(400, {"message": str(refused)})
    return dispatch(start, os.environ["STATE_MACHINE_ARN"], client())


def plan(event: Mapping[str, Any], bucket: str) -> Start:
    """Return the execution that a request asks for. Raises BadRequest.

    It is named after run and key, so that asking twice does not work twice; a run
    that is not named is named after the request.
    """
    wanted = _body(event)
    if unknown := sorted(wanted.keys() - MEMBERS):
        raise BadRequest(f"a request has no {', '.join(unknown)}, only {', '.join(sorted(MEMBERS))}")
    if wanted.get("bucket", bucket) != bucket:
        raise BadRequest(f"bucket must be {bucket}")
    key, run = wanted.get("key"), wanted.get("run") or _run_of(event)
    if not isinstance(key, str) or not KEY.fullmatch(key):
        raise BadRequest("key must name a part, such as parts/part-1.csv")
    if not isinstance(run, str) or not RUN.fullmatch(run):
        raise BadRequest("run must be at most 40 letters, digits, - and _")
    part = key.removeprefix("parts/").removesuffix(".csv")
    digest = hashlib.sha256(json.dumps([run, key]).encode()).hexdigest()[:12]
    return Start(f"{run}-{part[:26]}-{digest}", {"bucket": bucket, "key": key, "run": run, **_trials(wanted)})


def dispatch(start: Start, machine: str, states: Any) -> dict[str, Any]:
    """Start the execution and return the API's answer. ``states``: a Step Functions client.

    While an execution runs, starting it again with the same input gives the same one.
    """
    try:
        begun = states.start_execution(stateMachineArn=machine, name=start.name, input=json.dumps(start.input))
    except states.exceptions.ExecutionAlreadyExists:
        print(json.dumps({"outcome": "repeated", "execution": start.name}))
        message = f"{start.input['key']} has been started in the run {start.input['run']}"
        return answer(409, {"message": message, "execution": start.name})
    print(json.dumps({"outcome": "started", "execution": start.name}))
    return answer(202, {"execution": begun["executionArn"]})


def answer(status: int, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the API is to answer."""
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(document)}


@cache
def client() -> Any:
    """Return the Step Functions client, made once in the life of the worker."""
    return boto3.client("stepfunctions")


def _body(event: Mapping[str, Any]) -> dict[str, Any]:
    text = event.get("body") or ""
    try:
        # An API hands bodies over in base64 unless their content type says that they are text.
        wanted = json.loads(base64.b64decode(text) if event.get("isBase64Encoded") else text)
    except (ValueError, RecursionError):
        raise BadRequest("the body must be JSON") from None
    if not isinstance(wanted, dict):
        raise BadRequest("the body must be a JSON object")
    return wanted


def _run_of(event: Mapping[str, Any]) -> str:
    return f"run-{hashlib.sha256(event['requestContext']['requestId'].encode()).hexdigest()[:10]}"


def _trials(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the worker is told to get wrong."""
    found = {name: wanted[name] for name in ("fail", "stall_seconds", "slow_seconds") if name in wanted}
    if "fail" in found and not (isinstance(found["fail"], str) and 0 < len(found["fail"]) <= MOST_TEXT):
        raise BadRequest(f"fail must be a text of at most {MOST_TEXT} characters")
    for name in found.keys() - {"fail"}:
        number = isinstance(found[name], (int, float)) and not isinstance(found[name], bool)
        if not number or not 0 <= found[name] <= MOST_SECONDS:
            raise BadRequest(f"{name} must be a number from 0 to {MOST_SECONDS}")
    return found


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    client()  # while the worker starts: later it would keep the first request waiting

"""Work on a task of the activity: summarize one part of the data, and report with the task's token.

The checker invokes this function asynchronously with ``{"token": …, "input": …}``.
The input is the execution's: ``bucket``, ``key`` (below parts/) and ``run``; and for
trying out what goes wrong ``fail`` (a text to fail with), ``stall_seconds`` (hang that
long, without a heartbeat) and ``slow_seconds`` (take that much longer, with heartbeats).

Lambda delivers an asynchronous event at least once. The first thing done with a token
is therefore a heartbeat: where the task has ended, nothing is done. What is written
for a part is the same whoever writes it, and of two reports only the first counts.

The zip also holds ``summarize.py`` of processing_image/: the same work as everywhere.

Environment: HEARTBEAT_SECONDS, between two heartbeats.

IAM actions, and nothing else:
    s3:GetObject                on BUCKET/parts/*
    s3:ListBucket               on BUCKET: to be told that a part is not there
    s3:PutObject                on BUCKET/summaries/*
    states:SendTaskHeartbeat, SendTaskSuccess, SendTaskFailure      on the activity
    logs                        of the function itself
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import ClientError
from summarize import process

MOST_ERROR, MOST_CAUSE = 256, 32_768  # characters: Step Functions' limits
# What a token cannot be used for any more: the task has ended, or its time is over.
TOO_LATE = ("TaskDoesNotExist", "TaskTimedOut", "InvalidToken")


class RequestedFailure(Exception):
    """The input asked for this."""


class TaskOver(Exception):
    """Nobody waits for this task any more."""


def lambda_handler(event: dict[str, Any], context: Any) -> None:
    """Work on a task and report. Raises only where no report can be made: Lambda then delivers the event again."""
    s3, states = clients()
    work(event["token"], event["input"], s3, states, every=float(os.environ["HEARTBEAT_SECONDS"]))


@cache
def clients() -> tuple[Any, Any]:
    """Return the S3 and the Step Functions client, made once in the life of the worker."""
    return boto3.client("s3"), boto3.client("stepfunctions")


def work(
    token: str,
    task: Mapping[str, Any],
    s3: Any,
    states: Any,
    *,
    every: float,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Summarize a part, with a heartbeat ``every`` so many seconds, and report success or failure."""
    try:
        try:
            _report(states.send_task_heartbeat, taskToken=token)
            sleep(task.get("stall_seconds", 0))  # before the heartbeats go on: as a worker that hangs
            with heartbeats(states, token, every):
                done = run(task, s3, sleep)
            _report(states.send_task_success, taskToken=token, output=json.dumps(done))
        except TaskOver:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, it is the state machine's to know
            _log("failed", key=task.get("key"), reason=str(error))
            cause = (str(error) or repr(error))[:MOST_CAUSE]
            _report(states.send_task_failure, taskToken=token, error=name_of(error), cause=cause)
        else:
            _log("summarized", **done)
    except TaskOver as over:
        _log("too late", key=task.get("key"), reason=str(over))


def run(task: Mapping[str, Any], s3: Any, sleep: Callable[[float], None]) -> dict[str, Any]:
    """Write the summary of a part. Returns the keys of both and the number of rows."""
    sleep(task.get("slow_seconds", 0))
    if task.get("fail"):
        raise RequestedFailure(task["fail"])
    return process(s3, task["bucket"], task["key"], f"summaries/{task['run']}")


def name_of(error: Exception) -> str:
    """Return what a Catch can match: an error's class, of AWS's errors their code."""
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
    return (code or type(error).__name__)[:MOST_ERROR]


@contextmanager
def heartbeats(states: Any, token: str, every: float) -> Iterator[None]:
    """Send a heartbeat ``every`` so many seconds, from a thread, while the block runs."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(every):
            try:
                states.send_task_heartbeat(taskToken=token)
            except ClientError as error:
                # The report at the end meets the same error, and decides what it means.
                _log("no heartbeat", reason=error.response["Error"]["Code"])
                return

    thread = threading.Thread(target=beat, name="heartbeats", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _report(call: Callable[..., Any], **arguments: Any) -> None:
    try:
        call(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] in TOO_LATE:
            raise TaskOver(error.response["Error"]["Code"]) from None
        raise


def _log(outcome: str, **details: Any) -> None:
    """Print one line of JSON, never with a token."""
    print(json.dumps({"outcome": outcome, **details}))


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    clients()  # while the worker starts

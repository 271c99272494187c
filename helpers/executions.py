"""Follow an execution, and find out why one failed."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError
from IPython.display import Markdown, display

STREAMS = "/aws/sagemaker/ProcessingJobs"
FINAL = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")
_MARKS = {"SUCCEEDED": "✔", "RUNNING": "…", "FAILED": "✘", "TIMED_OUT": "✘", "ABORTED": "✘"}


@dataclass(frozen=True)
class Execution:
    """How an execution stands: its status, that of each state entered, and the reason of a failure."""

    arn: str = field(repr=False)
    status: str
    states: dict[str, str]
    error: str = ""
    cause: str = field(default="", repr=False)

    def markdown(self) -> str:
        """Return the states as a table."""
        rows = [f"| {name} | {_MARKS[status]} {status} |" for name, status in self.states.items()]
        return "\n".join(["| state | status |", "| --- | --- |", *rows, f"| **execution** | **{self.status}** |"])


def describe(states: Any, arn: str) -> Execution:
    """Return how an execution stands now. ``states``: a Step Functions client."""
    answer = states.describe_execution(executionArn=arn)
    entered: dict[str, str] = {}
    broken = False  # the last task failed: if its state is left now, a Catch led out of it
    for event in _history(states, arn):
        kind = event["type"]
        if kind.endswith("StateEntered"):
            entered[event["stateEnteredEventDetails"]["name"]] = "RUNNING"
            broken = False
        elif kind.endswith("StateExited"):
            entered[event["stateExitedEventDetails"]["name"]] = "FAILED" if broken else "SUCCEEDED"
        elif not kind.startswith("Execution"):
            broken = kind.endswith(("Failed", "TimedOut"))
    last = next((name for name, status in entered.items() if status == "RUNNING"), None)
    if answer["status"] in FINAL and last:
        entered[last] = answer["status"]
    return Execution(arn, answer["status"], entered, answer.get("error", ""), answer.get("cause", ""))


def follow(
    states: Any, arn: str, *, every: float = 1.0, seconds: float = 3600, sleep: Callable[[float], None] = time.sleep
) -> Execution:
    """Show an execution's states as they change, until it ends. Returns the last look at it.

    ``every``: seconds between two looks. Raises TimeoutError after ``seconds``;
    neither that nor Ctrl-C stops the execution.
    """
    shown = display(Markdown("waiting for the first state"), display_id=True)
    waited = 0.0
    while True:
        execution = describe(states, arn)
        if shown is not None:
            shown.update(Markdown(execution.markdown()))
        if execution.status in FINAL:
            return execution
        if waited >= seconds:
            raise TimeoutError(f"the execution still runs after {seconds:g} seconds: {arn}")
        sleep(every)
        waited += every


def wait_for_job(
    sagemaker: Any,
    name: str,
    *,
    until: tuple[str, ...] = ("InProgress", "Completed", "Failed", "Stopping", "Stopped"),
    seconds: float = 600,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Return a processing job's description once it exists and its status is one of ``until``.

    Raises TimeoutError after ``seconds``.
    """
    waited, every = 0.0, 0.2
    while waited < seconds:
        job = _describe_job(sagemaker, name)
        if job and job["ProcessingJobStatus"] in until:
            return job
        sleep(every)
        waited += every
    raise TimeoutError(f"the job {name} was none of {', '.join(until)} within {seconds:g} seconds")


def failed_job(execution: Execution) -> dict[str, Any]:
    """Return the description of the processing job that made an execution fail.

    Raises ValueError when the cause is not a job's description.
    """
    try:
        job = json.loads(execution.cause)
    except ValueError:
        job = None
    if not isinstance(job, dict) or "ProcessingJobName" not in job:
        raise ValueError(f"no processing job failed: {execution.error}: {execution.cause}")
    return job


def job_log(logs: Any, job: str, *, lines: int = 20) -> list[str]:
    """Return the last lines that a processing job printed, all hosts together, oldest first.

    ``logs``: a CloudWatch Logs client. A job that printed nothing has no stream: [].
    """
    try:
        found = logs.describe_log_streams(logGroupName=STREAMS, logStreamNamePrefix=f"{job}/")["logStreams"]
    except logs.exceptions.ResourceNotFoundException:
        return []
    messages: list[tuple[int, str]] = []
    for stream in found:
        answer = logs.get_log_events(
            logGroupName=STREAMS, logStreamName=stream["logStreamName"], limit=lines, startFromHead=False
        )
        messages += [(event["timestamp"], event["message"]) for event in answer["events"]]
    return [message for _, message in sorted(messages, key=lambda pair: pair[0])][-lines:]


def _describe_job(sagemaker: Any, name: str) -> dict[str, Any] | None:
    try:
        return sagemaker.describe_processing_job(ProcessingJobName=name)
    except ClientError as error:
        if "Could not find" not in error.response["Error"]["Message"]:  # AWS has no code of its own for this
            raise
    return None


def _history(states: Any, arn: str) -> Iterator[dict[str, Any]]:
    for page in states.get_paginator("get_execution_history").paginate(executionArn=arn):
        yield from page["events"]

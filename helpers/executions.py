"""Follow an execution, and find out why one failed."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
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
    entered = _statuses(_history(states, arn))
    if answer["status"] in FINAL:  # a state that was never left shares the execution's fate
        entered = {name: answer["status"] if status == "RUNNING" else status for name, status in entered.items()}
    return Execution(arn, answer["status"], entered, answer.get("error", ""), answer.get("cause", ""))


def follow(
    states: Any, arn: str, *, every: float = 1.0, seconds: float = 3600, sleep: Callable[[float], None] = time.sleep
) -> Execution:
    """Show an execution's states as they change, until it ends. Returns the last look at it.

    ``every``: seconds between two looks. Raises TimeoutError after ``seconds``;
    neither that nor Ctrl-C stops the execution.
    """
    # Live while it runs; at the end the line is as at first and the table an output of its own,
    # because nbval compares what is displayed and knows nothing of updates.
    heading = Markdown("States of the execution:")
    live = display(heading, display_id=True)
    waited = 0.0
    while True:
        execution = describe(states, arn)
        if execution.status in FINAL:
            if live is not None:
                live.update(heading)
            display(Markdown(execution.markdown()))
            return execution
        if live is not None:
            live.update(Markdown(execution.markdown()))
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
        every = min(every * 1.5, 5)  # often at first, for a job that starts at once; AWS limits the rate of calls
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
    pages = logs.get_paginator("describe_log_streams").paginate(logGroupName=STREAMS, logStreamNamePrefix=f"{job}/")
    try:
        streams = [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
    except logs.exceptions.ResourceNotFoundException:
        return []
    events = [event for stream in streams for event in _last_events(logs, stream, lines)]
    return [event["message"] for event in sorted(events, key=lambda event: event["timestamp"])][-lines:]


def wait_for_log(
    logs: Any, function: str, phrase: str, *, seconds: float = 60, sleep: Callable[[float], None] = time.sleep
) -> str:
    """Return the first line of a function's log that holds ``phrase``; what it printed arrives after some seconds.

    Raises TimeoutError after ``seconds``: without permission to write logs, a function has none.
    """
    waited, every = 0.0, 0.5
    while waited < seconds:
        try:
            found = logs.filter_log_events(logGroupName=f"/aws/lambda/{function}", filterPattern=f'"{phrase}"')
            if found["events"]:
                return found["events"][0]["message"].strip()
        except logs.exceptions.ResourceNotFoundException:
            pass  # the group is made with the first line
        sleep(every)
        waited += every
    raise TimeoutError(
        f"{function} logged nothing with {phrase!r} within {seconds:g} seconds: may its role write logs?"
    )


def _last_events(logs: Any, stream: str, count: int) -> list[dict[str, Any]]:
    """Return a stream's last events. A page may be empty before the last one; the end is where the token repeats."""
    events: list[dict[str, Any]] = []
    token: dict[str, str] = {}
    while len(events) < count:
        page = logs.get_log_events(
            logGroupName=STREAMS, logStreamName=stream, limit=count, startFromHead=False, **token
        )
        events = [*page["events"], *events]
        if page["nextBackwardToken"] == token.get("nextToken"):
            break
        token = {"nextToken": page["nextBackwardToken"]}
    return events[-count:]


def _describe_job(sagemaker: Any, name: str) -> dict[str, Any] | None:
    try:
        return sagemaker.describe_processing_job(ProcessingJobName=name)
    except ClientError as error:
        # Documented is ResourceNotFound; what AWS answers is a ValidationException.
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        if code != "ResourceNotFound" and "Could not find" not in message:
            raise
    return None


def _statuses(history: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Return the status of each state that was entered, in the order of entering.

    A state whose error was caught is left like one that succeeded: what tells them
    apart is the failure since its last attempt.
    """
    statuses: dict[str, str] = {}
    state_of: dict[int, str] = {}
    for event in history:
        kind = event["type"]
        # AWS says which event led to which, so that the branches of a Parallel state are not mixed up.
        state = state_of.get(event.get("previousEventId", event["id"] - 1), "")
        if kind.endswith("StateEntered"):
            state = event["stateEnteredEventDetails"]["name"]
            statuses[state] = "RUNNING"
        elif kind.endswith("StateExited"):
            state = event["stateExitedEventDetails"]["name"]
            statuses[state] = "SUCCEEDED" if statuses[state] == "RUNNING" else statuses[state]
        elif state and kind.endswith("Scheduled"):
            statuses[state] = "RUNNING"  # the first attempt, or one more
        elif state and kind.endswith(("Failed", "TimedOut")) and not kind.startswith("Execution"):
            statuses[state] = "TIMED_OUT" if kind.endswith("TimedOut") else "FAILED"
        state_of[event["id"]] = state
    return statuses


def _history(states: Any, arn: str) -> Iterator[dict[str, Any]]:
    for page in states.get_paginator("get_execution_history").paginate(executionArn=arn):
        yield from page["events"]

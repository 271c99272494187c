"""Follow an execution, and find out why one failed."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError
from IPython.display import Markdown, display

from helpers import progress
from helpers.histories import FINAL, Items, Progress, read_map_runs, read_new

STREAMS = "/aws/sagemaker/ProcessingJobs"
SHOWN_EVERY = 0.25  # seconds: JupyterLab takes some 60 ms to draw a state machine
LOG_EVERY = 1.0  # seconds between two looks at a log: two calls each, and AWS limits their rate
LOG_LINES = 5


@dataclass(frozen=True)
class Execution:
    """How an execution stands: its status, that of each state entered, and the reason of a failure.

    ``states`` are those outside of Maps; ``items`` tells of each Map how far its items are,
    ``jobs`` of each other state its last processing job.
    """

    arn: str = field(repr=False)
    status: str
    states: dict[str, str]
    error: str = ""
    cause: str = field(default="", repr=False)
    output: str = field(default="", repr=False)
    items: Mapping[str, Items] = field(default_factory=dict, repr=False)
    jobs: Mapping[str, str] = field(default_factory=dict, repr=False)

    def markdown(self) -> str:
        """Return the states as a table."""
        return f"{progress.table(self.states, self.items)}\n| **execution** | **{self.status}** |"

    def job_running(self) -> str:
        """Return the name of a processing job that a state waits for; "" when there is none."""
        return next(self._jobs("RUNNING", "running"), "")

    def job_failed(self) -> str:
        """Return the name of the first processing job that failed, in the order of states and items, or ""."""
        return next(self._jobs("FAILED", "failed"), "")

    def _jobs(self, status: str, outcome: str) -> Any:
        for name, found in self.states.items():
            if name in self.items:
                items = self.items[name]
                yield from (job for index, job in sorted(items.jobs.items()) if items.outcomes[index] == outcome)
            elif found == status and name in self.jobs:
                yield self.jobs[name]


def describe(states: Any, arn: str) -> Execution:
    """Return how an execution stands now. ``states``: a Step Functions client."""
    return _Watched(states, arn).look(ask=True)


def follow(
    states: Any,
    arn: str,
    *,
    logs: Any = None,
    every: float | None = None,
    seconds: float = 6 * 3600,
    sleep: Callable[[float], None] = time.sleep,
) -> Execution:
    """Show an execution as it runs: its states in colours, its jobs, the elapsed time. Returns the last look at it.

    ``logs``: a CloudWatch Logs client; with it also the last lines of a job that runs
    or has failed. ``every``: seconds between two looks; by default ever more, 0.1 to 2.
    Raises TimeoutError after ``seconds``. Neither that nor Ctrl-C, which ends the
    watching without an error, stops the execution.
    """
    watched = _Watched(states, arn)
    try:
        return _follow(watched, _View(watched, logs), every, seconds, sleep)
    except KeyboardInterrupt:
        print(f'Watching has stopped, the execution goes on. To follow it again:\nexecutions.follow(states, "{arn}")')
        return watched.last


def wait(
    states: Any, arn: str, *, seconds: float = 6 * 3600, sleep: Callable[[float], None] = time.sleep
) -> Mapping[str, Any]:
    """Return an execution's description once it has ended, and show nothing. Raises TimeoutError after ``seconds``."""
    waited, every = 0.0, 0.1
    while (found := states.describe_execution(executionArn=arn))["status"] not in FINAL:
        if waited >= seconds:
            raise TimeoutError(f"the execution still runs after {seconds:g} seconds: {arn}")
        sleep(every)
        waited += every
        every = min(every * 1.5, 5)
    return found


def _follow(
    watched: "_Watched", view: "_View", every: float | None, seconds: float, sleep: Callable[[float], None]
) -> Execution:
    waited = 0.0
    while True:
        execution = watched.look()
        if execution.status in FINAL:
            view.finish(execution)
            return execution
        view.update(execution, waited)
        if waited >= seconds:
            raise TimeoutError(f"the execution still runs after {seconds:g} seconds: {watched.arn}")
        pause = every if every is not None else min(2.0, max(0.1, waited / 20))
        sleep(pause)
        waited += pause


class _Watched:
    """An execution that is looked at again and again: only what its history has gained is read."""

    def __init__(self, states: Any, arn: str) -> None:
        self.states, self.arn = states, arn
        self.progress = Progress()
        self.last = Execution(arn, "RUNNING", {})

    def look(self, *, ask: bool = False) -> Execution:
        """Return how it stands. Its history says so itself, until it ends or nothing has happened; or ``ask``."""
        gained = read_new(self.states, self.arn, self.progress)
        answer: Mapping[str, Any] = {"status": "RUNNING"}
        if ask or self.progress.ended or not gained:
            answer = self.states.describe_execution(executionArn=self.arn)
            if answer["status"] in FINAL and not self.progress.ended:
                read_new(self.states, self.arn, self.progress)  # it ended between the two questions
        found = self.progress
        pending = [name for name in found.map_runs if name not in found.items or _unfinished(found.items[name])]
        if pending:
            _if_allowed(lambda: read_map_runs(self.states, found, pending))
        entered = dict(found.statuses)
        if answer["status"] in FINAL:  # a state that was never left shares the execution's fate
            entered = {name: answer["status"] if status == "RUNNING" else status for name, status in entered.items()}
        self.last = Execution(
            self.arn,
            answer["status"],
            entered,
            answer.get("error", ""),
            answer.get("cause", ""),
            answer.get("output", ""),
            dict(found.items),
            dict(found.jobs),
        )
        return self.last


class _View:
    """What the notebook shows of a watched execution."""

    def __init__(self, watched: _Watched, logs: Any) -> None:
        # Live while it runs; at the end this line is as at first and the picture an output of its own,
        # because nbval compares what is displayed and knows nothing of updates.
        self.heading = Markdown("States of the execution:")
        self.handle = display(self.heading, display_id=True)
        self.logs = logs
        answer = watched.states.describe_execution(executionArn=watched.arn)
        self.started = answer.get("startDate", datetime.now(UTC))
        self.definition = _if_allowed(lambda: _definition(watched.states, watched.arn))
        self.expected = progress.expected(self.definition, json.loads(answer.get("input") or "null"))
        self.shown, self.shown_at = "", -SHOWN_EVERY
        self.log, self.log_at, self.log_job = "", -LOG_EVERY, ""

    def update(self, execution: Execution, waited: float) -> None:
        """Show how it stands, unless it was shown a moment ago."""
        if self.handle is None or waited - self.shown_at < SHOWN_EVERY:
            return
        seconds = (datetime.now(UTC) - self.started).total_seconds()
        text = progress.live(
            self.definition, execution.states, execution.items, seconds=seconds, expected=self.expected
        )
        self._read_log(execution, waited)
        text = "\n\n".join(filter(None, [text, self.log]))
        if text != self.shown:
            self.handle.update(Markdown(text))
            self.shown, self.shown_at = text, waited

    def finish(self, execution: Execution) -> None:
        """Leave the picture of an execution that has ended, and why it failed if a job did."""
        if self.handle is not None:
            self.handle.update(self.heading)
        text = progress.final(self.definition, execution.states, execution.items, execution.status, execution.output)
        job = execution.job_failed()
        if job and self.logs and (lines := job_log(self.logs, job, lines=LOG_LINES)):
            # No job's name: what stays in a notebook is the same at every run.
            text += "\n\n" + progress.log("The last lines of the first job that failed:", lines)
        display(Markdown(text))

    def _read_log(self, execution: Execution, waited: float) -> None:
        job = execution.job_running() or execution.job_failed()
        if not self.logs or not job or (job == self.log_job and waited - self.log_at < LOG_EVERY):
            return
        lines = job_log(self.logs, job, lines=LOG_LINES)
        self.log = progress.log(f"The last lines of {job}:", lines) if lines else ""
        self.log_at, self.log_job = waited, job


def _definition(states: Any, arn: str) -> dict[str, Any]:
    return json.loads(states.describe_state_machine_for_execution(executionArn=arn)["definition"])


def _if_allowed(call: Callable[[], Any]) -> Any:
    """Return what ``call`` answers, and None where the role may not ask: the rest can be shown without it."""
    try:
        return call()
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDeniedException":
            raise
    return None


def _unfinished(items: Items) -> bool:
    return items.total is None or items.ended < items.total


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
            pages = logs.get_paginator("filter_log_events").paginate(
                logGroupName=f"/aws/lambda/{function}", filterPattern=f'"{phrase}"'
            )
            for event in (event for page in pages for event in page["events"]):  # a page may be empty before the last
                return event["message"].strip()
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

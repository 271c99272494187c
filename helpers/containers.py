"""Tasks of ECS and jobs of Batch in a notebook: how they stand, how they ended, what they printed."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from helpers import live, loggroups

MOST_AT_ONCE = 100  # tasks or jobs that one call describes
ENDED_JOBS = ("SUCCEEDED", "FAILED")
COLUMNS = ("status", "exit code", "reason")
JOB_LOGS = "/aws/batch/job"  # the log group of jobs whose definition names none
_MARKS = {"STOPPED": "■", "SUCCEEDED": "✔", "FAILED": "✘", "RUNNING": "▶"}


def wait_for_tasks(
    ecs: Any,
    cluster: str,
    tasks: Iterable[str],
    *,
    seconds: float = 1800,
    sleep: Callable[[float], None] = time.sleep,
) -> pd.DataFrame:
    """Show tasks of ECS until all have stopped. Returns them as a table, in their order: see COLUMNS.

    ``tasks``: ARNs. Raises TimeoutError after ``seconds``.
    """
    arns = list(tasks)

    def look() -> list[Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        for some in _chunks(arns):
            found |= {task["taskArn"]: task for task in ecs.describe_tasks(cluster=cluster, tasks=some)["tasks"]}
        return [found[arn] for arn in arns if arn in found]

    described = live.follow(
        "Tasks:",
        look,
        # ECS may not know of a task at once that it has just been told to run.
        lambda found: len(found) == len(arns) and all(task["lastStatus"] == "STOPPED" for task in found),
        lambda found: _counts(task["lastStatus"] for task in found),
        seconds=seconds,
        sleep=sleep,
    )
    return _table([task_outcome(task) for task in described])


def task_outcome(task: Mapping[str, Any]) -> tuple[str, int | None, str]:
    """Return status, exit code and reason of a task as ECS describes it; the exit code is None when none is known."""
    container = (task.get("containers") or [{}])[0]
    reason = ": ".join(filter(None, [task.get("stoppedReason"), container.get("reason")]))
    return task["lastStatus"], container.get("exitCode"), reason


def wait_for_jobs(
    batch: Any, jobs: Iterable[str], *, seconds: float = 3600, sleep: Callable[[float], None] = time.sleep
) -> pd.DataFrame:
    """Show jobs of Batch until all have ended. Returns them as a table by their names, in their order.

    ``jobs``: ids. Besides COLUMNS, the table has ``attempts``. Raises TimeoutError after ``seconds``.
    """
    ids = list(jobs)

    def look() -> list[Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        for some in _chunks(ids):
            found |= {job["jobId"]: job for job in batch.describe_jobs(jobs=some)["jobs"]}
        return [found[job] for job in ids if job in found]

    described = live.follow(
        "Jobs:",
        look,
        # Nor may Batch know of a job at once.
        lambda found: len(found) == len(ids) and all(job["status"] in ENDED_JOBS for job in found),
        lambda found: _counts(_statuses(found)),
        seconds=seconds,
        sleep=sleep,
    )
    table = _table([job_outcome(job) for job in described])
    table.insert(1, "attempts", [len(job.get("attempts", ())) for job in described])
    return table.set_index(pd.Index([job["jobName"] for job in described], name="job"))


def job_outcome(job: Mapping[str, Any]) -> tuple[str, int | None, str]:
    """Return status, exit code and reason of a job as Batch describes it."""
    container = job.get("container", {})
    reason = ": ".join(filter(None, [job.get("statusReason"), container.get("reason")]))
    return job["status"], container.get("exitCode"), reason


def array_children(batch: Any, job: str) -> list[str]:
    """Return the ids of an array job's children, in the order of their indices."""
    size = batch.describe_jobs(jobs=[job])["jobs"][0]["arrayProperties"]["size"]
    return [f"{job}:{index}" for index in range(size)]


def task_log(logs: Any, group: str, task: str, *, prefix: str, container: str, lines: int = 20) -> list[str]:
    """Return the last lines that a task's container printed. ``task``: an ARN; ``prefix``: awslogs-stream-prefix."""
    return loggroups.tail(logs, group, f"{prefix}/{container}/{task.rpartition('/')[2]}", lines=lines)


def job_log(logs: Any, batch: Any, job: str, *, group: str = JOB_LOGS, lines: int = 20) -> list[str]:
    """Return the last lines that the last attempt of a Batch job printed. ``group``: of its definition's log."""
    stream = batch.describe_jobs(jobs=[job])["jobs"][0].get("container", {}).get("logStreamName")
    return loggroups.tail(logs, group, stream, lines=lines) if stream else []


def failures(states: Any, execution_arn: str) -> list[dict[str, Any]]:
    """Return the containers that failed in an execution, as Step Functions described them in their states' causes.

    The members are spelled as in a state: TaskArn, Containers; JobId, Container. ``states``: a Step Functions
    client. What failed otherwise, such as a refused call, is not among them.
    """
    pages = states.get_paginator("get_execution_history").paginate(executionArn=execution_arn)
    causes = [
        event["taskFailedEventDetails"].get("cause", "")
        for page in pages
        for event in page["events"]
        if event["type"] == "TaskFailed"
    ]
    found = [json.loads(cause) for cause in causes if cause.startswith("{")]
    return [one for one in found if "TaskArn" in one or "JobId" in one]


def _table(outcomes: Sequence[tuple[str, int | None, str]]) -> pd.DataFrame:
    table = pd.DataFrame(outcomes, columns=list(COLUMNS), index=pd.RangeIndex(1, len(outcomes) + 1))
    return table.astype({"exit code": "Int64"})


def _statuses(jobs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the status of each job, and of an array job those of its children."""
    for job in jobs:
        summary = job.get("arrayProperties", {}).get("statusSummary")
        if not summary:
            yield job["status"]
            continue
        for status, count in summary.items():
            yield from [status] * count


def _counts(statuses: Iterable[str]) -> str:
    counts: dict[str, int] = {}
    for status in statuses:
        counts[status] = counts.get(status, 0) + 1
    rows = [f"| {_MARKS.get(status, '▷')} {status} | {number} |" for status, number in counts.items()]
    return "\n".join(["| status | number |", "| --- | --- |", *rows])


def _chunks(items: Sequence[str]) -> Iterator[list[str]]:
    for first in range(0, len(items), MOST_AT_ONCE):
        yield list(items[first : first + MOST_AT_ONCE])

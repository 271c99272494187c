"""Queues of Batch in a notebook: wait for what Batch makes in its own time, and see in which order jobs went."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

SECONDS = 600
_ENDED = ("SUCCEEDED", "FAILED")


class NotValid(Exception):
    """Batch cannot use a compute environment or a queue; the message is Batch's reason."""


def wait_for_environment(
    batch: Any, name: str, *, seconds: float = SECONDS, sleep: Callable[[float], None] = time.sleep
) -> str:
    """Return the ARN of a compute environment once it is valid. Raises NotValid, and TimeoutError."""

    def look() -> Mapping[str, Any]:
        return batch.describe_compute_environments(computeEnvironments=[name])["computeEnvironments"][0]

    return _wait_until_valid(name, look, seconds, sleep)["computeEnvironmentArn"]


def wait_for_queue(
    batch: Any, name: str, *, seconds: float = SECONDS, sleep: Callable[[float], None] = time.sleep
) -> str:
    """Return the ARN of a job queue once it is valid. Raises NotValid, and TimeoutError."""

    def look() -> Mapping[str, Any]:
        return batch.describe_job_queues(jobQueues=[name])["jobQueues"][0]

    return _wait_until_valid(name, look, seconds, sleep)["jobQueueArn"]


def wait_for_status(
    batch: Any,
    jobs: Sequence[str],
    status: str,
    *,
    seconds: float = SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once all jobs have a status that others come after, such as RUNNABLE or RUNNING.

    Raises NotValid when one has ended before, and TimeoutError.
    """
    for _ in _looks(f"not every job is {status}", seconds, sleep):
        found = batch.describe_jobs(jobs=list(jobs))["jobs"]
        for job in found:
            if job["status"] in _ENDED:
                raise NotValid(f"the job {job['jobName']} has ended: {job.get('statusReason', job['status'])}")
        if [job["status"] for job in found] == [status] * len(jobs):
            return


def started_in_order(batch: Any, jobs: Sequence[str]) -> list[str]:
    """Return the names of jobs that have run, in the order in which they were started."""
    found = batch.describe_jobs(jobs=list(jobs))["jobs"]
    return [job["jobName"] for job in sorted(found, key=lambda job: job["startedAt"])]


def _wait_until_valid(
    name: str, look: Callable[[], Mapping[str, Any]], seconds: float, sleep: Callable[[float], None]
) -> Mapping[str, Any]:
    found: Mapping[str, Any] = {}
    for _ in _looks(f"{name} is not valid", seconds, sleep):
        found = look()
        if found["status"] == "INVALID":
            raise NotValid(f"{name}: {found.get('statusReason', 'no reason was given')}")
        if found["status"] == "VALID":
            break
    return found


def _looks(problem: str, seconds: float, sleep: Callable[[float], None]) -> Iterable[None]:
    """Yield for every look, ever more seconds apart. Raises TimeoutError after ``seconds``."""
    waited, pause = 0.0, 0.2
    while waited < seconds:
        yield
        sleep(pause)
        waited += pause
        pause = min(pause * 1.5, 5)
    raise TimeoutError(f"{problem} after {seconds:g} seconds")

"""Jobs, and the files that they are kept in: one for each job and, in a folder, one for each child that has run.

The children of an array are what their parent's file says until something happens to one: an array of 10,000
jobs is one file when it is submitted.
"""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from helpers.local_aws import json_files

FINAL = frozenset({"SUCCEEDED", "FAILED"})
STATUSES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
KEPT = 7 * 24 * 3600 * 1000  # milliseconds for which a job that has ended can be described


def now() -> int:
    """Return the time as Batch has it, in milliseconds."""
    return int(time.time() * 1000)


@dataclass
class Job:
    """A job, an array of jobs, or a child of one. Times in milliseconds; 0 and "" where there is nothing.

    ``order`` is what was asked for, the same object for all children of an array: ``container``, ``parameters``,
    ``dependsOn``, ``propagateTags`` and ``platformCapabilities`` as they are described, ``retryStrategy``,
    ``timeout``, ``overrides``. ``attempts`` are as they are described, too.
    """

    job_id: str
    number: int  # in the order of submission
    name: str
    queue: str  # ARN
    definition: str  # ARN
    order: dict[str, Any]
    created: int
    tags: dict[str, str] = field(default_factory=dict)
    size: int = 0  # of an array
    spawned: bool = False  # whether an array has its children
    index: int = -1  # of a child
    status: str = "SUBMITTED"
    reason: str = ""
    started: int = 0
    stopped: int = 0
    attempts: list[dict[str, Any]] = field(default_factory=list)
    cancelled: bool = False
    terminated: bool = False
    wish: str = ""  # the reason with which it was cancelled or terminated
    environment: str = ""  # ARN of the compute environment that it is in
    task: str = ""  # id of the attempt that is under way
    stream: str = ""  # name of its log stream

    @property
    def parent(self) -> str:
        """The id of a child's array, or ""."""
        return self.job_id.rpartition(":")[0] if self.index >= 0 else ""

    @property
    def final(self) -> bool:
        """Whether it has ended."""
        return self.status in FINAL

    def child(self, index: int) -> "Job":
        """Return a child of this array as it is when it is spawned."""
        return replace(
            self, job_id=f"{self.job_id}:{index}", index=index, size=0, spawned=False, created=now(), attempts=[],
            status="SUBMITTED", reason="", cancelled=False, terminated=False, wish="", tags={},
        )  # fmt: skip


class Records:
    """The files of the jobs. Not thread safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self) -> Iterator[Job]:
        """Yield all jobs that can still be described, arrays before their children; the others' files go."""
        for path in sorted(self._folder.glob("*.json")):
            job = Job(**json.loads(path.read_text()))
            children = self._children(job.job_id)
            if job.final and job.stopped + KEPT < now():
                path.unlink()
                shutil.rmtree(children, ignore_errors=True)
                continue
            yield job
            for index in range(job.size if job.spawned else 0):
                file = children / f"{index}.json"
                child = job.child(index)
                yield replace(child, **json.loads(file.read_text())) if file.exists() else child

    def write(self, job: Job) -> None:
        """Write a job down."""
        content = asdict(job)
        file = self._folder / f"{job.job_id}.json"
        if job.index >= 0:
            del content["order"]  # its array has it
            file = self._children(job.parent) / f"{job.index}.json"
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        json_files.write(file, content)

    def _children(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.children"

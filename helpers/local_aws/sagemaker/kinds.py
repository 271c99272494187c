"""What differs between the kinds of jobs that SageMaker runs on hosts."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from helpers.local_aws.sagemaker.hosts import End
from helpers.local_aws.sagemaker.records import Job
from helpers.local_aws.wire import AwsError, Params

LIMIT = 1024  # characters of FailureReason and of ExitMessage


class Kind(ABC):
    """A kind of job. Times are epoch seconds."""

    noun: ClassVar[str]  # as messages call it
    name: ClassVar[str]  # the member that holds the job's name
    folder: ClassVar[str]  # of the records
    scratch: ClassVar[str]  # the folder in which its jobs run

    @abstractmethod
    def hosts(self, request: Params) -> int:
        """Return on how many hosts a job runs."""

    @abstractmethod
    def task(self, job: Job, host: str, hosts: Sequence[str]) -> Params:
        """Return what only hosts of this kind are told, about ``host``; see ``workers``."""

    @abstractmethod
    def network(self, request: Params) -> bool:
        """Tell whether the job has a network."""

    @abstractmethod
    def outcome(self, job: Job, ends: Sequence[End]) -> Params:
        """Return how a job ended whose hosts ended like that: ``status``, ``failure`` and more to write down."""

    def seconds(self, job: Job, now: float) -> float:
        """Return how long a job may run that starts now."""
        return job["request"]["StoppingCondition"]["MaxRuntimeInSeconds"]

    def overdue(self, job: Job, now: float) -> bool:
        """Tell whether a job has waited too long to be started at all."""
        return False

    def packing(self, job: Job, changes: Params, hosts: Sequence[Path]) -> Params | None:
        """Return what to pack and upload when the hosts, which ran in these folders, have ended. None: nothing."""
        return None

    def moved(self, job: Job, changes: Params, now: float) -> Params:
        """Return what to write down for ``changes`` of a job; a ``phase`` in them is that of its host."""
        return {name: value for name, value in changes.items() if name != "phase"}

    @abstractmethod
    def taken(self, arn: str) -> AwsError:
        """Return the refusal of a name that was used before."""

    @abstractmethod
    def unknown(self, name: str) -> AwsError:
        """Return the refusal of a name that no job has."""


def first_failure(ends: Sequence[End]) -> str:
    """Return why the first of the hosts that failed did, or ""."""
    return next((end["failure"] for end in ends if end["failure"]), "")[:LIMIT]


def bounded(text: Any) -> str:
    """Return a text as long as FailureReason may be."""
    return str(text)[:LIMIT]

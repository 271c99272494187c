"""Which job starts next, and where: by the priority of its queue, then in the order of submission."""

import heapq
from collections.abc import Iterator
from fractions import Fraction

from helpers.local_aws.batch.records import Job
from helpers.local_aws.batch.resources import Record, Resources
from helpers.local_aws.batch.sizes import size_of

TOO_LARGE = (
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - All compute environments have a maxVcpu setting "
    "that is smaller than the job requirements."
)

Turn = tuple[int, int, str]  # number of submission, index in an array, id


class Schedule:
    """The jobs that are RUNNABLE, and what the running ones take of each compute environment. Not thread safe."""

    def __init__(self, resources: Resources, jobs: dict[str, Job]) -> None:
        self._resources, self._jobs = resources, jobs
        self._waiting: dict[str, list[Turn]] = {}  # a heap for each queue, by its ARN
        self._taken: dict[str, Fraction] = {}  # vCPUs, by the ARN of the compute environment

    def add(self, job: Job) -> None:
        """Put a job that is RUNNABLE into its queue: one that is tried again keeps its place."""
        heapq.heappush(self._waiting.setdefault(job.queue, []), (job.number, job.index, job.job_id))

    def release(self, job: Job) -> None:
        """Give back what a job has taken."""
        self._taken[job.environment] = self._taken.get(job.environment, Fraction(0)) - _vcpus(job)

    def busy(self, environment: str) -> bool:
        """Tell whether jobs run in a compute environment."""
        return self._taken.get(environment, Fraction(0)) > 0

    def choose(self) -> Iterator[tuple[Job, str]]:
        """Yield each job that starts now with the ARN of its compute environment, which has room for it.

        The first job of a queue that finds no room keeps its compute environments
        from those behind it and those in queues of lower priority: a large urgent
        job is not overtaken for ever by small ones.
        """
        stuck: set[str] = set()
        kept: set[str] = set()
        while (job := self._first(stuck)) is not None:
            places = self._places(job)
            needed = _vcpus(job)
            fitting = [each for each in places if each["computeResources"]["maxvCpus"] >= needed]
            free = next((each for each in fitting if self._room(each, kept, needed)), None)
            if free is None:
                stuck.add(job.queue)
                kept |= {each["computeEnvironmentArn"] for each in fitting}
                job.reason = TOO_LARGE if places and not fitting else ""
                continue
            heapq.heappop(self._waiting[job.queue])
            arn = free["computeEnvironmentArn"]
            self._taken[arn] = self._taken.get(arn, Fraction(0)) + needed
            yield job, arn

    def _first(self, stuck: set[str]) -> Job | None:
        best: tuple[int, Turn] | None = None
        for queue in self._resources.queues.values():
            heap = self._waiting.get(queue["jobQueueArn"], [])
            while heap and self._gone(heap[0][2]):
                heapq.heappop(heap)
            if heap and queue["jobQueueArn"] not in stuck and queue["status"] != "DELETING":
                turn = -queue["priority"], heap[0]
                best = turn if best is None else min(best, turn)
        return None if best is None else self._jobs[best[1][2]]

    def _gone(self, job_id: str) -> bool:
        job = self._jobs.get(job_id)
        return job is None or job.status != "RUNNABLE" or job.cancelled or job.terminated

    def _places(self, job: Job) -> list[Record]:
        """Return the compute environments of a job's queue that take jobs, in their order."""
        queue = self._resources.queue(job.queue)
        named = queue["computeEnvironmentOrder"] if queue else []
        found = [self._resources.environment(each["computeEnvironment"]) for each in named]
        return [
            each for each in found if each and each["state"] == "ENABLED" and each["status"] in ("VALID", "UPDATING")
        ]

    def _room(self, environment: Record, kept: set[str], needed: Fraction) -> bool:
        arn = environment["computeEnvironmentArn"]
        taken = self._taken.get(arn, Fraction(0))
        return arn not in kept and taken + needed <= environment["computeResources"]["maxvCpus"]


def _vcpus(job: Job) -> Fraction:
    return size_of(job.order["container"]["resourceRequirements"]).vcpus

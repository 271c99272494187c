"""The life of jobs: what they wait for, when they start, how they end, and whether they are tried again."""

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from helpers.local_aws.batch.attempts import Outcome, outcome, retries
from helpers.local_aws.batch.records import FINAL, Job, Records, now
from helpers.local_aws.batch.resources import Resources
from helpers.local_aws.batch.scheduling import Schedule
from helpers.local_aws.containers import End

DEPENDENT = "Dependent Job failed"
CHILD = "Array Child Job failed"
QUEUE_DELETED = "JobQueue deleted"
_AT_ONCE = 100  # jobs that are looked at before somebody else gets the lock
_log = logging.getLogger(__name__)


class CannotStart(Exception):
    """An attempt that ends before anything of it has run: ``outcome`` says how."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.status_reason)
        self.outcome = outcome


class Jobs:
    """All jobs, in memory and in their files. Thread safe.

    One thread does what follows from a change: it sleeps until there is one.
    ``begin(job, environment)`` starts an attempt in a compute environment and
    returns at once, or raises CannotStart; ``started`` and ``ended`` are then to
    be called. ``end(task)`` asks an attempt to end. ``settle()``, called with the
    lock held, takes queues and compute environments to where they are going.
    """

    def __init__(
        self,
        resources: Resources,
        records: Records,
        *,
        begin: Callable[[Job, str], None],
        end: Callable[[str], None],
        settle: Callable[["Jobs"], None],
    ) -> None:
        """Read the jobs there are. Those that ran when the embedded AWS went away have lost their attempt."""
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._resources, self._records = resources, records
        self._begin, self._end, self._settle = begin, end, settle
        self._jobs: dict[str, Job] = {job.job_id: job for job in self._read(records)}
        self._numbers = max((job.number for job in self._jobs.values()), default=0)
        self._schedule = Schedule(resources, self._jobs)
        self._look: deque[str] = deque(job.job_id for job in self._jobs.values() if not job.final)
        self._dependents: dict[str, list[str]] = {}
        self._left: dict[str, int] = {}  # children that have not ended, by their array
        self._waiters: dict[str, threading.Event] = {}
        self._work = False
        self._closing = False
        self._thread: threading.Thread | None = None
        for job in self._jobs.values():
            if job.parent and not job.final:
                self._left[job.parent] = self._left.get(job.parent, 0) + 1
                self._inherit(job, self._jobs[job.parent])
        for job in list(self._jobs.values()):
            if job.status == "RUNNING":
                job.environment = ""  # it takes nothing any more
                self._attempt_over(job, outcome(End("lost", None), ""))
        for job in list(self._jobs.values()):
            if job.spawned and not job.final and job.job_id not in self._left:
                self._finish_array(job)

    @staticmethod
    def _read(records: Records) -> Iterator[Job]:
        for job in records.load():
            if job.status not in (*FINAL, "RUNNING"):
                job.status, job.task = "PENDING" if job.spawned else "SUBMITTED", ""
            yield job

    @staticmethod
    def _inherit(child: Job, array: Job) -> None:
        """Let a child know what was wished of its array: only there it was written down."""
        if array.terminated or (array.cancelled and child.status != "RUNNING"):
            child.terminated, child.cancelled, child.wish = array.terminated, array.cancelled, array.wish

    # -- what the API asks

    def number(self) -> int:
        """Return the next number of submission."""
        with self.lock:
            self._numbers += 1
            return self._numbers

    def add(self, job: Job) -> None:
        """Take a new job."""
        with self.changing():
            self._records.write(job)
            self._jobs[job.job_id] = job
            self._look.append(job.job_id)

    def find(self, job_id: str) -> Job | None:
        """Return a job, or None. It is to be read with the lock held."""
        return self._jobs.get(job_id)

    def all(self) -> Iterator[Job]:
        """Yield every job. To be used with the lock held."""
        yield from self._jobs.values()

    def children(self, job: Job) -> list[Job]:
        """Return the children of an array that has been spawned."""
        return [self._jobs[f"{job.job_id}:{index}"] for index in range(job.size if job.spawned else 0)]

    def busy(self, environment: str) -> bool:
        """Tell whether jobs run in a compute environment."""
        return self._schedule.busy(environment)

    def queued(self, queue: str) -> bool:
        """Tell whether a queue has jobs that have not ended."""
        return any(job.queue == queue and not job.final for job in self._jobs.values())

    def save(self, job: Job) -> None:
        """Write down a job whose tags were changed."""
        with self.lock:
            self._records.write(job)

    def cancel(self, job: Job, reason: str) -> None:
        """End a job that has not started; one that waits for others ends when these have. Others go on."""
        with self.changing():
            for each in (job, *self.children(job)):
                if not each.final and each.status not in ("STARTING", "RUNNING"):
                    each.cancelled, each.wish = True, reason
                    self._look.append(each.job_id)
            self._records.write(job)

    def terminate(self, job: Job, reason: str) -> None:
        """End a job whatever it does."""
        with self.changing():
            for each in [each for each in (job, *self.children(job)) if not each.final]:
                each.terminated, each.wish = True, reason
                if each.status in ("STARTING", "RUNNING"):
                    self._records.write(each)
                    self._end(each.task)
                else:
                    self._look.append(each.job_id)
            self._records.write(job)

    def empty(self, queue: str) -> None:
        """End all jobs of a queue that is deleted."""
        with self.changing():
            for job in [job for job in self._jobs.values() if job.queue == queue and job.index < 0]:
                self.terminate(job, QUEUE_DELETED)

    def wait(self, job_id: str, timeout: float | None) -> bool:
        """Block until a job has ended; False when ``timeout`` seconds pass first."""
        with self.lock:
            job = self._jobs.get(job_id)
            if job is None or job.final:
                return True
            waiter = self._waiters.setdefault(job_id, threading.Event())
        return waiter.wait(timeout)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock, and have the thread look at what was changed."""
        with self.lock:
            yield
            self._work = True
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name="batch", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def resume(self) -> None:
        """Go on with what waited when the embedded AWS was stopped."""
        if self._look or self._resources.environments:
            with self.changing():
                pass

    def close(self) -> None:
        """Start no more jobs. Attempts that are lost from now on are tried again after the next start, if at all."""
        with self.lock:
            self._closing = True
            self._changed.notify_all()
        if self._thread:
            self._thread.join()

    # -- what containers tell

    def started(self, job: Job, task: str, stream: str) -> None:
        """Note that the container of an attempt runs; ``stream``: the name of its log stream."""
        with self.lock:
            if job.task == task:
                job.status, job.reason, job.stream = "RUNNING", "", stream
                job.started = now()
                self._records.write(job)

    def ended(self, job: Job, task: str, end: End) -> None:
        """Note that the container of an attempt has ended."""
        with self.changing():
            if job.task != task:
                return
            if end.log_problem:
                _log.warning("batch job %s: %s", job.job_id, end.log_problem)
            if end.reason == "lost" and job.status == "STARTING":
                self._schedule.release(job)
                self._runnable(job)  # it has not run: that is no attempt
            else:
                self._attempt_over(job, outcome(end, job.wish))

    # -- the thread

    def _run(self) -> None:
        while True:
            with self.lock:
                while not self._work and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                self._work = False
            while self._look and not self._closing:
                with self.lock:  # others get it between these
                    self._look_at_some()
            with self.lock:
                if self._look or self._closing:
                    continue  # there is more to look at before anything may start
                self._settle(self)
                chosen = [self._take(job, environment) for job, environment in self._schedule.choose()]
            for job, task in chosen:
                self._launch(job, task)

    def _look_at_some(self) -> None:
        for _ in range(min(len(self._look), _AT_ONCE)):
            job = self._jobs.get(self._look.popleft())
            if job is not None and job.status in ("SUBMITTED", "PENDING", "RUNNABLE"):
                self._advance(job)

    def _take(self, job: Job, environment: str) -> tuple[Job, str]:
        job.status, job.reason, job.environment, job.stream = "STARTING", "", environment, ""
        job.task, job.started = uuid.uuid4().hex, 0
        return job, job.task

    def _launch(self, job: Job, task: str) -> None:
        """Begin an attempt, outside the lock: this asks other services."""
        try:
            self._begin(job, task)
        except CannotStart as problem:
            failed = problem.outcome
        except Exception as error:  # noqa: BLE001 - whatever happens, the job has to end and the thread to go on
            _log.exception("batch job %s", job.job_id)
            failed = Outcome(False, f"InternalServerError: {error}")
        else:
            with self.lock:
                if job.terminated and job.task == task:  # while it was on its way to its container
                    self._end(task)
            return
        with self.changing():
            if job.task == task:
                self._attempt_over(job, failed)

    # -- steps of a job, with the lock held

    def _advance(self, job: Job) -> None:
        """Take a job that has not started as far as it can go."""
        if job.spawned:
            return
        if job.terminated or (job.cancelled and job.status == "RUNNABLE"):
            self._finish(job, "FAILED", job.wish)
            return
        if job.status == "RUNNABLE":
            return
        statuses = {name: self._status(name) for name in self._dependencies(job)}
        waiting = [name for name, status in statuses.items() if status not in FINAL]
        if "FAILED" in statuses.values():
            self._finish(job, "FAILED", job.wish if job.cancelled else DEPENDENT)
        elif waiting:
            job.status = "PENDING"
            for name in waiting:
                self._dependents.setdefault(name, []).append(job.job_id)
        elif job.cancelled:
            self._finish(job, "FAILED", job.wish)
        elif job.size:
            self._spawn(job)
        else:
            self._runnable(job)

    def _status(self, job_id: str) -> str:
        found = self._jobs.get(job_id)
        return found.status if found else "FAILED"  # its record was too old to be kept

    def _dependencies(self, job: Job) -> Iterator[str]:
        """Yield the ids of the jobs that have to succeed before this one can go on."""
        for each in job.order["dependsOn"]:
            kind, other = each.get("type"), each.get("jobId", "")
            if kind == "SEQUENTIAL":
                if job.index > 0:
                    yield f"{job.parent}:{job.index - 1}"
            elif kind == "N_TO_N":
                if job.index >= 0:
                    spawned = self._jobs.get(f"{other}:{job.index}")
                    yield spawned.job_id if spawned else other
            elif job.index < 0:
                yield other

    def _spawn(self, job: Job) -> None:
        job.status, job.spawned = "PENDING", True
        self._records.write(job)
        self._left[job.job_id] = job.size
        self._look.extend(self._dependents.pop(job.job_id, ()))  # those that wait for one of the children each
        for index in range(job.size):
            child = job.child(index)
            self._jobs[child.job_id] = child
            self._look.append(child.job_id)

    def _runnable(self, job: Job) -> None:
        job.status, job.task, job.environment = "RUNNABLE", "", ""
        if job.attempts:
            self._records.write(job)
        self._schedule.add(job)

    def _attempt_over(self, job: Job, ended: Outcome) -> None:
        """Add an attempt to the record, and end the job or put it back into its queue."""
        if job.status in ("STARTING", "RUNNING") and job.environment:
            self._schedule.release(job)
        stopped = now()
        container: dict[str, Any] = {"networkInterfaces": []}
        seen = {"exitCode": ended.code, "reason": ended.reason or None, "logStreamName": job.stream or None}
        container |= {name: value for name, value in seen.items() if value is not None}
        times = {"startedAt": job.started} if job.started else {}
        attempt = {"container": container, **times, "stoppedAt": stopped, "statusReason": ended.status_reason}
        job.attempts.append(attempt)
        job.task = ""
        if ended.succeeded:
            self._finish(job, "SUCCEEDED", ended.status_reason, stopped)
        elif not job.terminated and retries(job.order["retryStrategy"], len(job.attempts), ended):
            self._runnable(job)
        else:
            self._finish(job, "FAILED", ended.status_reason, stopped)

    def _finish(self, job: Job, status: str, reason: str, stopped: int = 0) -> None:
        """End a job, and look again at those that waited for it."""
        job.status, job.reason, job.stopped = status, reason, stopped or now()
        self._records.write(job)
        self._look.extend(self._dependents.pop(job.job_id, ()))
        if waiter := self._waiters.pop(job.job_id, None):
            waiter.set()
        array = self._jobs.get(job.parent)
        if array is None:
            return
        self._left[array.job_id] -= 1
        if not self._left[array.job_id]:
            del self._left[array.job_id]
            self._finish_array(array)

    def _finish_array(self, array: Job) -> None:
        failed = any(each.status == "FAILED" for each in self.children(array))
        self._finish(array, "FAILED" if failed else "SUCCEEDED", (array.wish or CHILD) if failed else "")

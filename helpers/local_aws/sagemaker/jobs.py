"""The life of jobs of one kind: their records, and the threads that follow running ones."""

import copy
import logging
import shutil
import threading
import time
from collections.abc import Sequence
from typing import Any

from helpers.local_aws.containers.hosts import hidden
from helpers.local_aws.containers.slots import Slots
from helpers.local_aws.sagemaker.hosts import End, Hosts, Requests
from helpers.local_aws.sagemaker.kinds import Kind, bounded, first_failure
from helpers.local_aws.sagemaker.records import FINAL, Job, Records
from helpers.local_aws.wire import AwsError, Site
from helpers.local_aws.workers.forkserver import Forkserver

_STOPPED = "InternalServerError: The embedded AWS was stopped while the job was running."
_PACKAGE = "package"  # the folder of what packs the outputs; no host is called like that
_log = logging.getLogger(__name__)


def _now() -> float:
    return round(time.time(), 3)  # SageMaker's times have milliseconds


class Jobs:
    """Run jobs, and wake those who wait for one. See ``Records`` for what is kept of a job."""

    def __init__(
        self, kind: Kind, site: Site, grace: float, host_requests: Requests, forkserver: Forkserver, slots: Slots
    ) -> None:
        """``host_requests`` makes the requests of hosts. ``forkserver`` stays the caller's, to be closed after this."""
        self.kind = kind
        self._site, self._grace, self._requests, self._forkserver = site, grace, host_requests, forkserver
        folder = site.state_dir / "sagemaker"
        self._scratch = folder / kind.scratch
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._lock = threading.RLock()
        self._records = Records(folder / kind.folder)
        self._hosts: dict[str, Hosts] = {}
        self._ended: dict[str, threading.Event] = {}
        self._slots = slots
        self._closing = False
        for name in self._records.running():
            self._ended[name] = threading.Event()
            if not self._waits(name):
                self._change(name, status="Failed", failure=_STOPPED, ended=_now())

    def add(self, request: dict[str, Any], arn: str, tags: list[dict[str, str]]) -> bool:
        """Record a new job as InProgress; False when the name was ever used before."""
        now, name = _now(), request[self.kind.name]
        job = {"request": request, "arn": arn, "tags": tags, "status": "InProgress", "created": now, "modified": now}
        with self._lock:
            if name in self._records:
                return False
            self._records.add(name, job | self.kind.moved(job, {"phase": "Starting"}, now))
            self._ended[name] = threading.Event()
        return True

    def run(self, name: str, credentials: dict[str, str]) -> None:
        """Start the hosts of a job that was added, as soon as there is a slot; returns at once."""
        threading.Thread(target=self._follow, args=(name, credentials), name=f"job {name}", daemon=True).start()

    def waiting(self) -> list[str]:
        """Return the jobs that waited for a slot when the embedded AWS was stopped: they can still run."""
        with self._lock:
            return self._records.running()

    def fail(self, name: str, reason: str) -> None:
        """End a job that was added but cannot start."""
        self._change(name, status="Failed", failure=bounded(reason), ended=_now())

    def known(self, name: str) -> bool:
        """Tell whether a job has, or had, this name."""
        with self._lock:
            return name in self._records

    def find(self, name: str) -> Job | None:
        """Return a copy of the job's record."""
        with self._lock:
            return copy.deepcopy(self._records.find(name))

    def named(self, name: str) -> str | None:
        """Return the name of the job in whose ARN ``name`` stands, or None."""
        with self._lock:
            return self._records.named(name)

    def index(self) -> list[tuple[str, str, float, float]]:
        """Return name, status, time of creation and time of modification of every job."""
        with self._lock:
            return list(self._records.index())

    def tag(self, name: str, tags: list[dict[str, str]]) -> None:
        """Replace the job's tags."""
        self._change(name, tags=tags)

    def stop(self, name: str) -> str:
        """Ask a running job to stop; return the status it was in."""
        with self._lock:
            status = self._records.status(name)
            if status != "InProgress":
                return status
            self._change(name, status="Stopping")
            hosts = self._hosts.get(name)
        if hosts:
            hosts.stop()
        self._slots.look()
        return status

    def wait(self, name: str, timeout: float | None) -> bool:
        """Block until the job is final; False when ``timeout`` seconds pass first."""
        with self._lock:
            ended = self._ended.get(name)
        return ended is None or ended.wait(timeout)

    def end(self) -> list[str]:
        """Kill every running job; return their names. Jobs that still wait for a slot go on waiting."""
        with self._lock:
            self._closing = True
            running = [name for name in self._records.running() if not self._waits(name)]
            for hosts in self._hosts.values():
                hosts.end()
        self._slots.look()
        return running

    def _waits(self, name: str) -> bool:
        """Tell whether a job that is not final has not run yet, and is to."""
        job = self._records.find(name)
        return job is not None and job["status"] == "InProgress" and "started" not in job

    def _given_up(self, name: str) -> bool:
        return self._closing or self._records.status(name) != "InProgress" or self.kind.overdue(self._job(name), _now())

    def _job(self, name: str) -> Job:
        with self._lock:
            job = self._records.find(name)
        assert job is not None, "the job was added"
        return job

    def _follow(self, name: str, credentials: dict[str, str]) -> None:
        """Wait for a slot, run the job in it, and write down how it ended."""
        self._slots.take(lambda: self._given_up(name))
        try:
            if self._closing and self._waits(name):
                return
            try:
                changes = self._run(name, credentials)
            except AwsError as error:
                changes = {"status": "Failed", "failure": bounded(f"ClientError: {error.message}")}
            except Exception as error:  # noqa: BLE001 - the end of a thread: the job has to end whatever happens
                _log.exception("%s %s", self.kind.noun, name)
                changes = {"status": "Failed", "failure": bounded(f"InternalServerError: {error}")}
            if self._closing and changes["status"] == "Failed":
                if self._waits(name):  # it was on its way in: that can be done again
                    return
                changes["failure"] = _STOPPED
            self._change(name, ended=_now(), **changes)
            shutil.rmtree(self._scratch / name, ignore_errors=True)
        finally:
            self._slots.give()

    def _run(self, name: str, credentials: dict[str, str]) -> dict[str, Any]:
        job = self._job(name)
        if self._given_up(name):
            return self._not_run(job)
        names = [f"algo-{number}" for number in range(1, self.kind.hosts(job["request"]) + 1)]
        tasks = [self._task(job, host, names, credentials) | self.kind.task(job, host, names) for host in names]
        ends = self._on_hosts(name, tasks)
        changes = self.kind.outcome(self._job(name), ends)
        package = self.kind.packing(job, changes, [self._scratch / name / host for host in names])
        if package:
            self._change(name, phase="Uploading")
            # What is packed lies in the state folder, so that is not hidden.
            task = self._task(job, _PACKAGE, [_PACKAGE], credentials) | {"hidden": []} | package
            if failure := first_failure(self._on_hosts(name, [task])):
                changes.pop("phase", None)
                changes |= {"status": "Failed", "failure": failure}
        return changes

    def _not_run(self, job: Job) -> dict[str, Any]:
        """Return how a job ends that was not even started."""
        if self._closing:
            return {"status": "Failed"}
        overdue = {"phase": "MaxWaitTimeExceeded"} if job["status"] == "InProgress" else {}
        return {"status": "Stopped", **overdue}

    def _on_hosts(self, name: str, tasks: Sequence[dict[str, Any]]) -> list[End]:
        """Fork a host for each task and follow them to their ends."""
        hosts = Hosts(name, self._requests, lambda: self._note_start(name), lambda phase: self._note_phase(name, phase))
        with self._lock:
            self._hosts[name] = hosts
        try:
            for task in tasks:
                hosts.add(self._forkserver.fork(task))
            with self._lock:
                if self._records.status(name) == "Stopping":
                    hosts.stop()
                if self._closing:
                    hosts.end()
            return hosts.follow()
        finally:
            with self._lock:
                del self._hosts[name]
            hosts.end()
            hosts.close()

    def _task(self, job: Job, host: str, hosts: list[str], credentials: dict[str, str]) -> dict[str, Any]:
        """Return what a host of any kind is told."""
        request = job["request"]
        name = request[self.kind.name]
        folder = self._scratch / name / host
        folder.mkdir(parents=True, mode=0o700)
        return {
            "folder": str(folder.resolve()),
            "hidden": hidden(self._site.state_dir, names=self.kind.network(request)),
            "host": host,
            "hosts": hosts,
            "credentials": credentials,
            "endpoint_url": self._site.endpoint_url,
            "region": self._site.region,
            "log_stream": f"{name}/{host}-{int(time.time())}",
            "network": self.kind.network(request),
            "max_runtime": self.kind.seconds(job, _now()),
            "grace": self._grace,
        }

    def _note_start(self, name: str) -> None:
        with self._lock:
            if "started" not in self._job(name):
                self._change(name, started=_now())

    def _note_phase(self, name: str, phase: str) -> None:
        with self._lock:
            if self._records.status(name) == "InProgress":
                self._change(name, phase=phase)

    def _change(self, name: str, **changes: Any) -> None:
        """Update a record and write it; wake those who wait when it is final."""
        with self._lock:
            now = _now()
            self._records.change(name, **self.kind.moved(self._job(name), changes, now), modified=now)
            if self._records.status(name) in FINAL and (ended := self._ended.pop(name, None)):
                ended.set()

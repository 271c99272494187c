"""The life of processing jobs: their records, and the threads that follow running ones."""

import copy
import logging
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from helpers.local_aws.sagemaker import request as requests
from helpers.local_aws.sagemaker.hosts import End, Hosts, Requests
from helpers.local_aws.sagemaker.records import FINAL, Job, Records
from helpers.local_aws.sagemaker.slots import Slots
from helpers.local_aws.wire import Site
from helpers.local_aws.workers.forkserver import Forkserver

_STOPPED = "InternalServerError: The embedded AWS was stopped while the job was running."
_LIMIT = 1024  # characters of FailureReason and of ExitMessage
_log = logging.getLogger(__name__)


def _now() -> float:
    return round(time.time(), 3)  # SageMaker's times have milliseconds


class Jobs:
    """Run jobs, and wake those who wait for one. See ``Records`` for what is kept of a job."""

    def __init__(self, site: Site, grace: float, host_requests: Requests, forkserver: Forkserver) -> None:
        """``host_requests`` makes the requests of hosts; ``forkserver`` is ended with ``close``."""
        self._site, self._grace, self._requests, self._forkserver = site, grace, host_requests, forkserver
        folder = site.state_dir / "sagemaker"
        self._scratch = folder / "scratch"
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._lock = threading.RLock()
        self._records = Records(folder / "processing-jobs")
        self._hosts: dict[str, Hosts] = {}
        self._ended: dict[str, threading.Event] = {}
        self._slots = Slots()
        self._closing = False
        for name in self._records.running():
            self._ended[name] = threading.Event()
            if not self._waits(name):
                self._change(name, status="Failed", failure=_STOPPED, ended=_now())

    def warm_up(self) -> None:
        """Let the warm processes load their packages before the first job needs them."""
        self._forkserver.warm_up()

    def add(self, request: dict[str, Any], arn: str, tags: list[dict[str, str]]) -> bool:
        """Record a new job as InProgress; False when the name was ever used before."""
        now, name = _now(), request["ProcessingJobName"]
        job = {"request": request, "arn": arn, "tags": tags, "status": "InProgress", "created": now, "modified": now}
        with self._lock:
            if name in self._records:
                return False
            self._records.add(name, job)
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
        self._change(name, status="Failed", failure=reason[:_LIMIT], ended=_now())

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

    def close(self) -> None:
        """Kill every running job and the warm processes. Jobs that still wait for a slot go on waiting."""
        with self._lock:
            self._closing = True
            running = [name for name in self._records.running() if not self._waits(name)]
            for hosts in self._hosts.values():
                hosts.end()
        self._slots.look()
        self._forkserver.close()
        for name in running:
            self.wait(name, timeout=5)

    def _waits(self, name: str) -> bool:
        """Tell whether a job that is not final has not run yet, and is to."""
        job = self._records.find(name)
        return job is not None and job["status"] == "InProgress" and "started" not in job

    def _given_up(self, name: str) -> bool:
        return self._closing or self._records.status(name) != "InProgress"

    def _follow(self, name: str, credentials: dict[str, str]) -> None:
        """Wait for a slot, run the job in it, and write down how it ended."""
        self._slots.take(lambda: self._given_up(name))
        try:
            if self._closing and self._waits(name):
                return
            try:
                changes = self._run(name, credentials)
            except Exception as error:  # noqa: BLE001 - the end of a thread: the job has to end whatever happens
                _log.exception("processing job %s", name)
                changes = {"status": "Failed", "failure": f"InternalServerError: {error}"}
            if self._closing and changes["status"] == "Failed":
                if self._waits(name):  # it was on its way in: that can be done again
                    return
                changes["failure"] = _STOPPED
            self._change(name, ended=_now(), **changes)
            shutil.rmtree(self._scratch / name, ignore_errors=True)
        finally:
            self._slots.give()

    def _run(self, name: str, credentials: dict[str, str]) -> dict[str, Any]:
        if self._given_up(name):
            return {"status": "Failed" if self._closing else "Stopped"}
        hosts = Hosts(name, self._requests, lambda: self._note_start(name))
        with self._lock:
            self._hosts[name] = hosts
            job = self._records.find(name)
        assert job is not None, "the job was added"
        count = job["request"]["ProcessingResources"]["ClusterConfig"]["InstanceCount"]
        names = [f"algo-{number}" for number in range(1, count + 1)]
        try:
            for host in names:
                hosts.add(self._forkserver.fork(self._task(job, host, names, credentials)))
            with self._lock:
                if self._records.status(name) == "Stopping":
                    hosts.stop()
                if self._closing:
                    hosts.end()
            return self._outcome(name, hosts.follow())
        finally:
            with self._lock:
                del self._hosts[name]
            hosts.end()
            hosts.close()

    def _task(self, job: Job, host: str, hosts: list[str], credentials: dict[str, str]) -> dict[str, Any]:
        request = job["request"]
        name = request["ProcessingJobName"]
        folder = self._scratch / name / host
        folder.mkdir(parents=True, mode=0o700)
        return {
            "folder": str(folder.resolve()),
            "hidden": [str(self._site.state_dir.resolve()), str(Path.home() / ".aws")],
            "config": requests.container_config(request, job["arn"]),
            "host": host,
            "hosts": hosts,
            "credentials": credentials,
            "endpoint_url": self._site.endpoint_url,
            "region": self._site.region,
            "log_stream": f"{name}/{host}-{int(time.time())}",
            "network": not request.get("NetworkConfig", {}).get("EnableNetworkIsolation", False),
            "max_runtime": request["StoppingCondition"]["MaxRuntimeInSeconds"],
            "grace": self._grace,
        }

    def _note_start(self, name: str) -> None:
        with self._lock:
            job = self._records.find(name)
            if job is not None and "started" not in job:
                self._change(name, started=_now())

    def _outcome(self, name: str, ends: list[End]) -> dict[str, Any]:
        message = "".join(end["message"] for end in ends)[:_LIMIT]
        changes: dict[str, Any] = {"message": message} if message else {}
        failure = next((end["failure"] for end in ends if end["failure"]), "")[:_LIMIT]
        with self._lock:
            job = self._records.find(name)
        assert job is not None, "the job was added"
        if job["status"] == "Stopping":
            return changes | {"status": "Stopped"}
        if failure:
            return changes | {"status": "Failed", "failure": failure}
        if any(end["stopped"] for end in ends):
            seconds = job["request"]["StoppingCondition"]["MaxRuntimeInSeconds"]
            reason = f"ClientError: The job exceeded its MaxRuntimeInSeconds of {seconds}."
            return changes | {"status": "Stopped", "failure": reason}
        return changes | {"status": "Completed"}

    def _change(self, name: str, **changes: Any) -> None:
        """Update a record and write it; wake those who wait when it is final."""
        with self._lock:
            self._records.change(name, **changes, modified=_now())
            if self._records.status(name) in FINAL and (ended := self._ended.pop(name, None)):
                ended.set()

"""The records of processing jobs, kept on disk, and the threads that follow running ones."""

import copy
import json
import logging
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from helpers.local_aws.sagemaker import request as requests
from helpers.local_aws.wire import Site
from helpers.local_aws.workers.forkserver import Channel, Forkserver

FINAL = frozenset({"Completed", "Failed", "Stopped"})
_STOPPED = "InternalServerError: The embedded AWS was stopped while the job was running."
_LIMIT = 1024  # characters of FailureReason and of ExitMessage
_log = logging.getLogger(__name__)

Job = dict[str, Any]


def _now() -> float:
    return round(time.time(), 3)  # SageMaker's times have milliseconds


class Jobs:
    """Keep one record per job name for ever, run jobs, and wake those who wait for one.

    A record has ``request``, ``arn``, ``tags``, ``status``, times in epoch
    seconds (``created``, ``modified``, ``started``, ``ended``), ``failure`` and
    ``message``.
    """

    def __init__(self, site: Site, grace: float) -> None:
        self._site, self._grace = site, grace
        folder = site.state_dir / "sagemaker"
        self._records_dir, self._scratch = folder / "processing-jobs", folder / "scratch"
        self._changed = threading.Condition()
        self._channels: dict[str, list[Channel]] = {}
        self._forkserver = Forkserver()
        self._closing = False
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._records_dir.mkdir(parents=True, exist_ok=True)
        paths = self._records_dir.glob("*.json")
        self._records: dict[str, Job] = {path.stem: json.loads(path.read_text()) for path in paths}
        for name, job in self._records.items():
            if job["status"] not in FINAL:
                self._change(name, status="Failed", failure=_STOPPED, ended=_now())
        self._forkserver.start()

    def add(self, request: dict[str, Any], arn: str, tags: list[dict[str, str]]) -> bool:
        """Record a new job as InProgress; False when the name was ever used before."""
        now = _now()
        job = {"request": request, "arn": arn, "tags": tags, "status": "InProgress", "created": now, "modified": now}
        with self._changed:
            if request["ProcessingJobName"] in self._records:
                return False
            self._records[request["ProcessingJobName"]] = job
            self._write(request["ProcessingJobName"])
        return True

    def run(self, name: str, credentials: dict[str, str]) -> None:
        """Start the hosts of a job that was added; returns at once."""
        threading.Thread(target=self._follow, args=(name, credentials), name=f"job {name}", daemon=True).start()

    def fail(self, name: str, reason: str) -> None:
        """End a job that was added but cannot start."""
        with self._changed:
            self._change(name, status="Failed", failure=reason[:_LIMIT], ended=_now())

    def find(self, name: str) -> Job | None:
        """Return a copy of the job's record."""
        with self._changed:
            return copy.deepcopy(self._records.get(name))

    def all(self) -> list[Job]:
        """Return a copy of every record."""
        with self._changed:
            return copy.deepcopy(list(self._records.values()))

    def tag(self, name: str, tags: list[dict[str, str]]) -> None:
        """Replace the job's tags."""
        with self._changed:
            self._change(name, tags=tags)

    def stop(self, name: str) -> str:
        """Ask a running job to stop; return the status it was in."""
        with self._changed:
            status = self._records[name]["status"]
            if status != "InProgress":
                return status
            self._change(name, status="Stopping")
            channels = list(self._channels.get(name, []))
        for channel in channels:
            channel.send({"event": "stop"})
        return status

    def wait(self, name: str, timeout: float | None) -> bool:
        """Block until the job is final; False when ``timeout`` seconds pass first."""
        with self._changed:
            return self._changed.wait_for(lambda: self._records[name]["status"] in FINAL, timeout)

    def close(self) -> None:
        """Kill every running job and the warm process."""
        with self._changed:
            self._closing = True
            running = [name for name, job in self._records.items() if job["status"] not in FINAL]
            for channel in (channel for channels in self._channels.values() for channel in channels):
                channel.end()
        self._forkserver.close()
        for name in running:
            self.wait(name, timeout=5)

    def _follow(self, name: str, credentials: dict[str, str]) -> None:
        """Start one fork per host, read what they report, and write down how the job ended."""
        record = self._records[name]
        count = record["request"]["ProcessingResources"]["ClusterConfig"]["InstanceCount"]
        hosts = [f"algo-{number}" for number in range(1, count + 1)]
        ends: list[dict[str, Any]] = []
        try:
            for host in hosts:
                self._start_host(name, host, hosts, credentials)
            for channel in self._channels[name]:
                ends.append(self._read(name, channel))
            changes = self._outcome(name, ends)
        except OSError as error:
            _log.exception("processing job %s", name)
            changes = {"status": "Failed", "failure": _STOPPED if self._closing else f"InternalServerError: {error}"}
        finally:
            with self._changed:
                channels = self._channels.pop(name, [])
            for channel in channels:
                channel.close()
            shutil.rmtree(self._scratch / name, ignore_errors=True)
        with self._changed:
            self._change(name, ended=_now(), **changes)

    def _start_host(self, name: str, host: str, hosts: list[str], credentials: dict[str, str]) -> None:
        record = self._records[name]
        request = record["request"]
        folder = self._scratch / name / host
        folder.mkdir(parents=True, mode=0o700)
        task = {
            "folder": str(folder.resolve()),
            "hidden": [str(self._site.state_dir.resolve()), str(Path.home() / ".aws")],
            "config": requests.container_config(request, record["arn"]),
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
        channel = self._forkserver.fork(task)
        with self._changed:
            self._channels.setdefault(name, []).append(channel)
            stopping = record["status"] == "Stopping"
        if stopping:
            channel.send({"event": "stop"})

    def _read(self, name: str, channel: Channel) -> dict[str, Any]:
        for message in channel:
            if message["event"] == "ended":
                if message["notes"]:
                    _log.warning("processing job %s: %s", name, message["notes"])
                return message
            with self._changed:
                if "started" not in self._records[name]:
                    self._change(name, started=_now())
        failure = "InternalServerError: The host of the job ended unexpectedly. Please try again."
        return {"failure": _STOPPED if self._closing else failure, "stopped": "", "message": ""}

    def _outcome(self, name: str, ends: list[dict[str, Any]]) -> dict[str, Any]:
        message = "".join(end["message"] for end in ends)[:_LIMIT]
        changes: dict[str, Any] = {"message": message} if message else {}
        failure = next((end["failure"] for end in ends if end["failure"]), "")[:_LIMIT]
        if self._records[name]["status"] == "Stopping":
            return changes | {"status": "Stopped"}
        if failure:
            return changes | {"status": "Failed", "failure": failure}
        if any(end["stopped"] for end in ends):
            seconds = self._records[name]["request"]["StoppingCondition"]["MaxRuntimeInSeconds"]
            reason = f"ClientError: The job exceeded its MaxRuntimeInSeconds of {seconds}."
            return changes | {"status": "Stopped", "failure": reason}
        return changes | {"status": "Completed"}

    def _change(self, name: str, **changes: Any) -> None:
        """Update a record, write it, wake the waiting; the caller holds the lock (or is alone)."""
        with self._changed:
            self._records[name].update(changes, modified=_now())
            self._write(name)
            self._changed.notify_all()

    def _write(self, name: str) -> None:
        path = self._records_dir / f"{name}.json"
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(self._records[name]))
        os.replace(temporary, path)

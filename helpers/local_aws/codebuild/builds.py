"""The life of builds: started as containers, followed by what their agent reports, until they are final."""

import copy
import hmac
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from helpers.local_aws.builds import ADDRESS
from helpers.local_aws.codebuild.records import Record, Records
from helpers.local_aws.containers import Container, Containers, End, Image, Log
from helpers.local_aws.wire import Site

REPORT_PATH = "/_embedded_aws/builds/"
_AGENT = Path(__file__).resolve().parents[1] / "builds" / "run.py"
_LOST = "The embedded AWS was stopped while the build was running."
_GONE = 10.0  # seconds for a stopped build to be gone
_GRACE = 1.0
# What pip and other clients of the network need to know of the machine: as the user who started the server has it.
_INHERITED = ("PIP_", "SSL_CERT_", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")

# Returns the credentials of CodeBuild in a role, for a session name.
Assume = Callable[[str, str], Mapping[str, str]]


class Builds:
    """Builds, by their uuid. Thread safe."""

    def __init__(self, site: Site, containers: Containers, assume: Assume, minute: float) -> None:
        """``minute``: seconds of a minute of timeouts. Builds that ran when the server was stopped have faulted."""
        self._site, self._containers, self._assume, self._minute = site, containers, assume, minute
        self._records = Records(site.state_dir / "codebuild" / "builds")
        self._lock = threading.RLock()
        self._secrets: dict[str, str] = {}  # of builds that are not final, by uuid
        self._ended: dict[str, threading.Event] = {}
        self._wanted: dict[str, str] = {}  # how a build that was ended from outside ends
        self._timers: dict[str, threading.Timer] = {}
        for record in self._records.all():
            if record["status"] == "IN_PROGRESS":
                self._close(record, "FAULT", _LOST)

    def start(self, record: Record) -> None:
        """Run a build; returns at once. ``record`` has ``uuid``, ``id``, ``arn``, ``project`` and who asked."""
        uuid, now = record["uuid"], time.time()
        done = {"started": now, "ended": now, "status": "SUCCEEDED"}
        record |= {"status": "IN_PROGRESS", "created": now, "exported": [], "resolved": "", "artifacts": ""}
        record["phases"] = [{"type": "SUBMITTED", **done}, {"type": "QUEUED", "started": now}]
        project = record["project"]
        session = f"AWSCodeBuild-{uuid}"
        log = self._log(record, session)
        with self._lock:
            self._secrets[uuid], self._ended[uuid] = secrets.token_urlsafe(32), threading.Event()
            self._records.save(uuid, record)
            timer = threading.Timer(project["queuedTimeoutInMinutes"] * self._minute, self._queued_too_long, [uuid])
            timer.daemon = True
            self._timers[uuid] = timer
            timer.start()
        container = Container(
            run_id=f"build-{uuid}",
            image=Image(project["environment"]["image"], "", None),
            argv=["python3", str(_AGENT)],
            environment={
                **inherited(os.environ),
                ADDRESS: f"{self._site.endpoint_url}{REPORT_PATH}{uuid}/{self._secrets[uuid]}",
            },
            credentials=lambda: self._assume(project["serviceRole"], session),
            log=log,
            timeout=project["timeoutInMinutes"] * self._minute,
            grace=_GRACE,
            own_network=False,
            files={"/codebuild": self._empty_folder()},
        )
        self._containers.start(
            container, started=lambda: self._started(uuid), ended=lambda end: self._has_ended(uuid, end)
        )

    def find(self, uuid: str) -> Record | None:
        """Return a copy of a build's record, or None."""
        with self._lock:
            return copy.deepcopy(self._records.find(uuid))

    def all(self) -> list[Record]:
        """Return every build's record, the oldest first; they are not to be changed."""
        with self._lock:
            return sorted(self._records.all(), key=lambda record: record["created"])

    def delete(self, uuid: str) -> None:
        """Forget a build that is final."""
        with self._lock:
            self._records.delete(uuid)

    def stop(self, uuid: str) -> None:
        """End a build; returns when it is gone."""
        self._end_from_outside(uuid, "STOPPED")
        self.wait(uuid, _GONE)

    def wait(self, uuid: str, timeout: float | None) -> bool:
        """Block until a build is final; False when ``timeout`` seconds pass first."""
        with self._lock:
            ended = self._ended.get(uuid)
        return ended is None or ended.wait(timeout)

    def task(self, uuid: str, secret: str) -> dict[str, Any] | None:
        """Return what a build's agent is to do, or None for one that is not known by this secret."""
        with self._lock:
            record = self._known(uuid, secret)
            if record is None:
                return None
            self._leave(record, "SUCCEEDED")
            self._records.save(uuid, record)
            return _task(record, self._site)

    def report(self, uuid: str, secret: str, content: Mapping[str, Any]) -> bool:
        """Take what a build's agent reports; False for one that is not known by this secret."""
        with self._lock:
            record = self._known(uuid, secret)
            if record is None:
                return False
            before = [phase for phase in record["phases"] if phase["type"] in ("SUBMITTED", "QUEUED", "PROVISIONING")]
            record["phases"] = [*before, *content["phases"]]
            for name in ("resolved", "exported", "artifacts"):
                record[name] = content.get(name, record[name])
            record["outcome"] = content.get("status", "")
            self._records.save(uuid, record)
            return True

    def _known(self, uuid: str, secret: str) -> Record | None:
        expected = self._secrets.get(uuid, "")
        return (
            self._records.find(uuid) if expected and hmac.compare_digest(expected.encode(), secret.encode()) else None
        )

    def _log(self, record: Record, session: str) -> Log | None:
        if not record["group"]:
            return None
        credentials = self._assume(record["project"]["serviceRole"], session)
        return Log(record["group"], record["stream"], credentials)

    def _empty_folder(self) -> Path:
        folder = self._site.state_dir / "codebuild" / "empty"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _started(self, uuid: str) -> None:
        with self._lock:
            if timer := self._timers.pop(uuid, None):
                timer.cancel()
            record = self._records.find(uuid)
            if record is not None:
                self._enter_provisioning(record)
                self._records.save(uuid, record)

    def _enter_provisioning(self, record: Record) -> None:
        if record["phases"][-1]["type"] == "QUEUED":
            self._leave(record, "SUCCEEDED")
            record["phases"].append({"type": "PROVISIONING", "started": record["phases"][-1]["ended"]})

    def _queued_too_long(self, uuid: str) -> None:
        self._end_from_outside(uuid, "TIMED_OUT")

    def _end_from_outside(self, uuid: str, status: str) -> None:
        with self._lock:
            record = self._records.find(uuid)
            if record is None or record["status"] != "IN_PROGRESS":
                return
            self._wanted.setdefault(uuid, status)
        self._containers.stop(f"build-{uuid}")

    def _has_ended(self, uuid: str, end: End) -> None:
        with self._lock:
            record = self._records.find(uuid)
            assert record is not None, "a build that runs is not deleted"
            if timer := self._timers.pop(uuid, None):
                timer.cancel()
            wanted, outcome = self._wanted.pop(uuid, ""), record.get("outcome", "")
            if outcome and end.reason == "exited":
                self._close(record, outcome, "")
            elif wanted:
                self._close(record, wanted, "" if wanted == "STOPPED" else "Build has timed out. ")
            elif end.reason == "timeout":
                self._close(record, "TIMED_OUT", "Build has timed out. ")
            elif end.reason == "failed":
                refused = self._log_refused(record, end.log_problem)
                if not refused:
                    self._enter_provisioning(record)
                self._close(record, "FAILED", refused or end.message)
            elif end.reason == "lost":
                self._close(record, "FAULT", _LOST)
            else:
                self._close(
                    record, "FAULT", f"The build's agent ended with exit code {end.code}. {end.message}".strip()
                )
            del self._secrets[uuid]
            self._ended.pop(uuid).set()

    def _log_refused(self, record: Record, problem: str) -> str:
        """Return what is said of a build that may not write its log, and so never leaves its queue; "" for others."""
        if not record["group"] or not problem:
            return ""
        role = record["project"]["serviceRole"]
        return (
            f"Service role {role} does not allow AWS CodeBuild to create Amazon CloudWatch Logs log streams for"
            f" build {record['arn']}. Error message: {problem}"
        )

    def _close(self, record: Record, status: str, message: str) -> None:
        """Make a build final; a phase that was under way ends with it."""
        codes = {
            "FAILED": "ACCESS_DENIED" if "does not allow" in message else "CLIENT_ERROR",
            "FAULT": "INTERNAL_ERROR",
        }
        if "status" not in record["phases"][-1] and record["phases"][-1]["type"] != "COMPLETED":
            code = {"TIMED_OUT": "BUILD_TIMED_OUT", **codes}.get(status, "")
            self._leave(record, status, {"statusCode": code, "message": message})
        record["status"], record["ended"] = status, time.time()
        if record["phases"][-1]["type"] != "COMPLETED":
            record["phases"].append({"type": "COMPLETED", "started": record["ended"]})
        self._records.save(record["uuid"], record)

    def _leave(self, record: Record, status: str, context: Mapping[str, str] | None = None) -> None:
        phase = record["phases"][-1]
        if phase["type"] in ("QUEUED", "PROVISIONING") or context is not None:
            contexts = [context] if context else []
            phase |= {"status": status, "ended": time.time(), "contexts": contexts}


def inherited(variables: Mapping[str, str]) -> dict[str, str]:
    """Return what a build gets of the variables of the user who started the server: pip's and the network's."""
    found = {name: value for name, value in variables.items() if name.startswith(_INHERITED)}
    if "PIP_CONFIG_FILE" not in found and (settings := _pip_settings(variables)):
        found["PIP_CONFIG_FILE"] = settings  # a build has another HOME
    if any("proxy" in name.lower() for name in found):
        own = "127.0.0.1,localhost,169.254.170.2"
        before = variables.get("no_proxy") or variables.get("NO_PROXY")
        found["no_proxy"] = found["NO_PROXY"] = f"{before},{own}" if before else own
    return found


def _pip_settings(variables: Mapping[str, str]) -> str:
    home = Path(variables.get("HOME", "/"))
    folders = (
        Path(variables.get("XDG_CONFIG_HOME") or home / ".config", "pip"),
        home / "Library" / "Application Support" / "pip",
        home / ".pip",
    )
    return next((str(folder / "pip.conf") for folder in folders if (folder / "pip.conf").is_file()), "")


def _task(record: Record, site: Site) -> dict[str, Any]:
    """Return what the agent of a build is told."""
    project = record["project"]
    artifacts = dict(project["artifacts"])
    artifacts["namespace"] = record["uuid"] if artifacts.get("namespaceType") == "BUILD_ID" else ""
    version = project.get("sourceVersion") or ""
    return {
        "id": record["id"],
        "arn": record["arn"],
        "number": record["number"],
        "project_arn": site.arn("codebuild", f"project/{project['name']}"),
        "image": project["environment"]["image"],
        "initiator": record["initiator"],
        "log_path": record["stream"],
        "start_time": int(record["created"] * 1000),
        "privileged": project["environment"]["privilegedMode"],
        "variables": project["environment"]["environmentVariables"],
        "source": {**project["source"], "version": version, "named": version or record["source_name"]},
        "artifacts": artifacts,
        "python": sys.version.split()[0],
    }

"""What happens on one host of a processing job, from download to upload.

The agent is a fork of the small warm process. It isolates itself, brings the
inputs, has the entrypoint forked off the process that has the packages loaded,
sends its output to the log, and uploads the outputs. To the server it sends
``{"event": "started"}`` and at the end ``{"event": "ended", "code", "failure",
"stopped", "message", "notes"}``, and between them the requests of ``requests``;
``{"event": "stop", "upload"}`` from the server stops the job, the end of the
connection kills it.
"""

import io
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.local_aws.workers import instance, isolation, joblog, requests, scripts, transfer
from helpers.local_aws.workers.channel import Channel

_CONTINUOUS_INTERVAL = 1.0  # seconds between looks for new files of an output in Continuous mode
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class _Run:
    """How the entrypoint ended."""

    code: int = 0
    stopped: str = ""  # "", "request" or "timeout"
    upload: bool = True
    problem: str = ""
    uploaded: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass
class _Entrypoint:
    """A running entrypoint: its process id, its output, what reports its end, and how to kill it with all its own."""

    pid: int
    output: int
    report: io.RawIOBase
    init: int = 0

    def kill(self) -> None:
        """Kill what is left of the job: in its own process namespace, all of it."""
        with suppress(ProcessLookupError):
            os.kill(self.init, signal.SIGKILL) if self.init else os.killpg(self.pid, signal.SIGKILL)

    def terminate(self) -> None:
        """Ask the entrypoint to end."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)


def main(channel: Channel, asking: socket.socket, isolated: bool) -> None:
    """Be the host that the first message describes: a job's (see there), or an EC2 instance (``instance``).

    ``asking`` leads to ``scripts``.
    """
    message = channel.receive()
    if message is None:
        return
    task = message.content
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    isolation.die_with_parent()
    os.umask(0o022)
    began = time.monotonic()
    folder = Path(task["folder"])
    (folder / "ml").mkdir()
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
    if isolated:
        isolation.enter(folder, [Path(path) for path in task["hidden"]])
    root = isolation.ML if isolated else folder / "ml"
    if task.get("kind") == "instance":
        instance.run(task, channel, root, isolated)
    else:
        channel.send({"event": "ended", **_Host(task, channel, asking, root, began).run()})


class _Host:
    """One host: ``root`` is the folder that the job sees as /opt/ml."""

    def __init__(self, task: dict[str, Any], channel: Channel, asking: socket.socket, root: Path, began: float) -> None:
        self.task, self.channel, self.asking, self.root, self.began = task, channel, asking, root, began
        self.isolated = root == isolation.ML
        client = requests.Client(channel, requests.Signer(task["endpoint_url"], task["region"], task["credentials"]))
        self.s3 = requests.S3(client)
        self.log = joblog.JobLog(requests.Logs(client), task["log_stream"])
        self.outputs = [item["S3Output"] for item in task["config"]["ProcessingOutputConfig"]["Outputs"]]
        self.continuous = [output for output in self.outputs if output["S3UploadMode"] == "Continuous"]

    def run(self) -> dict[str, Any]:
        """Do everything; return the members of the last message."""
        run = _Run()
        failure = ""
        # As SageMaker's start time, from which it bills: that of the instance, before data is downloaded.
        self.channel.send({"event": "started"})
        try:
            self._prepare()
            self._run_entrypoint(run)
            if run.upload and (run.stopped or run.code == 0):
                for output in self.outputs:
                    transfer.upload(self.s3, self._place(output["LocalPath"]), output["S3Uri"], run.uploaded)
            failure = run.problem
        except transfer.TransferError as error:
            failure = str(error)
        if not failure and run.code and not run.stopped:
            failure = f"AlgorithmError: , exit code: {run.code}"
        message, unreadable = self._exit_message()
        notes = f"no logs: {self.log.problem}" if self.log.problem else ""
        ended = {"code": run.code, "failure": failure or unreadable, "stopped": run.stopped}
        return {**ended, "message": message, "notes": notes}

    def _prepare(self) -> None:
        config, names = self.task["config"], self.task["hosts"]
        for name in ("config", "output", "tmp"):
            (self.root / name).mkdir()
        (self.root / "config/processingjobconfig.json").write_text(json.dumps(config))
        resources = {"current_host": self.task["host"], "hosts": names}
        (self.root / "config/resourceconfig.json").write_text(json.dumps(resources))
        for output in self.outputs:
            self._place(output["LocalPath"]).mkdir(parents=True, exist_ok=True)
        for item in config["ProcessingInputs"]:
            source = item["S3Input"]
            local = self._place(source["LocalPath"])
            local.mkdir(parents=True, exist_ok=True)
            transfer.download(self.s3, source, local, names.index(self.task["host"]), len(names))

    def _place(self, path: str) -> Path:
        return self.root / Path(path).relative_to(isolation.ML)

    def _exit_message(self) -> tuple[str, str]:
        """Return the start of /opt/ml/output/message, or why the job fails for it."""
        path = self.root / "output/message"
        if path.is_symlink() or not path.is_file():
            return "", ""
        with path.open("rb") as file:
            data = file.read(1024)
        try:
            return data.decode(), ""
        except UnicodeDecodeError as error:
            if error.start > len(data) - 4:  # only the cut at 1 KB splits a character
                return data[: error.start].decode(), ""
            return "", "ClientError: The exit message in /opt/ml/output/message is not UTF-8 encoded"

    def _environment(self) -> dict[str, str]:
        tmp = str(isolation.TMP if self.isolated and isolation.private_tmp() else self.root / "tmp")
        environment = {
            "PATH": f"{os.path.dirname(sys.executable)}:{_PATH}",
            "HOME": tmp,
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONIOENCODING": "UTF-8",
            "PYTHONUNBUFFERED": "1",
            "AWS_REGION": self.task["region"],
            "AWS_DEFAULT_REGION": self.task["region"],
            "AWS_ENDPOINT_URL": self.task["endpoint_url"],
            **self.task["credentials"],
        }
        if tmp != str(isolation.TMP):
            environment["TMPDIR"] = tmp
        if not self.isolated:
            environment["PROCESSING_DIR"] = str(self.root / "processing")
        return environment | self.task["config"]["Environment"]

    def _run_entrypoint(self, run: _Run) -> None:
        if not self.isolated:
            note = f"This platform cannot isolate jobs: /opt/ml is {self.root}, see PROCESSING_DIR.\n"
            self.log.feed(note.encode())
        with self._entrypoint() as running:
            try:
                run.code = self._watch(running, run)
            finally:
                running.kill()
                if running.init:
                    os.waitpid(running.init, 0)
            self._drain(running.output)
        self.log.finish()

    @contextmanager
    def _entrypoint(self) -> Iterator[_Entrypoint]:
        """Start the entrypoint; in the end close what leads to it."""
        environment, application = self._environment(), self.task["config"]["AppSpecification"]
        job = {
            "argv": [*application["ContainerEntrypoint"], *(application["ContainerArguments"] or [])],
            "environment": environment,
            "given": self.task["config"]["Environment"],
            "folder": environment["HOME"],
        }
        init, namespaces = isolation.start_init(network=self.task["network"]) if self.isolated else (0, ())
        output, out = os.pipe()
        report, theirs = socket.socketpair()
        ours, channel = socket.socketpair()
        with report, report.makefile("rb", buffering=0) as lines, ours:
            scripts.ask(self.asking, channel.fileno(), out, theirs.fileno(), namespaces)
            for descriptor in (out, *namespaces):
                os.close(descriptor)
            channel.close()
            theirs.close()
            Channel(ours).send(job)
            pid = int(lines.readline() or 0)
            if not pid:
                raise ConnectionAbortedError("the process with the packages is gone")
            yield _Entrypoint(pid, output, lines, init)

    def _watch(self, running: _Entrypoint, run: _Run) -> int:
        """Pass output on until the entrypoint ends; return its exit code. Stops it on request and on timeout."""
        output, ended = running.output, running.report.fileno()
        waiting = [output, ended, self.channel.fileno()]
        deadline = self.began + self.task["max_runtime"]
        looked = time.monotonic()
        while True:
            ready, _, _ = select.select(waiting, [], [], self._pause(deadline))
            if self.continuous and time.monotonic() - looked >= _CONTINUOUS_INTERVAL:
                self._upload_continuously(run)
                looked = time.monotonic()
            if output in ready:
                data = os.read(output, 1 << 20)
                self.log.feed(data)
                if not data:
                    waiting.remove(output)
            elif self.log.wait() == 0:
                self.log.flush()
            if ended in ready:
                return int(running.report.readline() or 137)  # nothing: the process that forked it was killed
            asked = self.channel.fileno() in ready or self.channel.buffered()
            if asked:
                message = self.channel.receive()
                if message is None:
                    running.kill()
                    os._exit(1)  # the server is gone: nothing is left to report to
                run.upload = message.content["upload"]
            if run.stopped and time.monotonic() >= deadline:
                return 137
            if not run.stopped and (asked or time.monotonic() >= deadline):
                run.stopped = "request" if asked else "timeout"
                running.terminate()
                deadline = time.monotonic() + self.task["grace"]

    def _pause(self, deadline: float) -> float:
        """Return the seconds until there is something to do that no descriptor announces."""
        if self.channel.buffered():
            return 0.0
        pauses = [deadline - time.monotonic(), self.log.wait(), _CONTINUOUS_INTERVAL if self.continuous else None]
        return max(0.0, min(pause for pause in pauses if pause is not None))

    def _drain(self, output: int) -> None:
        """Log what is left in the pipe; a process that escaped (no isolation) may still hold it open."""
        os.set_blocking(output, False)
        try:
            while data := os.read(output, 1 << 20):
                self.log.feed(data)
        except BlockingIOError:
            return
        finally:
            os.close(output)

    def _upload_continuously(self, run: _Run) -> None:
        """Upload what is new in the outputs of mode Continuous; process namespaces rule out a thread for it."""
        try:
            for output in self.continuous:
                transfer.upload(self.s3, self._place(output["LocalPath"]), output["S3Uri"], run.uploaded)
        except transfer.TransferError as error:
            run.problem, self.continuous = str(error), []

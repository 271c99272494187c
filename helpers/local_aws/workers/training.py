"""One host of a training job: its channels, its algorithm, its checkpoints, and the metrics that it prints.

To the server it says ``{"event": "phase", "phase"}`` when it begins to download and
to train, and at the end also ``metrics``: value and time of each, by name. What is
in /opt/ml/model and /opt/ml/output/data then is packed by ``package``, from all hosts.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from helpers.local_aws.workers import isolation, scriptmode, transfer
from helpers.local_aws.workers.host import Host, Outcome, Program, lay_over
from helpers.local_aws.workers.job import Job

_SYNC_INTERVAL = 1.0  # seconds between looks for new checkpoints
_REASON = 1024  # characters of FailureReason
_LONGEST_LINE = 256 * 1024  # bytes in which metrics are looked for, as many as an event of the log has
_SEARCH_SECONDS = 2.0  # of one expression in one line


def run(task: dict[str, Any], host: Host) -> dict[str, Any]:
    """Run one host of a training job; return the members of the last message."""
    return Training(task, host).run()


class Training(Job):
    """One host of a training job."""

    log_group: ClassVar[str] = "/aws/sagemaker/TrainingJobs"
    folder_variable: ClassVar[str] = "SAGEMAKER_BASE_DIR"  # as SageMaker's toolkit calls it

    def __init__(self, task: dict[str, Any], host: Host) -> None:
        super().__init__(task, host)
        self._metrics = Metrics(task["metrics"], lambda text: self.log.feed(f"{text}\n".encode()))
        self._command: Sequence[str] = ()  # of the toolkit's script
        checkpoints = task["checkpoints"]
        self._checkpoints = (
            self.root / Path(checkpoints["LocalPath"]).relative_to(isolation.ML) if checkpoints else None
        )
        self._looked = time.monotonic()
        self._problem = ""
        if checkpoints:
            host.chores.append(self._upload_checkpoints_now_and_then)

    def run(self) -> dict[str, Any]:
        """Do everything; return the members of the last message."""
        return super().run() | {"metrics": self._metrics.last}

    def prepare(self) -> None:
        """Write the files that describe the job; download its channels and checkpoints."""
        for name in ("input", "model", "output"):  # of an image they would be covered
            shutil.rmtree(self.root / name, ignore_errors=True)
        for name in ("input/config", "input/data", "model", "output/data", "tmp", "code"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for name in ("hyperparameters", "inputdataconfig", "resourceconfig"):
            (self.root / f"input/config/{name}.json").write_text(json.dumps(self.task[name]))
        if self.task["channels"]:
            self._say("Downloading")
        hosts = self.task["hosts"]
        for name, source in self.task["channels"].items():
            local = self.root / "input/data" / name
            local.mkdir()
            transfer.download(self.s3, source, local, hosts.index(self.task["host"]), len(hosts))
        if self._checkpoints:
            self._checkpoints.mkdir(parents=True, exist_ok=True)
            transfer.restore(self.s3, self.task["checkpoints"]["S3Uri"], self._checkpoints, self.uploaded)

    def program(self) -> Program:
        """Return the command of the image, or the toolkit's script. Raises TransferError when it cannot be run."""
        self._say("Training")
        if not self.task["toolkit"]:
            return self._program(self.task["argv"], {}, self._folder())
        try:
            return self._script()
        except scriptmode.ScriptError as error:
            self.log.feed(f"{error}\n".encode())
            self.log.finish()
            raise self._failure(str(error), 1) from error

    def finish(self, outcome: Outcome) -> None:
        """Upload the last checkpoints. Raises TransferError, also for an algorithm that failed."""
        self._metrics.finish()
        if self._checkpoints:
            self._upload_checkpoints()
        if outcome.code and not outcome.stopped:
            said = self._said()
            if self._command:  # the toolkit ends with 1, whatever its script ended with
                raise self._failure(said or scriptmode.failure(self._command, outcome.code), 1)
            raise self._failure(said, outcome.code)
        if self._problem:
            raise transfer.TransferError(self._problem)

    def message(self) -> tuple[str, str]:
        """Return nothing: training jobs have no exit message."""
        return "", ""

    def take(self, data: bytes) -> None:
        """Log what the algorithm prints, and look for metrics in it."""
        self.log.feed(data)
        self._metrics.feed(data)

    def _script(self) -> Program:
        """Return the user's script as the toolkit runs it. Raises ScriptError."""
        code = self.root / "code"
        program = self.task["environment"].get("SAGEMAKER_PROGRAM", "")
        script = scriptmode.Script.read(self.task["hyperparameters"], str(code), program)
        self._bring_code(script.source, code)
        requirements = code / scriptmode.REQUIREMENTS
        if requirements.is_file() and (missing := scriptmode.unmet(requirements.read_text(errors="replace"))):
            raise scriptmode.ScriptError(
                f"InstallRequirementsError: the embedded AWS installs nothing, and its environment does not have "
                f"{', '.join(missing)} of {scriptmode.REQUIREMENTS}"
            )
        self._command = script.command(code)
        setting = scriptmode.Setting(
            str(self.root), self.task["job_name"], self.task["resourceconfig"], self.task["inputdataconfig"]
        )
        self.log.feed(f"Invoking script with the following command:\n{' '.join(self._command)}\n".encode())
        return self._program(self._command, {"PYTHONPATH": str(code), **script.variables(setting)}, str(code))

    def _bring_code(self, source: str, code: Path) -> None:
        """Bring the source folder, unless there is code already, as the toolkit does. Raises ScriptError."""
        if any(code.iterdir()):
            return
        if source.startswith("s3://"):
            archive = self.root / "tmp/sourcedir.tar.gz"
            transfer.fetch(self.s3, source, archive)
        else:
            path = Path(os.path.normpath(source))
            if not (path.is_relative_to(isolation.ML) or path.is_relative_to(self.root)):
                # Not anything else of this machine: this process may see more of it than the script does.
                raise scriptmode.ScriptError(f"The source {source} is not below {isolation.ML}")
            archive = self.root / path.relative_to(isolation.ML) if path.is_relative_to(isolation.ML) else path
        if archive.is_dir():
            shutil.copytree(archive, code, symlinks=True, dirs_exist_ok=True)
            return
        try:
            with archive.open("rb") as file:
                scriptmode.unpack(file, code, self.task["volume"])
        except OSError as error:
            raise scriptmode.ScriptError(f"The source {source} cannot be read: {error.strerror}") from error

    def _program(self, argv: Sequence[str], more: Mapping[str, str], folder: str) -> Program:
        given = {**self.task["image"]["environment"], **self.task["environment"]}
        base = {} if self.host.isolated else {self.folder_variable: str(self.root)}
        return Program(argv, lay_over({**self.environment({}), **base, **more}, given), folder, given)

    def _folder(self) -> str:
        """Return the working directory of the image. Raises OSError when there is none."""
        if not self.task.get("own_root"):  # SageMaker's own image has no files
            return "/" if self.host.isolated else str(self.root.parent)
        return self.host.working_directory(self.task["image"]["working_directory"])

    def _said(self) -> str:
        """Return the start of /opt/ml/output/failure."""
        path = self.root / "output/failure"
        if path.is_symlink() or not path.is_file():
            return ""
        with path.open("rb") as file:
            return file.read(4 * _REASON).decode(errors="replace")[:_REASON]

    def _failure(self, said: str, code: int) -> transfer.TransferError:
        end = f", exit code: {code}"
        return transfer.TransferError(f"AlgorithmError: {said}"[: _REASON - len(end)] + end)

    def _say(self, phase: str) -> None:
        self.host.channel.send({"event": "phase", "phase": phase})

    def _upload_checkpoints(self) -> None:
        assert self._checkpoints is not None, "the job has checkpoints"
        transfer.upload(self.s3, self._checkpoints, self.task["checkpoints"]["S3Uri"], self.uploaded, self.root)

    def _upload_checkpoints_now_and_then(self) -> float | None:
        """Upload new checkpoints while the algorithm runs; what is taken away with it can then be gone on with."""
        if self._problem:
            return None
        if time.monotonic() - self._looked >= _SYNC_INTERVAL:
            try:
                self._upload_checkpoints()
            except transfer.TransferError as error:
                self._problem = str(error)
            self._looked = time.monotonic()
        return max(0.0, self._looked + _SYNC_INTERVAL - time.monotonic())


class Metrics:
    """The last value of each metric in what a job prints. ``last``: value and time in epoch seconds, by name."""

    def __init__(self, definitions: Sequence[Mapping[str, str]], say: Callable[[str], None]) -> None:
        """Take the MetricDefinitions of a job, whose expressions are known to be valid.

        ``say`` is told of a metric that is given up: while an expression searches, nothing can stop the job.
        """
        self._say = say
        self.last: dict[str, list[float]] = {}
        self._rest = b""
        self._patterns: list[tuple[str, Any]] = []
        if definitions:
            import regex  # which few jobs need

            self._patterns = [(item["Name"], regex.compile(item["Regex"])) for item in definitions]

    def feed(self, data: bytes) -> None:
        """Look for metrics in output as it comes, line by line; the last line may lack its end."""
        if not self._patterns:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._look(line.decode(errors="replace"))

    def finish(self) -> None:
        """Look at a last line without its end."""
        self.feed(b"\n")

    def _look(self, line: str) -> None:
        for metric in list(self._patterns):
            name, pattern = metric
            try:
                for match in pattern.finditer(line, timeout=_SEARCH_SECONDS):
                    self._note(name, match[1] if pattern.groups else match[0])
            except TimeoutError:
                self._patterns.remove(metric)
                self._say(f"The metric {name} is given up: its Regex took {_SEARCH_SECONDS:.0f} seconds for one line.")

    def _note(self, name: str, text: str | None) -> None:
        try:
            value = float(text or "")
        except ValueError:  # a group that took no part, or no number
            return
        if math.isfinite(value):
            self.last[name] = [value, round(time.time(), 3)]

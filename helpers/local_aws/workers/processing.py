"""One host of a processing job: its inputs, its entrypoint, its outputs.

``{"event": "stop", "upload"}`` from the server says whether the outputs are wanted all the same.
"""

import json
import time
from pathlib import Path
from typing import Any, ClassVar

from helpers.local_aws.workers import isolation, joblog, transfer
from helpers.local_aws.workers.host import Host, Outcome, Program
from helpers.local_aws.workers.job import Job

_CONTINUOUS_INTERVAL = 1.0  # seconds between looks for new files of an output in Continuous mode


def run(task: dict[str, Any], host: Host) -> dict[str, Any]:
    """Run one host of a processing job; return the members of the last message."""
    return Processing(task, host).run()


class Processing(Job):
    """One host of a processing job."""

    log_group: ClassVar[str] = joblog.GROUP
    folder_variable: ClassVar[str] = "PROCESSING_DIR"

    def __init__(self, task: dict[str, Any], host: Host) -> None:
        super().__init__(task, host)
        self._outputs = [item["S3Output"] for item in task["config"]["ProcessingOutputConfig"]["Outputs"]]
        self._continuous = [output for output in self._outputs if output["S3UploadMode"] == "Continuous"]
        self._looked = time.monotonic()
        self._problem = ""
        if self._continuous:
            host.chores.append(self._upload_continuously)

    def prepare(self) -> None:
        """Write the two files that describe the job, and download its inputs."""
        config, names = self.task["config"], self.task["hosts"]
        for name in ("config", "output", "tmp"):
            (self.root / name).mkdir()
        (self.root / "config/processingjobconfig.json").write_text(json.dumps(config))
        resources = {"current_host": self.task["host"], "hosts": names}
        (self.root / "config/resourceconfig.json").write_text(json.dumps(resources))
        for output in self._outputs:
            self._place(output["LocalPath"]).mkdir(parents=True, exist_ok=True)
        for item in config["ProcessingInputs"]:
            source = item["S3Input"]
            local = self._place(source["LocalPath"])
            local.mkdir(parents=True, exist_ok=True)
            transfer.download(self.s3, source, local, names.index(self.task["host"]), len(names))

    def program(self) -> Program:
        """Return the entrypoint with its arguments."""
        application, given = self.task["config"]["AppSpecification"], self.task["config"]["Environment"]
        environment = self.environment(given)
        if not self.host.isolated:
            environment = {"PROCESSING_DIR": str(self.root / "processing")} | environment
        argv = [*application["ContainerEntrypoint"], *(application["ContainerArguments"] or [])]
        return Program(argv, environment, environment["HOME"], given)

    def finish(self, outcome: Outcome) -> None:
        """Upload the outputs of a job that is completed or stopped."""
        if outcome.order.get("upload", True) and (outcome.stopped or outcome.code == 0):
            for output in self._outputs:
                transfer.upload(self.s3, self._place(output["LocalPath"]), output["S3Uri"], self.uploaded, self.root)
        if self._problem:
            raise transfer.TransferError(self._problem)

    def message(self) -> tuple[str, str]:
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

    def _place(self, path: str) -> Path:
        return self.root / Path(path).relative_to(isolation.ML)

    def _upload_continuously(self) -> float | None:
        """Upload what is new in the outputs of mode Continuous; process namespaces rule out a thread for it."""
        if not self._continuous:
            return None
        if time.monotonic() - self._looked >= _CONTINUOUS_INTERVAL:
            try:
                for output in self._continuous:
                    transfer.upload(
                        self.s3, self._place(output["LocalPath"]), output["S3Uri"], self.uploaded, self.root
                    )
            except transfer.TransferError as error:
                self._problem, self._continuous = str(error), []
            self._looked = time.monotonic()
        return max(0.0, self._looked + _CONTINUOUS_INTERVAL - time.monotonic())

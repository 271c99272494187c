"""What jobs of SageMaker have in common, on each of their hosts: bring, run, take away.

A kind of job is a subclass, and a line in ``agent.KINDS``. The message at the end
has ``code``, ``failure``, ``stopped`` ("", "request" or "timeout"), ``message`` and ``notes``.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from helpers.local_aws.workers import entrypoint, joblog, requests, transfer
from helpers.local_aws.workers.host import Host, Outcome, Program


class Job(ABC):
    """One host of a job.

    Of ``task`` this takes endpoint_url, region, credentials, log_stream, network, max_runtime
    and grace. ``uploaded`` notes what has been uploaded, see ``transfer.upload``.
    """

    log_group: ClassVar[str]
    folder_variable: ClassVar[str]  # names /opt/ml/… where there is no /opt/ml

    def __init__(self, task: dict[str, Any], host: Host) -> None:
        self.task, self.host, self.root = task, host, host.root
        self._began = time.monotonic()
        client = requests.Client(
            host.channel, requests.Signer(task["endpoint_url"], task["region"], task["credentials"])
        )
        self.s3 = requests.S3(client)
        self.log = joblog.JobLog(requests.Logs(client), task["log_stream"], self.log_group)
        self.uploaded: dict[str, tuple[int, int]] = {}

    @abstractmethod
    def prepare(self) -> None:
        """Write and download what the program finds. Raises TransferError."""

    @abstractmethod
    def program(self) -> Program:
        """Return what runs; ``environment`` helps."""

    @abstractmethod
    def finish(self, outcome: Outcome) -> None:
        """Upload what the program left. Raises TransferError."""

    @abstractmethod
    def message(self) -> tuple[str, str]:
        """Return what the program says of its end, and why the job fails for that ("": it does not)."""

    def take(self, data: bytes) -> None:
        """Take what the program prints."""
        self.log.feed(data)

    def run(self) -> dict[str, Any]:
        """Do everything; return the members of the last message."""
        outcome, failure = Outcome(), ""
        # As SageMaker's start time, from which it bills: that of the instance, before data is downloaded.
        self.host.channel.send({"event": "started"})
        try:
            self.prepare()
            outcome = self._run_program()
            self.finish(outcome)
        except transfer.TransferError as error:
            failure = str(error)
        if not failure and outcome.code and not outcome.stopped:
            failure = f"AlgorithmError: , exit code: {outcome.code}"
        message, unreadable = self.message()
        notes = f"no logs: {self.log.problem}" if self.log.problem else ""
        ended = {"code": outcome.code, "failure": failure or unreadable, "stopped": outcome.stopped}
        return {**ended, "message": message, "notes": notes}

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the program; ``given`` is what the job asks for."""
        environment = self.host.environment(self.task["endpoint_url"]) | {
            "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONIOENCODING": "UTF-8",
            "PYTHONUNBUFFERED": "1",
            "AWS_REGION": self.task["region"],
            "AWS_DEFAULT_REGION": self.task["region"],
            **self.task["credentials"],
        }
        return environment | dict(given)

    def _run_program(self) -> Outcome:
        if not self.host.isolated:
            note = f"This platform cannot isolate jobs: /opt/ml is {self.root}, see {self.folder_variable}.\n"
            self.log.feed(note.encode())
        else:
            self.host.enter(network=self.task["network"])
        self.host.chores.append(self.log.tick)
        program = self.program()
        if problem := entrypoint.unstartable(program.argv, program.environment, program.folder):
            raise transfer.TransferError(f"ClientError: Artifact upload failed:API error (400): {problem}")
        self.host.start(program, self.take)
        seconds = self._began + self.task["max_runtime"] - time.monotonic()
        outcome = self.host.wait(seconds=seconds, grace=self.task["grace"])
        self.log.finish()
        return outcome

"""Send what a job or a container prints to CloudWatch Logs, while it prints."""

import time
from typing import Any, Protocol

from helpers.local_aws.workers.requests import Refusal

GROUP = "/aws/sagemaker/ProcessingJobs"
INTERVAL = 0.2  # seconds between two deliveries while lines come
_LONGEST = 256 * 1024 - 26  # bytes of one event, less what CloudWatch counts for its frame
_BATCH_BYTES, _BATCH_EVENTS = 900_000, 5_000  # below the limits of one PutLogEvents


class Logs(Protocol):
    """How CloudWatch Logs is called: raises Refusal, or OSError when it cannot be reached."""

    def call(self, operation: str, members: dict[str, Any], /) -> dict[str, Any]: ...


class JobLog:
    """Split output into lines and deliver them to one log stream.

    A role without permission to write logs has a job without logs, as on AWS:
    ``problem`` then says why nothing was delivered.
    """

    def __init__(self, logs: Logs, stream: str, group: str = GROUP) -> None:
        self._logs, self._stream, self._group = logs, stream, group
        self._rest = b""
        self._events: list[dict[str, object]] = []
        self._bytes = 0
        self._created = False
        self._due: float | None = None
        self.problem = ""

    def open(self, *, create_group: bool) -> None:
        """Make the stream, and the group where it is missing and wanted, as the awslogs driver of Docker does.

        Raises Refusal, or OSError. Without this call the first line makes both, as SageMaker does.
        """
        try:
            self._create_stream()
        except Refusal as refusal:
            if refusal.code != "ResourceNotFoundException" or not create_group:
                raise
            self._create_group()
            self._create_stream()

    def feed(self, data: bytes) -> None:
        """Take output as it comes; deliver when a batch is full or the interval is over."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST:
            lines, self._rest = [*lines, self._rest], b""
        self._add(lines)
        if self.wait() == 0:
            self.flush()

    def wait(self) -> float | None:
        """Return the seconds until ``flush`` is due, None when nothing waits."""
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    def tick(self) -> float | None:
        """Deliver what is due; return the seconds until something will be, None when nothing waits."""
        if self.wait() == 0:
            self.flush()
        return self.wait()

    def finish(self) -> None:
        """Deliver everything, including a last line without its end."""
        self._add([self._rest])
        self._rest = b""
        self.flush()

    def flush(self) -> None:
        """Deliver the lines that wait."""
        events, self._events, self._bytes, self._due = self._events, [], 0, None
        if not events or self.problem:
            return
        try:
            if not self._created:
                self._create()
            stream = {"logGroupName": self._group, "logStreamName": self._stream}
            self._logs.call("PutLogEvents", stream | {"logEvents": events})
        except (Refusal, OSError) as error:
            self.problem = str(error)

    def _add(self, lines: list[bytes]) -> None:
        now = int(time.time() * 1000)
        for line in lines:
            for start in range(0, len(line), _LONGEST):
                text = line[start : start + _LONGEST].decode(errors="replace").rstrip("\r")
                if not text:
                    continue  # CloudWatch Logs refuses an empty message
                self._events.append({"timestamp": now, "message": text})
                self._bytes += len(text) + 26
                if self._bytes > _BATCH_BYTES or len(self._events) >= _BATCH_EVENTS:
                    self.flush()
        if self._events and self._due is None:
            self._due = time.monotonic() + INTERVAL

    def _create(self) -> None:
        """Make the stream, and the group where it is missing.

        SageMaker's documentation asks for logs:DescribeLogStreams in a job's role: it looks before it creates.
        """
        look = {"logGroupName": self._group, "logStreamNamePrefix": self._stream, "limit": 1}
        try:
            self._logs.call("DescribeLogStreams", look)
        except Refusal as refusal:
            if refusal.code != "ResourceNotFoundException":
                raise
            self._create_group()
        self._create_stream()

    def _create_stream(self) -> None:
        try:
            self._logs.call("CreateLogStream", {"logGroupName": self._group, "logStreamName": self._stream})
        except Refusal as refusal:
            if refusal.code != "ResourceAlreadyExistsException":
                raise
        self._created = True

    def _create_group(self) -> None:
        try:
            self._logs.call("CreateLogGroup", {"logGroupName": self._group})
        except Refusal as refusal:
            if refusal.code != "ResourceAlreadyExistsException":  # another host was quicker
                raise

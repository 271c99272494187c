"""The server's side of function workers: the zygote, and one handle per worker."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from helpers.local_aws.lambdas.zygote import NO_AWS_FILES
from helpers.local_aws.workers.processes import Child, ended

MEMORY_CHECK_SECONDS = 0.05
# A record as AWS's runtime client frames it: type, length, microseconds. No valid UTF-8 text holds these first bytes.
FRAME = re.compile(rb"\xa5\x5a\x00.(.{4}).{8}", re.DOTALL)


class Zygote:
    """The process that workers are forked from. It ends, with its workers, when this object or process does."""

    def __init__(self, runtime: Path, started: "Started | None" = None) -> None:
        """``started``: the process and the socket on which it takes requests, if it runs already."""
        self._lock = threading.Lock()
        self._process, self._control = started or _start(runtime)

    @property
    def alive(self) -> bool:
        """Whether workers can still be forked."""
        return self._process.poll() is None

    def warm_up(self) -> None:
        """Let the process load its packages now; else it does so for its first worker."""
        with self._lock:
            self._control.send(b"W")

    def fork(self, channel: int, log: int, leash: int) -> None:
        """Start a worker on these descriptors. Raises OSError when the zygote is gone."""
        with self._lock:
            socket.send_fds(self._control, [b"F"], [channel, log, leash])

    def close(self) -> None:
        """End the zygote and every worker."""
        self._control.close()
        if not ended(self._process, 5):
            self._process.kill()
            ended(self._process, 5)


Started = tuple[subprocess.Popen[bytes] | Child, socket.socket]


def _start(runtime: Path) -> Started:
    control, theirs = socket.socketpair()
    script = Path(__file__).with_name("zygote.py")
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-X", "utf8", str(script), str(theirs.fileno()), str(runtime)],
            env=NO_AWS_FILES,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # a Ctrl-C at the server's terminal is the server's business
        )
    return process, control


class Worker:
    """One sandbox of one function version: a process that keeps the function loaded between invocations.

    Not thread safe: it serves one invocation at a time, as on AWS.
    ``memory_mb`` limits the process's resident memory (where /proc tells it,
    that is on Linux); a child of the function's process is not counted.
    """

    def __init__(self, zygote: Zygote, settings: dict[str, Any], *, memory_mb: int) -> None:
        channel, their_channel = socket.socketpair()
        self._leash, their_leash = socket.socketpair()
        self._log, their_log = os.pipe()
        try:
            zygote.fork(their_channel.fileno(), their_log, their_leash.fileno())
        finally:
            their_channel.close()
            their_leash.close()
            os.close(their_log)
        self._channel = Connection(channel.detach())
        os.set_blocking(self._log, False)
        self._watched: list[Any] = [self._channel, self._log, self._leash]
        self._text = bytearray()
        self._memory_mb = memory_mb
        self._told = self._leash.makefile("rb")
        self._pid = int(self._told.readline() or 0)
        if not self._pid:
            raise ChildProcessError("the process that forks function workers has ended")
        self._send(json.dumps(settings).encode())

    @property
    def idle_and_well(self) -> bool:
        """Whether the process still waits for an invocation."""
        return not wait([self._leash, self._channel], 0)

    @property
    def peak_mb(self) -> int:
        """The most memory that the process has held, in MB, rounded up; 0 where the platform does not tell."""
        try:
            status = Path(f"/proc/{self._pid}/status").read_text()
        except OSError:
            return 0
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        return -(-int(peak[1]) // 1024) if peak else 0

    def send(self, header: dict[str, Any], event: bytes) -> None:
        """Hand over one invocation: request_id, arn and deadline_ms (epoch), and the event as JSON."""
        self._send(json.dumps(header).encode())
        self._send(event)

    def receive(self, seconds: float) -> tuple[str, bytes]:
        """Return the worker's next message: its letter and body, see ``zygote.RuntimeApi``.

        Three more letters end the worker: ``X`` it has exited, ``T`` it took
        longer than ``seconds``, ``M`` it held more memory than it may.
        """
        deadline = time.monotonic() + seconds
        while True:
            ready = wait(self._watched, max(0, min(MEMORY_CHECK_SECONDS, deadline - time.monotonic())))
            if self._log in ready:
                self._drain()
            if self.peak_mb > self._memory_mb:
                return "M", b""
            if self._channel in ready:
                try:
                    message = self._channel.recv_bytes()
                except (EOFError, OSError):
                    return "X", b""
                self._drain()
                return chr(message[0]), message[1:]
            if self._leash in ready:
                return "X", b""
            if time.monotonic() >= deadline:
                return "T", b""

    def end(self) -> int:
        """Kill the process and what it started; return its exit code, negative for a signal."""
        with contextlib.suppress(OSError):
            self._leash.shutdown(socket.SHUT_WR)
        code = int(self._told.readline() or -signal.SIGKILL)
        self._drain()
        self._channel.close()
        self._told.close()
        self._leash.close()
        os.close(self._log)
        return code

    def exited(self) -> int:
        """Wait for a process that is about to exit by itself; return its exit code as ``end`` does."""
        wait([self._leash], 1)
        return self.end()

    def take_log(self) -> list[str]:
        """Return what was written since the last call, one item per event of CloudWatch Logs."""
        text, self._text = bytes(self._text), bytearray()
        return [event for event in log_events(text) if event]

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # a worker that has just died: the leash tells
            self._channel.send_bytes(message)

    def _drain(self) -> None:
        while self._log in self._watched:
            try:
                text = os.read(self._log, 1 << 16)
            except BlockingIOError:
                return
            self._text += text
            if not text:
                self._watched.remove(self._log)


def log_events(text: bytes) -> Iterator[str]:
    """Yield the events in a worker's log: each framed record whole, and printed text line by line."""
    position = 0
    while frame := FRAME.search(text, position):
        yield from text[position : frame.start()].decode(errors="replace").split("\n")
        position = frame.end() + int.from_bytes(frame[1], "big")
        yield text[frame.end() : position].decode(errors="replace").rstrip("\r\n")
    yield from text[position:].decode(errors="replace").split("\n")

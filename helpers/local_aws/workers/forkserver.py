"""One warm process that is forked for every job.

``Forkserver`` lives in the server; ``python -m`` this module is the warm
process. Each fork gets one end of a socket on which it talks to the server in
lines of JSON. When the server goes away, so does everything: the warm process
reads the end of its own socket, and each fork the end of its own.
"""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[3]
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")


class Forkserver:
    """Start the warm process in the background and fork it on request. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def start(self) -> None:
        """Start the warm process unless it runs; it loads its packages meanwhile (some seconds)."""
        with self._lock:
            self._started()

    def fork(self, task: dict[str, Any]) -> "Channel":
        """Fork the warm process for ``task`` and return the channel to the fork. Raises OSError once closed."""
        ours, theirs = socket.socketpair()
        try:
            with self._lock, theirs:
                socket.send_fds(self._started(), [b"f"], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        channel = Channel(ours)
        channel.send(task)
        return channel

    def close(self) -> None:
        """End the warm process for good; with it end all of its forks."""
        with self._lock:
            self._closed = True
            if self._control is not None:
                self._control.close()
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._control = self._process = None

    def _started(self) -> socket.socket:
        if self._closed:
            raise ConnectionAbortedError("the forkserver is closed")
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        ours, theirs = socket.socketpair()
        # The configuration of the user's real AWS account must not reach a job through a cached session.
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._control = ours
        return ours


class Channel:
    """Lines of JSON over a socket, one object each."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = b""

    def fileno(self) -> int:
        """Return the descriptor, so that ``select`` can wait for a message."""
        return self._socket.fileno()

    def buffered(self) -> bool:
        """Tell whether a message has arrived already; ``select`` does not know of it."""
        return b"\n" in self._buffer

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; silently drop it when the other end is gone."""
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            return

    def receive(self) -> dict[str, Any] | None:
        """Wait for the next message; None at the end of the connection."""
        while b"\n" not in self._buffer:
            try:
                data = self._socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.receive, None)

    def end(self) -> None:
        """Let both ends see the end of the connection; a fork then kills its job."""
        with suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def _serve(control: socket.socket) -> None:
    """Load the packages, then fork for every descriptor that arrives, until the server is gone."""
    from helpers.local_aws.workers import agent, warm

    warm.load()
    sys.path.remove(str(_ROOT))  # a job must import its own modules, not ours
    isolated = agent.probe()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the forks
    gc.freeze()
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not data:
            return
        if os.fork() == 0:
            control.close()
            _run(agent.main, descriptors[0], isolated)
        os.close(descriptors[0])


def _run(main: Any, descriptor: int, isolated: bool) -> None:
    status = 1
    try:
        main(Channel(socket.socket(fileno=descriptor)), isolated)
        status = 0
    except BaseException:  # noqa: BLE001 - the end of a process: nothing may unwind into the parent's stack
        traceback.print_exc()
    os._exit(status)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the server's to handle
    _serve(socket.socket(fileno=int(sys.argv[1])))

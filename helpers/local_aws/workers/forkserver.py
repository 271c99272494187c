"""The server's side of job hosts, and the small process that is forked for every host.

Each host gets one end of a socket on which it talks to the server (see
``agent``). The small process has no packages loaded, so that its forks are
cheap: it brings inputs and takes outputs; for the entrypoint it asks
``scripts``, the large one. When the server goes away, so does everything: each
process reads the end of its own socket.
"""

import gc
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.local_aws.workers import agent, isolation, processes, scripts
from helpers.local_aws.workers.channel import Channel

_ROOT = Path(__file__).resolve().parents[3]
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")


@dataclass(frozen=True)
class Started:
    """The two processes, and the socket on which the small one takes requests."""

    control: socket.socket
    processes: tuple[processes.Child | subprocess.Popen[bytes], ...]

    def alive(self) -> bool:
        """Tell whether both run."""
        return all(process.poll() is None for process in self.processes)

    def close(self) -> None:
        """End them, and with them every host."""
        self.control.close()
        for process in self.processes:
            process.kill()
            processes.ended(process, 5)


class Forkserver:
    """Fork a host on request, and start the two processes where they do not run. Thread safe."""

    def __init__(self, started: Started | None = None) -> None:
        """``started``: what ``start`` returned before this process had threads."""
        self._lock = threading.Lock()
        self._started = started
        self._closed = False

    def warm_up(self) -> None:
        """Start the processes unless they run, and let them load their packages meanwhile (some seconds)."""
        with self._lock:
            self._running().control.send(b"w")

    def fork(self, task: dict[str, Any]) -> Channel:
        """Fork a host for ``task`` and return the channel to it. Raises OSError once closed."""
        ours, theirs = socket.socketpair()
        try:
            with self._lock, theirs:
                socket.send_fds(self._running().control, [b"f"], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        channel = Channel(ours)
        channel.send(task)
        return channel

    def close(self) -> None:
        """End the processes for good; with them end all hosts."""
        with self._lock:
            self._closed = True
            if self._started is not None:
                self._started.close()
            self._started = None

    def _running(self) -> Started:
        if self._closed:
            raise ConnectionAbortedError("the forkserver is closed")
        if self._started is not None and self._started.alive():
            return self._started
        if self._started is not None:
            self._started.close()
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=_ROOT,
                env=environment(os.environ),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._started = Started(ours, (process,))
        return self._started


def environment(full: Mapping[str, str]) -> dict[str, str]:
    """Return what the processes may know: the configuration of the user's real AWS account must not reach a job."""
    kept = {name: full[name] for name in _KEPT if name in full}
    return kept | {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def start() -> Started:
    """Fork both processes off this one, which has no threads and nothing that a job must not read."""
    ours, theirs = socket.socketpair()
    asking, asked = socket.socketpair()

    def be_small() -> None:
        processes.forget_environment(environment(os.environ))
        serve(theirs, asking)

    def be_large() -> None:
        processes.forget_environment(environment(os.environ))
        scripts.serve(asked)

    with theirs, asking, asked:
        small = processes.fork(be_small, "aws-hosts", [theirs.fileno(), asking.fileno()])
        large = processes.fork(be_large, "aws-scripts", [asked.fileno()])
    return Started(ours, (small, large))


def serve(control: socket.socket, asking: socket.socket) -> None:
    """Fork a host for every descriptor that arrives, until the server is gone.

    The first thing to arrive, which may be a byte alone, is what everybody waits for to load packages.
    """
    select.select([control, asking], [], [])
    reason = _prepare(asking)
    if reason:
        print(f"jobs and containers run without isolation: {reason}", file=sys.stderr, flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the hosts, and what a killed one leaves
    isolation.adopt_orphans()
    gc.collect()
    gc.freeze()
    while True:
        ready, _, _ = select.select([control, asking], [], [])
        data, descriptors, _, _ = socket.recv_fds(control, 1, 1) if asking not in ready else (b"", [], 0, None)
        if not data:
            return  # the server is gone, or the large process, which never writes here
        for descriptor in descriptors:
            if os.fork() == 0:
                control.close()
                _be_host(descriptor, asking, not reason)
            os.close(descriptor)


def _prepare(asking: socket.socket) -> str:
    """Find out whether jobs can be isolated here, and tell the large process; return why not."""
    try:
        isolation.own_users()
        isolation.make_place()
        reason = isolation.probe()
    except OSError as error:
        reason = str(error)
    if reason:
        asking.send(b"-")
        return reason
    users = isolation.users()
    socket.send_fds(asking, [b"u"], [users])
    os.close(users)
    return ""


def _be_host(descriptor: int, asking: socket.socket, isolated: bool) -> None:
    status = 1
    try:
        agent.main(Channel(socket.socket(fileno=descriptor)), asking, isolated)
        status = 0
    except BaseException:  # noqa: BLE001 - the end of a process: nothing may unwind into the parent's stack
        traceback.print_exc()
    os._exit(status)


def _main(control: socket.socket) -> None:
    """Be the small process, with the large one as a child: when one ends, so does the other."""
    processes.rename("aws-hosts")
    asking, asked = socket.socketpair()

    def be_scripts() -> None:
        isolation.die_with_parent()
        scripts.serve(asked)

    processes.fork(be_scripts, "aws-scripts", [asked.fileno()])
    asked.close()
    with suppress(BrokenPipeError):
        serve(control, asking)


if __name__ == "__main__":
    _main(socket.socket(fileno=int(sys.argv[1])))

"""The process that has the scientific packages loaded, and is forked once for every host of a job.

A request is one byte (``BOTO3``: with boto3 loaded) with descriptors: a channel with the entrypoint to run,
its output, the file to report to, and the namespaces that it belongs into. To
the report go two lines: the process id, and at the end the exit code (128 + n
for signal n).
"""

import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from helpers.local_aws.workers import entrypoint, isolation, processes, warm
from helpers.local_aws.workers.channel import Channel

_ROOT = Path(__file__).resolve().parents[3]
_FILES = 8
PLAIN, BOTO3 = b"f", b"b"
_HIDDEN: list[object] = []  # kept: freeing them in each fork would copy memory


def serve(requests: socket.socket, load: Callable[[], None] = warm.load) -> None:
    """Load the packages, then fork for every request, until nobody is left to ask."""
    _, files, _, _ = socket.recv_fds(requests, 1, 1)
    own = None
    for users in files:  # the user namespace of those who ask; threads, which packages start, would rule it out
        isolation.join_users(users)
        os.close(users)
        own = isolation.own_processes()
    load()
    _hide_project()
    gc.collect()
    gc.freeze()  # keeps the collector from writing to, and so copying, the pages that jobs share
    warm.trim()
    ended, wake = os.pipe()
    for end in (ended, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    reports: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([requests.fileno(), ended], [], [])
        if ended in ready:
            os.read(ended, 4096)
            _reap(reports)
        if requests.fileno() in ready:
            asked, descriptors, _, _ = socket.recv_fds(requests, 1, _FILES)
            if not asked:
                return
            if asked == BOTO3:
                warm.load_boto3()
            channel, out, report, *namespaces = descriptors
            if namespaces and own is None:
                if os.fork() == 0:
                    _relay(channel, out, report, namespaces)
                os.close(report)
            else:
                child = isolation.fork_into(namespaces, own) if namespaces else os.fork()
                if child == 0:
                    _be_entrypoint(channel, out)
                reports[child] = report
                _tell(report, child)
            for descriptor in (channel, out, *namespaces):
                os.close(descriptor)


def _hide_project() -> None:
    """Let a job import its own modules, not ours."""
    sys.path[:] = [path for path in sys.path if path != str(_ROOT)]
    for name in [name for name in sys.modules if name.partition(".")[0] == "helpers"]:
        _HIDDEN.append(sys.modules.pop(name))


def ask(
    requests: socket.socket, channel: int, out: int, report: int, namespaces: tuple[int, ...], kind: bytes = PLAIN
) -> None:
    """Ask for a fork. The caller closes its copies of the descriptors. Raises OSError when the process is gone."""
    socket.send_fds(requests, [kind], [channel, out, report, *namespaces])


def _relay(channel: int, out: int, report: int, namespaces: list[int]) -> NoReturn:
    """Fork the entrypoint in place of a process that could not come back from the namespaces, and report."""
    try:
        isolation.die_with_parent()
        child = isolation.fork_into(namespaces, None)
        if child == 0:
            _be_entrypoint(channel, out)
        os.close(out)
        _tell(report, child)
        _tell(report, processes.exit_code(os.waitpid(child, 0)[1]))
    finally:
        os._exit(0)


def _reap(reports: dict[int, int]) -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            if pid in reports:  # else it was a relay
                report = reports.pop(pid)
                _tell(report, processes.exit_code(status))
                os.close(report)


def _tell(report: int, number: int) -> None:
    with suppress(BrokenPipeError):  # the host was killed
        os.write(report, b"%d\n" % number)


def _be_entrypoint(descriptor: int, out: int) -> NoReturn:
    """Become the entrypoint that the channel describes, with its output on ``out``."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        os.umask(0o022)
        message = Channel(socket.socket(fileno=descriptor)).receive()
        if message is None:
            os._exit(1)
        processes.speak_on(out)
        os.closerange(3, 1024)
        job = message.content
        entrypoint.run(job["argv"], job["environment"], job["given"], job["folder"])
    finally:
        os._exit(1)

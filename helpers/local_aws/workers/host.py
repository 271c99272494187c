"""One host, whatever runs on it: its namespaces and network, its program, and the loop in which everything is heard.

A processing job, a container and an EC2 instance are wrappings of this: they add
what lies where, what the environment says, and what happens in the end. A process
that has made a process namespace can start no threads; hence one selector.

To the server go ``{"event": "processes"}`` with pidfds of this process and of the
first one inside, and ``{"event": "connection", "below"}`` with each connection to
the address at which the server answers (``below``: where its paths begin, a
secret where anybody can connect). From it come ``{"event": "stop"}`` and
``{"event": "kill"}``; the end of the channel kills everything.
"""

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from helpers.local_aws.workers import entrypoint, isolation, processes, scripts
from helpers.local_aws.workers.channel import Channel, Message
from helpers.local_aws.workers.copies import ROOT
from helpers.local_aws.workers.isolation import Address
from helpers.local_aws.workers.relay import READ, Relay

KILLED = 128 + signal.SIGKILL
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BLOCK = 1 << 16
_PIPE = 17  # blocks: more than a pipe can hold, unless somebody goes on writing
_GROUP_SECONDS = 30  # for a killed process group to be gone


@dataclass(frozen=True)
class Program:
    """What runs: see ``entrypoint.run``."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: str
    given: Mapping[str, str] = field(default_factory=dict)
    cannot: str = ""
    boto3: bool = False  # a script finds it loaded


@dataclass
class Outcome:
    """How a program ended. ``code``: as a shell counts it (128 + signal)."""

    code: int = 0
    stopped: str = ""  # "", "request", "timeout" or "kill"
    order: Mapping[str, Any] = field(default_factory=dict)  # the message that asked for it


class Host:
    """The process that this is called in, with what it runs. ``root`` is the folder that is at /opt/ml inside."""

    def __init__(self, channel: Channel, asking: socket.socket, isolated: bool, root: Path) -> None:
        """``asking`` leads to ``scripts``."""
        self.channel, self.isolated, self.root = channel, isolated, root
        self.hear: Callable[[Message | None], None] = lambda message: None
        # What is to be done now and then: each does what is due, and returns the seconds until more will be.
        self.chores: list[Callable[[], float | None]] = []
        self.code: int | None = None  # of the program, once it has ended
        self.signal = 0  # that ended it, where that is known
        self.lost = False  # something killed the first process of the namespaces
        # Inside there will be another one.
        self._proc = os.open("/proc", os.O_PATH) if os.path.isdir("/proc/self") and hasattr(os, "O_PATH") else None
        self._asking = asking
        self._selector = selectors.DefaultSelector()
        self._init = self._program = 0
        self._namespaces: tuple[int, ...] = ()
        self._output = -1
        self._sink: Callable[[bytes], None] = lambda data: None

    # --- its place ---

    def enter(self, *, network: bool = True, only: tuple[Address, str] | None = None) -> None:
        """Start the first process of the namespaces that ``isolation.enter`` has made. Raises OSError.

        ``network``: the machine's, or none. ``only``: one of its own, in which two
        answer: the server at this address, and the embedded AWS at its own URL.
        """
        if only:
            address, url = only
            host, port = url.removeprefix("http://").rsplit(":", 1)
            embedded = host, int(port)
            self._init, self._namespaces, (asked, relayed) = isolation.start_machine([address, embedded])
            Relay(self._selector, relayed, embedded)
            self._hand_over(asked, "")
        else:
            self._init, self._namespaces = isolation.start_init(network=network)
        with suppress(OSError, AttributeError):  # kernels before 5.3, and a Python that was built on one
            pidfds = [os.pidfd_open(pid) for pid in (os.getpid(), self._init)]
            self.channel.send({"event": "processes"}, files=pidfds)
            for pidfd in pidfds:
                os.close(pidfd)

    def listen(self, below: str = "") -> Address:
        """Let the server answer at an address of this machine, too, which is returned."""
        listener = socket.create_server(("127.0.0.1", 0))
        self._hand_over(listener, below)
        return listener.getsockname()

    def _hand_over(self, listener: socket.socket, below: str) -> None:
        listener.setblocking(False)

        def accept() -> None:
            with suppress(OSError):  # who came has gone again, or no descriptor is left: the next one may succeed
                connection, _ = listener.accept()
                with connection:
                    self.channel.send({"event": "connection", "below": below}, files=[connection.fileno()])

        self.watch(listener, accept)

    def environment(self, url: str, *folders: Path) -> dict[str, str]:
        """Return what every program gets; ``folders`` come before the machine's own in PATH.

        PATH begins with the folder of this Python, because an image whose Python had
        pandas and scikit-learn would have to be built first, and because the machine's
        own ``aws`` and ``python3`` can be anything. ``AWS_ENDPOINT_URL`` says where this
        AWS is: without it every SDK would ask the real one.
        """
        private = self.isolated and isolation.private_tmp()
        home = isolation.TMP if private else self.root / "tmp"
        environment = {
            "PATH": os.pathsep.join([os.path.dirname(sys.executable), *map(str, folders), _PATH]),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "AWS_ENDPOINT_URL": url,
        }
        if not private:
            home.mkdir(exist_ok=True)
            environment["TMPDIR"] = str(home)
        return environment

    def working_directory(self, path: str) -> str:
        """Return the folder that a program sees at ``path``, see ``copies.make``. Raises OSError when there is none."""
        folder = Path("/", path)
        if not self.isolated:
            folder = self.root.parent / ROOT / folder.relative_to("/")
        if not folder.is_dir():
            raise NotADirectoryError(f"the working directory {folder} does not exist")
        return str(folder)

    # --- its program ---

    def start(self, program: Program, sink: Callable[[bytes], None], *, warm: bool = True) -> None:
        """Start the one program of this host; ``sink`` takes its output. Raises OSError.

        ``warm``: it is forked off the process that has packages loaded, else off this one.
        """
        self._sink = sink
        self._output, out = os.pipe()
        try:
            self._start_warm(program, out) if warm else self._start_here(program, out)
        finally:
            os.close(out)
            self._forget_namespaces()
        os.set_blocking(self._output, False)
        self.watch(self._output, self._pass_output)

    def wait(self, *, seconds: float | None, grace: float, first: bool = False) -> Outcome:
        """Return how the program ended, when nothing that it started runs any more.

        After ``seconds``, or when the server says so, it gets SIGTERM, and SIGKILL
        after ``grace``. ``first``: it is to end as the first process of a container does,
        which SIGTERM does not reach unless it handles it.
        """
        ending = _Ending(self, seconds, grace, first)
        self.hear = ending.hear
        self.chores.append(ending.look)
        self.watch_children()
        try:
            self.serve(lambda: self.code is not None or ending.over or self.lost)
            if self._init and self._proc is not None:  # of its end, which takes the program along, nothing is said yet
                self.lost = self.lost or processes.is_ending(self._proc, self._init)
        finally:
            self.kill()
        ending.outcome.code = KILLED if self.code is None else self.code
        return ending.outcome

    def terminate(self) -> None:
        """Ask the program to end."""
        with suppress(ProcessLookupError):
            os.kill(self._program, signal.SIGTERM)

    def handles(self, number: int) -> bool:
        """Tell whether the program handles a signal; where that cannot be seen, it is said to."""
        return self._proc is None or processes.handles(self._proc, self._program, number)

    def kill(self) -> None:
        """Kill whatever runs here; return when all of it is gone, and its last output has been taken."""
        with suppress(ProcessLookupError):
            if self._init:
                os.kill(self._init, signal.SIGKILL)  # the kernel kills the rest
            elif self._program and not self.isolated:
                if self.code is None:  # it may not lead its group yet
                    os.kill(self._program, signal.SIGKILL)
                os.killpg(self._program, signal.SIGKILL)
        with suppress(ChildProcessError):
            while True:
                processes.kill_children()
                os.waitpid(-1, 0)
        self._init = 0
        self._forget_namespaces()
        if self._program and not self.isolated:
            processes.group_ended(self._program, _GROUP_SECONDS)
        self._pass_output(_PIPE)

    # --- its loop ---

    def serve(self, over: Callable[[], bool]) -> None:
        """Do what there is to do until it is ``over``."""
        if self.channel not in self._selector.get_map():
            self.watch(self.channel, self._receive)
        while True:
            pauses = [pause for chore in self.chores if (pause := chore()) is not None]
            if over():
                return
            if self.channel.buffered():
                self._receive()
                continue
            for key, events in self._selector.select(min(pauses, default=None)):
                key.data(events)

    def watch(self, what: Any, act: Callable[[], None]) -> None:
        """Do something whenever a descriptor can be read."""
        self._selector.register(what, READ, lambda _events: act())

    def watch_children(self) -> None:
        """Notice when the first process inside ends, or a program that was not forked elsewhere."""
        woken, wake = os.pipe()
        for descriptor in (woken, wake):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        os.write(wake, b"\0")  # for a child that has ended already

        def reap() -> None:
            os.read(woken, 4096)
            self._reap()

        self.watch(woken, reap)

    def _receive(self) -> None:
        self.hear(self.channel.receive())

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if pid == self._init:
                    self._init, self.lost = 0, True
                elif pid == self._program:
                    self.signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
                    self._end(processes.exit_code(status))

    def _end(self, code: int) -> None:
        self._pass_output(_PIPE)
        self.code = code

    def _start_warm(self, program: Program, out: int) -> None:
        report, theirs = socket.socketpair()
        ours, channel = socket.socketpair()
        lines = report.makefile("rb", buffering=0)
        with ours, report:
            with theirs, channel:
                kind = scripts.BOTO3 if program.boto3 and entrypoint.is_python(program.argv) else scripts.PLAIN
                scripts.ask(self._asking, channel.fileno(), out, theirs.fileno(), self._namespaces, kind)
            Channel(ours).send(
                {
                    "argv": list(program.argv),
                    "environment": dict(program.environment),
                    "given": dict(program.given),
                    "folder": program.folder,
                }
            )
        self._program = int(lines.readline() or 0)
        if not self._program:
            raise ConnectionAbortedError("the process with the packages is gone")

        def read() -> None:
            code = int(lines.readline() or KILLED)  # nothing: the process that forked it was killed
            self._selector.unregister(lines)
            self._end(code)

        self.watch(lines, read)

    def _start_here(self, program: Program, out: int) -> None:
        self._program = isolation.fork_into(self._namespaces, None) if self._namespaces else os.fork()
        if self._program == 0:
            _be(program, out)

    def _forget_namespaces(self) -> None:
        for descriptor in self._namespaces:
            os.close(descriptor)
        self._namespaces = ()

    def _pass_output(self, most: int = 1) -> None:
        """Take what was printed, at most so many blocks; look no longer when nobody can print any more."""
        with suppress(BlockingIOError):
            while self._output >= 0 and most > 0:
                most -= 1
                data = os.read(self._output, _BLOCK)
                if data:
                    self._sink(data)
                else:
                    self._selector.unregister(self._output)
                    os.close(self._output)
                    self._output = -1


class _Ending:
    """Whether, why and when a program is made to end."""

    def __init__(self, host: Host, seconds: float | None, grace: float, first: bool) -> None:
        self.outcome, self.over = Outcome(), False
        self._host, self._grace, self._first = host, grace, first
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def hear(self, message: Message | None) -> None:
        """Do what the server says."""
        if message is None:
            self._host.kill()
            os._exit(1)  # the server is gone: nothing is left to report to
        self.outcome.order = message.content
        if message.content["event"] == "kill":
            self.outcome.stopped, self.over = "kill", True
        else:
            self._stop("request")

    def look(self) -> float | None:
        """Stop or kill a program whose time is over; return the seconds that are left."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            if self.outcome.stopped:
                self.over = True
            else:
                self._stop("timeout")
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _stop(self, why: str) -> None:
        if self.outcome.stopped:
            return
        self.outcome.stopped = why
        # Nothing can happen to it in its time of grace, on AWS: so it need not be waited for.
        self.over = self._first and not self._host.handles(signal.SIGTERM)
        if not self.over:
            self._host.terminate()
        self._deadline = time.monotonic() + self._grace


def lay_over(environment: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return an environment (see ``Host.environment``) with what was asked for; PATH still has this Python's folder."""
    ours = environment["PATH"].partition(os.pathsep)[0]
    both = {**environment, **given}
    if ours not in both["PATH"].split(os.pathsep):
        both["PATH"] = os.pathsep.join([ours, both["PATH"]])
    return both


def _be(program: Program, out: int) -> NoReturn:
    """Become a program in a fork of this process."""
    try:
        signal.set_wakeup_fd(-1)
        isolation.die_with_parent()
        os.setsid()
        os.umask(0o022)
        processes.speak_on(out)
        processes.keep_only({0, 1, 2})  # not the host's: through its channel a program could speak to the server
        entrypoint.run(program.argv, program.environment, program.given, program.folder, program.cannot)
    finally:
        os._exit(126)

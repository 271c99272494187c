"""What happens in one EC2 instance: its user data runs, in a machine of its own, until somebody ends it.

Two processes make an idle instance: the first one of its process namespace, and
the agent here, outside. What user data starts has its own network, in which two
addresses answer: that of the metadata service, whose connections go to the
server, and that of the embedded AWS, which the agent relays. Where namespaces
are not to be had (macOS), user data runs as a process group in the machine's own
network, finds its metadata through AWS_EC2_METADATA_SERVICE_ENDPOINT, and what
leaves the group outlives it, except on Linux.

To the server go ``{"event": "started", "below"}`` with pidfds of the agent and of
the first process (``below``: where the paths of the metadata service begin, a
secret where anybody can connect), ``console`` with what was printed,
``metadata`` with an open connection, and at the end ``{"event": "ended",
"reason"}``. ``{"event": "terminate"}`` from the server ends the instance, and so
does the end of the channel.
"""

import base64
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from helpers.local_aws.workers import isolation, processes, userdata
from helpers.local_aws.workers.channel import Channel
from helpers.local_aws.workers.relay import READ, Relay

METADATA = ("169.254.169.254", 80)
SHUTDOWN = "Instance initiated shutdown"  # AWS's words
KILLED = "the instance's first process was killed"
# Through these a program inside could ask services of the machine outside to do something, such as to power it off.
DOORS = tuple(
    Path("/run", name) for name in ("systemd", "dbus", "user", "docker.sock", "containerd", "podman", "initctl")
)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BLOCK = 1 << 16
_PIPE = 17  # blocks: more than a pipe can hold, unless somebody goes on writing
_GROUP_SECONDS = 5  # for a killed process group to be gone
# There is no systemd inside: these commands tell the agent, after ``+minutes`` if that is said.
_POWER_OFF = """#!/bin/sh
minutes=$([ "${{0##*/}}" = shutdown ] && echo 1 || echo 0)
for argument; do
  case $argument in
    -h | -H | -P | --halt | --poweroff | --no-wall | -f | --force) ;;
    now) minutes=0; break ;;
    +[0-9]*) minutes=${{argument#+}}; break ;;
    *) echo "${{0##*/}}: $argument is not supported by the embedded AWS" >&2; exit 1 ;;
  esac
done
[ "$minutes" = 0 ] && exec echo "${{0##*/}}" > {power}
(sleep $((minutes * 60)); echo "${{0##*/}}" > {power}) > /dev/null 2>&1 &
"""


def run(task: dict[str, Any], channel: Channel, root: Path, isolated: bool) -> None:
    """Be the agent of the instance until its end; ``root`` is its own folder as it sees it."""
    processes.rename("aws-instance")
    instance = _Instance(task, channel, root, isolated)
    reason = ""
    try:
        instance.boot()
        reason = instance.serve()
    except OSError as error:
        reason = str(error)
    finally:
        instance.end()
        channel.send({"event": "ended", "reason": reason})


class _Instance:
    def __init__(self, task: dict[str, Any], channel: Channel, root: Path, isolated: bool) -> None:
        self._task, self._channel, self._root, self._isolated = task, channel, root, isolated
        self._selector = selectors.DefaultSelector()
        self._init = self._script = 0
        self._namespaces: tuple[int, ...] = ()
        self._output = -1
        self._reason = self._below = ""

    def boot(self) -> None:
        """Start the first process, what answers at the two addresses, and user data. Raises OSError."""
        pidfds: list[int] = []
        if self._isolated:
            host, port = self._task["endpoint_url"].removeprefix("http://").rsplit(":", 1)
            embedded = (host, int(port))
            self._init, self._namespaces, listeners = isolation.start_machine([METADATA, embedded])
            metadata, relayed = listeners
            Relay(self._selector, relayed, embedded)
            with suppress(OSError, AttributeError):  # kernels before 5.3, and a Python that was built on one
                pidfds += [os.pidfd_open(os.getpid()), os.pidfd_open(self._init)]
        else:
            isolation.adopt_orphans()
            metadata = socket.create_server(("127.0.0.1", 0))
            self._below = f"/{os.urandom(16).hex()}"  # everybody on this machine can connect
        power = self._make_power()
        self._start_user_data(metadata.getsockname())
        self._watch(metadata, power)
        self._channel.send({"event": "started", "below": self._below}, files=pidfds)
        for descriptor in (*pidfds, *self._namespaces):
            os.close(descriptor)

    def serve(self) -> str:
        """Do what there is to do until the instance ends; return why it does."""
        while not self._reason:
            for key, events in self._selector.select():
                key.data(events)
        return self._reason

    def end(self) -> None:
        """Kill what runs; return when all of it is gone, and its last output sent."""
        with suppress(ProcessLookupError):
            if self._init:
                os.kill(self._init, signal.SIGKILL)  # the kernel kills the rest
            elif self._script and not self._isolated:
                os.killpg(self._script, signal.SIGKILL)
        with suppress(ChildProcessError):
            while True:
                _kill_children()
                os.waitpid(-1, 0)
        if self._script and not self._isolated:
            _wait_for_group(self._script)
        self._pass_output(_PIPE)

    def _watch(self, metadata: socket.socket, power: int) -> None:
        """Wait for all that can happen. Called after the forks: no child may write to the pipe made here."""
        woken, wake = os.pipe()
        for descriptor in (woken, wake, metadata.fileno()):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        os.write(wake, b"\0")  # for a child that has ended already
        _allow_files()

        def watch(what: Any, act: Any) -> None:
            self._selector.register(what, READ, lambda _events: act())

        watch(woken, lambda: self._reap(woken))
        watch(power, lambda: self._finish(SHUTDOWN))
        watch(self._channel, lambda: self._finish("terminated"))  # whatever came, or did not come any more
        watch(metadata, lambda: self._take_metadata(metadata))
        if self._output >= 0:
            watch(self._output, self._pass_output)

    def _finish(self, reason: str) -> None:
        self._reason = self._reason or reason

    def _start_user_data(self, metadata: tuple[str, int]) -> None:
        script, note = userdata.script(base64.b64decode(self._task["user_data"]))
        self._say(note)
        if not script:
            return
        path = self._root / "user-data"
        path.write_bytes(script)
        path.chmod(0o700)
        self._output, out = os.pipe()
        self._script = isolation.fork_into(self._namespaces, None) if self._isolated else os.fork()
        if self._script == 0:
            _be_script(path, self._environment(metadata), out)
        os.close(out)
        os.set_blocking(self._output, False)

    def _environment(self, metadata: tuple[str, int]) -> dict[str, str]:
        """Return what cloud-init gives to a script on Amazon Linux, and two things that differ from AWS.

        ``AWS_ENDPOINT_URL`` says where this AWS is; without it every SDK would ask
        the real one. PATH begins with the folder of this Python, because an image
        whose Python had pandas and scikit-learn would have to be built first, and
        because the machine's own ``aws`` and ``python3`` can be anything. Then come
        the commands that power an instance off, which otherwise are the machine's.
        """
        private = self._isolated and isolation.private_tmp()
        home = isolation.TMP if private else self._root / "tmp"
        environment = {
            "PATH": f"{os.path.dirname(sys.executable)}:{self._root / 'bin'}:{_PATH}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "AWS_ENDPOINT_URL": self._task["endpoint_url"],
        }
        if not private:
            home.mkdir(exist_ok=True)
            environment["TMPDIR"] = str(home)
        if metadata != METADATA:
            environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = f"http://{metadata[0]}:{metadata[1]}{self._below}"
        return environment

    def _make_power(self) -> int:
        """Make the commands that end the instance from inside; return where they are heard."""
        power, commands = self._root / "power", self._root / "bin"
        os.mkfifo(power, 0o600)
        commands.mkdir()
        for name in ("shutdown", "poweroff", "halt"):
            (commands / name).write_text(_POWER_OFF.format(power=power))
            (commands / name).chmod(0o755)
        return os.open(power, os.O_RDWR | os.O_NONBLOCK)  # for writing too: readable then means that somebody wrote

    def _take_metadata(self, listener: socket.socket) -> None:
        with suppress(OSError):  # who came has gone again, or no descriptor is left: the next one may succeed
            connection, _ = listener.accept()
            with connection:
                self._channel.send({"event": "metadata"}, files=[connection.fileno()])

    def _reap(self, woken: int) -> None:
        os.read(woken, 4096)
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if pid == self._init:
                    self._init = 0
                    self._finish(KILLED)
                elif pid == self._script:
                    self._pass_output(_PIPE)
                    self._say(_how_it_ended(status))

    def _pass_output(self, most: int = 1) -> None:
        """Send what was printed, at most so many blocks; look no longer when nobody can print any more."""
        with suppress(BlockingIOError):
            while self._output >= 0 and most > 0:
                most -= 1
                data = os.read(self._output, _BLOCK)
                if data:
                    self._channel.send({"event": "console"}, data)
                else:
                    self._close_output()

    def _close_output(self) -> None:
        if self._output in self._selector.get_map():
            self._selector.unregister(self._output)
        os.close(self._output)
        self._output = -1

    def _say(self, text: str) -> None:
        self._channel.send({"event": "console"}, f"user data: {text}\n".encode())


def _be_script(path: Path, environment: Mapping[str, str], out: int) -> NoReturn:
    try:
        isolation.die_with_parent()
        os.setsid()
        os.umask(0o022)
        processes.usual_signals()
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        processes.keep_only({0, 1, 2})  # not the agent's: through its channel a script could speak to the server
        os.chdir("/")
        os.execve(path, [str(path)], environment)  # noqa: S606 - no shell is wanted
    except OSError as error:
        os.write(2, f"user data: the script cannot be run: {error.strerror}\n".encode())
    finally:
        os._exit(126)


def _how_it_ended(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"the script ended with exit code {code}" if code >= 0 else f"the script was ended by signal {-code}"


def _kill_children() -> None:
    """Kill the children of this process, adopted ones too; on another system than Linux, none."""
    file = Path(f"/proc/self/task/{os.getpid()}/children")
    for child in file.read_text().split() if file.exists() else ():
        with suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGKILL)


def _wait_for_group(leader: int) -> None:
    deadline = time.monotonic() + _GROUP_SECONDS
    with suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < deadline:
            os.killpg(leader, 0)
            time.sleep(0.01)


def _allow_files() -> None:
    """Let this process, not user data, have as many connections as the machine allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 1 << 14)), hard))

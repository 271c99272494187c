"""The processes of instances, as the server sees them: start, console, metadata, end."""

import base64
import logging
import os
import select
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.local_aws.ec2.metadata import Facts, MetadataService
from helpers.local_aws.wire import Site
from helpers.local_aws.workers.channel import Channel, Message
from helpers.local_aws.workers.forkserver import Forkserver
from helpers.local_aws.workers.instance import DOORS, SHUTDOWN

__all__ = ["SHUTDOWN", "Launch", "Machines"]

CONSOLE_BYTES = 64 * 1024
ENDED_CONSOLES = 256  # of instances that have ended: the latest
_CONNECTIONS = 256  # to the metadata service of one instance at once
_END_SECONDS = 10.0  # for an instance to end by itself when it is told to
_TERMINATE = {"event": "terminate"}
_AGENT_KILLED = "the instance's processes were killed"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Launch:
    """What an instance starts with."""

    instance_id: str
    user_data: bytes  # decoded; b"" = nothing to run, the instance just stays up
    metadata: Mapping[str, str]  # path below /latest/meta-data/ -> text
    identity: Mapping[str, Any]  # the instance identity document
    profile_arn: str  # "" without an instance profile
    role_arn: str  # role of the profile, "" without
    tokens_required: bool  # IMDSv2 only
    profile_id: str = ""


class Machines:
    """The running instances. Thread safe."""

    def __init__(
        self,
        site: Site,
        forkserver: Forkserver,
        assume: Callable[[str, str], dict[str, str]],
        ended: Callable[[str, str], None],
    ) -> None:
        """``assume(role_arn, instance_id)`` returns AWS_* credentials, or raises AwsError.

        ``ended(instance_id, reason)`` is called, from a thread of its own, when the
        processes of an instance are gone although nobody terminated it; the reason
        is SHUTDOWN when the instance itself powered off. ``forkserver`` stays the
        caller's; close it after this.
        """
        self._site, self._forkserver, self._assume, self._on_end = site, forkserver, assume, ended
        self._scratch = site.state_dir / "machines"
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._lock = threading.Lock()
        self._machines: dict[str, _Machine] = {}
        self._consoles: dict[str, _Console] = {}
        self._closed = False

    def launch(self, launch: Launch) -> None:
        """Start an instance; returns when its user data has been started. Raises OSError."""
        machine = _Machine(launch, self._assume)
        with self._lock:
            if self._closed:
                raise ConnectionAbortedError("the embedded AWS is stopping")
            if launch.instance_id in self._consoles:
                raise FileExistsError(f"{launch.instance_id} has been launched before")
            self._machines[launch.instance_id] = machine
            self._consoles[launch.instance_id] = machine.console
        try:
            machine.boot(self._forkserver, self._task(launch))
        except OSError:
            self._forget(machine)
            raise
        threading.Thread(target=self._follow, args=(machine,), name=launch.instance_id, daemon=True).start()

    def terminate(self, instance_id: str) -> None:
        """Kill everything of an instance; returns when all of it is gone. An unknown id is no error."""
        with self._lock:
            machine = self._machines.get(instance_id)
        if machine:
            machine.terminate()

    def console(self, instance_id: str) -> bytes:
        """Return the last 64 KB that user data has printed, for a while after the end too; b"" for an unknown id."""
        with self._lock:
            console = self._consoles.get(instance_id)
        return console.read() if console else b""

    def running(self) -> set[str]:
        """Return the ids of the instances that have processes."""
        with self._lock:
            return set(self._machines)

    def close(self) -> None:
        """End all instances; nothing outlives this call, and no more are launched."""
        with self._lock:
            self._closed = True
            machines = list(self._machines.values())
        for machine in machines:
            machine.ask_to_end()
        for machine in machines:
            machine.terminate()

    def _task(self, launch: Launch) -> dict[str, Any]:
        folder = self._scratch / launch.instance_id
        folder.mkdir(parents=True, mode=0o700)
        hidden = [self._site.state_dir.resolve(), Path.home() / ".aws", *DOORS]
        return {
            "kind": "instance",
            "folder": str(folder.resolve()),
            "hidden": [str(path) for path in hidden],
            "endpoint_url": self._site.endpoint_url,
            "user_data": base64.b64encode(launch.user_data).decode(),
        }

    def _follow(self, machine: "_Machine") -> None:
        reason = machine.follow()
        self._forget(machine)
        if reason:
            self._on_end(machine.launch.instance_id, reason)

    def _forget(self, machine: "_Machine") -> None:
        name = machine.launch.instance_id
        shutil.rmtree(self._scratch / name, ignore_errors=True)
        with self._lock:
            del self._machines[name]
            ended = [each for each in self._consoles if each not in self._machines]
            for each in ended[:-ENDED_CONSOLES]:
                del self._consoles[each]
        machine.gone.set()


class _Machine:
    """One instance: the server's end of the channel to its agent."""

    def __init__(self, launch: Launch, assume: Callable[[str, str], dict[str, str]]) -> None:
        self.launch, self.console, self.gone = launch, _Console(), threading.Event()
        facts = Facts(
            launch.metadata,
            launch.identity,
            launch.user_data,
            launch.profile_arn,
            launch.profile_id,
            launch.role_arn,
            launch.tokens_required,
        )
        self._metadata = MetadataService(facts, lambda: assume(launch.role_arn, launch.instance_id))
        self._connections = threading.Semaphore(_CONNECTIONS)
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._wanted_end = self._started = False
        self._reason = _AGENT_KILLED
        self._below = ""  # where the paths of the metadata service begin
        self._processes: list[int] = []  # pidfds: of the agent, and of the instance's first process

    def boot(self, forkserver: Forkserver, task: dict[str, Any]) -> None:
        """Start the processes. Raises OSError, with nothing left behind, when they do not come up."""
        channel = forkserver.fork(task)
        with self._lock:
            self._channel = channel
        if self._wanted_end:
            channel.send(_TERMINATE)
        while not self._started and (message := channel.receive()) is not None:
            self._take(message)
        if not self._started:
            self._clear()
            raise OSError(self._reason)

    def follow(self) -> str:
        """Take the agent's messages until the instance is gone; return why, "" when that was asked for."""
        assert self._channel is not None, "it was booted"
        for message in self._channel:
            self._take(message)
        for process in self._processes:
            if not _has_ended(process, _END_SECONDS):
                _log.error("%s: a process of it does not end", self.launch.instance_id)
        self._clear()
        return "" if self._wanted_end else self._reason

    def ask_to_end(self) -> None:
        """Tell the agent to end the instance."""
        with self._lock:
            self._wanted_end = True
            if self._channel:
                self._channel.send(_TERMINATE)

    def terminate(self) -> None:
        """End the instance; returns when it is gone."""
        self.ask_to_end()
        if self.gone.wait(_END_SECONDS):
            return
        with self._lock, suppress(ProcessLookupError):
            for process in self._processes:  # the kernel kills all the rest with these two
                signal.pidfd_send_signal(process, signal.SIGKILL)
        if not self.gone.wait(_END_SECONDS):
            _log.error("%s: it does not end", self.launch.instance_id)

    def _take(self, message: Message) -> None:
        event = message.content["event"]
        if event == "console":
            self.console.write(message.body)
        elif event == "metadata":
            for file in message.files:  # none where this process has no descriptor left
                self._serve_metadata(socket.socket(fileno=file))
        elif event == "started":
            self._started, self._processes, self._below = True, list(message.files), message.content["below"]
        else:
            self._reason = message.content["reason"]

    def _serve_metadata(self, connection: socket.socket) -> None:
        if not self._connections.acquire(blocking=False):
            return connection.close()
        try:
            threading.Thread(target=self._answer, args=(connection,), name="metadata", daemon=True).start()
        except RuntimeError:  # the machine has no room for a thread; the instance's other messages still count
            self._connections.release()
            connection.close()
        return None

    def _answer(self, connection: socket.socket) -> None:
        try:
            self._metadata.serve(connection, self._below)
        except OSError:
            _log.debug("%s: a client of its metadata service has gone", self.launch.instance_id)
        finally:
            self._connections.release()

    def _clear(self) -> None:
        with self._lock:
            if self._channel:
                self._channel.close()
            self._channel = None
            for process in self._processes:
                os.close(process)
            self._processes = []


class _Console:
    """The end of what an instance has printed."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        with self._lock:
            self._data += data
            del self._data[:-CONSOLE_BYTES]

    def read(self) -> bytes:
        with self._lock:
            return bytes(self._data)


def _has_ended(process: int, seconds: float) -> bool:
    """Wait until the process of a pidfd has ended; False when ``seconds`` pass first."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(seconds * 1000))

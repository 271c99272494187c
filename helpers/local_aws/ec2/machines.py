"""The processes of instances, as the server sees them: start, console, metadata, end."""

import base64
import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from helpers.local_aws.containers.hosts import Host, hidden, remove
from helpers.local_aws.ec2.metadata import Facts, MetadataService
from helpers.local_aws.wire import Site
from helpers.local_aws.workers.channel import Message
from helpers.local_aws.workers.forkserver import Forkserver
from helpers.local_aws.workers.instance import SHUTDOWN

__all__ = ["SHUTDOWN", "Launch", "Machines"]

CONSOLE_BYTES = 64 * 1024
ENDED_CONSOLES = 256  # of instances that have ended: the latest
_END_SECONDS = 10.0  # for an instance to end by itself when it is told to
_KILLED = "the instance's processes were killed"
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
        remove(self._scratch)
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
        return {
            "kind": "instance",
            "folder": str(folder.resolve()),
            "hidden": hidden(self._site.state_dir),
            "endpoint_url": self._site.endpoint_url,
            "below": f"/{secrets.token_hex(16)}",
            "user_data": base64.b64encode(launch.user_data).decode(),
        }

    def _follow(self, machine: "_Machine") -> None:
        reason = machine.follow()
        self._forget(machine)
        if reason:
            self._on_end(machine.launch.instance_id, reason)

    def _forget(self, machine: "_Machine") -> None:
        name = machine.launch.instance_id
        remove(self._scratch / name)
        with self._lock:
            del self._machines[name]
            ended = [each for each in self._consoles if each not in self._machines]
            for each in ended[:-ENDED_CONSOLES]:
                del self._consoles[each]
        machine.gone.set()


class _Machine:
    """One instance: the server's end of the channel to its host."""

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
        metadata = MetadataService(facts, lambda: assume(launch.role_arn, launch.instance_id))
        self._host = Host(launch.instance_id, serve=metadata.serve)
        self._messages: Iterator[Message] = iter(())
        self._wanted_end = self._started = False
        self._reason = _KILLED

    def boot(self, forkserver: Forkserver, task: dict[str, Any]) -> None:
        """Start the processes. Raises OSError, with nothing left behind, when they do not come up."""
        self._host.attach(forkserver.fork(task))
        self._messages = self._host.events()
        for message in self._messages:
            self._take(message)
            if self._started:
                return
        raise OSError(self._reason)

    def follow(self) -> str:
        """Take the host's messages until the instance is gone; return why, "" when that was asked for."""
        for message in self._messages:
            self._take(message)
        return "" if self._wanted_end else self._reason

    def ask_to_end(self) -> None:
        """Tell the host to end the instance."""
        self._wanted_end = True
        self._host.tell({"event": "terminate"})

    def terminate(self) -> None:
        """End the instance; returns when it is gone."""
        self.ask_to_end()
        if self.gone.wait(_END_SECONDS):
            return
        self._host.kill()
        if not self.gone.wait(_END_SECONDS):
            _log.error("%s: it does not end", self.launch.instance_id)

    def _take(self, message: Message) -> None:
        event = message.content["event"]
        if event == "console":
            self.console.write(message.body)
        elif event == "started":
            self._started = True
        else:
            self._reason = message.content.get("reason") or message.content["problem"]


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

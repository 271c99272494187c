"""A room to try instances in: a process of its own, as root or as an ordinary user, that holds ``Machines``."""

import ctypes
import encodings.idna  # noqa: F401 - sockets load it late, when an ordinary user may not read root's Python
import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from helpers.local_aws.ec2.machines import Launch, Machines
from helpers.local_aws.wire import AwsError, Site
from helpers.local_aws.workers import agent, forkserver, isolation, processes, scripts
from helpers.local_aws.workers.channel import Channel

SECONDS = 30
ROLE = "arn:aws:iam::123456789012:role/worker"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "ASIAOFTHEWORKER",
    "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-worker",
    "AWS_SESSION_TOKEN": "the-token-of-the-worker",
}


class Aws(BaseHTTPRequestHandler):
    """Stands for the embedded AWS: a GET of /n answers n bytes, a POST how many came."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(bytes(int(self.path[1:])))

    def do_POST(self) -> None:
        rest = length = int(self.headers["content-length"])
        while rest:
            rest -= len(self.rfile.read(min(rest, 1 << 20)))
        self._answer(b"%d" % length)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Room:
    """Machines, with what they stand on, in this process."""

    def __init__(self, folder: Path, *, isolated: bool = True) -> None:
        state = folder / "state"
        state.mkdir(mode=0o700)
        (state / "admin.json").write_text("secret")
        self._forkserver = _warm() if isolated else _Plain()
        server = ThreadingHTTPServer(("127.0.0.1", 0), Aws)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.site = Site(state, f"http://127.0.0.1:{server.server_port}", "us-east-1", "123456789012")
        self.ends: dict[str, str] = {}
        self.ended = threading.Condition()
        self.machines = Machines(self.site, self._forkserver, self._assume, self._note_end)  # type: ignore[arg-type]

    def launch(self, script: str | bytes = b"", name: str = "i-1", **more: Any) -> None:
        """Launch an instance that runs a script of /bin/sh, or these bytes as they are."""
        data = f"#!/bin/sh\n{script}\n".encode() if isinstance(script, str) else script
        metadata = {"instance-id": name, "placement/region": "eu-west-1"}
        facts = {"profile_arn": "arn:aws:iam::123456789012:instance-profile/w", "role_arn": ROLE, **more}
        self.machines.launch(Launch(name, data, metadata, {"instanceId": name}, tokens_required=True, **facts))

    def console(self, until: str, name: str = "i-1") -> str:
        """Wait for a text on the console, and return all of it."""
        return wait_for(lambda: until in (text := self.machines.console(name).decode()) and text)

    def run(self, script: str | bytes, name: str = "i-1", **more: Any) -> str:
        """Launch an instance and return its console when its script has ended."""
        self.launch(script, name, **more)
        return self.console("user data: the script ", name)

    def end_of(self, name: str = "i-1") -> str:
        """Wait until an instance has ended by itself, and return why."""
        with self.ended:
            assert self.ended.wait_for(lambda: name in self.ends, SECONDS), "it has not ended"
        return self.ends[name]

    def close(self) -> None:
        self.machines.close()
        self._forkserver.close()

    def _assume(self, role_arn: str, instance_id: str) -> dict[str, str]:
        if role_arn != ROLE:
            raise AwsError("AccessDenied", "no", 403)
        return CREDENTIALS

    def _note_end(self, instance_id: str, reason: str) -> None:
        with self.ended:
            self.ends[instance_id] = reason
            self.ended.notify_all()


class _Plain:
    """A forkserver on a machine without namespaces."""

    def fork(self, task: dict[str, Any]) -> Channel:
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            try:
                agent.main(Channel(theirs), theirs, False)
            finally:
                os._exit(0)
        theirs.close()
        channel = Channel(ours)
        channel.send(task)
        return channel

    def close(self) -> None:
        while True:
            try:
                os.wait()
            except ChildProcessError:
                return


def _warm() -> forkserver.Forkserver:
    """Return a forkserver that loads no packages: instances do without."""
    ours, theirs = socket.socketpair()
    asking, asked = socket.socketpair()
    with theirs, asking, asked:
        small = processes.fork(
            lambda: forkserver.serve(theirs, asking), "aws-hosts", [theirs.fileno(), asking.fileno()]
        )
        large = processes.fork(lambda: scripts.serve(asked, load=lambda: None), "aws-scripts", [asked.fileno()])
    return forkserver.Forkserver(forkserver.Started(ours, (small, large)))


def become(user: int) -> None:
    if user != os.getuid():
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: without it /proc/self belongs to root


def enter(user: int, act: Callable[[Room], Any], *, isolated: bool = True) -> Any:
    """Return what ``act`` returns (as JSON carries it) in a process of ``user`` that has a room; raise its error."""
    folder = Path(tempfile.mkdtemp(prefix="machines-", dir="/var/tmp"))
    folder.chmod(0o777)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        result: dict[str, Any] = {}
        try:
            become(user)
            os.environ["HOME"] = str(folder)
            os.umask(0o022)
            room = Room(folder, isolated=isolated)
            try:
                result = {"value": act(room)}
            finally:
                room.close()
        except BaseException:  # noqa: BLE001 - the end of a process
            result = {"error": traceback.format_exc()}
        finally:
            os.write(writer, json.dumps(result).encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    os.waitpid(child, 0)
    shutil.rmtree(folder, ignore_errors=True)
    result = json.loads(text or '{"error": "the room has burst"}')
    assert "error" not in result, result["error"]
    return result["value"]


def why_not(user: int) -> str:
    """Return why instances cannot be isolated for ``user`` here, or ""."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        reason = "the attempt ended early"
        try:
            become(user)
            isolation.own_users()
            isolation.make_place()
            reason = isolation.probe()
        except OSError as error:
            reason = str(error)
        finally:
            os.write(writer, reason.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        reason = file.read()
    os.waitpid(child, 0)
    return reason


def wait_for(look: Callable[[], Any]) -> Any:
    """Look until there is something to see, and return it."""
    deadline = time.monotonic() + SECONDS
    while not (seen := look()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return seen


def with_words(*words: str) -> list[int]:
    """Return the processes of this machine whose command line has all these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        if all(word.encode() in command for word in words):
            found.append(int(path.parent.name))
    return found


def agents(below: int) -> list[int]:
    """Return the agents of the instances whose machines process ``below`` holds: the children of its aws-hosts."""
    return [pid for hosts in _children(below) if _name(hosts) == "aws-hosts" for pid in _children(hosts)]


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _children(pid: int) -> list[int]:
    return [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]


def family(pid: int) -> list[int]:
    """Return a process and all below it."""
    return [pid, *(each for child in _children(pid) for each in family(child))]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)

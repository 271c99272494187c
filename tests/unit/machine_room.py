"""A room to try instances and containers in: a process of its own, as root or as an ordinary user, that holds them."""

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from users import become

from helpers.local_aws.containers import Container, Containers, End, Image, Log, Slots
from helpers.local_aws.ec2.machines import Launch, Machines
from helpers.local_aws.wire import AwsError, Site
from helpers.local_aws.workers import agent, forkserver, processes, scripts
from helpers.local_aws.workers.channel import Channel

SECONDS = 180
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


class CloudWatch:
    """Answers the requests of hosts to CloudWatch Logs; nobody may touch what is called forbidden."""

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, list[str]]] = {"known": {}, "forbidden": {}}

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        operation, asked = headers["x-amz-target"].rpartition(".")[2], json.loads(body)
        group, stream = asked["logGroupName"], asked.get("logStreamName", "")
        if group == "forbidden" or stream == "forbidden":
            return self._refuse("AccessDeniedException", f"no logs:{operation} for you")
        if operation == "CreateLogGroup":
            self.groups[group] = {}
        elif group not in self.groups:
            return self._refuse("ResourceNotFoundException", "The specified log group does not exist.")
        elif operation == "CreateLogStream":
            self.groups[group][stream] = []
        else:
            self.groups[group][stream] += [event["message"] for event in asked["logEvents"]]
        return 200, b"{}"

    def _refuse(self, code: str, message: str) -> tuple[int, bytes]:
        return 400, json.dumps({"__type": code, "message": message}).encode()


class Room:
    """Machines and containers, with what they stand on, in this process."""

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
        self.logs, self.started = CloudWatch(), list[str]()
        self.container_ends: dict[str, End] = {}
        self.slots = Slots(4, longest=SECONDS)
        self.containers = Containers(self.site, self._forkserver, self.logs.answer, self.slots)  # type: ignore[arg-type]

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

    def image(self, **files: str) -> Path:
        """Make the files of an image: ``app__main`` is /app/main."""
        folder = Path(tempfile.mkdtemp(dir=self.site.state_dir))
        for name, text in files.items():
            path = folder / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder

    def scratch(self) -> list[str]:
        """Return what is left of containers on the disk."""
        return os.listdir(self.site.state_dir / "containers")

    def start(self, *argv: str, name: str = "c-1", image: Path | None = None, **more: Any) -> None:
        """Start a container, with the files and the working directory of an image if there are some."""
        built = Image("image", "sha256:0", image, working_directory="/app" if image else "/")
        wanted = {"environment": {}, "log": Log("known", name, CREDENTIALS), "grace": SECONDS, **more}
        self.containers.start(
            Container(name, built, argv, **wanted),
            started=lambda: self._note(lambda: self.started.append(name)),
            ended=lambda end: self._note(lambda: self.container_ends.update({name: end})),
        )

    def shell(self, script: str, name: str = "c-1", **more: Any) -> str:
        """Run a script of /bin/sh as a container; return what it logged."""
        self.start("sh", "-c", script, name=name, **more)
        self.end(name)
        return "\n".join(self.logs.groups["known"][name])

    def wait_for_line(self, text: str, name: str = "c-1") -> None:
        """Wait until a container has logged a line that contains the text."""
        wait_for(lambda: any(text in line for line in self.logs.groups["known"].get(name, [])))

    def end(self, name: str = "c-1") -> list[Any]:
        """Wait for the end of a container; return reason, exit code, message, and what is wrong with the log."""
        with self.ended:
            assert self.ended.wait_for(lambda: name in self.container_ends, SECONDS), f"{name} has not ended"
        end = self.container_ends[name]
        return [end.reason, end.code, end.message, end.log_problem]

    def close(self) -> None:
        self.machines.close()
        self.containers.close()
        self._forkserver.close()

    def _note(self, change: Callable[[], Any]) -> None:
        with self.ended:
            change()
            self.ended.notify_all()

    def _assume(self, role_arn: str, instance_id: str) -> dict[str, str]:
        if role_arn != ROLE:
            raise AwsError("AccessDenied", "no", 403)
        return CREDENTIALS

    def _note_end(self, instance_id: str, reason: str) -> None:
        self._note(lambda: self.ends.update({instance_id: reason}))


class _Plain:
    """A forkserver on a machine without namespaces."""

    def __init__(self) -> None:
        self._asking, asked = socket.socketpair()
        with asked:
            processes.fork(lambda: scripts.serve(asked, load=lambda: None), "aws-scripts", [asked.fileno()])
        self._asking.send(b"-")

    def fork(self, task: dict[str, Any]) -> Channel:
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            try:
                agent.main(Channel(theirs), self._asking, False)
            finally:
                os._exit(0)
        theirs.close()
        channel = Channel(ours)
        channel.send(task)
        return channel

    def close(self) -> None:
        self._asking.close()
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


Inside = Callable[[Callable[[Room], Any]], Any]


def enter(user: int, act: Callable[[Room], Any], *, isolated: bool = True, python: str = "") -> Any:
    """Return what ``act`` returns (as JSON carries it) in a process of ``user`` that has a room; raise its error.

    ``python``: a folder that it takes for a part of this Python.
    """
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
            sys.path += [python] if python else []
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
    return _told(Path(f"/proc/{pid}/comm")).strip()


def _children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [int(child) for thread in threads for child in _told(Path(f"/proc/{pid}/task/{thread}/children")).split()]


def _told(file: Path) -> str:
    """Return a file of a process, or "" if that has ended meanwhile."""
    try:
        return file.read_text()
    except OSError:
        return ""


def family(pid: int) -> list[int]:
    """Return a process and all below it."""
    return [pid, *(each for child in _children(pid) for each in family(child))]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)

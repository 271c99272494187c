"""Start, find and stop the embedded AWS of a state folder.

The server holds a lock on ``server.lock`` for as long as it lives, so whether
it runs is never a guess. ``endpoint.json`` says where it listens and keeps its
port for the next start: clone URLs stay valid.
"""

import fcntl
import gc
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ACCOUNT_ID = "123456789012"
PROJECT = Path(__file__).resolve().parents[2]
START_SECONDS = 120
STOP_SECONDS = 120
_PORTS = range(20_000, 32_000)  # below those of outgoing connections, which could take one before the server has it


class ControlError(Exception):
    """Something that the user has to put right, in one sentence."""


@dataclass(frozen=True)
class Server:
    """A running embedded AWS."""

    endpoint_url: str
    region: str
    pid: int
    state_dir: Path


def default_state_dir() -> Path:
    """Return the state folder: ``WORKSHOP_STATE_DIR``, or ``.local_aws`` of this project."""
    return Path(os.environ.get("WORKSHOP_STATE_DIR") or PROJECT / ".local_aws")


def find(state_dir: Path) -> Server | None:
    """Return the running server of a state folder, or None. One that is just starting is waited for."""
    lock, deadline = state_dir / "server.lock", time.monotonic() + START_SECONDS
    while lock.exists() and _is_held(lock):
        known = _read(state_dir / "endpoint.json")
        # Until it is ready, endpoint.json tells of the server before, whose process number may be anybody's by now.
        if known and str(known["pid"]) == lock.read_text():
            return Server(known["url"], known["region"], known["pid"], state_dir)
        if time.monotonic() > deadline:
            raise ControlError(f"the embedded AWS has been starting for {START_SECONDS} seconds: look at its log")
        time.sleep(0.05)
    return None


def start(state_dir: Path, port: int | None = None) -> tuple[Server, bool]:
    """Start the embedded AWS, or find that it runs. Returns it, and whether it was started now.

    Returns when requests are answered. Raises ControlError with the end of the
    log when the server does not come up, or when it runs on another port.
    """
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _only_one_start(state_dir):
        running = find(state_dir)
        if running:
            if port and not running.endpoint_url.endswith(f":{port}"):
                raise ControlError(f"the embedded AWS runs already, at {running.endpoint_url}: stop it first")
            return running, False
        port = port or _port(state_dir)
        reader, writer = os.pipe()
        command = [sys.executable, "-X", "utf8", "-m", "helpers.local_aws", "serve"]
        command += ["--port", str(port), "--state-dir", str(state_dir), "--ready-fd", str(writer)]
        with (state_dir / "server.log").open("a") as log:
            subprocess.Popen(
                command,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[writer],
                start_new_session=True,
            )
        os.close(writer)
        with os.fdopen(reader) as answer:
            ready = answer.read()
        server = find(state_dir) if ready else None
        if server is None:
            raise ControlError(f"the embedded AWS did not start:\n{log_tail(state_dir, 15)}")
        return server, True


def stop(state_dir: Path) -> bool:
    """Stop the server and wait until it has saved its state. Returns whether one ran."""
    server = find(state_dir)
    if server is None:
        return False
    with (state_dir / "server.lock").open() as held:
        os.kill(server.pid, signal.SIGTERM)
        signal.signal(signal.SIGALRM, _too_slow)
        signal.alarm(STOP_SECONDS)
        fcntl.flock(held, fcntl.LOCK_EX)
        signal.alarm(0)
    return True


def reset(state_dir: Path) -> None:
    """Stop the server and delete its state folder. Raises ControlError for a folder that is not one."""
    stop(state_dir)
    if not state_dir.exists():
        return
    if not (state_dir / "server.lock").exists():
        raise ControlError(f"{state_dir} is not the state folder of an embedded AWS: nothing was deleted")
    shutil.rmtree(state_dir)


def log_tail(state_dir: Path, lines: int) -> str:
    """Return the last lines of the server's log."""
    log = state_dir / "server.log"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(no log yet)"


def admin_key(state_dir: Path) -> tuple[str, str]:
    """Return the administrator's access key id and secret, made at the first start."""
    file = state_dir / "admin.json"
    if not file.exists():
        key = {"id": f"AKIA{secrets.token_hex(8).upper()}", "secret": secrets.token_urlsafe(30)}
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            json.dump(key, handle)
    known = json.loads(file.read_text())
    return known["id"], known["secret"]


def run_server(state_dir: Path, port: int, ready_fd: int | None) -> None:
    """Be the server: hold the lock, serve until told to stop."""
    from helpers.local_aws import prefork

    # First of all: what is forked here must hold no lock, no secret and no thread.
    warm = prefork.start(state_dir.resolve())

    import asyncio  # only the server pays for importing it and ministack

    from helpers.local_aws import seam
    from helpers.local_aws.wire import Site
    from helpers.local_aws.workers.warm import trim

    region = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION") or "us-east-1"
    site = Site(state_dir.resolve(), f"http://127.0.0.1:{port}", region, ACCOUNT_ID)
    with (state_dir / "server.lock").open("a") as held:
        _lock(held)
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        seam.configure(site, port)
        from helpers.local_aws import server  # imports ministack, which reads its settings at import

        def ready() -> None:
            about = {"url": site.endpoint_url, "port": port, "region": region, "pid": os.getpid()}
            _write(state_dir / "endpoint.json", json.dumps(about))
            if ready_fd is not None:
                os.write(ready_fd, b"ready")
                os.close(ready_fd)
            gc.collect()
            gc.freeze()  # what is there now stays: no collection has to look at it again
            trim()

        server.log_to_stderr()
        asyncio.run(server.serve(site, admin_key(state_dir), warm, ready))


@contextmanager
def _only_one_start(state_dir: Path) -> Iterator[None]:
    with (state_dir / "start.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _port(state_dir: Path) -> int:
    """Return the port of the last start, or a free one where there was none or it is taken."""
    known = _read(state_dir / "endpoint.json")
    for port in ([known["port"]] if known else []) + random.sample(_PORTS, 50):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ControlError("no free port on 127.0.0.1")


def _is_held(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _lock(file: IO[str]) -> None:
    """Take the server's lock. ``find`` holds it for an instant when it looks; a server keeps it."""
    for _ in range(100):
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
    raise ControlError("the embedded AWS of this state folder runs already")


def _read(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text()) if file.exists() else None


def _write(file: Path, text: str) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(file)


def _too_slow(number: int, frame: object) -> None:
    raise ControlError(f"the embedded AWS did not stop within {STOP_SECONDS} seconds")

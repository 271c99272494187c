"""Containers: waiting for a slot, started, followed to their end."""

import logging
import re
import threading
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from helpers.local_aws.containers.credentials import Credentials
from helpers.local_aws.containers.hosts import Host, Requests, hidden, remove
from helpers.local_aws.containers.model import Container, End, Reason
from helpers.local_aws.containers.slots import Slots
from helpers.local_aws.wire import Site
from helpers.local_aws.workers.forkserver import Forkserver

KILLED = 137  # the exit code of what SIGKILL has ended
_END_SECONDS = 10.0  # for a container to end when it is told to
# What ECS says when there is no log to write to.
_NO_LOG = (
    "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: "
    "failed to create Cloudwatch log stream: operation error CloudWatch Logs: CreateLogStream, https response error "
    "StatusCode: 400, RequestID: {request}, api error {problem}: exit status 1"
)
_REASONS: dict[str, Reason] = {"": "exited", "request": "stopped", "timeout": "timeout", "kill": "killed"}
_log = logging.getLogger(__name__)


class Containers:
    """The containers that wait or run. Thread safe."""

    def __init__(self, site: Site, forkserver: Forkserver, requests: Requests, slots: Slots) -> None:
        """``requests`` makes the HTTP requests of hosts. ``forkserver`` stays the caller's; close it after this."""
        self._site, self._forkserver, self._requests, self._slots = site, forkserver, requests, slots
        self._scratch = site.state_dir / "containers"
        remove(self._scratch)
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}
        self._closed = False

    def start(self, container: Container, *, started: Callable[[], None], ended: Callable[[End], None]) -> None:
        """Run a container as soon as there is a slot; returns at once.

        From a thread of its own, ``started`` is called when it runs, and ``ended`` once,
        when nothing of it is left, or when it never starts. Raises ValueError for a
        ``run_id`` that is no name, or that of a container which waits or runs.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", container.run_id):
            raise ValueError(f"{container.run_id!r} is not the id of a container")
        run = _Run(container, self._requests)
        with self._lock:
            if container.run_id in self._runs:
                raise ValueError(f"a container {container.run_id} runs already")
            self._runs[container.run_id] = run
            place = self._slots.queue()
            if self._closed:
                run.kill("lost")
        follow = partial(self._follow, run, place, started, ended)
        try:
            threading.Thread(target=follow, name=container.run_id, daemon=True).start()
        except RuntimeError:  # the machine has no room for a thread
            self._slots.take(lambda: True, place)
            self._slots.give()
            self._forget(run)
            raise

    def stop(self, run_id: str) -> None:
        """Ask a container to end: SIGTERM, after its grace SIGKILL. An unknown id is no error."""
        self._act(run_id, _Run.stop)

    def kill(self, run_id: str) -> None:
        """End a container at once. An unknown id is no error."""
        self._act(run_id, _Run.kill)

    def close(self) -> None:
        """Kill all containers; nothing of them outlives this call, and no more are started."""
        with self._lock:
            self._closed = True
            runs = list(self._runs.values())
        for run in runs:
            run.kill("lost")
        self._slots.look()
        for run in runs:
            if not run.gone.wait(_END_SECONDS):
                run.host.kill()
                if not run.gone.wait(_END_SECONDS):
                    _log.error("%s: it does not end", run.container.run_id)

    def _act(self, run_id: str, act: Callable[["_Run"], None]) -> None:
        with self._lock:
            run = self._runs.get(run_id)
        if run:
            act(run)
            self._slots.look()

    def _follow(
        self, run: "_Run", place: threading.Condition, started: Callable[[], None], ended: Callable[[End], None]
    ) -> None:
        """Wait for a slot, run the container in it, and say how it ended."""
        folder = self._scratch / run.container.run_id
        self._slots.take(lambda: run.wanted_end is not None, place)
        try:
            end = run.follow(self._forkserver, self._task(run, folder), started)
        except OSError as error:
            end = run.end_without_start(str(error))
        except Exception as error:  # noqa: BLE001 - the end of a thread: the container has to end whatever happens
            _log.exception("container %s", run.container.run_id)
            end = End("failed", None, str(error))
        finally:
            self._slots.give()
            remove(folder)
            self._forget(run)
        try:
            ended(end)
        finally:
            run.gone.set()

    def _forget(self, run: "_Run") -> None:
        with self._lock:
            del self._runs[run.container.run_id]

    def _task(self, run: "_Run", folder: Path) -> dict[str, Any]:
        container, image, site = run.container, run.container.image, self._site
        log = container.log
        working_directory = container.working_directory or image.working_directory
        return {
            "kind": "container",
            "folder": str(folder.resolve()),
            "hidden": hidden(site.state_dir, names=not container.own_network),
            "own_root": True,
            "copies": [
                *([(str(image.folder), "/")] if image.folder else []),
                *((str(source), path) for path, source in container.files.items()),
            ],
            "folders": [working_directory],
            "endpoint_url": site.endpoint_url,
            "region": site.region,
            "argv": list(container.argv),
            "environment": {**image.environment, **container.environment},
            "working_directory": working_directory,
            "own_network": container.own_network,
            "timeout": container.timeout,
            "grace": container.grace,
            "log": log
            and {
                "group": log.group,
                "stream": log.stream,
                "create_group": log.create_group,
                "credentials": dict(log.credentials),
            },
            "credentials_path": run.credentials.credentials_path,
            "metadata_path": run.credentials.metadata_path,
            "token": run.credentials.token,
            "below": run.credentials.below,
        }


class _Run:
    """One container: the server's end of the channel to its host, and what is wanted of it."""

    def __init__(self, container: Container, requests: Requests) -> None:
        self.container, self.credentials = container, Credentials(container)
        self.host = Host(f"container {container.run_id}", requests, self.credentials.serve)
        self.gone = threading.Event()
        self.wanted_end: Reason | None = None  # why it is being ended from outside

    def stop(self) -> None:
        """Let it end in its time of grace."""
        if self.wanted_end is None:
            self.wanted_end = "stopped"
        self.host.tell({"event": "stop"})

    def kill(self, reason: Reason = "killed") -> None:
        """Let it end at once."""
        if self.wanted_end is None or reason == "lost":
            self.wanted_end = reason
        self.host.tell({"event": "kill"})

    def end_without_start(self, problem: str) -> End:
        """Return how it ended, when it never ran."""
        return End("failed", None, problem) if self.wanted_end is None else End(self.wanted_end, None)

    def follow(self, forkserver: Forkserver, task: dict[str, Any], started: Callable[[], None]) -> End:
        """Start it, do what it asks for, and return how it ended. Raises OSError when it cannot be started."""
        if self.wanted_end is not None:
            return self.end_without_start("")
        Path(task["folder"]).mkdir(parents=True, mode=0o700)
        self.host.attach(forkserver.fork(task))
        try:
            return self._listen(started)
        finally:
            self.host.cut()
            self.host.close()

    def _listen(self, started: Callable[[], None]) -> End:
        runs, last = False, None
        for message in self.host.events():
            if message.content["event"] == "started":
                runs = True
                started()
            else:
                last = message.content
        if last is None:  # its host was killed, or this whole embedded AWS is going down
            return End(self.wanted_end or "killed", KILLED if runs else None)
        if "problem" in last:
            return self.end_without_start(last["problem"])
        if last["code"] is None:
            end = self.end_without_start(_NO_LOG.format(request=uuid.uuid4(), problem=last["log_problem"]))
            return End(end.reason, None, end.message, last["log_problem"])
        reason = "killed" if last["lost"] else _REASONS[last["stopped"]]
        return End(self._why(reason), last["code"], "", last["log_problem"])

    def _why(self, reason: Reason) -> Reason:
        """Return the reason that counts: who killed what was to be stopped, wanted it to stop."""
        return self.wanted_end if reason == "killed" and self.wanted_end else reason

"""The hosts of one job, as the server sees them: stopped together, and how each of them ended."""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from helpers.local_aws.containers.hosts import Host, Requests
from helpers.local_aws.workers.channel import Channel

ENDED_UNEXPECTEDLY = "InternalServerError: The host of the job ended unexpectedly. Please try again."
_log = logging.getLogger(__name__)

End = dict[str, Any]

__all__ = ["ENDED_UNEXPECTEDLY", "End", "Hosts", "Requests"]


class Hosts:
    """The running hosts of one job. ``end`` and ``stop`` may be called from other threads."""

    def __init__(
        self, name: str, requests: Requests, started: Callable[[], None], phase: Callable[[str], None] = lambda _: None
    ) -> None:
        """``started`` is called when a host is up; ``phase`` with the name of what it begins to do."""
        self._name, self._requests, self._started, self._phase = name, requests, started, phase
        self._lock = threading.Lock()
        self._hosts: list[Host] = []
        self._stop: dict[str, Any] | None = None
        self._ended = False

    def add(self, channel: Channel) -> None:
        """Take a host that was forked."""
        host = Host(f"a host of the job {self._name}", self._requests)
        with self._lock:
            self._hosts.append(host)
            host.attach(channel)
            if self._stop:
                host.tell(self._stop)
            if self._ended:
                host.cut()

    def stop(self, *, upload: bool = True) -> None:
        """Stop the job on every host, also on those that come; ``upload``: its outputs are wanted all the same."""
        with self._lock:
            if self._stop is None:
                self._stop = {"event": "stop", "upload": upload}
                for host in self._hosts:
                    host.tell(self._stop)

    def end(self) -> None:
        """Kill every host."""
        with self._lock:
            self._ended = True
            for host in self._hosts:
                host.cut()

    def close(self) -> None:
        """Close the channels, when nobody reads them any more."""
        with self._lock:
            for host in self._hosts:
                host.close()
            self._hosts.clear()

    def follow(self) -> list[End]:
        """Answer the hosts' requests until all have ended; return how, host by host. One failure stops the others."""
        if len(self._hosts) == 1:
            return [self._follow_one(self._hosts[0])]
        ends: list[End] = [{}] * len(self._hosts)
        arrived: queue.SimpleQueue[tuple[int, End]] = queue.SimpleQueue()

        def follow(number: int, host: Host) -> None:
            arrived.put((number, self._follow_one(host)))

        for number, host in enumerate(self._hosts):
            name = f"host {number + 1} of {self._name}"
            threading.Thread(target=follow, args=(number, host), name=name, daemon=True).start()
        first = ""
        for _ in ends:
            number, end = arrived.get()
            if end["failure"] and not first:
                first = end["failure"]
                self.stop(upload=False)
            elif first:
                end["failure"] = ""  # it was stopped for the first failure, which is the job's
            ends[number] = end
        return ends

    def _follow_one(self, host: Host) -> End:
        for message in host.events():
            if message.content["event"] == "started":
                self._started()
            elif message.content["event"] == "phase":
                self._phase(message.content["phase"])
            elif "problem" in message.content:  # it could not begin
                return {"failure": f"InternalServerError: {message.content['problem']}", "stopped": "", "message": ""}
            else:
                if message.content["notes"]:
                    _log.warning("job %s: %s", self._name, message.content["notes"])
                return message.content
        return {"failure": ENDED_UNEXPECTEDLY, "stopped": "", "message": ""}

"""The server's end of the channels to the hosts of one job: starting them, their requests, and how they ended."""

import logging
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from helpers.local_aws.workers.channel import Channel, Message

ENDED_UNEXPECTEDLY = "InternalServerError: The host of the job ended unexpectedly. Please try again."
_log = logging.getLogger(__name__)

# An HTTP request of a host: method, target, headers and body; the answer is status and body.
Requests = Callable[[str, str, dict[str, str], bytes], tuple[int, bytes]]
End = dict[str, Any]


class Hosts:
    """The running hosts of one job. ``end`` and ``stop`` may be called from other threads."""

    def __init__(self, name: str, requests: Requests, started: Callable[[], None]) -> None:
        """``started`` is called when the entrypoint runs on a host."""
        self._name, self._requests, self._started = name, requests, started
        self._lock = threading.Lock()
        self._channels: list[Channel] = []
        self._stop: dict[str, Any] | None = None
        self._ended = False

    def add(self, channel: Channel) -> None:
        """Take a host that was forked."""
        with self._lock:
            self._channels.append(channel)
            if self._stop:
                channel.send(self._stop)
            if self._ended:
                channel.end()

    def stop(self, *, upload: bool = True) -> None:
        """Stop the job on every host, also on those that come; ``upload``: its outputs are wanted all the same."""
        with self._lock:
            if self._stop is None:
                self._stop = {"event": "stop", "upload": upload}
                for channel in self._channels:
                    channel.send(self._stop)

    def end(self) -> None:
        """Kill every host."""
        with self._lock:
            self._ended = True
            for channel in self._channels:
                channel.end()

    def close(self) -> None:
        """Close the channels, when nobody reads them any more."""
        with self._lock:
            for channel in self._channels:
                channel.close()
            self._channels.clear()

    def follow(self) -> list[End]:
        """Answer the hosts' requests until all have ended; return how, host by host. One failure stops the others."""
        if len(self._channels) == 1:
            return [self._follow_one(self._channels[0])]
        ends: list[End] = [{}] * len(self._channels)
        arrived: queue.SimpleQueue[tuple[int, End]] = queue.SimpleQueue()

        def follow(number: int, channel: Channel) -> None:
            arrived.put((number, self._follow_one(channel)))

        for number, channel in enumerate(self._channels):
            name = f"host {number + 1} of {self._name}"
            threading.Thread(target=follow, args=(number, channel), name=name, daemon=True).start()
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

    def _follow_one(self, channel: Channel) -> End:
        for message in channel:
            event = message.content["event"]
            if event == "request":
                self._answer(channel, message)
            elif event == "started":
                self._started()
            else:
                if message.content["notes"]:
                    _log.warning("processing job %s: %s", self._name, message.content["notes"])
                return message.content
        return {"failure": ENDED_UNEXPECTEDLY, "stopped": "", "message": ""}

    def _answer(self, channel: Channel, message: Message) -> None:
        """Make a host's request, and send the answer: a large body through the file that came with the request."""
        asked = message.content
        files = list(message.files)
        try:
            body = _content(files[0], int(asked["length"])) if asked["source"] else message.body
            status, answer = self._requests(asked["method"], asked["target"], asked["headers"], body)
            if asked["into"] and status == 200:
                _write(files[-1], answer)
                answer = b""
        except OSError as error:
            _log.warning("processing job %s: %s", self._name, error)
            status, answer = 500, f"<Error><Code>InternalError</Code><Message>{error}</Message></Error>".encode()
        finally:
            for file in files:
                with suppress(OSError):
                    os.close(file)
        channel.send({"event": "answer", "status": status}, answer)


def _content(file: int, length: int) -> bytes:
    """Return the first ``length`` bytes of a file: it may be longer by now."""
    blocks: list[bytes] = []
    while length > 0 and (block := os.read(file, length)):
        blocks.append(block)
        length -= len(block)
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]

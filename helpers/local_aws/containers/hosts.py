"""The server's end of the channel to one host, whatever it runs: its requests, its connections, its end."""

import logging
import os
import select
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from helpers.local_aws.workers import isolation
from helpers.local_aws.workers.channel import Channel, Message

_CONNECTIONS = 256  # of one host at once that the server itself answers
_END_SECONDS = 10.0  # for the processes of a host to be gone
_log = logging.getLogger(__name__)

# An HTTP request of a host: method, target, headers and body; the answer is status and body.
Requests = Callable[[str, str, dict[str, str], bytes], tuple[int, bytes]]
# Answer a connection that a host has opened to its metadata or credentials, and close it. ``below``: where its paths
# begin when anybody on this machine could have connected. Raises OSError when the client is gone.
Serve = Callable[[socket.socket, str], None]


class Host:
    """One host: a process group or, better, a machine of its own. See ``workers.agent`` for what is said.

    One thread follows ``events``; everything else may be called from any other.
    """

    def __init__(self, name: str, requests: Requests | None = None, serve: Serve | None = None) -> None:
        self.name = name
        self._requests, self._serve = requests, serve
        self._connections = threading.Semaphore(_CONNECTIONS)
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._orders: list[Mapping[str, Any]] = []
        self._cut = False
        self._processes: list[int] = []  # pidfds: when all of them have ended, so has everything

    def attach(self, channel: Channel) -> None:
        """Take the channel to a host that was forked, and say what it has been told by now."""
        with self._lock:
            self._channel = channel
            for order in self._orders:
                channel.send(dict(order))
            if self._cut:
                channel.end()

    def tell(self, order: Mapping[str, Any]) -> None:
        """Send a message, now or as soon as there is somebody to hear it."""
        with self._lock:
            self._orders.append(order)
            if self._channel:
                self._channel.send(dict(order))

    def cut(self) -> None:
        """End the channel: the host kills what it runs, and ``events`` is over at once."""
        with self._lock:
            self._cut = True
            if self._channel:
                self._channel.end()

    def kill(self) -> None:
        """Kill a host that does not do so itself; the kernel kills the rest with it."""
        with self._lock, suppress(ProcessLookupError):
            for process in self._processes:
                signal.pidfd_send_signal(process, signal.SIGKILL)

    def events(self) -> Iterator[Message]:
        """Do what the host asks for, and yield what else it says, until it is gone with all its processes."""
        assert self._channel is not None, "it was attached"
        for message in self._channel:
            event = message.content["event"]
            if event == "request":
                self._request(self._channel, message)
            elif event == "connection":
                self._connect(message)
            elif event == "processes":
                with self._lock:
                    self._processes += message.files
            else:
                yield message
        for process in self._processes:
            if not _has_ended(process, _END_SECONDS):
                _log.error("%s: a process of it does not end", self.name)
        self.close()

    def close(self) -> None:
        """Close the channel, when nobody reads it any more."""
        with self._lock:
            if self._channel:
                self._channel.close()
            self._channel = None
            for process in self._processes:
                os.close(process)
            self._processes = []

    def _request(self, channel: Channel, message: Message) -> None:
        """Make the host's request, and send the answer: a large body through the file that came with the request."""
        asked = message.content
        files = list(message.files)
        try:
            if self._requests is None:
                raise OSError("this host has nothing to ask for")
            body = _content(files[0], int(asked["length"])) if asked["source"] else message.body
            status, answer = self._requests(asked["method"], asked["target"], asked["headers"], body)
            if asked["into"] and status == 200:
                _write(files[-1], answer)
                answer = b""
        except OSError as error:
            _log.warning("%s: %s", self.name, error)
            status, answer = 500, f"<Error><Code>InternalError</Code><Message>{error}</Message></Error>".encode()
        finally:
            for file in files:
                with suppress(OSError):
                    os.close(file)
        channel.send({"event": "answer", "status": status}, answer)

    def _connect(self, message: Message) -> None:
        for file in message.files:  # none where this process has no descriptor left
            connection = socket.socket(fileno=file)
            if self._serve is None or not self._connections.acquire(blocking=False):
                connection.close()
                continue
            below = message.content["below"]
            try:
                threading.Thread(target=self._answer, args=(self._serve, connection, below), daemon=True).start()
            except RuntimeError:  # the machine has no room for a thread; the host's other messages still count
                self._connections.release()
                connection.close()

    def _answer(self, serve: Serve, connection: socket.socket, below: str) -> None:
        try:
            serve(connection, below)
        except OSError:
            _log.debug("%s: a client of its metadata has gone", self.name)
        finally:
            self._connections.release()


def hidden(state_dir: Path, *, names: bool = False) -> list[str]:
    """Return what no host may see: what holds credentials, and the doors to services of the machine.

    ``names``: a host with the machine's network sees the service that may be what resolves names.
    """
    return [str(path) for path in (state_dir.resolve(), Path.home() / ".aws", *isolation.doors(names=names))]


def remove(folder: Path) -> None:
    """Remove a host's folder, whatever it has made of it."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():  # folders that their owner made unreadable
        for path, names, _ in os.walk(folder):
            for name in names:
                if not os.path.islink(each := os.path.join(path, name)):
                    os.chmod(each, 0o700)
        shutil.rmtree(folder, ignore_errors=True)


def _has_ended(process: int, seconds: float) -> bool:
    """Wait until the process of a pidfd has ended; False when ``seconds`` pass first."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


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

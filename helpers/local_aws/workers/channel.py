"""Messages between the server and what it forks: a JSON object, bytes, and open files."""

import json
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_HEAD = struct.Struct("!III")  # length of the JSON, length of the bytes, number of files
_MOST_FILES = 8


@dataclass(frozen=True)
class Message:
    """One message: whoever receives it closes ``files``."""

    content: dict[str, Any]
    body: bytes = b""
    files: tuple[int, ...] = ()


class Channel:
    """Messages over a stream socket. Any thread may send; one at a time may receive."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._sending = threading.Lock()
        self._buffer = bytearray()
        self._files: deque[int] = deque()
        self._unread: deque[Message] = deque()

    def fileno(self) -> int:
        """Return the descriptor, so that ``select`` can wait for a message."""
        return self._socket.fileno()

    def buffered(self) -> bool:
        """Tell whether a message has arrived already; ``select`` does not know of it."""
        return bool(self._unread) or self._complete()

    def send(self, content: dict[str, Any], body: bytes = b"", files: Sequence[int] = ()) -> None:
        """Send one message; silently drop it when the other end is gone."""
        text = json.dumps(content, separators=(",", ":")).encode()
        data = _HEAD.pack(len(text), len(body), len(files)) + text + body
        with self._sending, suppress(BrokenPipeError, ConnectionResetError):
            if files:
                data = data[socket.send_fds(self._socket, [data], list(files)) :]
            self._socket.sendall(data)

    def ask(self, content: dict[str, Any], body: bytes = b"", files: Sequence[int] = ()) -> Message | None:
        """Send one message and return the answer to it, None at the end; others that come first stay for later."""
        self.send({**content, "event": "request"}, body, files)
        while (message := self._read()) is not None:
            if message.content.get("event") == "answer":
                return message
            self._unread.append(message)
        return None

    def receive(self) -> Message | None:
        """Wait for the next message; None at the end of the connection."""
        return self._unread.popleft() if self._unread else self._read()

    def __iter__(self) -> Iterator[Message]:
        return iter(self.receive, None)

    def end(self) -> None:
        """Let both ends see the end of the connection; a host then kills its job."""
        with suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end, and the files of messages that nobody has received."""
        self._socket.close()
        while self._files:
            os.close(self._files.popleft())

    def _complete(self) -> bool:
        if len(self._buffer) < _HEAD.size:
            return False
        text, body, _ = _HEAD.unpack_from(self._buffer)
        return len(self._buffer) >= _HEAD.size + text + body

    def _read(self) -> Message | None:
        while not self._complete():
            try:
                data, files, _, _ = socket.recv_fds(self._socket, 1 << 16, _MOST_FILES)
            except ConnectionResetError:
                return None
            self._files.extend(files)
            if not data:
                return None
            self._buffer += data
        text, body, count = _HEAD.unpack_from(self._buffer)
        start, end = _HEAD.size + text, _HEAD.size + text + body
        content, rest = json.loads(self._buffer[_HEAD.size : start]), bytes(self._buffer[start:end])
        del self._buffer[:end]
        # Files are lost on the way where this process may not have more of them open.
        return Message(content, rest, tuple(self._files.popleft() for _ in range(min(count, len(self._files)))))

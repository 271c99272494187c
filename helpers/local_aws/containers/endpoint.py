"""HTTP over connections that a host has opened: one request each, answered by a function."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, cast

_SECONDS = 60.0  # for a client to send its request, or to take a part of the answer


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: status, body, and content type or further headers."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/plain"})


# Takes method, path and headers, whose names are in lower case.
Answers = Callable[[str, str, Mapping[str, str]], Answer]


def serve(connection: socket.socket, answers: Answers, below: str = "", *, name: str) -> None:
    """Answer the one request of a connection, and close it. Raises OSError when the client is gone.

    ``below``: where the paths begin, when this is a secret of the host. ``name``: of the server, in its answers.
    """
    with connection:
        connection.settimeout(_SECONDS)
        _Handler(connection, answers, below, name)


def refusal(status: int, reason: str) -> Answer:
    """Return an answer that says no."""
    return Answer(status, f"{status} - {reason}\n".encode())


class _Handler(BaseHTTPRequestHandler):
    """Read one request, answer it. That a connection is closed after it keeps idle clients from holding threads."""

    protocol_version = "HTTP/1.1"
    sys_version = ""

    def __init__(self, connection: socket.socket, answers: Answers, below: str, name: str) -> None:
        self._answers, self._below = answers, below
        self.server_version = name
        super().__init__(connection, ("", 0), cast(Any, None))  # there is no server object

    def parse_request(self) -> bool:
        """Take every method: the service itself says which it has."""
        if super().parse_request():
            headers = {name.lower(): value for name, value in self.headers.items()}
            if self.path.startswith(f"{self._below}/"):
                self._give(self._answers(self.command, self.path.removeprefix(self._below), headers))
            else:
                self._give(refusal(404, "Not Found"))
        return False

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that is not HTTP."""
        self.request_version = self.protocol_version  # else the answer would be that of HTTP 0.9, without a head
        self._give(refusal(int(code), message or ""))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: paths and headers are the host's own affair."""

    def _give(self, answer: Answer) -> None:
        self.close_connection = True
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

"""A request's body and its answer, as ASGI carries them."""

import asyncio
import json
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

from helpers.local_aws.containers.hosts import Requests
from helpers.local_aws.ec2.service import CONTENT_TYPE as EC2_CONTENT
from helpers.local_aws.wire import AwsError

MAX_BODY = 64 * 2**20  # bytes; CodeCommit's largest request (20 MB of files, base64) stays well below

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


async def read_body(receive: Receive, most: int = MAX_BODY) -> bytes:
    """Return the body of a request. Raises AwsError: 413 where it has more than ``most`` bytes."""
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise AwsError("IncompleteBody", "the client left before its request was complete")
        size += len(message.get("body", b""))
        if size > most:
            raise AwsError("RequestEntityTooLarge", f"a request is at most {most} bytes", 413)
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


async def send_answer(
    send: Send, status: int, body: bytes, error: str = "", kind: str = "application/x-amz-json-1.1"
) -> None:
    """Answer a request; ``error``: the code of one."""
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"x-amzn-requestid", str(uuid.uuid4()).encode()),
    ]
    if error:
        headers.append((b"x-amzn-errortype", error.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: AwsError, request: Mapping[str, str]) -> None:
    """Answer in the protocol of the request: XML where it is S3's or a form (EC2's own kind too), else JSON."""
    scope = re.search(r"Credential=(?:[^/]*/){3}([^/]*)/", request.get("authorization", ""))
    service = scope[1] if scope else "s3"
    xml = f"<Error><Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message></Error>"
    if service == "ec2":
        body, kind = f"<Response><Errors>{xml}</Errors><RequestID>{uuid.uuid4()}</RequestID></Response>", EC2_CONTENT
    elif request.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        body, kind = f"<ErrorResponse>{xml}</ErrorResponse>", "text/xml"
    elif service == "s3":
        body, kind = xml, "application/xml"
    else:
        body, kind = json.dumps({"__type": error.code, "message": error.message}), "application/x-amz-json-1.1"
    await send_answer(send, error.status, body.encode(), error.code, kind)


def from_threads(application: Application, loop: asyncio.AbstractEventLoop) -> Requests:
    """Return what other threads make requests to ``application`` with, as over TCP: the answer is status and body."""

    def request(method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        asked = _request(application, method, target, headers, body)
        return asyncio.run_coroutine_threadsafe(asked, loop).result()

    return request


async def _request(
    application: Application, method: str, target: str, headers: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    raw_path, _, query = target.partition("?")
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [*pairs, (b"content-length", str(len(body)).encode())],
        "client": ("127.0.0.1", 0),
    }
    answer: dict[str, Any] = {}
    parts: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        answer.update(message)
        parts.append(message.get("body", b""))

    await application(scope, receive, send)
    return answer["status"], parts[-1] if len(parts) == 2 else b"".join(parts)

"""A request's body and its answer, as ASGI carries them."""

import json
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from xml.sax.saxutils import escape

from helpers.local_aws.ec2.service import CONTENT_TYPE as EC2_CONTENT
from helpers.local_aws.wire import AwsError

MAX_BODY = 64 * 2**20  # bytes; CodeCommit's largest request (20 MB of files, base64) stays well below

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


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

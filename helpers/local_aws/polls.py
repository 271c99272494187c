"""Requests that wait for long: over as soon as their client has left."""

import asyncio
from typing import Any

from helpers.local_aws.asgi import Application, Receive, Scope, Send


async def until_left(application: Application, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a request with ``application``, which is cancelled when the client leaves before its answer."""
    complete = asyncio.Event()

    async def listening() -> dict[str, Any]:
        if complete.is_set():  # nothing more comes; that the client left is watched for below
            await asyncio.Event().wait()
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            complete.set()
        return message

    async def left() -> None:
        await complete.wait()
        if (await receive())["type"] != "http.disconnect":
            await asyncio.Event().wait()

    serving = asyncio.ensure_future(application(scope, listening, send))
    leaving = asyncio.ensure_future(left())
    try:
        await asyncio.wait({serving, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone = not serving.done()
        for task in (serving, leaving):
            task.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
    if gone:
        await asyncio.gather(serving, return_exceptions=True)
    else:
        serving.result()

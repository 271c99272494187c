"""The embedded AWS as one ASGI application on 127.0.0.1.

A request is routed by the service that its signature names: to our services,
or to ministack. What is not signed, or signed for a service that is not here,
is refused before anything reads its body.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config

from helpers.local_aws import routing, seam
from helpers.local_aws.apis import EXECUTE_PATH
from helpers.local_aws.asgi import Receive, Scope, Send, from_threads, read_body, send_answer, send_error
from helpers.local_aws.cloudformation import CloudFormation
from helpers.local_aws.codebuild import REPORT_PATH
from helpers.local_aws.ec2.service import CONTENT_TYPE as EC2_CONTENT
from helpers.local_aws.ecr import REGISTRY_PATH
from helpers.local_aws.polls import until_left
from helpers.local_aws.prefork import Warm
from helpers.local_aws.principals import make_principals
from helpers.local_aws.rest import CONTENT_TYPE as REST_CONTENT
from helpers.local_aws.rest import RestService
from helpers.local_aws.services import Services
from helpers.local_aws.wire import AwsError, Service, Site, dump

HEALTH_PATH = "/_embedded_aws/health"
GIT_PATH = "/v1/repos/"


class EmbeddedAws:
    """The ASGI application: our services in front, ministack behind."""

    def __init__(self, site: Site, admin_key: tuple[str, str], warm: Warm) -> None:
        """Start every service. ``admin_key``: access key id and secret of the administrator."""
        self._site, self._admin_key = site, admin_key
        self._seam = seam.Seam(site)
        self.services = Services(site, self._seam, warm, from_threads(self, asyncio.get_running_loop()))
        self._hosts = {site.endpoint_url.removeprefix("http://"), f"localhost:{site.endpoint_url.rpartition(':')[2]}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event, as ASGI defines it."""
        if scope["type"] == "lifespan":
            await self._seam.asgi(scope, receive, self._after_startup(send))
        elif scope["type"] == "http":
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            try:
                await self._route(scope, headers, receive, send)
            except AwsError as error:
                await send_error(send, error, headers)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _route(self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        routing.require_single(scope)
        if headers.get("host") not in self._hosts:
            # A foreign Host means a page in a browser (DNS rebinding) or ministack's host-based routes.
            raise AwsError("AccessDenied", f"the host {headers.get('host')!r} is not served here", 403)
        if scope["path"] == HEALTH_PATH:
            await send_answer(send, 200, b'{"status":"ready"}')
        elif scope["path"].startswith(GIT_PATH):
            await self.services.git(scope, receive, send)
        elif scope["raw_path"].startswith(EXECUTE_PATH.encode()):
            await self.services.gateway(scope, receive, send)
        elif scope["path"].startswith(REPORT_PATH):
            body = await read_body(receive)
            said = await asyncio.to_thread(self.services.codebuild.report, scope["path"], scope["method"], body)
            await send_answer(send, 200, said)
        elif scope["path"].startswith(REGISTRY_PATH) and not headers.get("authorization", "").startswith("AWS4-"):
            await self.services.registry(scope, receive, send)
        else:
            await self._call(scope, headers, receive, send)

    async def _call(self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        service = routing.signing_service(headers, scope["query_string"].decode("latin-1"))
        if service not in (*self.services.named, *seam.SERVICES, "ec2"):
            raise AwsError("NotImplemented", f"the embedded AWS does not have the service {service!r}", 501)
        routing.require_form(service, scope, headers)
        if service in self.services.named:
            await self._serve(self.services.named[service], scope, headers, receive, send)
        elif service == "ec2":
            await self._serve_ec2(scope, headers, receive, send)
        elif headers.get("x-amz-target", "").endswith(".GetActivityTask"):
            await until_left(self._seam.asgi, scope, receive, send)
        else:
            await self._seam.asgi(scope, receive, send)

    async def _serve(
        self, service: Service, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send
    ) -> None:
        routing.require_region(headers, self._site.region)
        body = await read_body(receive)
        caller = self._seam.identity.authenticate(scope, body)
        target = headers.get("x-amz-target", "")
        if isinstance(service, CloudFormation):
            key = headers["authorization"].partition("Credential=")[2].partition("/")[0]
            await send_answer(send, 200, await service.answer_in_pool(body, caller, key), kind="text/xml")
        elif isinstance(service, RestService):
            sent = scope["method"], scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
            status, answer = await asyncio.to_thread(service.answer_rest, *sent, body, caller)
            await send_answer(send, status, answer, kind=REST_CONTENT)
        else:
            await send_answer(send, 200, dump(await asyncio.to_thread(service.answer, target, body, caller)))

    async def _serve_ec2(self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        routing.require_region(headers, self._site.region)
        body = await read_body(receive)
        try:
            caller = self._seam.identity.authenticate(scope, body)
        except AwsError as error:
            said = f"AWS was not able to validate the provided access credentials ({error.message})"
            raise AwsError("AuthFailure", said, 401) from error
        await send_answer(send, 200, await asyncio.to_thread(self.services.ec2.answer, body, caller), kind=EC2_CONTENT)

    def _after_startup(self, send: Send) -> Send:
        async def send_after(message: dict[str, Any]) -> None:
            if message["type"] == "lifespan.startup.complete":
                await make_principals(self._seam, self._site.account_id, self._admin_key)
                self.services.resume()
            await send(message)

        return send_after


async def serve(site: Site, admin_key: tuple[str, str], warm: Warm, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; ``ready`` is called once requests are answered."""
    application = EmbeddedAws(site, admin_key, warm)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    config = Config()
    config.bind = [site.endpoint_url.removeprefix("http://")]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 0.5
    config.shutdown_timeout = 10
    config.loglevel = "WARNING"

    async def until_stopped() -> None:
        ready()
        application.services.warm_up()
        await stopping.wait()
        await asyncio.to_thread(application.services.close)

    await hypercorn_serve(application, config, shutdown_trigger=until_stopped)  # type: ignore[arg-type]


def log_to_stderr() -> None:
    """Send the server's log to standard error, where ``start`` points at the log file."""
    logging.basicConfig(
        level=os.environ.get("LOG_LEVEL", "WARNING"),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        force=True,
    )

"""The embedded AWS as one ASGI application on 127.0.0.1.

A request is routed by the service that its signature names: to our services,
or to ministack. What is not signed, or signed for a service that is not here,
is refused before anything reads its body.
"""

import asyncio
import json
import logging
import os
import re
import signal
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config

from helpers.local_aws import seam
from helpers.local_aws.codecommit import CodeCommit, GitHttp
from helpers.local_aws.lambdas import Functions
from helpers.local_aws.sagemaker import SageMaker
from helpers.local_aws.states.tasks import ProcessingTasks
from helpers.local_aws.wire import AwsError, Service, Site, dump

HEALTH_PATH = "/_embedded_aws/health"
GIT_PATH = "/v1/repos/"
MAX_BODY = 64 * 2**20  # bytes; CodeCommit's largest request (20 MB of files, base64) stays well below

ADMIN_USER = "workshop-admin"
NOTEBOOK_ROLE = "AmazonSageMaker-ExecutionRole-workshop"
NOTEBOOK_ROLE_PATH = "/service-role/"

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

logger = logging.getLogger(__name__)


class EmbeddedAws:
    """The ASGI application: our services in front, ministack behind."""

    def __init__(self, site: Site, admin_key: tuple[str, str]) -> None:
        """Start every service. ``admin_key``: access key id and secret of the administrator."""
        self._site, self._admin_key = site, admin_key
        self.seam = seam.Seam(site)
        self._sagemaker = SageMaker(
            site, lambda role, session: self.seam.assume(role, "sagemaker.amazonaws.com", session)
        )
        self._functions = Functions(site.state_dir / "lambda", site.endpoint_url)
        codecommit = CodeCommit(
            site, lambda arn, event, source: self.seam.invoke_function("codecommit.amazonaws.com", arn, event, source)
        )
        self._services: dict[str, Service] = {"codecommit": codecommit, "sagemaker": self._sagemaker}
        self._git = GitHttp(codecommit, self.seam.credential)
        self.seam.install_lambda(self._functions)
        self.seam.install_states(ProcessingTasks(self._sagemaker))
        self._hosts = {site.endpoint_url.removeprefix("http://"), f"localhost:{site.endpoint_url.rpartition(':')[2]}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event, as ASGI defines it."""
        if scope["type"] == "lifespan":
            await self.seam.asgi(scope, receive, self._after_startup(send))
        elif scope["type"] == "http":
            try:
                await self._route(scope, receive, send)
            except AwsError as error:
                await _answer_error(send, error)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def close(self) -> None:
        """End every job and function. Nothing of theirs outlives this call."""
        self._sagemaker.close()
        self._functions.close()

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get("host") not in self._hosts:
            # A foreign Host means a page in a browser (DNS rebinding) or ministack's host-based routes.
            raise AwsError("AccessDenied", f"the host {headers.get('host')!r} is not served here", 403)
        if scope["path"] == HEALTH_PATH:
            await _answer(send, 200, b'{"status":"ready"}')
        elif scope["path"].startswith(GIT_PATH):
            await self._git(scope, receive, send)
        else:
            service = signing_service(headers, scope["query_string"].decode())
            if service in self._services:
                await self._serve(self._services[service], scope, headers, receive, send)
            elif service in seam.SERVICES and not scope["path"].startswith(("/_ministack", "/_localstack", "/_aws")):
                await self.seam.asgi(scope, receive, send)
            else:
                raise AwsError("NotImplemented", f"the embedded AWS does not have the service {service!r}", 501)

    async def _serve(
        self, service: Service, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send
    ) -> None:
        body = await _read(receive)
        caller = self.seam.authenticate(scope, body)
        output = await asyncio.to_thread(service.answer, headers.get("x-amz-target", ""), body, caller)
        await _answer(send, 200, dump(output))

    def _after_startup(self, send: Send) -> Send:
        async def send_after(message: dict[str, Any]) -> None:
            if message["type"] == "lifespan.startup.complete":
                await self._make_principals()
            await send(message)

        return send_after

    async def _make_principals(self) -> None:
        """Make the administrator and the notebook's role, which an AWS account with Studio has from the start."""
        key, secret = self._admin_key
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {
                        "Service": "sagemaker.amazonaws.com",
                        "AWS": f"arn:aws:iam::{self._site.account_id}:user/{ADMIN_USER}",
                    },
                    "Action": "sts:AssumeRole",
                }
            ],
        }
        policy = "arn:aws:iam::aws:policy/"
        for action, parameters in (
            ("CreateUser", {"UserName": ADMIN_USER}),
            ("AttachUserPolicy", {"UserName": ADMIN_USER, "PolicyArn": f"{policy}AdministratorAccess"}),
            (
                "CreateRole",
                {
                    "RoleName": NOTEBOOK_ROLE,
                    "Path": NOTEBOOK_ROLE_PATH,
                    "MaxSessionDuration": 43200,
                    "AssumeRolePolicyDocument": json.dumps(trust),
                },
            ),
            ("AttachRolePolicy", {"RoleName": NOTEBOOK_ROLE, "PolicyArn": f"{policy}IAMFullAccess"}),
        ):
            await self.seam.bootstrap_call("iam", urlencode({"Action": action, **parameters}))
        self.seam.add_access_key(ADMIN_USER, key, secret)


def signing_service(headers: Mapping[str, str], query_string: str) -> str:
    """Return the service that a SigV4 signature is scoped to. Raises AwsError when there is none.

    Only S3 takes a signature in the query (presigned URLs).
    """
    found = re.match(
        r"AWS4-HMAC-SHA256 Credential=[^/,]+/\d{8}/[^/,]+/([^/,]+)/aws4_request\b", headers.get("authorization", "")
    )
    if found:
        return found[1]
    query = parse_qs(query_string)
    scope = query.get("X-Amz-Credential", [""])[0].split("/")
    if "X-Amz-Signature" in query and len(scope) == 5 and scope[3] == "s3":
        return "s3"
    raise AwsError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)


async def serve(site: Site, admin_key: tuple[str, str], ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; ``ready`` is called once requests are answered."""
    application = EmbeddedAws(site, admin_key)
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
        await stopping.wait()
        await asyncio.to_thread(application.close)

    await hypercorn_serve(application, config, shutdown_trigger=until_stopped)  # type: ignore[arg-type]


async def _read(receive: Receive) -> bytes:
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise AwsError("IncompleteBody", "the client left before its request was complete")
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            raise AwsError("RequestEntityTooLarge", f"a request is at most {MAX_BODY} bytes", 413)
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


async def _answer(send: Send, status: int, body: bytes, error: str = "") -> None:
    headers = [
        (b"content-type", b"application/x-amz-json-1.1"),
        (b"content-length", str(len(body)).encode()),
        (b"x-amzn-requestid", str(uuid.uuid4()).encode()),
    ]
    if error:
        headers.append((b"x-amzn-errortype", error.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _answer_error(send: Send, error: AwsError) -> None:
    body = json.dumps({"__type": error.code, "message": error.message}).encode()
    await _answer(send, error.status, body, error.code)


def log_to_stderr() -> None:
    """Send the server's log to standard error, where ``start`` points at the log file."""
    logging.basicConfig(
        level=os.environ.get("LOG_LEVEL", "WARNING"),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        force=True,
    )

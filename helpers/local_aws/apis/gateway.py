"""The requests for the HTTP APIs, as the ASGI application sees them.

An API's address on AWS is a host of its own, ``https://{id}.execute-api.{region}.amazonaws.com``.
There is one host here, and names of others would have to be found by every client: so an
API's address is a path, ``{endpoint}/_execute-api/{id}``, that no other service has (no
bucket's name begins with an underscore). What comes after it is as on AWS. This is the one
place that knows.
"""

import asyncio
import contextlib
import json
import logging
import re
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

from helpers.local_aws.apis import routes
from helpers.local_aws.apis.events import Answer, BadAnswer, Request, Signer, Target, answer, event
from helpers.local_aws.apis.records import Api, Item, Records
from helpers.local_aws.apis.service import function_arn
from helpers.local_aws.asgi import Receive, Scope, Send, read_body
from helpers.local_aws.wire import AwsError, Caller, Permission, Site

EXECUTE_PATH = "/_execute-api/"
MOST_BODY = 10 * 2**20  # bytes
MOST_EVENT = 6 * 2**20  # bytes: what Lambda takes
AT_ONCE = 16  # requests that wait for their functions; others wait for those
SERVICE = "apigateway.amazonaws.com"
_PATH = re.compile(EXECUTE_PATH + "([a-z0-9]+)(/.*)?", re.S)
_SIGNED = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,]+)/\d{8}/([^/,]+)/([^/,]+)/aws4_request\b")
_REFUSED = {403: "Forbidden", 404: "Not Found", 413: "Request Entity Too Large", 500: "Internal Server Error",
            503: "Service Unavailable"}  # fmt: skip

logger = logging.getLogger(__name__)


class Calls(Protocol):
    """What the gateway needs of IAM and of Lambda."""

    def authenticate(self, scope: Scope, body: bytes) -> tuple[Caller, str]:
        """Return who signed a request, and the principal's id. Raises AwsError."""

    def invoke(self, principal: str, function_arn: str, event: object, source_arn: str) -> tuple[Any, bool]:
        """Invoke a function for a service and return its result, and whether it is an error.

        Raises AwsError where its resource policy does not let the service in, or there is no such function.
        """


class Refused(Exception):
    """A request that gets one of the gateway's own answers."""

    def __init__(self, status: int) -> None:
        super().__init__(_REFUSED[status])
        self.status = status


@dataclass(frozen=True)
class Found:
    """What a request is for: the API, its stage, its route's record, and the path below the stage, quoted."""

    api: Api
    stage: str
    route: Item
    match: routes.Match
    path: str


class Gateway:
    """Serve the APIs: find the route, ask IAM, invoke the function, answer."""

    def __init__(self, site: Site, records: Records, calls: Calls) -> None:
        self._site, self._records, self._calls = site, records, calls
        # Functions call the embedded AWS: in the threads that serve them they would wait for themselves.
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="apis")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request below EXECUTE_PATH."""
        request_id = str(uuid.uuid4())
        try:
            answered = await self._serve(scope, await _body(receive), request_id)
        except Refused as refused:
            body = json.dumps({"message": _REFUSED[refused.status]}).encode()
            answered = Answer(refused.status, [("content-type", "application/json")], body)
        headers = [*answered.headers, ("content-length", str(len(answered.body))), ("apigw-requestid", request_id)]
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": answered.status, "headers": pairs})
        await send({"type": "http.response.body", "body": answered.body})

    def close(self) -> None:
        """Take no more requests. Those that wait for a function go with it."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _serve(self, scope: Scope, body: bytes, request_id: str) -> Answer:
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        _refuse_pages(dict(headers))
        found = self._find(scope["method"], scope["raw_path"].decode("latin-1"))
        signer = self._signer(scope, dict(headers), body, found)
        query = scope["query_string"].decode("latin-1")
        path = (f"/{found.stage}" if found.stage != routes.DEFAULT else "") + unquote(found.path)
        sent = Request(scope["method"], path, query, headers, body, (scope.get("client") or ["127.0.0.1"])[0])
        target = Target(found.api.api_id, found.stage, found.route["RouteKey"], found.match.parameters)
        told = event(sent, target, account_id=self._site.account_id, request_id=request_id, signer=signer)
        if len(json.dumps(told)) > MOST_EVENT:
            raise Refused(413)
        return await self._invoke(found, told)

    def _find(self, method: str, raw_path: str) -> Found:
        """Return what a request is for. The first part of its path is the stage, if there is one of that name."""
        named = _PATH.fullmatch(raw_path)
        api = self._records.find(named[1]) if named else None
        if named is None or api is None:
            raise Refused(403)  # as a host that is nobody's
        path, stage = named[2] or "/", routes.DEFAULT
        first, slash, rest = path[1:].partition("/")
        if first in api.stages:
            stage, path = first, slash + rest or "/"
        known = dict(api.routes)  # which another request may be changing
        keys = [(route_id, route["RouteKey"]) for route_id, route in known.items()]
        match = routes.choose(keys, method, path) if stage in api.stages else None
        if match is None:
            raise Refused(404)
        return Found(api, stage, known[match.route_id], match, path)

    def _signer(self, scope: Scope, headers: Mapping[str, str], body: bytes, found: Found) -> Signer | None:
        """Return who signed a request for a route that wants to know; nobody learns why not."""
        if found.route["AuthorizationType"] == "NONE":
            return None
        signed = _SIGNED.match(headers.get("authorization", ""))
        if signed is None or signed[2] != self._site.region or signed[3] != "execute-api":
            raise Refused(403)
        path = f"{found.stage}/{scope['method']}/{unquote(found.path).removeprefix('/')}"
        try:
            caller, principal_id = self._calls.authenticate(scope, body)
            caller.require(Permission("execute-api:Invoke", self._arn(found.api, path)))
        except AwsError as error:
            logger.info("%s: %s", found.api.api_id, error.message)
            raise Refused(403) from None
        return Signer(signed[1], self._site.account_id, principal_id, caller.arn)

    async def _invoke(self, found: Found, told: dict[str, Any]) -> Answer:
        integration = found.api.integrations.get((found.route.get("Target") or "").removeprefix("integrations/"))
        if integration is None:
            raise Refused(500)
        source = self._arn(found.api, f"{found.stage}/{routes.source_path(found.route['RouteKey'])}")
        function = function_arn(integration["IntegrationUri"])
        work = asyncio.get_running_loop().run_in_executor(
            self._pool, self._calls.invoke, SERVICE, function, told, source
        )
        try:
            # The function goes on when its time here is over, as on AWS.
            result, failed = await asyncio.wait_for(asyncio.shield(work), integration["TimeoutInMillis"] / 1000)
        except TimeoutError:
            work.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise Refused(503) from None
        except AwsError as error:
            logger.warning("%s was not invoked for %s: %s", function, source, error.message)
            raise Refused(500) from None
        with contextlib.suppress(BadAnswer):
            if not failed:
                return answer(result)
        raise Refused(500)

    def _arn(self, api: Api, path: str) -> str:
        return self._site.arn("execute-api", f"{api.api_id}/{path}")


def _refuse_pages(headers: Mapping[str, str]) -> None:
    """Refuse what a page of another site asks for: a route without authorization is open to this machine only."""
    if "origin" in headers or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Refused(403)


async def _body(receive: Receive) -> bytes:
    try:
        return await read_body(receive, MOST_BODY)
    except AwsError as error:
        raise Refused(error.status) if error.status == 413 else error from None

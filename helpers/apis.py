"""HTTP APIs of API Gateway: make one with a route to a function, and call it, signed or not."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

SERVICE = "execute-api"  # that requests for an API are signed for
STAGE = "$default"  # the stage that is not in the path
TIMEOUT_SECONDS = 35  # an API answers after 30 at the latest
# What a new API, or a permission that has not spread, may answer for some seconds; and 429 and 503, where more calls
# come at once than functions may run: ten in a new account.
NOT_READY = (403, 404, 429, 500, 503)


@dataclass(frozen=True)
class Api:
    """An HTTP API that exists now: its id, its address, and whether this call made it."""

    name: str
    api_id: str = field(repr=False)
    endpoint: str = field(repr=False)
    created: bool

    def __str__(self) -> str:
        return f"{self.name}: {'created' if self.created else 'found, brought up to date'}"


class Answer(NamedTuple):
    """What an API answered: the HTTP status, and the body read as JSON (as text, where it is none)."""

    status: int
    document: Any


def find_api(client: Any, name: str) -> Mapping[str, Any] | None:
    """Return the HTTP API of this name as GetApis shows it, or None. Of several of one name the oldest."""
    pages = client.get_paginator("get_apis").paginate()
    found = [api for page in pages for api in page["Items"] if api["Name"] == name and api["ProtocolType"] == "HTTP"]
    return min(found, key=lambda api: (api["CreatedDate"], api["ApiId"]), default=None)


def ensure_api(client: Any, name: str, *, route_key: str, function_arn: str, tags: Mapping[str, str]) -> Api:
    """Have an HTTP API whose route, such as ``POST /start``, hands signed requests to a function.

    ``client``: of apigatewayv2. An API that is there keeps its id and address. The function's
    resource policy has to let apigateway.amazonaws.com in: see ``source_arn``.
    """
    known = find_api(client, name)
    api = known or client.create_api(Name=name, ProtocolType="HTTP", Tags=dict(tags))
    api_id = api["ApiId"]
    target = f"integrations/{_ensure_integration(client, api_id, function_arn)}"
    _ensure_route(client, api_id, route_key, target)
    try:
        client.get_stage(ApiId=api_id, StageName=STAGE)
    except client.exceptions.NotFoundException:
        client.create_stage(ApiId=api_id, StageName=STAGE, AutoDeploy=True)
    return Api(name, api_id, api["ApiEndpoint"], created=known is None)


def delete_api(client: Any, name: str) -> bool:
    """Remove the HTTP API of this name with all that belongs to it. Returns whether there was one."""
    api = find_api(client, name)
    if api is None:
        return False
    client.delete_api(ApiId=api["ApiId"])
    return True


def source_arn(api_id: str, route_key: str, *, region: str, account_id: str) -> str:
    """Return the ARN with which an API invokes a function for one of its routes, in any stage."""
    return f"arn:aws:execute-api:{region}:{account_id}:{api_id}/*/{route_key.replace(' ', '')}"


def call(
    session: Any,
    url: str,
    document: Any,
    *,
    region: str,
    method: str = "POST",
    seconds: float = 0,
    sleep: Callable[[float], None] = time.sleep,
) -> Answer:
    """Send ``document`` as JSON, signed with the credentials of a boto3 session, and return the answer.

    ``seconds``: how long to try again while the answer is one of NOT_READY.
    """

    def once() -> Answer:
        request = _request(method, url, document)
        SigV4Auth(session.get_credentials(), SERVICE, region).add_auth(request)
        return _send(request)

    for pause in _pauses(seconds):
        answer = once()
        if answer.status not in NOT_READY:
            return answer
        sleep(pause)
    return once()


def call_unsigned(url: str, document: Any, *, method: str = "POST") -> Answer:
    """Send ``document`` as JSON as anybody could, without credentials, and return the answer."""
    return _send(_request(method, url, document))


def _ensure_integration(client: Any, api_id: str, function_arn: str) -> str:
    for page in client.get_paginator("get_integrations").paginate(ApiId=api_id):
        for integration in page["Items"]:
            if integration["IntegrationUri"] == function_arn:
                return integration["IntegrationId"]
    made = client.create_integration(
        ApiId=api_id, IntegrationType="AWS_PROXY", IntegrationUri=function_arn, PayloadFormatVersion="2.0"
    )
    return made["IntegrationId"]


def _ensure_route(client: Any, api_id: str, route_key: str, target: str) -> None:
    settings = {"ApiId": api_id, "AuthorizationType": "AWS_IAM", "Target": target}
    for page in client.get_paginator("get_routes").paginate(ApiId=api_id):
        for route in page["Items"]:
            if route["RouteKey"] == route_key:
                client.update_route(RouteId=route["RouteId"], **settings)
                return
    client.create_route(RouteKey=route_key, **settings)


def _request(method: str, url: str, document: Any) -> AWSRequest:
    return AWSRequest(method, url, headers={"content-type": "application/json"}, data=json.dumps(document).encode())


def _send(request: AWSRequest) -> Answer:
    web = URLLib3Session(proxies=get_environ_proxies(request.url), timeout=TIMEOUT_SECONDS)
    try:
        answer = web.send(request.prepare())
        text = answer.text
    finally:
        web.close()
    try:
        return Answer(answer.status_code, json.loads(text))
    except ValueError:
        return Answer(answer.status_code, text)


def _pauses(seconds: float) -> Iterator[float]:
    pause = 0.5
    while seconds > 0:
        yield min(pause, seconds)
        seconds -= pause
        pause = min(pause * 2, 5)

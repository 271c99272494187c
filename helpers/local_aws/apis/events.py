"""What an HTTP API tells a function of a request, and what it makes of the answer: payload format 2.0."""

import base64
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

_TEXT = re.compile(r"(text/.*|application/(json|javascript|xml))(;.*)?", re.I | re.S)
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# Of a function's headers those that are the server's to say, and of a request's those that could be used again.
_OWN = {"connection", "content-length", "date", "keep-alive", "server", "trailer", "transfer-encoding", "upgrade"}
_SECRET = {"authorization", "x-amz-security-token"}


class BadAnswer(Exception):
    """A function's result that is no answer to a request."""


@dataclass(frozen=True)
class Signer:
    """Who signed a request, as the event shows it: ``principal_id`` is such as AROA…:session."""

    access_key: str
    account_id: str
    principal_id: str
    arn: str


@dataclass(frozen=True)
class Request:
    """A request for an API. ``path`` is as it was sent, decoded, with the stage; headers are pairs in lower case."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    source_ip: str
    protocol: str = "HTTP/1.1"


@dataclass(frozen=True)
class Target:
    """Where a request goes: API, stage and route, and the values of the path's variables."""

    api_id: str
    stage: str
    route_key: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


def event(
    request: Request, target: Target, *, account_id: str, request_id: str, signer: Signer | None = None
) -> dict[str, Any]:
    """Return the event that the function gets."""
    headers = _joined(request.headers)
    cookies = [cookie.strip() for cookie in headers.pop("cookie", "").split(";") if cookie.strip()]
    text, encoded = _body(request.body, headers)
    now = time.time()
    return {
        "version": "2.0",
        "routeKey": target.route_key,
        "rawPath": request.path,
        "rawQueryString": request.query,
        **({"cookies": cookies} if cookies else {}),
        "headers": {name: value for name, value in headers.items() if name not in _SECRET},
        **({"queryStringParameters": _joined(parse_qsl(request.query, True))} if request.query else {}),
        "requestContext": {
            "accountId": account_id,
            "apiId": target.api_id,
            **({"authorizer": {"iam": _iam(signer)}} if signer else {}),
            "domainName": headers.get("host", ""),
            "domainPrefix": target.api_id,
            "http": {
                "method": request.method,
                "path": request.path,
                "protocol": request.protocol,
                "sourceIp": request.source_ip,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": request_id,
            "routeKey": target.route_key,
            "stage": target.stage,
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "timeEpoch": int(now * 1000),
        },
        **({"pathParameters": dict(target.parameters)} if target.parameters else {}),
        **({"body": text} if request.body else {}),
        "isBase64Encoded": encoded,
    }


def answer(result: Any) -> Answer:
    """Return the answer that a function's result (JSON) stands for. Raises BadAnswer.

    With a ``statusCode`` it is the answer itself; without, it becomes the body of a 200.
    """
    if not isinstance(result, dict) or "statusCode" not in result:
        body = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
        return Answer(200, [("content-type", "application/json")], _bytes(body))
    status = str(result["statusCode"])
    if not re.fullmatch("[1-5][0-9][0-9]", status) or status < "200":
        raise BadAnswer(f"statusCode {status:.20}")
    headers = [pair for pair in _headers(result.get("headers") or {}) if pair[0] not in _OWN]
    cookies = result.get("cookies") or []
    if not isinstance(cookies, list):
        raise BadAnswer("cookies are not a list")
    headers += _headers_of([("set-cookie", cookie) for cookie in cookies])
    if not any(name == "content-type" for name, _ in headers):
        headers.append(("content-type", "text/plain;charset=UTF-8"))
    return Answer(int(status), headers, _answered(result))


def _answered(result: Mapping[str, Any]) -> bytes:
    body = result.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise BadAnswer(f"the body is a {type(body).__name__}, not a text")
    if not result.get("isBase64Encoded"):
        return _bytes(body)
    try:
        return base64.b64decode(body, validate=True)
    except ValueError as error:
        raise BadAnswer("the body is not base64") from error


def _bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise BadAnswer("the body holds half a character") from error


def _headers(given: Any) -> list[tuple[str, str]]:
    if not isinstance(given, dict):
        raise BadAnswer("headers are not an object")
    return _headers_of(list(given.items()))


def _headers_of(pairs: Sequence[tuple[str, Any]]) -> list[tuple[str, str]]:
    found = []
    for name, value in pairs:
        text = json.dumps(value) if isinstance(value, (bool, int, float)) else value
        if not isinstance(text, str) or not _VALUE.fullmatch(text) or not _NAME.fullmatch(name):
            raise BadAnswer(f"the header {name:.50}")
        found.append((name.lower(), text))
    return found


def _joined(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return pairs as an object; those of the same name become one, joined with commas."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: (";" if name == "cookie" else ",").join(values) for name, values in found.items()}


def _body(body: bytes, headers: Mapping[str, str]) -> tuple[str, bool]:
    """Return a body as text, or in base64 where its headers do not say that it is text; and which of the two."""
    if not body:
        return "", False
    if "content-encoding" not in headers and _TEXT.fullmatch(headers.get("content-type", "")):
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass  # it is not what it says it is
    return base64.b64encode(body).decode(), True


def _iam(signer: Signer) -> dict[str, Any]:
    return {
        "accessKey": signer.access_key,
        "accountId": signer.account_id,
        "callerId": signer.principal_id,
        "cognitoIdentity": None,
        "principalOrgId": None,
        "userArn": signer.arn,
        "userId": signer.principal_id,
    }

"""The helper for HTTP APIs: what it makes, and what it sends."""

import json
from typing import Any

import boto3
import pytest
from answers import Aws, refuse
from botocore.httpsession import URLLib3Session

from helpers import apis

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:start"
ROUTE = "POST /start"
KNOWN = {
    "ApiId": "a1", "ApiEndpoint": "https://a1.example.org", "Name": "demo", "ProtocolType": "HTTP", "CreatedDate": 0,
    "RouteSelectionExpression": "x",
}  # fmt: skip


def account(*known: dict[str, Any], **changes: Any) -> Aws:
    answers = {
        "GetApis": {"Items": list(known)},
        "CreateApi": KNOWN,
        "GetIntegrations": {"Items": []},
        "CreateIntegration": {"IntegrationId": "i1"},
        "GetRoutes": {"Items": []},
        "CreateRoute": {},
        "GetStage": refuse("NotFoundException", status=404),
        "CreateStage": {},
        **changes,
    }
    return Aws({f"apigatewayv2:{name}": answer for name, answer in answers.items()})


def ensure(aws: Aws) -> apis.Api:
    client = aws.client("apigatewayv2")
    return apis.ensure_api(client, "demo", route_key=ROUTE, function_arn=FUNCTION, tags={"workshop": "demo"})


def test_an_api_is_made_with_a_signed_route() -> None:
    aws = account()
    assert ensure(aws) == apis.Api("demo", "a1", "https://a1.example.org", created=True)
    assert aws.asked("apigatewayv2:CreateApi") == [
        {"Name": "demo", "ProtocolType": "HTTP", "Tags": {"workshop": "demo"}}
    ]
    (route,) = aws.asked("apigatewayv2:CreateRoute")
    assert route == {"ApiId": "a1", "RouteKey": ROUTE, "AuthorizationType": "AWS_IAM", "Target": "integrations/i1"}
    assert aws.asked("apigatewayv2:CreateStage") == [{"ApiId": "a1", "StageName": "$default", "AutoDeploy": True}]


def test_an_api_that_is_there_is_brought_up_to_date() -> None:
    other = {**KNOWN, "ApiId": "a0", "Name": "other"}
    aws = account(
        other,
        KNOWN,
        GetIntegrations={"Items": [{"IntegrationId": "i0", "IntegrationUri": FUNCTION}]},
        GetRoutes={"Items": [{"RouteId": "r1", "RouteKey": ROUTE}]},
        UpdateRoute={},
        GetStage={"StageName": "$default"},
    )
    assert not ensure(aws).created
    assert not any(name.rpartition(":")[2].startswith("Create") for name in aws.names())
    (route,) = aws.asked("apigatewayv2:UpdateRoute")
    assert (route["RouteId"], route["AuthorizationType"], route["Target"]) == ("r1", "AWS_IAM", "integrations/i0")


def test_deleting_tolerates_absence() -> None:
    aws = account(DeleteApi={})
    assert not apis.delete_api(aws.client("apigatewayv2"), "demo")
    aws = account(KNOWN, DeleteApi={})
    assert apis.delete_api(aws.client("apigatewayv2"), "demo")
    assert aws.asked("apigatewayv2:DeleteApi") == [{"ApiId": "a1"}]


def test_the_source_of_an_invocation() -> None:
    found = apis.source_arn("a1", ROUTE, region="us-east-1", account_id="123456789012")
    assert found == "arn:aws:execute-api:us-east-1:123456789012:a1/*/POST/start"


class _Answered:
    def __init__(self, status_code: int, text: str) -> None:
        self.status_code, self.text = status_code, text


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests that were sent, answered with 403 once, then with 202."""
    requests: list[Any] = []

    def send(self: URLLib3Session, request: Any) -> _Answered:
        requests.append(request)
        return _Answered(403, '{"message":"Forbidden"}') if len(requests) == 1 else _Answered(202, "no JSON")

    monkeypatch.setattr(URLLib3Session, "send", send)
    return requests


SESSION = boto3.session.Session("AKIAEXAMPLE", "secret", "token")


def test_a_call_is_signed_for_execute_api(sent: list[Any]) -> None:
    answer = apis.call(SESSION, "https://a1.example.org/start", {"key": "k"}, region="eu-west-1")
    assert answer == (403, {"message": "Forbidden"})
    (request,) = sent
    assert (request.method, request.url, json.loads(request.body)) == (
        "POST",
        "https://a1.example.org/start",
        {"key": "k"},
    )
    signature = request.headers["Authorization"]
    signature = signature.decode() if isinstance(signature, bytes) else signature
    assert "/eu-west-1/execute-api/aws4_request" in signature
    assert "X-Amz-Security-Token" in request.headers


def test_a_new_api_is_given_time(sent: list[Any]) -> None:
    slept: list[float] = []
    answer = apis.call(SESSION, "https://a1.example.org/start", {}, region="eu-west-1", seconds=60, sleep=slept.append)
    assert answer == (202, "no JSON")
    assert slept == [0.5]


def test_an_unsigned_call_says_nothing_of_its_caller(sent: list[Any]) -> None:
    assert apis.call_unsigned("https://a1.example.org/start", {}).status == 403
    assert not {"Authorization", "X-Amz-Security-Token"} & set(sent[0].headers)

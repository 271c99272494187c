"""HTTP APIs of API Gateway: settings, signed and unsigned requests, what functions are told and what they answer."""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from clients import ACCOUNT, REGION, Answer, allow, arn, eventually, function_settings, refused, send, signed

from helpers import apis

SOURCE = """
import boto3, json, time

def handler(event, context):
    asked = json.loads(event["body"]) if event.get("body") and not event["isBase64Encoded"] else {}
    if "raise" in asked:
        raise ValueError(asked["raise"])
    time.sleep(asked.get("sleep", 0))
    if "bucket" in asked:
        s3 = boto3.client("s3")
        s3.put_object(Bucket=asked["bucket"], Key="begun")
        while not s3.list_objects_v2(Bucket=asked["bucket"], Prefix="go on")["KeyCount"]:
            time.sleep(0.1)
    return asked["answer"] if "answer" in asked else {"statusCode": 200, "body": json.dumps(event)}
"""
JSON = {"content-type": "application/json"}


class Web:
    """An API with a function behind it, and ways to call it."""

    def __init__(self, embedded: Any) -> None:
        self.embedded = embedded
        self.api, self.functions = embedded.client("apigatewayv2"), embedded.client("lambda")
        self.name = f"api-{uuid.uuid4().hex[:8]}"
        role = embedded.make_role([allow("logs:* s3:*")], service="lambda.amazonaws.com")
        made = self.functions.create_function(**function_settings(self.name, role, SOURCE, Timeout=60))
        self.function = made["FunctionArn"]
        self.api_id = self.api.create_api(Name=self.name, ProtocolType="HTTP")["ApiId"]
        self.path = f"/_execute-api/{self.api_id}"
        self.integration = self.integrate()
        for key, kind in (("POST /start", "AWS_IAM"), ("GET /open/{id}", "NONE"), ("POST /open", "NONE")):
            self.route(key, kind)
        self.api.create_stage(ApiId=self.api_id, StageName="$default", AutoDeploy=True)
        self.let("*/*/*")

    def integrate(self, **more: Any) -> str:
        settings = {"IntegrationType": "AWS_PROXY", "IntegrationUri": self.function, "PayloadFormatVersion": "2.0"}
        return self.api.create_integration(ApiId=self.api_id, **settings, **more)["IntegrationId"]

    def route(self, key: str, kind: str, integration: str = "") -> str:
        target = f"integrations/{integration or self.integration}"
        made = self.api.create_route(ApiId=self.api_id, RouteKey=key, AuthorizationType=kind, Target=target)
        return made["RouteId"]

    def let(self, path: str, **more: str) -> str:
        """Let the API invoke the function for what fits ``path``. Returns the statement's id."""
        statement = uuid.uuid4().hex
        self.functions.add_permission(
            FunctionName=self.name,
            StatementId=statement,
            Action="lambda:InvokeFunction",
            Principal="apigateway.amazonaws.com",
            SourceArn=arn("execute-api", f"{self.api_id}/{path}"),
            **more,
        )
        return statement

    def send(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        """Send a request without a signature."""
        host = {"Host": urlsplit(self.embedded.endpoint_url).netloc}
        return send(self.embedded, method, self.path + path, {**host, **(headers or {})}, body)

    def send_signed(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        key: tuple[str, ...] | None = None,
        service: str = "execute-api",
    ) -> Answer:
        headers = signed(self.embedded, method, self.path + path, service=service, key=key, headers=JSON, body=body)
        return send(self.embedded, method, self.path + path, headers, body)

    def ask(self, answer: Any) -> Answer:
        """Have the function give this answer."""
        return self.send("POST", "/open", json.dumps({"answer": answer}).encode(), JSON)

    def principal(self, *statements: dict[str, Any]) -> tuple[str, ...]:
        """Return the key of a new principal."""
        made = self.embedded.variables_of(list(statements))
        return made["AWS_ACCESS_KEY_ID"], made["AWS_SECRET_ACCESS_KEY"], made["AWS_SESSION_TOKEN"]


@pytest.fixture(scope="module")
def web(embedded: Any) -> Web:
    return Web(embedded)


@pytest.fixture
def kept(web: Web) -> Iterator[list[str]]:
    """Routes that a test makes, removed at its end."""
    made: list[str] = []
    yield made
    for route in made:
        web.api.delete_route(ApiId=web.api_id, RouteId=route)


def test_a_signed_request_reaches_the_function(web: Web) -> None:
    key = web.principal(allow("execute-api:Invoke", arn("execute-api", f"{web.api_id}/$default/POST/start")))
    answer = web.send_signed("POST", "/start?a=1&a=2&b=%20x", b'{"n": 1}', key=key)
    assert answer.status == 200
    event = json.loads(answer.body)
    context = event["requestContext"]
    assert (event["version"], event["routeKey"], event["rawPath"]) == ("2.0", "POST /start", "/start")
    assert event["rawQueryString"] == "a=1&a=2&b=%20x"
    assert event["queryStringParameters"] == {"a": "1,2", "b": " x"}
    assert (event["body"], event["isBase64Encoded"]) == ('{"n": 1}', False)
    assert event["headers"]["content-type"] == "application/json"
    assert not {"authorization", "x-amz-security-token"} & event["headers"].keys()
    assert context["http"] | {"userAgent": ""} == {
        "method": "POST", "path": "/start", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": ""
    }  # fmt: skip
    assert (context["accountId"], context["apiId"], context["stage"]) == (ACCOUNT, web.api_id, "$default")
    who = context["authorizer"]["iam"]
    assert who["accessKey"] == key[0]
    assert who["userArn"].startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/test-")
    assert who["callerId"] == who["userId"]
    assert who["callerId"].endswith(":test")


def test_who_may_not_is_told_nothing(web: Web) -> None:
    good = allow("execute-api:Invoke", arn("execute-api", f"{web.api_id}/$default/POST/start"))
    other = allow("execute-api:Invoke", arn("execute-api", f"{web.api_id}/$default/GET/*"), arn("execute-api", "x/*"))
    key = web.principal(good)
    answers = [
        web.send("POST", "/start", b"{}"),
        web.send_signed("POST", "/start", b"{}", key=web.principal(other)),
        web.send_signed("POST", "/start", b"{}", key=(key[0], "wrong", key[2])),
        web.send_signed("POST", "/start", b"{}", key=key[:2]),
        web.send_signed("POST", "/start", b"{}", key=key, service="lambda"),
        web.send("POST", "/start", b"{}", {"Authorization": "AWS4-HMAC-SHA256 nonsense"}),
    ]
    headers = signed(web.embedded, "POST", f"{web.path}/start", service="execute-api", key=key, body=b"{}")
    answers.append(send(web.embedded, "POST", f"{web.path}/start", headers, b'{"changed": 1}'))
    assert [(each.status, each.body) for each in answers] == [(403, '{"message": "Forbidden"}')] * len(answers)
    assert web.send_signed("POST", "/start", b"{}", key=key).status == 200


def test_helpers_call_an_api(web: Web) -> None:
    variables = web.embedded.environment()
    session = boto3.session.Session(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"])
    url = f"{web.api.get_api(ApiId=web.api_id)['ApiEndpoint']}/start"
    done = apis.call(session, url, {"answer": {"statusCode": 202, "body": '{"x": 1}'}}, region=REGION)
    assert done == (202, {"x": 1})
    assert apis.call_unsigned(url, {}) == (403, {"message": "Forbidden"})


def test_an_open_route_needs_no_signature(web: Web) -> None:
    event = json.loads(web.send("GET", "/open/a%20b?q", headers={"Cookie": "a=1; b=2", "X-More": "é"}).body)
    assert event["pathParameters"] == {"id": "a b"}
    assert event["cookies"] == ["a=1", "b=2"]
    assert event["rawPath"] == "/open/a b"
    assert event["queryStringParameters"] == {"q": ""}
    assert "body" not in event
    assert "authorizer" not in event["requestContext"]


def test_a_body_that_is_no_text_travels_in_base64(web: Web) -> None:
    event = json.loads(web.send("POST", "/open", b"\xff\x00", {"content-type": "application/octet-stream"}).body)
    assert (event["body"], event["isBase64Encoded"]) == ("/wA=", True)


def test_pages_of_other_sites_are_refused(web: Web) -> None:
    for headers in ({"Origin": "https://example.org"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "example.org"}):
        assert web.send("POST", "/open", b"{}", headers).status == 403


@pytest.mark.parametrize(("method", "path"), [("GET", "/start"), ("POST", "/"), ("POST", "/start/"), ("GET", "/open")])
def test_what_no_route_fits_is_not_found(web: Web, method: str, path: str) -> None:
    answer = web.send(method, path)
    assert (answer.status, answer.body) == (404, '{"message": "Not Found"}')


def test_an_unknown_api_is_nobodys(web: Web) -> None:
    assert send(web.embedded, "GET", "/_execute-api/nobody/x", web_host(web)).status == 403


def web_host(web: Web) -> dict[str, str]:
    return {"Host": urlsplit(web.embedded.endpoint_url).netloc}


def test_a_named_stage_stands_in_the_path(web: Web) -> None:
    web.api.create_stage(ApiId=web.api_id, StageName="test", AutoDeploy=True)
    event = json.loads(web.send("GET", "/test/open/7").body)
    assert (event["rawPath"], event["requestContext"]["stage"]) == ("/test/open/7", "test")
    web.api.delete_stage(ApiId=web.api_id, StageName="test")
    assert web.send("GET", "/test/open/7").status == 404


def test_answers_of_functions(web: Web) -> None:
    full = web.ask({"statusCode": 201, "headers": {"X-Number": 7, "content-type": "text/x"}, "cookies": ["a=1"],
                    "body": "aGk=", "isBase64Encoded": True})  # fmt: skip
    assert (full.status, full.body) == (201, "hi")
    assert (full.headers["x-number"], full.headers["content-type"], full.headers["set-cookie"]) == (
        "7",
        "text/x",
        "a=1",
    )
    inferred = web.ask({"done": True})
    assert (inferred.status, inferred.body, inferred.headers["content-type"]) == (
        200,
        '{"done": true}',
        "application/json",
    )
    assert web.ask("plain").body == "plain"
    assert web.ask({"statusCode": 204}).status == 204


@pytest.mark.parametrize(
    "answer",
    [
        {"statusCode": "none"},
        {"statusCode": 99},
        {"statusCode": 200, "body": {"not": "text"}},
        {"statusCode": 200, "headers": {"x": "a\r\nb: c"}},
        {"statusCode": 200, "headers": ["x"]},
        {"statusCode": 200, "body": "%", "isBase64Encoded": True},
    ],
)
def test_an_answer_that_is_none_is_an_error(web: Web, answer: Any) -> None:
    got = web.ask(answer)
    assert (got.status, got.body) == (500, '{"message": "Internal Server Error"}')


def test_a_function_that_fails_is_an_error_without_details(web: Web) -> None:
    got = web.send("POST", "/open", b'{"raise": "secret"}', JSON)
    assert (got.status, got.body) == (500, '{"message": "Internal Server Error"}')


def test_a_function_that_takes_too_long(web: Web, kept: list[str]) -> None:
    integration = web.integrate(TimeoutInMillis=200)
    kept.append(web.route("POST /slow", "NONE", integration))
    got = web.send("POST", "/slow", b'{"sleep": 50}', JSON)
    assert (got.status, got.body) == (503, '{"message": "Service Unavailable"}')


def test_a_large_body_is_refused(web: Web) -> None:
    got = web.send("POST", "/open", b"x" * (10 * 2**20 + 1))
    assert (got.status, got.body) == (413, '{"message": "Request Entity Too Large"}')


def test_the_functions_policy_must_let_the_api_in(embedded: Any) -> None:
    web = Web(embedded)
    policy = json.loads(web.functions.get_policy(FunctionName=web.name)["Policy"])
    web.functions.remove_permission(FunctionName=web.name, StatementId=policy["Statement"][0]["Sid"])
    assert web.ask("x").status == 500
    web.let("*/GET/open/{id}")
    assert web.ask("x").status == 500
    assert web.send("GET", "/open/7").status == 200
    web.let("$default/POST/open", SourceAccount=ACCOUNT)
    assert web.ask("x").status == 500, "API Gateway does not name its account"
    web.let("$default/POST/open")
    assert web.ask("x").body == "x"


def test_twenty_requests_at_once(web: Web) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda number: web.ask({"n": number}).body, range(20)))
    assert answers == [f'{{"n": {number}}}' for number in range(20)]


def test_the_most_specific_route_takes_a_request(web: Web, kept: list[str]) -> None:
    for key in ("GET /pets/{id}", "GET /pets/dog", "ANY /pets/{rest+}", "$default"):
        kept.append(web.route(key, "NONE"))
    web.let("*/$default")
    sent = ["GET /pets/dog", "GET /pets/7", "PUT /pets/7", "GET /pets/7/name", "GET /else"]
    taken = [json.loads(web.send(*each.split()).body)["routeKey"] for each in sent]
    assert taken == ["GET /pets/dog", "GET /pets/{id}", "ANY /pets/{rest+}", "ANY /pets/{rest+}", "$default"]


def test_settings_and_their_errors(web: Web) -> None:
    api, api_id = web.api, web.api_id
    found = api.get_api(ApiId=api_id)
    assert found["ApiEndpoint"] == f"{web.embedded.endpoint_url}/_execute-api/{api_id}"
    assert api.update_api(ApiId=api_id, Description="for tests")["Description"] == "for tests"
    assert api_id in [each["ApiId"] for page in api.get_paginator("get_apis").paginate() for each in page["Items"]]
    assert {each["RouteKey"] for each in api.get_routes(ApiId=api_id)["Items"]} >= {"POST /start"}
    known = api.get_integration(ApiId=api_id, IntegrationId=web.integration)
    assert (known["IntegrationUri"], known["TimeoutInMillis"]) == (web.function, 30_000)

    assert refused(lambda: web.route("POST /start", "NONE"))[0] == "ConflictException"
    assert (
        refused(lambda: api.create_stage(ApiId=api_id, StageName="$default", AutoDeploy=True))[0] == "ConflictException"
    )
    assert (
        refused(lambda: api.delete_integration(ApiId=api_id, IntegrationId=web.integration))[0] == "ConflictException"
    )
    assert refused(lambda: web.route("POST start", "NONE"))[0] == "BadRequestException"
    assert refused(lambda: web.route("POST /x", "NONE", "nobody"))[0] == "BadRequestException"
    assert refused(lambda: api.get_route(ApiId=api_id, RouteId="nobody"))[0] == "NotFoundException"
    assert refused(lambda: api.delete_api(ApiId="nobody"))[0] == "NotFoundException"
    assert refused(lambda: web.integrate(TimeoutInMillis=30_001))[0] == "BadRequestException"


@pytest.mark.parametrize(
    ("operation", "settings", "named"),
    [
        ("create_api", {"Name": "x", "ProtocolType": "WEBSOCKET"}, "WEBSOCKET"),
        ("create_api", {"Name": "x", "ProtocolType": "HTTP", "CorsConfiguration": {}}, "CorsConfiguration"),
        ("create_api", {"Name": "x", "ProtocolType": "HTTP", "DisableExecuteApiEndpoint": True}, "DisableExecute"),
        ("create_api", {"Name": "x", "ProtocolType": "HTTP", "Target": "arn"}, "Target"),
        ("create_stage", {"StageName": "x"}, "AutoDeploy"),
        ("create_stage", {"StageName": "x", "AutoDeploy": True, "StageVariables": {"a": "b"}}, "StageVariables"),
        ("create_route", {"RouteKey": "GET /x", "AuthorizationType": "JWT"}, "JWT"),
        ("create_integration", {"IntegrationType": "HTTP_PROXY"}, "HTTP_PROXY"),
        ("create_integration", {"IntegrationType": "AWS_PROXY", "PayloadFormatVersion": "1.0"}, "1.0"),
        ("create_deployment", {}, "CreateDeployment"),
        ("get_domain_names", {}, "GetDomainNames"),
    ],
)
def test_what_is_not_carried_out_is_refused_by_name(
    web: Web, operation: str, settings: dict[str, Any], named: str
) -> None:
    place = {} if operation in ("create_api", "get_domain_names") else {"ApiId": web.api_id}
    code, message = refused(lambda: getattr(web.api, operation)(**place, **settings))
    assert code == "NotImplemented"
    assert named in message


def test_tags(web: Web) -> None:
    made = web.api.create_api(Name=f"{web.name}-tags", ProtocolType="HTTP", Tags={"workshop": "demo"})
    place = f"arn:aws:apigateway:{REGION}::/apis/{made['ApiId']}"
    web.api.tag_resource(ResourceArn=place, Tags={"more": "yes"})
    web.api.untag_resource(ResourceArn=place, TagKeys=["workshop"])
    assert web.api.get_tags(ResourceArn=place)["Tags"] == {"more": "yes"}
    web.api.create_stage(ApiId=made["ApiId"], StageName="$default", AutoDeploy=True, Tags={"of": "stage"})
    assert web.api.get_tags(ResourceArn=f"{place}/stages/$default")["Tags"] == {"of": "stage"}
    web.api.delete_api(ApiId=made["ApiId"])
    assert refused(lambda: web.api.get_tags(ResourceArn=place))[0] == "NotFoundException"


def test_permissions_are_asked_by_method_and_path(web: Web) -> None:
    place, api_id = f"arn:aws:apigateway:{REGION}::", web.api_id
    request = {"condition": {"StringEquals": {"apigateway:Request/RouteAuthorizationType": "AWS_IAM"}}}
    variables = web.embedded.variables_of(
        [
            allow("apigateway:GET", f"{place}/apis/{api_id}"),
            allow("apigateway:POST", f"{place}/apis/*/routes", **request),
            allow("apigateway:POST", f"{place}/apis", f"{place}/apis/{api_id}/stages"),
        ]
    )
    api = web.embedded.client("apigatewayv2", variables)
    assert api.get_api(ApiId=api_id)["Name"] == web.name
    code, message = refused(lambda: api.get_apis())
    assert (code, f"apigateway:GET on resource: {place}/apis" in message) == ("AccessDeniedException", True)
    assert refused(lambda: api.delete_api(ApiId=api_id))[0] == "AccessDeniedException"
    open_route = {"ApiId": api_id, "RouteKey": "GET /mine", "AuthorizationType": "NONE"}
    assert refused(lambda: api.create_route(**open_route))[0] == "AccessDeniedException"
    made = api.create_route(**{**open_route, "AuthorizationType": "AWS_IAM"})
    web.api.delete_route(ApiId=api_id, RouteId=made["RouteId"])
    code, message = refused(lambda: api.create_api(Name="mine", ProtocolType="HTTP", Tags={"a": "b"}))
    assert (code, "/tags/" in message) == ("AccessDeniedException", True)
    stage = {"ApiId": api_id, "StageName": "mine", "AutoDeploy": True}
    assert "apigateway:TagResource" in refused(lambda: api.create_stage(**stage, Tags={"a": "b"}))[1]


def test_ensure_api_converges(web: Web) -> None:
    settings = {"route_key": "POST /start", "function_arn": web.function, "tags": {"workshop": "demo"}}
    first, again = (apis.ensure_api(web.api, f"{web.name}-ensured", **settings) for _ in range(2))
    assert (first.created, again.created, first.endpoint) == (True, False, again.endpoint)
    assert len(web.api.get_routes(ApiId=first.api_id)["Items"]) == 1
    assert len(web.api.get_integrations(ApiId=first.api_id)["Items"]) == 1
    assert apis.delete_api(web.api, first.name)
    assert not apis.delete_api(web.api, first.name)


def test_a_slow_function_keeps_nobody_waiting(web: Web) -> None:
    s3 = web.embedded.client("s3")
    s3.create_bucket(Bucket=web.name)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(web.send, "POST", "/open", json.dumps({"bucket": web.name}).encode(), JSON)
        eventually(lambda: s3.list_objects_v2(Bucket=web.name)["KeyCount"])
        assert web.ask("quick").body == "quick"
        assert not slow.done()
        s3.put_object(Bucket=web.name, Key="go on")
        assert slow.result().status == 200

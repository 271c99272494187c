"""The settings of HTTP APIs: what survives a stop, what is asked of IAM, pages."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from helpers.local_aws.apis.service import Apis, function_arn
from helpers.local_aws.wire import AwsError, Caller, Permission, Site

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:start"


def service(folder: Path) -> Apis:
    return Apis(Site(folder, "http://127.0.0.1:1", "us-east-1", "123456789012"), lambda api: f"http://here/{api}")


def caller(asked: list[Permission] | None = None) -> Caller:
    return Caller("arn:aws:iam::123456789012:user/u", (asked if asked is not None else []).append)


def make(apis: Apis, **more: Any) -> str:
    return apis.call("CreateApi", {"Name": "demo", "ProtocolType": "HTTP", **more}, caller())["ApiId"]


def test_everything_is_there_after_a_stop(tmp_path: Path) -> None:
    apis = service(tmp_path)
    api_id = make(apis, Tags={"workshop": "demo"}, Description="d")
    place = {"ApiId": api_id}
    settings = {"IntegrationType": "AWS_PROXY", "IntegrationUri": FUNCTION, "PayloadFormatVersion": "2.0"}
    integration = apis.call("CreateIntegration", {**place, **settings}, caller())["IntegrationId"]
    route = {
        **place,
        "RouteKey": "POST /start",
        "AuthorizationType": "AWS_IAM",
        "Target": f"integrations/{integration}",
    }
    apis.call("CreateRoute", route, caller())
    apis.call("CreateStage", {**place, "StageName": "$default", "AutoDeploy": True}, caller())
    gone = make(apis)
    apis.call("DeleteApi", {"ApiId": gone}, caller())

    again = service(tmp_path)
    for operation in ("GetApi", "GetIntegrations", "GetRoutes", "GetStages"):
        assert again.call(operation, place, caller()) == apis.call(operation, place, caller())
    assert [each["ApiId"] for each in again.call("GetApis", {}, caller())["Items"]] == [api_id]


def test_pages(tmp_path: Path) -> None:
    apis = service(tmp_path)
    made = [make(apis) for _ in range(5)]
    found, params = [], {"MaxResults": "2"}
    while True:
        page = apis.call("GetApis", params, caller())
        found += [each["ApiId"] for each in page["Items"]]
        assert len(page["Items"]) <= 2
        if "NextToken" not in page:
            break
        params = {**params, "NextToken": page["NextToken"]}
    assert sorted(found) == sorted(made)
    for wrong in ({"MaxResults": "0"}, {"MaxResults": "x"}, {"NextToken": "?"}):
        with pytest.raises(AwsError, match="BadRequestException"):
            apis.call("GetApis", wrong, caller())


@pytest.mark.parametrize(
    ("operation", "params", "asked"),
    [
        ("GetApis", {}, [("GET", "/apis")]),
        ("GetRoute", {"RouteId": "r"}, [("GET", "/apis/{api}/routes/r")]),
        ("DeleteStage", {"StageName": "$default"}, [("DELETE", "/apis/{api}/stages/$default")]),
        ("UpdateApi", {"Description": "x"}, [("PATCH", "/apis/{api}")]),
        ("CreateStage", {"StageName": "x", "AutoDeploy": True, "Tags": {"a": "b"}},
         [("POST", "/apis/{api}/stages"), ("TagResource", "/apis/{api}/stages")]),
        ("CreateApi", {"Name": "x", "ProtocolType": "HTTP", "Tags": {"a": "b"}},
         [("POST", "/apis"), ("POST", "/tags/arn%3Aaws%3Aapigateway%3Aus-east-1%3A%3A%2Fv2%2Fapis%2F*")]),
        ("GetTags", {"ResourceArn": "arn:aws:apigateway:us-east-1::/apis/{api}"},
         [("GET", "/tags/arn%3Aaws%3Aapigateway%3Aus-east-1%3A%3A%2Fapis%2F{api}")]),
    ],
)  # fmt: skip
def test_what_iam_is_asked(
    tmp_path: Path, operation: str, params: dict[str, Any], asked: list[tuple[str, str]]
) -> None:
    apis = service(tmp_path)
    api_id = make(apis)
    params = json.loads(json.dumps(params).replace("{api}", api_id))
    place = {} if operation in ("GetApis", "CreateApi", "GetTags") else {"ApiId": api_id}
    got: list[Permission] = []
    with contextlib.suppress(AwsError):  # IAM is asked before it is found out that something is not there
        apis.call(operation, {**place, **params}, caller(got))
    wanted = [(f"apigateway:{action}", f"arn:aws:apigateway:us-east-1::{path}") for action, path in asked]
    assert [(each.action, each.resource) for each in got] == [(a, r.replace("{api}", api_id)) for a, r in wanted]


def test_condition_keys(tmp_path: Path) -> None:
    apis, got = service(tmp_path), list[Permission]()
    api_id = make(apis, Tags={"workshop": "demo"})
    apis.call("CreateRoute", {"ApiId": api_id, "RouteKey": "GET /x"}, caller(got))
    assert got[0].context == {
        "apigateway:Request/RouteAuthorizationType": "NONE",
        "apigateway:Resource/ApiName": "demo",
        "aws:ResourceTag/workshop": "demo",
    }


@pytest.mark.parametrize(
    "uri",
    ["", "https://example.org", f"{FUNCTION}/x", "arn:aws:states:us-east-1:123456789012:stateMachine:x",
     FUNCTION.replace("us-east-1", "eu-west-1"), FUNCTION.replace("123456789012", "999999999999")],
)  # fmt: skip
def test_only_a_function_of_here_can_be_integrated(tmp_path: Path, uri: str) -> None:
    apis = service(tmp_path)
    settings = {"IntegrationType": "AWS_PROXY", "IntegrationUri": uri, "PayloadFormatVersion": "2.0"}
    with pytest.raises(AwsError, match="BadRequestException"):
        apis.call("CreateIntegration", {"ApiId": make(apis), **settings}, caller())


def test_a_function_is_named_by_its_arn_or_the_path_to_invoke_it() -> None:
    path = f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{FUNCTION}/invocations"
    assert function_arn(path) == function_arn(FUNCTION) == FUNCTION
    assert function_arn(f"{FUNCTION}:live") == f"{FUNCTION}:live"


def test_a_route_changes_only_what_is_said(tmp_path: Path) -> None:
    apis = service(tmp_path)
    api_id = make(apis)
    made = apis.call("CreateRoute", {"ApiId": api_id, "RouteKey": "GET /x", "AuthorizationType": "AWS_IAM"}, caller())
    apis.call("CreateRoute", {"ApiId": api_id, "RouteKey": "GET /y"}, caller())
    place = {"ApiId": api_id, "RouteId": made["RouteId"]}
    changed = apis.call("UpdateRoute", {**place, "RouteKey": "GET /z"}, caller())
    assert changed == {**made, "RouteKey": "GET /z"}
    with pytest.raises(AwsError, match="ConflictException"):
        apis.call("UpdateRoute", {**place, "RouteKey": "GET /y"}, caller())
    assert apis.call("GetRoute", place, caller()) == changed

"""The REST-JSON protocol, as boto3 speaks it to two services whose parameters travel in different places."""

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError

from helpers.local_aws.rest import RestService, find_operation
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Site

SESSION = boto3.Session("AKIAEXAMPLE", "secret", region_name="us-east-1")
WHEN = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
SITE = Site(Path("state"), "http://127.0.0.1:4566", "us-east-1", "123456789012")


class Apis(RestService):
    """A service that notes what it is asked."""

    name = "apigatewayv2"

    def __init__(self) -> None:
        super().__init__(SITE)
        self.seen: list[Params] = []

    def permissions(self, operation: str, params: Params) -> Sequence[Permission]:
        return [Permission(f"apigateway:{operation}")]

    def create_api(self, params: Params, caller: Caller) -> Params:
        self.seen.append(params)
        return {"ApiId": "a1", "Name": params["Name"], "CreatedDate": WHEN, "Description": None}

    def get_apis(self, params: Params, caller: Caller) -> Params:
        self.seen.append(params)
        return {"Items": [{"ApiId": "a1", "Tags": {"Some": "tag"}}]}

    def update_stage(self, params: Params, caller: Caller) -> Params:
        self.seen.append(params)
        return {"StageName": params["StageName"]}

    def untag_resource(self, params: Params, caller: Caller) -> Params:
        self.seen.append(params)
        return {}


class Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> list[bytes]:
        return [self._content]


@pytest.fixture
def service() -> Apis:
    return Apis()


def caller(denied: str = "") -> Caller:
    def decide(permission: Permission) -> None:
        if permission.action == denied:
            raise AwsError("AccessDeniedException", f"not authorized to perform: {denied}")

    return Caller("arn:aws:iam::123456789012:user/someone", decide)


def client(service: Apis, denied: str = "") -> Any:
    """Return a boto3 client whose requests ``service`` answers."""
    made = SESSION.client("apigatewayv2", endpoint_url=SITE.endpoint_url)

    def send(request: Any, **more: Any) -> AWSResponse:
        path, _, query = request.url.removeprefix(SITE.endpoint_url).partition("?")
        headers, body = {}, request.body or b""
        try:
            status, content = service.answer_rest(
                request.method, path, query, body.encode() if isinstance(body, str) else body, caller(denied)
            )
        except AwsError as error:
            status, headers = error.status, {"x-amzn-errortype": error.code}
            content = json.dumps({"message": error.message}).encode()
        return AWSResponse(request.url, status, headers, Body(content))

    made.meta.events.register("before-send.apigatewayv2", send)
    return made


def test_members_have_their_names_on_both_sides_and_times_are_the_models(service: Apis) -> None:
    answer = client(service).create_api(Name="x", ProtocolType="HTTP", CorsConfiguration={"AllowOrigins": ["*"]})
    asked = {"Name": "x", "ProtocolType": "HTTP", "CorsConfiguration": {"AllowOrigins": ["*"]}}
    assert service.seen == [asked]
    assert (answer["ApiId"], answer["CreatedDate"]) == ("a1", WHEN)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert "Description" not in answer


def test_parameters_in_the_path_are_unquoted(service: Apis) -> None:
    client(service).update_stage(ApiId="a/b c", StageName="$default", AutoDeploy=True)
    assert service.seen == [{"ApiId": "a/b c", "StageName": "$default", "AutoDeploy": True}]


def test_parameters_in_the_query_have_their_types(service: Apis) -> None:
    answer = client(service).get_apis(MaxResults="5", NextToken="t&=")
    assert service.seen == [{"MaxResults": "5", "NextToken": "t&="}]
    assert answer["Items"] == [{"ApiId": "a1", "Tags": {"Some": "tag"}}]


def test_a_list_in_the_query_repeats_its_name_and_204_has_no_body(service: Apis) -> None:
    arn = "arn:aws:apigateway:us-east-1::/apis/a1"
    answer = client(service).untag_resource(ResourceArn=arn, TagKeys=["one", "two"])
    assert service.seen == [{"ResourceArn": arn, "TagKeys": ["one", "two"]}]
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_a_denial_has_status_403_and_nothing_is_run(service: Apis) -> None:
    with pytest.raises(ClientError) as caught:
        client(service, denied="apigateway:CreateApi").create_api(Name="x", ProtocolType="HTTP")
    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert service.seen == []


def test_an_operation_that_is_not_built_is_refused_by_name(service: Apis) -> None:
    with pytest.raises(ClientError) as caught:
        client(service).get_domain_names()
    assert caught.value.response["Error"]["Code"] == "NotImplemented"
    assert "apigatewayv2:GetDomainNames" in caught.value.response["Error"]["Message"]


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "code"),
    [
        ("POST", "/v2/apis", "", b"[]", "SerializationException"),
        ("POST", "/v2/apis", "", b"{", "SerializationException"),
        ("POST", "/v2/apis", "", b'{"name": 1, "protocolType": "HTTP"}', "SerializationException"),
        ("POST", "/v2/apis", "", b'{"name": "x"}', "ValidationException"),  # what the model requires
        ("POST", "/v2/apis", "", b'{"Name": "x", "protocolType": "HTTP"}', "ValidationException"),  # not a wire name
        ("PATCH", "/v2/apis/a/stages/b", "", b'{"apiId": "other"}', "ValidationException"),  # it stands in the path
        ("PATCH", "/v2/apis/a/stages/b", "", b'{"ApiId": "other"}', "ValidationException"),
        ("GET", "/v2/apis", "maxResults=1&maxResults=2", b"", "BadRequestException"),
        ("GET", "/v2/apis", "other=1", b"", "BadRequestException"),
        ("DELETE", "/v2/apis", "", b"", "UnknownOperationException"),
        ("GET", "/v2/apis/a/b/c", "", b"", "UnknownOperationException"),
    ],
)
def test_a_malformed_request_is_refused(
    service: Apis, method: str, path: str, query: str, body: bytes, code: str
) -> None:
    with pytest.raises(AwsError) as caught:
        service.answer_rest(method, path, query, body, caller())
    assert caught.value.code == code
    assert service.seen == []


def test_arns_in_paths_keep_their_slashes() -> None:
    arn = "arn:aws:batch:us-east-1:123456789012:job/4ab"
    found = find_operation("batch", "GET", "/v1/tags/arn%3Aaws%3Abatch%3Aus-east-1%3A123456789012%3Ajob%2F4ab")
    assert found is not None
    assert (found[0].name, found[1]) == ("ListTagsForResource", {"resourceArn": arn})
    assert find_operation("batch", "GET", f"/v1/tags/{arn}") is None

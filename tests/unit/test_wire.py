"""What our services refuse before they do anything, in the order in which AWS does."""

import base64
import datetime as dt
import json
from pathlib import Path

import pytest

from helpers.local_aws.wire import AwsError, Caller, Permission, Service, Site, dump


class Repositories(Service):
    """A part of CodeCommit that answers with what it was given."""

    name = "codecommit"

    def permissions(self, operation, params):
        return [Permission(f"codecommit:{operation}", self.site.arn("codecommit", params.get("repositoryName", "*")))]

    def get_repository(self, params, caller):
        return {"given": params, "caller": caller.arn}

    def put_file(self, params, caller):
        return {"given": params}

    def put_repository_triggers(self, params, caller):
        return {"given": params}

    def list_repositories(self, params, caller):
        return {"given": params}

    def get_comments_for_compared_commit(self, params, caller):
        return {"given": params}

    helper = "not an operation"


SITE = Site(Path("state"), "http://127.0.0.1:1", "us-east-1", "123456789012")
ARN = "arn:aws:iam::123456789012:user/dana"


@pytest.fixture
def asked():
    return []


@pytest.fixture
def call(asked):
    caller = Caller(ARN, asked.append)
    return lambda operation, **params: Repositories(SITE).call(operation, params, caller)


def refusal(call, operation, **params):
    with pytest.raises(AwsError) as raised:
        call(operation, **params)
    return raised.value


def test_a_call_in_order_is_authorized_and_then_made(call, asked):
    assert call("GetRepository", repositoryName="demo") == {"given": {"repositoryName": "demo"}, "caller": ARN}
    assert [(one.action, one.resource) for one in asked] == [
        ("codecommit:GetRepository", "arn:aws:codecommit:us-east-1:123456789012:demo")
    ]


def test_whoever_may_not_is_refused_before_anything_is_done():
    def deny(permission):
        raise AwsError("AccessDeniedException", permission.action)

    with pytest.raises(AwsError, match="AccessDeniedException: codecommit:GetRepository"):
        Repositories(SITE).call("GetRepository", {"repositoryName": "demo"}, Caller(ARN, deny))


@pytest.mark.parametrize("operation", ["Nonsense", "helper", "Call", "Answer", ""])
def test_what_is_no_operation_of_the_service_is_unknown(call, operation):
    assert refusal(call, operation).code == "UnknownOperationException"


def test_an_operation_that_is_not_built_says_so_by_name(call, asked):
    error = refusal(call, "MergeBranchesBySquash")
    assert (error.code, error.status) == ("NotImplemented", 501)
    assert "codecommit:MergeBranchesBySquash" in error.message
    assert asked == []


GOOD = {"repositoryName": "demo", "branchName": "main", "fileContent": b"x", "filePath": "a.py"}
TRIGGER = {"name": "t", "destinationArn": "arn:aws:lambda:us-east-1:1:function:f", "events": ["all"]}


@pytest.mark.parametrize(
    ("operation", "params", "problem"),
    [
        ("GetRepository", {}, "'repositoryName' failed to satisfy constraint: Member must not be null"),
        (
            "GetRepository",
            {"repositoryName": None},
            "'repositoryName' failed to satisfy constraint: Member must not be null",
        ),
        ("GetRepository", {"repositoryName": "demo", "reponame": "x"}, "Unknown parameter 'reponame'"),
        ("GetRepository", {"repositoryName": "a b"}, "regular expression pattern"),
        ("GetRepository", {"repositoryName": "a" * 101}, "length less than or equal to 100"),
        ("PutFile", {**GOOD, "branchName": ""}, "length greater than or equal to 1"),
        ("ListRepositories", {"sortBy": "size"}, r"enum value set: \[repositoryName, lastModifiedDate\]"),
        ("GetRepository", {"repositoryName": 1}, "must be a string, not int"),
        ("PutFile", {**GOOD, "fileContent": "x"}, "must be a blob, not str"),
        ("PutFile", {**GOOD, "fileContent": b"x" * 6_291_457}, "length less than or equal to 6291456"),
        (
            "PutRepositoryTriggers",
            {"repositoryName": "demo", "triggers": [TRIGGER, {**TRIGGER, "events": ["never"]}]},
            r"triggers\.2\.member\.events\.1\.member",
        ),
        ("PutRepositoryTriggers", {"repositoryName": "demo", "triggers": [{"name": "t"}]}, "must not be null"),
        ("PutRepositoryTriggers", {"repositoryName": "demo", "triggers": {}}, "must be a list"),
        (
            "GetCommentsForComparedCommit",
            {"repositoryName": "demo", "afterCommitId": "x", "maxResults": True},
            "must be a integer, not bool",
        ),
    ],
)
def test_parameters_that_break_the_model_are_refused_before_iam_is_asked(call, asked, operation, params, problem):
    error = refusal(call, operation, **params)
    assert error.status == 400
    with pytest.raises(AwsError, match=problem):
        raise error
    assert asked == []


def test_a_service_can_name_the_error_of_a_bad_parameter(asked):
    class Named(Repositories):
        def invalid(self, operation, member, problem):
            return AwsError(f"Invalid{member[0].upper()}{member[1:]}Exception", problem)

    with pytest.raises(AwsError, match="InvalidRepositoryNameException"):
        Named(SITE).call("GetRepository", {"repositoryName": "a b"}, Caller(ARN, asked.append))


def answer(asked, target, body):
    return Repositories(SITE).answer(target, body, Caller(ARN, asked.append))


def test_a_request_is_read_by_its_target_and_its_json(asked):
    given = answer(asked, "CodeCommit_20150413.GetRepository", b'{"repositoryName": "demo"}')["given"]
    assert given == {"repositoryName": "demo"}
    assert answer(asked, "CodeCommit_20150413.ListRepositories", b"")["given"] == {}


def test_bytes_travel_as_base64_and_null_as_nothing(asked):
    body = {**GOOD, "fileContent": base64.b64encode(b"\x00\xff").decode(), "commitMessage": None}
    given = answer(asked, "CodeCommit_20150413.PutFile", json.dumps(body).encode())["given"]
    assert given == {**GOOD, "fileContent": b"\x00\xff"}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        json.dumps({**GOOD, "fileContent": "no base64!"}).encode(),
        b"\xff",
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
def test_what_cannot_be_read_is_a_serialization_error(asked, body):
    with pytest.raises(AwsError, match="SerializationException"):
        answer(asked, "CodeCommit_20150413.PutFile", body)


def test_an_answer_is_json_with_times_in_seconds_and_bytes_in_base64():
    when = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert json.loads(dump({"when": when, "content": b"\x00\xff"})) == {
        "when": when.timestamp(),
        "content": "AP8=",
    }


def test_what_has_no_form_on_the_wire_is_a_mistake_of_ours():
    with pytest.raises(TypeError, match="cannot send set"):
        dump({"x": {1}})

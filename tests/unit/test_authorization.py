"""The resource that IAM checks, for each request that ministack serves differently from AWS."""

import json

import pytest

from helpers.local_aws.authorization import Request, json_body, resource_arn

REGION, ACCOUNT = "us-east-1", "123456789012"
ROLES = {
    "demo-exp-jobs": f"arn:aws:iam::{ACCOUNT}:role/demo-exp-jobs",
    "Studio": f"arn:aws:iam::{ACCOUNT}:role/service-role/Studio",
}


def resource(service, operation, body=None, path="/", **params):
    content = json.dumps(body).encode() if body is not None else b""
    lists = {name: [value] for name, value in params.items()}
    request = Request(service, operation, path, content, lists, REGION, ACCOUNT)
    return resource_arn(request, ROLES.get)


def arn(service, name):
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{name}"


@pytest.mark.parametrize(
    ("operation", "params", "expected"),
    [
        ("GetRole", {"RoleName": "Studio"}, ROLES["Studio"]),
        ("PutRolePolicy", {"RoleName": "demo-exp-jobs"}, ROLES["demo-exp-jobs"]),
        ("CreateRole", {"RoleName": "new"}, f"arn:aws:iam::{ACCOUNT}:role/new"),
        ("CreateRole", {"RoleName": "new", "Path": "/teams/"}, f"arn:aws:iam::{ACCOUNT}:role/teams/new"),
        ("SimulatePrincipalPolicy", {"PolicySourceArn": ROLES["Studio"]}, ROLES["Studio"]),
        ("GetRole", {"RoleName": "absent"}, None),
        ("ListRoles", {}, None),
    ],
)
def test_roles_are_checked_with_their_path(operation, params, expected):
    assert resource("iam", operation, **params) == expected


@pytest.mark.parametrize("name", ["f", arn("lambda", "function:f")])
def test_a_function_that_is_about_to_exist_has_its_arn_already(name):
    assert resource("lambda", "CreateFunction", {"FunctionName": name}) == arn("lambda", "function:f")


def test_tags_of_a_function_are_checked_on_the_arn_in_the_path():
    path = "/2017-03-31/tags/" + arn("lambda", "function:f").replace(":", "%3A")
    assert resource("lambda", "ListTags", path=path) == arn("lambda", "function:f")
    assert resource("lambda", "Invoke", path="/2015-03-31/functions/f/invocations") is None


def test_tags_of_a_state_machine_are_checked_on_it():
    machine = arn("states", "stateMachine:m")
    assert resource("states", "TagResource", {"resourceArn": machine}) == machine
    assert resource("states", "CreateActivity", {"name": "a"}) == arn("states", "activity:a")
    assert resource("states", "ListStateMachines", {}) is None


@pytest.mark.parametrize("operation", ["DescribeMapRun", "UpdateMapRun", "ListExecutions"])
def test_calls_about_a_map_run_are_checked_on_it(operation):
    run = arn("states", "mapRun:m/label:id")
    assert resource("states", operation, {"mapRunArn": run}) == run


@pytest.mark.parametrize(
    ("operation", "body", "expected"),
    [
        ("GetLogEvents", {"logGroupName": "/g", "logStreamName": "s"}, "log-group:/g:log-stream:s"),
        ("DescribeLogStreams", {"logGroupName": "/g"}, "log-group:/g:log-stream:"),
        ("GetLogEvents", {"logGroupIdentifier": arn("logs", "log-group:/g")}, "log-group:/g:log-stream:"),
        ("DescribeLogGroups", {}, "log-group::log-stream:"),
    ],
)
def test_logs_are_checked_on_the_stream(operation, body, expected):
    assert resource("logs", operation, body) == arn("logs", expected)


@pytest.mark.parametrize(
    ("operation", "body", "expected"),
    [
        ("PutRule", {"Name": "r"}, "rule/r"),
        ("DescribeRule", {"Name": "r", "EventBusName": "default"}, "rule/r"),
        ("PutTargets", {"Rule": "r", "EventBusName": "b"}, "rule/b/r"),
        ("ListTargetsByRule", {"Rule": "r"}, "rule/r"),
    ],
)
def test_rules_of_the_default_bus_have_no_bus_in_their_arn(operation, body, expected):
    assert resource("events", operation, body) == arn("events", expected)


@pytest.mark.parametrize(
    ("operation", "body"),
    [("ListRules", {"NamePrefix": "r"}), ("CreateEventBus", {"Name": "b"}), ("DescribeEventBus", {"Name": "b"})],
)
def test_what_is_no_rule_is_left_to_ministack(operation, body):
    assert resource("events", operation, body) is None


def test_services_without_a_rule_of_ours_are_left_to_ministack():
    assert resource("s3", "GetObject", path="/bucket/key") is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"x"', pytest.param(b"[" * 100_000, id="deep")])
def test_a_body_that_is_no_json_object_names_no_resource(body):
    assert json_body(body) == {}


def test_members_of_the_wrong_type_name_no_resource():
    assert resource("states", "TagResource", {"resourceArn": ["a"]}) is None

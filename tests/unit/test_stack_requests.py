"""How CloudFormation's requests are read and its answers written, and what both need."""

import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import urlencode

import pytest

from helpers.local_aws.cloudformation import answers, permissions, query, requests
from helpers.local_aws.cloudformation.records import Stacks
from helpers.local_aws.wire import AwsError, Permission, Site, service_model

MODEL = service_model("cloudformation")
SITE = Site(Path("state"), "http://127.0.0.1:1", "us-east-1", "123456789012")


def read(**form):
    return query.read(MODEL, urlencode({"Version": "2010-05-15", **form}).encode())


def test_a_form_becomes_parameters():
    form = {
        "Action": "CreateStack",
        "StackName": "s",
        "Parameters.member.2.ParameterKey": "b",
        "Parameters.member.1.ParameterKey": "a",
        "Parameters.member.1.UsePreviousValue": "true",
        "Parameters.member.10.ParameterKey": "c",
        "Capabilities": "",
        "TimeoutInMinutes": "5",
        "DisableRollback": "false",
    }
    assert read(**form) == (
        "CreateStack",
        {
            "StackName": "s",
            "Parameters": [
                {"ParameterKey": "a", "UsePreviousValue": True},
                {"ParameterKey": "b"},
                {"ParameterKey": "c"},
            ],
            "Capabilities": [],
            "TimeoutInMinutes": 5,
            "DisableRollback": False,
        },
    )


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"Action": "LaunchStack"}, "InvalidAction"),
        ({}, "InvalidAction"),
        ({"Action": "CreateStack", "Name": "x"}, "ValidationError"),
        ({"Action": "CreateStack", "TimeoutInMinutes": "soon"}, "MalformedInput"),
        ({"Action": "CreateStack", "TimeoutInMinutes": "\u00b2"}, "MalformedInput"),
        ({"Action": "CreateStack", "TimeoutInMinutes": "--5"}, "MalformedInput"),
        ({"Action": "CreateStack", "Tags.member.x.Key": "k"}, "MalformedInput"),
        ({"Action": "CreateStack", "Tags.member.1": "k"}, "MalformedInput"),
        ({"Action": "CreateStack", "StackName.a": "k"}, "MalformedInput"),
    ],
)
def test_a_form_that_the_service_does_not_take_is_refused(form, code):
    with pytest.raises(AwsError) as caught:
        read(**form)
    assert caught.value.code == code


def test_an_answer_is_xml_that_any_text_survives():
    text = "a<b>&\"'\r\nü\x00\ud800"
    body = query.write(MODEL, "DescribeStackEvents", {"StackEvents": [
        {"StackId": "i", "EventId": "e", "StackName": text, "Timestamp": 0.5, "ResourceStatusReason": None}
    ]})  # fmt: skip
    space = {"c": MODEL.metadata["xmlNamespace"]}
    event = ET.fromstring(body).find(".//c:StackEvents/c:member", space)  # noqa: S314 -- our own bytes
    assert event.find("c:StackName", space).text == text.removesuffix("\x00\ud800")
    assert event.find("c:Timestamp", space).text == "1970-01-01T00:00:00.500Z"
    assert event.find("c:ResourceStatusReason", space) is None


def test_pages_follow_each_other():
    first = answers.page("Items", list(range(5)), {}, str, 3)
    second = answers.page("Items", list(range(5)), first, str, 3)
    assert (first["Items"], second) == (["0", "1", "2"], {"Items": ["3", "4"]})
    with pytest.raises(AwsError, match="pagination token"):
        answers.page("Items", [], {"NextToken": "LTE="}, str)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://bucket.s3.us-east-1.amazonaws.com/a%20b.yaml", ("bucket", "a b.yaml")),
        ("https://bucket.s3.amazonaws.com/a/b.yaml", ("bucket", "a/b.yaml")),
        ("https://s3.us-east-1.amazonaws.com/bucket/a.yaml", ("bucket", "a.yaml")),
        ("http://127.0.0.1:1/bucket/a.yaml", ("bucket", "a.yaml")),
    ],
)
def test_a_template_url_names_an_object(url, place):
    assert requests._place(url, SITE.endpoint_url) == place


@pytest.mark.parametrize(
    "url", ["https://example.com/bucket/a.yaml", "file:///etc/passwd", "http://127.0.0.1:2/b/k", "x"]
)
def test_other_urls_are_refused(url):
    with pytest.raises(AwsError, match="TemplateURL must be a supported URL"):
        requests._place(url, SITE.endpoint_url)


def test_permissions_are_asked_of_the_stack_and_of_the_role(tmp_path):
    stacks = Stacks(tmp_path)
    stack = stacks.blank(SITE.arn("cloudformation", "stack/mine/0"), "")
    role = {"StackName": "mine", "RoleARN": "arn:role", "Tags": [{"Key": "workshop", "Value": "demo"}]}
    context = {"cloudformation:RoleArn": "arn:role", "aws:RequestTag/workshop": "demo", "aws:TagKeys": ["workshop"]}
    passed = {"iam:PassedToService": "cloudformation.amazonaws.com"}
    assert permissions.of(SITE, "CreateStack", role, None) == [
        Permission("cloudformation:CreateStack", SITE.arn("cloudformation", "stack/mine/*"), context),
        Permission("iam:PassRole", "arn:role", passed),
    ]
    assert permissions.of(SITE, "UpdateStack", {"StackName": "mine"}, stack) == [
        Permission("cloudformation:UpdateStack", stack.id)
    ]
    assert permissions.of(SITE, "ListStacks", {}, None) == [Permission("cloudformation:ListStacks")]
    assert permissions.of(SITE, "DescribeStacks", {}, None) == [Permission("cloudformation:DescribeStacks")]


def test_tags_that_aws_keeps_for_itself_are_refused(tmp_path):
    stack = Stacks(tmp_path).blank(SITE.arn("cloudformation", "stack/mine/0"), "")
    with pytest.raises(AwsError, match="aws: prefixed"):
        requests.tags({"Tags": [{"Key": "aws:x", "Value": "y"}]}, stack)
    with pytest.raises(AwsError, match="Duplicate"):
        requests.tags({"Tags": [{"Key": "x", "Value": "y"}] * 2}, stack)

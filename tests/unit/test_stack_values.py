"""What parameters, conditions and intrinsic functions give."""

import json
from pathlib import Path

import pytest

from helpers.local_aws.cloudformation import parameters, targets
from helpers.local_aws.cloudformation.intrinsics import UNKNOWN, resolve
from helpers.local_aws.cloudformation.names import physical_name
from helpers.local_aws.cloudformation.parameters import Lookups
from helpers.local_aws.cloudformation.template import parse
from helpers.local_aws.wire import AwsError, Site

SITE = Site(Path("state"), "http://127.0.0.1:1", "us-east-1", "123456789012")
ARN = SITE.arn("cloudformation", "stack/mine/0")
AROUND = targets.Around(SITE, lambda name: f"imported {name}", lambda region: [f"{region}a", f"{region}b"])
PHYSICAL = {"Queue": "https://queue", "New": UNKNOWN}
LOOKUPS = Lookups(
    lambda names: {name: "ami-1" for name in names if name == "/image"},
    lambda kind, ids: [item for item in ids if item not in ("subnet-1", "subnet-2", "ami-1")],
)


def template(**sections):
    return parse(json.dumps({"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}, **sections}))


def value(expression, sections=None, given=None):
    """Return what an expression gives in a template with ``sections`` and the parameters ``given``."""
    read = template(**(sections or {}))
    pairs = [{"ParameterKey": key, "ParameterValue": text} for key, text in (given or {}).items()]
    settled = parameters.settle(read, pairs, {}, LOOKUPS)
    target = targets.settle(AROUND, read, settled, {}, ARN)
    scope = targets.scope(AROUND, target, PHYSICAL.__getitem__, lambda name, attribute: f"{name} {attribute}")
    return resolve(expression, scope)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({"Ref": "Queue"}, "https://queue"),
        ({"Ref": "AWS::StackName"}, "mine"),
        ({"Ref": "AWS::StackId"}, ARN),
        ({"Ref": "AWS::AccountId"}, "123456789012"),
        ({"Fn::GetAtt": ["Queue", "Arn"]}, "Queue Arn"),
        ({"Fn::GetAtt": "Queue.Arn"}, "Queue Arn"),
        (
            {"Fn::Sub": "a ${Queue} ${Queue.Arn} ${!Queue} ${AWS::Region}"},
            "a https://queue Queue Arn ${Queue} us-east-1",
        ),
        ({"Fn::Sub": ["${x}-${AWS::Region}", {"x": {"Ref": "Queue"}}]}, "https://queue-us-east-1"),
        ({"Fn::Join": ["-", ["a", {"Ref": "AWS::Region"}, 3]]}, "a-us-east-1-3"),
        ({"Fn::Select": ["1", ["a", "b"]]}, "b"),
        ({"Fn::Split": ["/", "a/b"]}, ["a", "b"]),
        ({"Fn::Select": [0, {"Fn::GetAZs": ""}]}, "us-east-1a"),
        ({"Fn::Base64": "text"}, "dGV4dA=="),
        ({"Fn::ImportValue": {"Fn::Sub": "${AWS::StackName}-x"}}, "imported mine-x"),
        ({"a": {"Ref": "AWS::NoValue"}, "b": [{"Ref": "AWS::NoValue"}, 1]}, {"b": [1]}),
        ({"Fn::Select": [0, {"Fn::Split": ["/", {"Ref": "New"}]}]}, UNKNOWN),
        ({"Fn::Base64": {"Fn::Sub": "x${New}"}}, UNKNOWN),
        ({"Condition": {"StringEquals": {"a": "b"}}}, {"Condition": {"StringEquals": {"a": "b"}}}),
    ],
)
def test_functions(expression, expected):
    assert value(expression) == expected


def test_conditions_choose():
    sections = {
        "Parameters": {"Stage": {"Type": "String", "Default": "test"}, "Count": {"Type": "Number", "Default": 3}},
        "Mappings": {"Sizes": {"test": {"size": "small"}, "live": {"size": "large"}}},
        "Conditions": {
            "Live": {"Fn::Equals": [{"Ref": "Stage"}, "live"]},
            "Three": {"Fn::Equals": [{"Ref": "Count"}, 3]},
            "Both": {"Fn::And": [{"Condition": "Live"}, {"Condition": "Three"}]},
            "One": {"Fn::Or": [{"Condition": "Live"}, {"Fn::Not": [{"Fn::Not": [{"Condition": "Three"}]}]}]},
        },
    }
    chosen = {name: {"Fn::If": [name, "yes", "no"]} for name in sections["Conditions"]}
    assert value(chosen, sections) == {"Live": "no", "Three": "yes", "Both": "no", "One": "yes"}
    assert value(chosen, sections, {"Stage": "live"})["Both"] == "yes"
    assert value({"Fn::FindInMap": ["Sizes", {"Ref": "Stage"}, "size"]}, sections) == "small"
    with pytest.raises(AwsError, match="Unable to get mapping for Sizes::other::size"):
        value({"Fn::FindInMap": ["Sizes", "other", "size"]}, sections)


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({"A": {"Condition": "B"}, "B": {"Condition": "A"}}, "circular condition dependency"),
        ({"A": {"Condition": "C"}}, "Unresolved condition dependency C"),
        ({"A": {"Fn::Equals": ["a"]}}, "Fn::Equals takes a list of 2 to 2"),
        ({"A": {"Fn::Equals": [{"Ref": "Queue"}, "a"]}}, "Conditions can only refer to parameters and mappings"),
        ({"A": {"Ref": "Queue"}}, "a condition must be one of"),
    ],
)
def test_conditions_that_cannot_be_evaluated_are_refused(conditions, said):
    with pytest.raises(AwsError, match=said):
        value("x", {"Conditions": conditions})


@pytest.mark.parametrize(
    ("declared", "text", "said"),
    [
        ({"Type": "String", "AllowedValues": ["a", "b"]}, "c", "Parameter 'P' must be one of AllowedValues"),
        ({"Type": "String", "AllowedPattern": "[a-z]+"}, "a1", r"Parameter 'P' must match pattern \[a-z\]\+"),
        ({"Type": "String", "AllowedPattern": "x", "ConstraintDescription": "an x"}, "y", "constraint: an x"),
        (
            {"Type": "String", "AllowedPattern": "(a+)+b"},
            "a" * 60,
            "AllowedPattern of parameter P cannot be matched|must",
        ),
        ({"Type": "String", "MinLength": 3}, "ab", "must contain at least 3 characters"),
        ({"Type": "String", "MaxLength": "3"}, "abcd", "must contain at most 3 characters"),
        ({"Type": "Number"}, "x", "Parameter 'P' must be a number"),
        ({"Type": "Number", "MinValue": 5}, "4", "must be a number not less than 5"),
        ({"Type": "Number", "MaxValue": 5}, "5.5", "must be a number not greater than 5"),
        ({"Type": "AWS::EC2::Subnet::Id"}, "subnet-9", "parameter value subnet-9 for parameter name P does not exist"),
        ({"Type": "List<AWS::EC2::Subnet::Id>"}, "subnet-1,subnet-9", "value subnet-9"),
        ({"Type": "AWS::SSM::Parameter::Value<String>"}, "/none", r"Unable to fetch parameters \[/none\]"),
        ({"Type": "String"}, "x" * 4097, "at most 4096 bytes"),
    ],
)
def test_values_that_break_a_constraint_are_refused(declared, text, said):
    with pytest.raises(AwsError, match=said) as caught:
        value("x", {"Parameters": {"P": declared}}, {"P": text})
    assert caught.value.code == "ValidationError"


@pytest.mark.parametrize(
    ("declared", "text", "expected"),
    [
        ({"Type": "CommaDelimitedList"}, "a, b", ["a", "b"]),
        ({"Type": "List<AWS::EC2::Subnet::Id>"}, "subnet-1,subnet-2", ["subnet-1", "subnet-2"]),
        ({"Type": "Number"}, "3", "3"),
        ({"Type": "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>"}, "/image", "ami-1"),
    ],
)
def test_what_ref_gives_for_a_parameter(declared, text, expected):
    assert value({"Ref": "P"}, {"Parameters": {"P": declared}}, {"P": text}) == expected


def test_parameters_need_values_and_names_that_the_template_has():
    read = template(Parameters={"P": {"Type": "String"}, "Q": {"Type": "String"}})
    with pytest.raises(AwsError, match=r"Parameters: \[P, Q\] must have values"):
        parameters.settle(read, [], {}, LOOKUPS)
    with pytest.raises(AwsError, match=r"Parameters: \[R\] do not exist in the template"):
        parameters.settle(read, [{"ParameterKey": "R", "ParameterValue": "x"}], {}, LOOKUPS)
    previous = [{"ParameterKey": key, "UsePreviousValue": True} for key in ("P", "Q")]
    kept = {"P": {"value": "p"}, "Q": {"value": "q"}}
    assert parameters.settle(read, previous, kept, LOOKUPS) == kept
    with pytest.raises(AwsError, match=r"Parameters: \[Q\] must have values"):
        parameters.settle(read, previous, {"P": {"value": "p"}}, LOOKUPS)


def test_what_is_secret_is_not_shown():
    read = template(Parameters={"P": {"Type": "String", "NoEcho": True}})
    settled = parameters.settle(read, [{"ParameterKey": "P", "ParameterValue": "secret"}], {}, LOOKUPS)
    assert parameters.reference(read.parameters["P"], settled["P"]) == "secret"
    assert parameters.shown(settled) == [{"ParameterKey": "P", "ParameterValue": "****"}]


def test_the_tags_of_the_stack_reach_the_resource_and_its_own_win():
    read = parse(json.dumps({"Resources": {
        "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"Tags": [{"Key": "a", "Value": "own"}]}},
        "Setting": {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Value": "v"}},
        "Policy": {"Type": "AWS::SQS::QueuePolicy", "Properties": {"Queues": [], "PolicyDocument": {}}},
    }}))  # fmt: skip
    target = targets.settle(AROUND, read, {}, {"a": "stack", "b": "stack"}, ARN)
    scope = targets.scope(AROUND, target, PHYSICAL.__getitem__, lambda *_: "")
    assert target.properties("Queue", scope)["Tags"] == [
        {"Key": "a", "Value": "own"},
        {"Key": "b", "Value": "stack"},
    ]
    assert target.properties("Setting", scope)["Tags"] == {"a": "stack", "b": "stack"}
    assert "Tags" not in target.properties("Policy", scope)


@pytest.mark.parametrize(("stack", "logical"), [("s", "L"), ("s" * 128, "L" * 200), ("s" * 128, "L"), ("s", "L" * 200)])
def test_made_up_names_fit_the_service_and_say_whose_they_are(stack, logical):
    name = physical_name(stack, logical, 64)
    assert len(name) <= 64
    assert name.startswith(stack[:20])
    assert f"-{logical[:20]}" in name
    assert physical_name(stack, logical, 63, lower=True).islower()
    assert physical_name(stack, logical, 64) != name

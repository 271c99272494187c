"""What CloudFormation reads a template as, and what it refuses before anything is made."""

import json
import time

import pytest

from helpers.local_aws.cloudformation import checks
from helpers.local_aws.cloudformation.template import parse
from helpers.local_aws.wire import AwsError

QUEUE = {"Type": "AWS::SQS::Queue"}


def refusal(template, **more):
    body = template if isinstance(template, str) else json.dumps(template)
    with pytest.raises(AwsError) as caught:
        checks.check(parse(body))
    return caught.value.code, caught.value.message


def resources(**named):
    return {"Resources": named}


def test_short_tags_are_the_functions_that_they_stand_for():
    template = parse("""
Resources:
  A:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: !Sub "${AWS::StackName}-a"
      Tags: [{Key: when, Value: 2012-10-17}, {Key: other, Value: !GetAtt B.Arn}, {Key: c, Value: !If [X, !Ref P, n]}]
""")
    properties = template.resources["A"]["Properties"]
    assert properties["QueueName"] == {"Fn::Sub": "${AWS::StackName}-a"}
    assert [tag["Value"] for tag in properties["Tags"]] == [
        "2012-10-17",
        {"Fn::GetAtt": ["B", "Arn"]},
        {"Fn::If": ["X", {"Ref": "P"}, "n"]},
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("Resources:\n  A: &a {Type: x}\n  B: *a\n", "aliases are not supported (line 3)"),
        ("Resources:\n  A: {Type: x}\n  A: {Type: y}\n", "duplicate key 'A' (line 3)"),
        ('{"Resources": {"A": {}, "A": {}}}', "duplicate key"),
        ("Resources: !!python/object/apply:os.system [true]\n", "could not determine a constructor"),
        ("Resources:\n  A:\n    <<: {Type: x}\n", "merge keys are not supported"),
        ("Resources: [", "not well-formed"),
        ("[" * 5000, "not well-formed"),
        ("{" * 5000, "not well-formed"),
        ("just text", "unsupported structure"),
        ('{"Description": "\\ud800", "Resources": {"A": {"Type": "AWS::SQS::Queue"}}}', "not well-formed"),
        ('{"Resources": {"A": {"Type": "AWS::SQS::Queue", "Metadata": NaN}}}', "not well-formed"),
        ("Resources: {A: {Type: x, Metadata: !!set {a, b}}}\n", "not well-formed"),
        ("Resources: {A: {Type: x, Metadata: !!binary aGVsbG8=}}\n", "not well-formed"),
        ("{}", "At least one Resources member must be defined"),
    ],
)
def test_what_is_no_template_is_refused(body, said):
    code, message = refusal(body)
    assert code == "ValidationError"
    assert said in message or "nested too deeply" in message


def test_types_that_are_not_known_are_named_together():
    template = resources(A={"Type": "AWS::EC2::Instance"}, B=QUEUE, C={"Type": "Custom::Thing"})
    assert refusal(template) == (
        "ValidationError",
        "Template format error: Unrecognized resource types: [AWS::EC2::Instance, Custom::Thing]",
    )


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"KmsMasterKeyId": "k"}, "#: extraneous key [KmsMasterKeyId] is not permitted"),
        ({"Tags": [{"Key": "a", "Wert": "b"}]}, "#/Tags/0: extraneous key [Wert] is not permitted"),
        ({"Tags": {"Key": "a"}}, "#/Tags: expected type: JSONArray, found: JSONObject"),
        ({"VisibilityTimeout": "soon"}, "#/VisibilityTimeout: expected type: Integer, found: String"),
        ({"VisibilityTimeout": {"Fn::If": ["Yes", [], 3]}}, "#/VisibilityTimeout: expected type: Integer"),
    ],
)
def test_properties_that_are_not_carried_out_are_refused_at_the_start(properties, said):
    template = resources(A=QUEUE | {"Properties": properties})
    code, message = refusal({**template, "Conditions": {"Yes": {"Fn::Equals": ["a", "a"]}}})
    assert code == "ValidationError"
    assert "resource A (AWS::SQS::Queue)" in message
    assert said in message


def test_a_required_property_that_is_missing_is_named():
    _, message = refusal(resources(A={"Type": "AWS::IAM::Role", "Properties": {}}))
    assert "#: required key [AssumeRolePolicyDocument] not found" in message


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (resources(A=QUEUE | {"Properties": {"QueueName": {"Ref": "B"}}}), "Unresolved resource dependencies [B]"),
        (resources(A=QUEUE | {"DependsOn": "B"}), "Unresolved resource dependencies [B]"),
        (resources(A=QUEUE | {"DependsOn": {"B": 1}}), "DependsOn of resource A must be text or a list of texts"),
        (resources(A=QUEUE | {"Condition": "C"}), "Unresolved condition dependency C"),
        (resources(A=QUEUE | {"Condition": ["C"]}), "Unresolved condition dependency ['C']"),
        (
            resources(A=QUEUE, B=QUEUE | {"Properties": {"QueueName": {"Fn::GetAtt": ["A", "Url"]}}}),
            "resource A does not support attribute type Url in Fn::GetAtt",
        ),
        (
            resources(
                A=QUEUE | {"DependsOn": "B"}, B=QUEUE | {"DependsOn": ["C"]}, C=QUEUE | {"DependsOn": "A"}, D=QUEUE
            ),
            "Circular dependency between resources: [A, B, C]",
        ),
        (resources(A=QUEUE | {"Typ": 1}), "Invalid template resource property 'Typ'"),
        ({**resources(A=QUEUE), "Outputs": {"O": {"Value": {"Ref": "Z"}}}}, "[Z] in the Outputs block"),
        ({**resources(A=QUEUE), "Outputs": {"O": {"Value": "x", "Export": ["x"]}}}, "Output O is malformed"),
        ({**resources(A=QUEUE), "Parameters": {"P": {"Type": "Text"}}}, "Unrecognized parameter type: Text"),
        (
            {**resources(A=QUEUE), "Parameters": {"P": {"Type": "String", "AllowedValues": 5}}},
            "AllowedValues of parameter P must be a list",
        ),
        ({**resources(A=QUEUE), "Other": {}}, "Invalid template property or properties [Other]"),
        (resources(A=QUEUE | {"DeletionPolicy": "Keep"}), "it must be one of Delete, Retain, RetainExceptOnCreate"),
        ({"Resources": {f"Q{n}": QUEUE for n in range(501)}}, "Number of resources, 501, is greater"),
    ],
)
def test_what_aws_refuses_is_refused(template, said):
    code, message = refusal(template)
    assert code == "ValidationError"
    assert said in message


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ({**resources(A=QUEUE), "Transform": "AWS::Serverless-2016-10-31"}, "the template section Transform"),
        ({**resources(A=QUEUE), "Rules": {}}, "the template section Rules"),
        (resources(A=QUEUE | {"CreationPolicy": {}}), "the attribute CreationPolicy (resource A)"),
        (
            resources(A=QUEUE | {"Properties": {"QueueName": {"Fn::Cidr": ["a", 1, 2]}}}),
            "the intrinsic function Fn::Cidr",
        ),
        (
            {**resources(A=QUEUE), "Parameters": {"P": {"Type": "AWS::EC2::KeyPair::KeyName"}}},
            "the parameter type AWS::EC2::KeyPair::KeyName",
        ),
    ],
)
def test_what_aws_has_and_the_embedded_aws_does_not_is_refused_by_name(template, what):
    code, message = refusal(template)
    assert code == "NotImplemented"
    assert what in message


def test_resources_are_made_after_what_they_refer_to():
    template = parse(
        json.dumps(
            resources(
                A=QUEUE | {"Properties": {"QueueName": {"Fn::Sub": "${B.QueueName}-${!C}-${AWS::Region}"}}},
                B=QUEUE | {"DependsOn": "C"},
                C=QUEUE,
            )
        )
    )
    assert checks.needs(template) == {"A": {"B"}, "B": {"C"}, "C": set()}
    assert checks.in_order(checks.needs(template)) == ["C", "B", "A"]


@pytest.mark.parametrize(
    ("properties", "needed"),
    [({}, "CAPABILITY_IAM"), ({"RoleName": "r"}, "CAPABILITY_NAMED_IAM")],
)
def test_iam_resources_need_a_capability(properties, needed):
    role = {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {}, **properties}}
    assert checks.capabilities(parse(json.dumps(resources(A=role)))) == (needed, ["AWS::IAM::Role"])
    assert checks.capabilities(parse(json.dumps(resources(A=QUEUE)))) == ("", [])


@pytest.mark.parametrize("nested", ["[" * 20_000, "{a: " * 12_000])
def test_a_template_without_end_is_refused_before_all_of_it_is_read(nested):
    started = time.process_time()
    assert "nested too deeply" in refusal(f"Resources:\n  A: {nested}")[1]
    assert time.process_time() - started < 30  # of this process; to read it all takes minutes

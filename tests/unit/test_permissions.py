"""The notebook's policy: no larger than IAM takes, and exactly what helpers and notebooks call."""

import ast
import json
from functools import cache
from pathlib import Path

import pytest
from answers import ACCOUNT, Aws, in_turn, refuse
from botocore import xform_name
from botocore.loaders import Loader
from botocore.model import ServiceModel

from helpers import permissions, roles
from helpers.connection import Connection

PROJECT = Path(permissions.__file__).parents[1]
ROLE = f"arn:aws:iam::{ACCOUNT}:role/service-role/AmazonSageMaker-ExecutionRole-20260101T000000"
SOURCES = [path for folder in ("helpers", "notebooks/text") for path in sorted((PROJECT / folder).glob("*.py"))]
# The name in a policy, and botocore's name of the service.
SERVICES = {
    "s3": "s3",
    "codecommit": "codecommit",
    "lambda": "lambda",
    "states": "stepfunctions",
    "sagemaker": "sagemaker",
    "servicequotas": "service-quotas",
    "logs": "logs",
    "events": "events",
    "iam": "iam",
    "cloudformation": "cloudformation",
    "ec2": "ec2",
    "dynamodb": "dynamodb",
    "sns": "sns",
    "sqs": "sqs",
    "ssm": "ssm",
}
# Calls whose permission has another name, as the Service Authorization Reference lists them.
PERMISSION_OF = {
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:UploadFile": "s3:PutObject",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketNotificationConfiguration": "s3:PutBucketNotification",
    "lambda:Invoke": "lambda:InvokeFunction",
}
# What is asked for besides, by a call of another name, by git, or by a waiter.
ASKED_BESIDES = {
    "s3:DeleteObjectVersion": "delete_objects with a VersionId",
    "s3:AbortMultipartUpload": "upload_file, when a part fails",
    "codecommit:GitPull": "git clone and fetch",
    "codecommit:GitPush": "git push",
    "codecommit:TagResource": "create_repository with tags",
    "lambda:GetFunction": "the waiters function_active_v2 and function_updated_v2",
    "lambda:TagResource": "create_function with Tags",
    "states:TagResource": "create_state_machine with tags",
    "iam:TagRole": "create_role with Tags",
    "iam:PassRole": "create_function, create_state_machine, create_change_set",
    "sqs:TagQueue": "create_queue with tags",
    "ssm:GetParameters": "create_change_set, for a parameter that names a public one",
    "ec2:DescribeVpcs": "create_change_set, for a parameter of the type VPC",
}


def workshop(**options):
    return Connection("aws", "ap-southeast-2", ACCOUNT, options.pop("role_arn", ROLE), **options)


@cache
def operations(service):
    """Return the operations of one of ``SERVICES``, by their names in Python."""
    model = ServiceModel(Loader().load_service_model(SERVICES[service], "service-2"))
    found = {xform_name(name): name for name in model.operation_names}
    return {**found, "upload_file": "UploadFile"} if service == "s3" else found


def statements(**options):
    """Return the statements of all policies."""
    return [statement for of in permissions.POLICIES.values() for statement in of(workshop(**options))]


def granted():
    return {action for statement in statements() for action in statement["Action"]}


def called():
    """Yield (where, name) for each method call and each name given as text, to a paginator for instance."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield f"{path.name}:{node.lineno}", node.func.attr
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.name}:{node.lineno}", node.value


def permissions_for(name):
    """Return what a call of this name may need: one for each of our services that has such an operation."""
    calls = [f"{service}:{operations(service)[name]}" for service in SERVICES if name in operations(service)]
    return {PERMISSION_OF.get(call, call) for call in calls}


def test_the_policies_fit_a_role_and_a_managed_policy_fits_each():
    longest = workshop(prefix="a" * 32, project="b" * 16)
    documents = [roles.policy_json(of(longest)) for of in permissions.POLICIES.values()]
    characters = [len("".join(document.split())) for document in documents]  # IAM does not count white space
    assert sum(characters) < 10_240, "a role's inline policies share 10,240 characters"
    assert max(characters) < 6_144, "what a managed policy may have, for a user"


def test_every_call_in_helpers_and_notebooks_is_allowed():
    allowed = granted()
    missing = [
        f"{where} {name}" for where, name in called() if (needs := permissions_for(name)) and not needs & allowed
    ]
    assert not missing


def test_no_service_is_called_that_this_test_does_not_know():
    known = {*SERVICES.values(), "sts"}  # who am I: needs no permission
    clients = [
        argument.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "client"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    ]
    assert clients
    assert set(clients) <= known


def test_nothing_is_allowed_that_is_never_called():
    needed = set().union(*(permissions_for(name) for _, name in called()))
    assert sorted(granted() - needed - ASKED_BESIDES.keys()) == []


@pytest.mark.parametrize("action", sorted(granted()))
def test_every_action_exists(action):
    service, _, name = action.partition(":")
    assert xform_name(name) in operations(service) or action in PERMISSION_OF.values() or action in ASKED_BESIDES, (
        f"neither an operation nor one of AWS's other permissions: {action}"
    )


def test_nothing_is_allowed_outside_of_the_workshop():
    anywhere = ("List", "DescribeLogGroups", "DescribeInstance", "DescribeSubnets", "DescribeVpcs")
    for statement in statements(prefix="mine"):
        for resource in statement["Resource"]:
            if resource == "*":
                assert all(action.partition(":")[2].startswith(anywhere) for action in statement["Action"])
            elif "Condition" in statement and "PassRole" not in str(statement):
                assert statement["Condition"] == {"StringEquals": {"aws:ResourceTag/workshop": ["mine"]}}
            else:
                own = (
                    ":mine-",
                    "/mine-",
                    "/mine-*",
                    ROLE,
                    permissions.MANAGED_RULE,
                    f"::parameter/{permissions.IMAGES}/",
                    "log-group:/aws/sagemaker/ProcessingJobs:",
                )
                assert any(part in resource for part in own), resource


def test_roles_can_be_handed_to_the_four_services_only():
    passing = [one for one in statements() if "iam:PassRole" in one["Action"]]
    services = [name for one in passing for name in one["Condition"]["StringEquals"]["iam:PassedToService"]]
    assert sorted(services) == [f"{name}.amazonaws.com" for name in ("cloudformation", "lambda", "sagemaker", "states")]


def test_a_policy_that_is_missing_is_attached_to_the_role():
    decisions = in_turn(*({"EvaluationResults": [decision("implicitDeny")]},) * ASKED, {"EvaluationResults": []})
    aws = Aws({"iam:SimulatePrincipalPolicy": decisions, "iam:PutRolePolicy": {}})
    ensured = permissions.ensure_policy(aws.client("iam"), workshop(), "notebook-uploads", sleep=pytest.fail)
    assert (ensured.name, ensured.created) == ("demo-exp-notebook-uploads", True)
    (put,) = aws.asked("iam:PutRolePolicy")
    assert put["RoleName"] == ROLE.rpartition("/")[2]
    assert json.loads(put["PolicyDocument"])["Statement"] == permissions.upload_statements(workshop())


def test_a_policy_that_is_there_is_left_as_it_is():
    aws = Aws({"iam:SimulatePrincipalPolicy": {"EvaluationResults": []}})
    assert not permissions.ensure_policy(aws.client("iam"), workshop(), "notebook-uploads").created


@pytest.mark.parametrize("principal", [ROLE, f"arn:aws:iam::{ACCOUNT}:user/dana"])
def test_who_may_not_change_itself_gets_the_policy_and_the_command_for_an_administrator(principal):
    denied = {"EvaluationResults": [decision("implicitDeny")]}
    aws = Aws({"iam:SimulatePrincipalPolicy": denied, "iam:PutRolePolicy": refuse("AccessDenied", status=403)})
    with pytest.raises(permissions.PermissionsMissing) as problem:
        permissions.ensure_policy(aws.client("iam"), workshop(role_arn=principal), "notebook-uploads")
    for part in ("s3:CreateBucket on", '"Version": "2012-10-17"', "--policy-name demo-exp-notebook-uploads"):
        assert part in str(problem.value)


ASKED = sum(len(statement["Resource"]) for statement in permissions.upload_statements(workshop()))


def decision(outcome):
    return {"EvalActionName": "s3:CreateBucket", "EvalDecision": outcome, "EvalResourceName": "*"}


def test_an_administrator_attaches_the_policy_to_a_role_inline():
    assert permissions.admin_command(workshop()) == (
        "aws iam put-role-policy --role-name AmazonSageMaker-ExecutionRole-20260101T000000"
        " --policy-name demo-exp-notebook --policy-document file://policy.json"
    )


def test_a_users_inline_policies_are_too_small_so_it_gets_a_managed_one():
    command = permissions.admin_command(workshop(role_arn=f"arn:aws:iam::{ACCOUNT}:user/team/dana"))
    assert "aws iam create-policy --policy-name demo-exp-notebook" in command
    assert f"--user-name dana --policy-arn arn:aws:iam::{ACCOUNT}:policy/demo-exp-notebook" in command

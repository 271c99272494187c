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
FOLDERS = ("helpers", "helpers/cleanup", "notebooks/text")
SOURCES = [path for folder in FOLDERS for path in sorted((PROJECT / folder).glob("*.py"))]
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
    "apigateway": "apigatewayv2",
    "ecs": "ecs",
    "batch": "batch",
    "codebuild": "codebuild",
    "ecr": "ecr",
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
    "execute-api:Invoke": "the signed request to the API of 08a",
    "events:TagResource": "put_rule with tags",
    "ecr:TagResource": "create_repository with tags",
    "ecs:TagResource": "create_cluster and register_task_definition with tags",
    "batch:TagResource": "create_compute_environment, create_job_queue and register_job_definition with tags",
    "logs:TagResource": "create_log_group with tags",
    "iam:CreateServiceLinkedRole": "create_cluster and create_compute_environment, the first time in an account",
}

# Only who may change itself makes these calls, with permissions that it has from elsewhere.
OF_WHO_CHANGES_ITSELF = {"iam:CreatePolicy", "iam:CreatePolicyVersion", "iam:AttachRolePolicy"}


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


def http_methods():
    """Return what API Gateway asks for: not its operations, but their HTTP methods."""
    model = ServiceModel(Loader().load_service_model("apigatewayv2", "service-2"))
    names = model.operation_names
    return {f"apigateway:{name}": f"apigateway:{model.operation_model(name).http['method']}" for name in names}


PERMISSION_OF |= http_methods()


def test_the_policies_fit_a_role_and_a_managed_policy_fits_each():
    longest = workshop(prefix="a" * 32, project="b" * 16)
    documents = {name: roles.policy_json(of(longest)) for name, of in permissions.POLICIES.items()}
    characters = {name: len("".join(document.split())) for name, document in documents.items()}  # no white space counts
    assert max(characters.values()) < 6_144, "what a managed policy may have"
    characters.pop(permissions.MANAGED_POLICY)
    assert sum(characters.values()) < 10_240, "a role's inline policies share 10,240 characters"


def test_every_call_in_helpers_and_notebooks_is_allowed():
    allowed = granted() | OF_WHO_CHANGES_ITSELF
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
    known = action in ASKED_BESIDES or action in PERMISSION_OF.values()
    assert known or xform_name(name) in operations(service), (
        f"neither an operation nor one of AWS's other permissions: {action}"
    )


def test_nothing_is_allowed_outside_of_the_workshop():
    anywhere = ("List", "Describe", "DeregisterTaskDefinition", "SendTask")
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
                    *permissions.MANAGED_RULES,
                    f"::parameter/{permissions.IMAGES}/",
                    "log-group:/aws/sagemaker/ProcessingJobs:",
                    "log-group:/aws/sagemaker/TrainingJobs:",
                    "::/apis",  # an API's ARN has an id in it, and no name
                    "::/tags/",
                    "*/POST/start",
                    ":job/*",  # of Batch: an id, and no name
                    "/aws-service-role/",
                )
                assert any(part in resource for part in own), resource


def test_what_the_reference_knows_no_resource_of_is_allowed_on_all():
    # IAM's simulator says of them that they are denied on anything else, and step 0 would never end.
    without = {"states:SendTaskSuccess", "states:SendTaskHeartbeat", "ecs:DescribeTaskDefinition", "batch:DescribeJobs"}
    for statement in statements():
        if without & set(statement["Action"]):
            assert statement["Resource"] == ["*"]


def test_a_log_group_is_tagged_by_the_arn_without_its_streams():
    (tagging,) = (one for one in statements() if "logs:TagResource" in one["Action"])
    assert tagging["Action"] == ["logs:TagResource"]
    assert [resource.rpartition(":log-group:")[2] for resource in tagging["Resource"]] == list(workshop().log_groups)


def test_roles_can_be_handed_to_six_services_only():
    passing = [one for one in statements() if "iam:PassRole" in one["Action"]]
    services = [name for one in passing for name in one["Condition"]["StringEquals"]["iam:PassedToService"]]
    names = ("cloudformation", "codebuild", "ecs-tasks", "lambda", "sagemaker", "states")
    assert sorted(services) == [f"{name}.amazonaws.com" for name in names]


def test_a_policy_that_is_missing_is_attached_to_the_role():
    decisions = in_turn(*({"EvaluationResults": [decision("implicitDeny")]},) * ASKED, {"EvaluationResults": []})
    aws = Aws({"iam:SimulatePrincipalPolicy": decisions, "iam:PutRolePolicy": {}})
    ensured = permissions.ensure_policy(aws.client("iam"), workshop(), "notebook-uploads", sleep=pytest.fail)
    assert (ensured.name, ensured.created) == ("demo-exp-notebook-uploads", True)
    (put,) = aws.asked("iam:PutRolePolicy")
    assert put["RoleName"] == ROLE.rpartition("/")[2]
    assert json.loads(put["PolicyDocument"])["Statement"] == permissions.upload_statements(workshop())


def test_the_managed_policy_is_made_and_attached_and_an_existing_one_gets_a_new_version():
    denied, allowed = {"EvaluationResults": [decision("implicitDeny")]}, {"EvaluationResults": []}
    asked = sum(
        len(one["Resource"]) * len(one.get("Condition", {}).get("StringEquals", {}).get("iam:PassedToService", [1]))
        for one in permissions.processing_statements(workshop())
    )
    exists = refuse("EntityAlreadyExists", status=409)
    for create, versions in (({}, 0), (exists, 1)):
        aws = Aws({
            "iam:SimulatePrincipalPolicy": in_turn(*(denied,) * asked, allowed),
            "iam:CreatePolicy": create,
            "iam:ListPolicyVersions": {"Versions": []},
            "iam:CreatePolicyVersion": {},
            "iam:AttachRolePolicy": {},
        })  # fmt: skip
        name = permissions.MANAGED_POLICY
        assert permissions.ensure_policy(aws.client("iam"), workshop(), name, sleep=pytest.fail).created
        assert len(aws.asked("iam:CreatePolicyVersion")) == versions
        (attached,) = aws.asked("iam:AttachRolePolicy")
        assert attached["PolicyArn"] == f"arn:aws:iam::{ACCOUNT}:policy/demo-exp-notebook-processing"


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

"""The AWS managed policies that we add are well formed and grant what AWS's grant."""

import fnmatch
import re
from typing import Any

import boto3
import pytest
from botocore.loaders import Loader

from helpers.local_aws.policies import MANAGED

STATEMENTS = [
    pytest.param(statement, id=f"{name}-{number}")
    for name, (_, document) in MANAGED.items()
    for number, statement in enumerate(document["Statement"])
]


def allowed(policy: str, action: str, resource: str = "*") -> list[dict[str, Any]]:
    """Return the statements that name this action on this resource, whatever their condition."""
    return [
        statement
        for statement in MANAGED[policy][1]["Statement"]
        if any(fnmatch.fnmatchcase(action, pattern) for pattern in statement["Action"])
        and any(fnmatch.fnmatchcase(resource, pattern) for pattern in as_list(statement.get("Resource", "*")))
        and not any(fnmatch.fnmatchcase(resource, pattern) for pattern in statement.get("NotResource", []))
    ]


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_the_policies_that_people_name_are_there_with_a_path() -> None:
    assert set(MANAGED) == {
        "AWSCodeCommitFullAccess",
        "AWSCodeCommitPowerUser",
        "AWSCodeCommitReadOnly",
        "AWSLambda_FullAccess",
        "AWSStepFunctionsFullAccess",
        "AmazonSSMManagedInstanceCore",
        "AmazonSageMakerFullAccess",
    }
    assert {path for path, _ in MANAGED.values()} == {"/"}
    assert {document["Version"] for _, document in MANAGED.values()} == {"2012-10-17"}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_statement_is_well_formed(statement: dict[str, Any]) -> None:
    assert statement.keys() <= {"Sid", "Effect", "Action", "Resource", "NotResource", "Condition"}
    assert statement["Effect"] == "Allow"
    assert ("Resource" in statement) != ("NotResource" in statement)
    assert re.fullmatch(r"[A-Za-z0-9]+", statement.get("Sid", "none"))
    assert statement["Action"]
    assert all(re.fullmatch(r"[a-z0-9-]+:(\*|[A-Z][A-Za-z0-9]*\*?)", action) for action in statement["Action"])
    for resource in as_list(statement.get("Resource", statement.get("NotResource", "*"))):
        assert resource == "*" or re.fullmatch(r"arn:aws:[a-z0-9-]+:\*?:\*?:\S+", resource)


def test_statement_ids_are_unique_in_a_policy() -> None:
    for name, (_, document) in MANAGED.items():
        sids = [statement["Sid"] for statement in document["Statement"] if "Sid" in statement]
        assert len(sids) == len(set(sids)), name


@pytest.mark.parametrize("service", ["codecommit", "sagemaker", "logs", "sns", "events", "secretsmanager"])
def test_every_action_is_one_of_the_service(service: str) -> None:
    operations = set(Loader().load_service_model(service, "service-2")["operations"])
    operations |= {"GitPull", "GitPush"} if service == "codecommit" else set()
    # Permissions of CloudWatch Logs without an operation of that name.
    operations |= (
        {f"{verb}LogDelivery" for verb in ("Create", "Delete", "Get", "Update")} if service == "logs" else set()
    )
    operations |= {"ListLogDeliveries", "StopLiveTail"} if service == "logs" else set()
    for _, document in MANAGED.values():
        for action in (a for statement in document["Statement"] for a in statement["Action"]):
            if action.startswith(f"{service}:"):
                assert fnmatch.filter(operations, action.partition(":")[2]), action


def test_a_codecommit_power_user_may_all_but_delete_repositories() -> None:
    repository = "arn:aws:codecommit:us-east-1:123456789012:r"
    for action in (
        "CreateRepository",
        "GitPush",
        "PutRepositoryTriggers",
        "PostCommentForComparedCommit",
        "DeleteFile",
    ):
        assert allowed("AWSCodeCommitPowerUser", f"codecommit:{action}", repository), action
    assert not allowed("AWSCodeCommitPowerUser", "codecommit:DeleteRepository", repository)
    assert allowed("AWSCodeCommitFullAccess", "codecommit:DeleteRepository", repository)
    assert not allowed("AWSCodeCommitReadOnly", "codecommit:GitPush", repository)


def test_roles_may_be_passed_to_the_policys_own_service_only() -> None:
    role = "arn:aws:iam::123456789012:role/any"
    for policy, service in (("AWSLambda_FullAccess", "lambda"), ("AmazonSageMakerFullAccess", "sagemaker")):
        (statement,) = allowed(policy, "iam:PassRole", role)
        assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": f"{service}.amazonaws.com"}}


def test_sagemaker_full_access_reaches_jobs_but_not_any_bucket() -> None:
    job = "arn:aws:sagemaker:us-east-1:123456789012:processing-job/j"
    assert allowed("AmazonSageMakerFullAccess", "sagemaker:CreateProcessingJob", job)
    assert not allowed("AmazonSageMakerFullAccess", "sagemaker:DeleteDomain", "arn:aws:sagemaker:us-east-1:1:domain/d")
    unconditional = [
        s for s in allowed("AmazonSageMakerFullAccess", "s3:GetObject", "arn:aws:s3:::any/x") if "Condition" not in s
    ]
    assert unconditional == []
    assert allowed("AmazonSageMakerFullAccess", "s3:PutObject", "arn:aws:s3:::my-sagemaker-bucket/x")


def test_boto3_knows_every_service_that_is_named() -> None:
    prefixes = {a.partition(":")[0] for _, d in MANAGED.values() for s in d["Statement"] for a in s["Action"]}
    renamed = {"elasticfilesystem": "efs", "tag": "resourcegroupstaggingapi", "states": "stepfunctions"}
    prefixes -= {"ssmmessages", "ec2messages"}  # what the agent on an instance talks to: no SDK has them
    assert {renamed.get(prefix, prefix) for prefix in prefixes} <= set(boto3.Session().get_available_services())


def test_session_manager_may_read_parameters_but_change_none() -> None:
    policy = "AmazonSSMManagedInstanceCore"
    for action in ("ssm:GetParameter", "ssm:UpdateInstanceInformation", "ssmmessages:OpenDataChannel"):
        assert allowed(policy, action), action
    for action in ("ssm:PutParameter", "ssm:SendCommand", "ssm:StartSession", "ec2:TerminateInstances"):
        assert not allowed(policy, action), action

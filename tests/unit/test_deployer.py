"""What CloudFormation may do for the stack of notebook 07, in the order in which AWS's own handlers do it."""

from fnmatch import fnmatchcase
from typing import Any

import pytest
from answers import ACCOUNT, REGION

from helpers import deployer, roles
from helpers.connection import LONGEST_PREFIX, Connection

GROUP = f"arn:aws:ec2:{REGION}:{ACCOUNT}:security-group/sg-1"
OWN = {"aws:ResourceTag/workshop": "demo-exp"}
ANOTHERS = {"aws:ResourceTag/workshop": "of-others"}
RULES = ("ec2:AuthorizeSecurityGroupEgress", "ec2:RevokeSecurityGroupEgress", "ec2:DeleteSecurityGroup")


def statements(prefix: str = "demo-exp") -> list[dict[str, Any]]:
    workshop = Connection(
        "aws", REGION, ACCOUNT, f"arn:aws:iam::{ACCOUNT}:role/x", prefix=prefix, project="a-project-of-16c"
    )
    bucket = workshop.bucket_for("units")
    return deployer.deployer_statements(workshop, workshop.name("ec2-worker"), bucket=bucket, code_key="functions/*")


def holds(operator: str, key: str, wanted: Any, context: dict[str, str]) -> bool:
    if key not in context:
        return operator.endswith("IfExists")
    return context[key] in (wanted if isinstance(wanted, list) else [wanted])


def allowed(action: str, resource: str, context: dict[str, str], prefix: str = "demo-exp") -> bool:
    return any(
        action in one["Action"]
        and any(fnmatchcase(resource, pattern) for pattern in one["Resource"])
        and all(
            holds(operator, key, wanted, context)
            for operator, test in one.get("Condition", {}).items()
            for key, wanted in test.items()
        )
        for one in statements(prefix)
    )


@pytest.mark.parametrize("action", RULES)
def test_a_new_group_has_no_tag_while_its_rules_are_made(action: str) -> None:
    assert allowed(action, GROUP, {})
    assert allowed(action, GROUP, OWN)
    assert not allowed(action, GROUP, ANOTHERS)


def test_a_new_group_is_tagged_by_a_call_of_its_own() -> None:
    request = {"aws:RequestTag/workshop": "demo-exp"}
    assert allowed("ec2:CreateTags", GROUP, request)
    assert allowed("ec2:CreateTags", GROUP, request | {"ec2:CreateAction": "CreateSecurityGroup"})
    assert allowed("ec2:CreateTags", GROUP, {**OWN, "aws:RequestTag/other": "x"})
    assert not allowed("ec2:CreateTags", GROUP, request | ANOTHERS)
    assert not allowed("ec2:CreateTags", GROUP, {"aws:RequestTag/workshop": "of-others"})
    assert not allowed("ec2:DeleteTags", GROUP, {})


@pytest.mark.parametrize("prefix", ["demo-exp", "a" * LONGEST_PREFIX])
@pytest.mark.parametrize("resource", ["RegisterRole", "Register", "Schedule"])
def test_names_that_cloudformation_cuts_are_covered(prefix: str, resource: str) -> None:
    stack = f"{prefix}-ec2-worker"
    name = f"{stack[: 64 - len(resource) - 14]}-{resource}-1ABCDEF2GHIJ"
    action, arn = {
        "RegisterRole": ("iam:CreateRole", f"arn:aws:iam::{ACCOUNT}:role/{name}"),
        "Register": ("lambda:CreateFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"),
        "Schedule": ("events:PutRule", f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{name}"),
    }[resource]
    assert len(name) <= 64
    assert allowed(action, arn, {}, prefix)


def test_the_policy_fits_a_role() -> None:
    document = roles.policy_json(statements("a" * LONGEST_PREFIX))
    assert len("".join(document.split())) < 10_240

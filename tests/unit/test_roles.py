"""Roles: made, brought up to date, deleted; and what IAM's simulator says is missing."""

import json

import pytest
from answers import ACCOUNT, Aws, in_turn, refuse
from botocore.exceptions import ClientError

from helpers import roles

ARN = f"arn:aws:iam::{ACCOUNT}:role/demo-exp-jobs"
ROLE = {
    "Role": {
        "Path": "/",
        "RoleName": "demo-exp-jobs",
        "RoleId": "AROAEXAMPLE",
        "Arn": ARN,
        "CreateDate": "2026-01-01T00:00:00Z",
    }
}
STATEMENTS = [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]
TAGS = [{"Key": "workshop", "Value": "demo-exp"}]


def ensure(aws):
    return roles.ensure_role(
        aws.client("iam"), "demo-exp-jobs", trusted="sagemaker.amazonaws.com", statements=STATEMENTS, tags=TAGS
    )


def test_a_new_role_trusts_its_service_and_carries_tag_and_policy():
    aws = Aws({"iam:CreateRole": ROLE, "iam:PutRolePolicy": {}})
    made = ensure(aws)
    assert (made.arn, made.created, str(made)) == (ARN, True, "demo-exp-jobs: created")
    create, put = (params for _, params in aws.calls)
    trust = json.loads(create["AssumeRolePolicyDocument"])["Statement"]
    assert [statement["Principal"] for statement in trust] == [{"Service": "sagemaker.amazonaws.com"}]
    assert create["Tags"] == TAGS
    assert json.loads(put["PolicyDocument"]) == {"Version": "2012-10-17", "Statement": STATEMENTS}


def test_an_existing_role_gets_todays_trust_and_policy():
    aws = Aws(
        {
            "iam:CreateRole": refuse("EntityAlreadyExists", status=409),
            "iam:UpdateAssumeRolePolicy": {},
            "iam:GetRole": ROLE,
            "iam:PutRolePolicy": {},
        }
    )
    found = ensure(aws)
    assert (found.arn, found.created) == (ARN, False)
    assert (
        aws.asked("iam:UpdateAssumeRolePolicy")[0]["PolicyDocument"]
        == (aws.asked("iam:CreateRole")[0]["AssumeRolePolicyDocument"])
    )
    assert len(aws.asked("iam:PutRolePolicy")) == 1


def test_another_refusal_is_not_taken_for_an_existing_role():
    aws = Aws({"iam:CreateRole": refuse("LimitExceeded", "Cannot exceed quota for RolesPerAccount", 409)})
    with pytest.raises(ClientError, match="LimitExceeded"):
        ensure(aws)


def test_a_role_is_deleted_with_what_is_attached_to_it():
    attached = {"PolicyName": "IAMFullAccess", "PolicyArn": "arn:aws:iam::aws:policy/IAMFullAccess"}
    aws = Aws(
        {
            "iam:ListAttachedRolePolicies": {"AttachedPolicies": [attached]},
            "iam:DetachRolePolicy": {},
            "iam:ListRolePolicies": {"PolicyNames": ["one", "two"]},
            "iam:DeleteRolePolicy": {},
            "iam:DeleteRole": {},
        }
    )
    assert roles.delete_role(aws.client("iam"), "demo-exp-jobs")
    assert aws.names()[-1] == "iam:DeleteRole"
    assert [params["PolicyName"] for params in aws.asked("iam:DeleteRolePolicy")] == ["one", "two"]
    assert len(aws.asked("iam:DetachRolePolicy")) == 1


def test_deleting_a_role_that_is_gone_is_no_error():
    aws = Aws({"iam:ListAttachedRolePolicies": refuse("NoSuchEntity", status=404)})
    assert not roles.delete_role(aws.client("iam"), "demo-exp-jobs")


def simulation(decide):
    """Return a simulator: ``decide(action, resource, context)`` says whether it is allowed."""

    def answer(params):
        context = {entry["ContextKeyName"]: entry["ContextKeyValues"] for entry in params["ContextEntries"]}
        results = [
            {
                "EvalActionName": action,
                "EvalResourceName": resource,
                "EvalDecision": "allowed" if decide(action, resource, context) else "implicitDeny",
            }
            for action in params["ActionNames"]
            for resource in params["ResourceArns"]
        ]
        return {"EvaluationResults": results, "IsTruncated": False}

    return Aws({"iam:SimulatePrincipalPolicy": answer})


def missing(aws, *statements):
    return roles.find_missing_actions(aws.client("iam"), ARN, statements)


def test_each_action_that_is_not_allowed_is_named_with_its_resource():
    aws = simulation(lambda action, resource, context: action != "s3:PutObject")
    statement = {"Action": ["s3:GetObject", "s3:PutObject"], "Resource": ["arn:aws:s3:::b/*"]}
    assert missing(aws, statement) == ["s3:PutObject on arn:aws:s3:::b/*"]


def test_a_pattern_is_tried_with_a_name_that_it_covers():
    aws = simulation(lambda action, resource, context: True)
    assert missing(aws, {"Action": "states:ListStateMachines", "Resource": "*"}) == []
    assert missing(aws, {"Action": "states:StopExecution", "Resource": "arn:aws:states:r:1:execution:demo-*:*"}) == []
    tried = [params["ResourceArns"] for params in aws.asked("iam:SimulatePrincipalPolicy")]
    assert tried == [["*"], ["arn:aws:states:r:1:execution:demo-any:any"]]


def test_a_conditions_values_are_tried_one_at_a_time_because_a_request_has_one():
    services = ["lambda.amazonaws.com", "states.amazonaws.com"]
    statement = {
        "Action": ["iam:PassRole"],
        "Resource": [ARN],
        "Condition": {"StringEquals": {"iam:PassedToService": services}},
    }
    aws = simulation(lambda action, resource, context: context["iam:PassedToService"] != services[1:])
    assert missing(aws, statement) == [f"iam:PassRole on {ARN}"]
    contexts = [params["ContextEntries"][0] for params in aws.asked("iam:SimulatePrincipalPolicy")]
    assert [context["ContextKeyValues"] for context in contexts] == [[service] for service in services]
    assert {context["ContextKeyType"] for context in contexts} == {"string"}


def test_an_answer_in_two_pages_is_read_to_its_end():
    denied = {"EvalActionName": "s3:GetObject", "EvalDecision": "explicitDeny"}
    pages = in_turn(
        {"EvaluationResults": [], "IsTruncated": True, "Marker": "more"},
        {"EvaluationResults": [denied], "IsTruncated": False},
    )
    aws = Aws({"iam:SimulatePrincipalPolicy": pages})
    assert missing(aws, *STATEMENTS) == ["s3:GetObject on *"]


def test_waiting_for_actions_asks_again_until_nothing_is_missing() -> None:
    class Pages:
        def __init__(self) -> None:
            self.decisions = ["implicitDeny", "implicitDeny", "allowed"]

        def get_paginator(self, name: str) -> "Pages":
            assert name == "simulate_principal_policy"
            return self

        def paginate(self, **arguments: object) -> list[dict]:
            decision = self.decisions.pop(0)
            return [{"EvaluationResults": [{"EvalActionName": "s3:GetObject", "EvalDecision": decision}]}]

    pauses: list[float] = []
    wanted = [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]
    assert roles.wait_for_actions(Pages(), "arn:aws:iam::1:role/r", wanted, sleep=pauses.append) == []
    assert pauses == [5, 5]
    never = Pages()
    never.decisions = ["implicitDeny"] * 9
    missing = roles.wait_for_actions(never, "arn:aws:iam::1:role/r", wanted, seconds=10, sleep=pauses.append)
    assert missing == ["s3:GetObject on *"]

"""Each thing that is missing is named, with the way to mend it."""

import importlib.util
import shutil
import sys

import boto3
import pytest
from answers import ACCOUNT, Aws, refuse
from botocore.exceptions import EndpointConnectionError

from helpers import prerequisites
from helpers.connection import Connection

ROLE = f"arn:aws:iam::{ACCOUNT}:role/service-role/Studio"
QUOTA = "ml.t3.medium for processing job usage"
NO_QUOTAS = {"Quotas": []}
DENIED = refuse("AccessDeniedException", "is not authorized to perform")


def quota(value):
    return {"Quotas": [{"QuotaName": "another", "Value": 0.0}, {"QuotaName": QUOTA, "Value": value}]}


def allowed(*denied):
    def simulate(params):
        results = [
            {"EvalActionName": action, "EvalDecision": "implicitDeny" if action in denied else "allowed"}
            for action in params["ActionNames"]
        ]
        return {"EvaluationResults": results, "IsTruncated": False}

    return simulate


@pytest.fixture
def check(monkeypatch):
    """Check an account where all is well except for the ``answers`` given. Returns name -> (ok, remedy)."""

    def run(target="aws", role_arn=ROLE, **answers):
        aws = Aws(
            {
                "iam:SimulatePrincipalPolicy": allowed(),
                "codecommit:ListRepositories": {"repositories": []},
                "lambda:ListFunctions": {"Functions": []},
                "stepfunctions:ListStateMachines": {"stateMachines": []},
                "sagemaker:ListProcessingJobs": {"ProcessingJobSummaries": []},
                "service-quotas:ListServiceQuotas": quota(4.0),
                **{name.replace("__", ":").replace("_", "-"): answer for name, answer in answers.items()},
            }
        )
        monkeypatch.setattr(boto3, "client", aws.client)
        table = prerequisites.check(Connection(target, "us-east-1", ACCOUNT, role_arn))
        return {name: (row.ok, row.remedy) for name, row in table.iterrows()}

    return run


def test_where_all_is_well_every_line_says_yes_and_nothing_else(check):
    for target in ("aws", "local"):
        assert set(check(target).values()) == {("yes", "")}


def test_a_missing_package_is_named(check, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "yaml" else find(name))
    assert check()["Python packages"] == ("no", "install yaml")


def test_missing_programs_are_named(check, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    found = check()
    assert found["git"] == ("no", "install git")
    assert found["AWS CLI, for git"][0] == "no"


def test_a_role_that_may_change_itself_needs_nothing_else(check):
    assert check(iam__SimulatePrincipalPolicy=allowed("s3:CreateBucket"))["permissions"] == ("yes", "")


def test_a_role_that_may_not_is_told_every_action_it_lacks(check):
    lacks = allowed("iam:PutRolePolicy", "s3:CreateBucket", "states:StopExecution")
    ok, remedy = check(iam__SimulatePrincipalPolicy=lacks)["permissions"]
    assert ok == "no"
    assert f"s3:CreateBucket on arn:aws:s3:::demo-exp-project1-{ACCOUNT}" in remedy
    assert "states:StopExecution" in remedy
    assert "notebook 02, step 0" in remedy


def test_a_user_cannot_be_given_a_roles_policy(check):
    user = f"arn:aws:iam::{ACCOUNT}:user/dana"
    found = check(role_arn=user, iam__SimulatePrincipalPolicy=allowed("s3:CreateBucket"))
    assert found["permissions"][0] == "no"


def test_a_role_that_may_not_ask_is_told_to_be_allowed_to(check):
    ok, remedy = check(iam__SimulatePrincipalPolicy=refuse("AccessDenied", status=403))["permissions"]
    assert ok == "no"
    assert "iam:SimulatePrincipalPolicy" in remedy


def test_a_refusal_for_want_of_permission_is_a_services_answer(check):
    assert check(codecommit__ListRepositories=DENIED)["service codecommit"] == ("yes", "")


def test_a_service_that_this_account_has_not_got_is_named(check):
    ok, remedy = check(sagemaker__ListProcessingJobs=refuse("SubscriptionRequiredException"))["service sagemaker"]
    assert ok == "no"
    assert "SubscriptionRequiredException in us-east-1" in remedy


def test_a_service_that_this_region_has_not_got_is_named(check):
    def nowhere(params):
        raise EndpointConnectionError(endpoint_url="https://codecommit.example")

    ok, remedy = check(codecommit__ListRepositories=nowhere)["service codecommit"]
    assert ok == "no"
    assert "choose another region" in remedy


NAME = "quota: ml.t3.medium for processing jobs"


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_quota_of_nothing_is_said_before_a_job_runs_into_it(check, value):
    ok, remedy = check(service_quotas__ListServiceQuotas=quota(value))[NAME]
    assert ok == ("yes" if value else "no")
    assert (QUOTA in remedy) == (not value)


def test_an_account_without_a_quota_of_its_own_has_the_default_one(check):
    answers = {"service_quotas__ListServiceQuotas": NO_QUOTAS}
    assert check(**answers, service_quotas__ListAWSDefaultServiceQuotas=quota(4.0))[NAME] == ("yes", "")
    assert check(**answers, service_quotas__ListAWSDefaultServiceQuotas=quota(0.0))[NAME][0] == "no"


def test_a_quota_that_may_not_be_read_is_unknown_and_not_missing(check):
    ok, remedy = check(service_quotas__ListServiceQuotas=DENIED)[NAME]
    assert ok == "unknown"
    assert "notebook 02, step 0" in remedy

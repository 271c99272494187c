"""Where calls go, who makes them, and which names are refused before anything is made."""

import json
from pathlib import Path

import boto3
import pytest
from answers import ACCOUNT, Aws, refuse

from helpers import connection
from helpers.connection import Connection, ConnectionProblem, choose_target, find_principal

ROLE = f"arn:aws:iam::{ACCOUNT}:role/service-role/Studio"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/Studio/SageMaker"
HERE = {"region": "us-east-1", "account_id": ACCOUNT, "role_arn": ROLE}


@pytest.fixture
def on_aws(monkeypatch, tmp_path):
    """An environment that chooses AWS, with nobody's own settings in it."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "WORKSHOP_PREFIX", "WORKSHOP_PROJECT", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_REGION", "")
    monkeypatch.setenv("WORKSHOP_TARGET", "aws")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    return monkeypatch


def answered_by(monkeypatch, **answers):
    aws = Aws({name.replace("_", ":"): answer for name, answer in answers.items()})
    monkeypatch.setattr(boto3.session.Session, "client", lambda session, service: aws.client(service))
    return aws


def test_the_environment_wins_over_studio(tmp_path):
    metadata = tmp_path / "resource-metadata.json"
    metadata.write_text("{}")
    assert choose_target({"WORKSHOP_TARGET": "local"}, metadata) == "local"
    assert choose_target({"WORKSHOP_TARGET": "aws"}, tmp_path / "none") == "aws"


def test_without_a_word_studio_means_aws_and_elsewhere_means_local(tmp_path):
    metadata = tmp_path / "resource-metadata.json"
    assert choose_target({}, metadata) == "local"
    assert choose_target({"WORKSHOP_TARGET": ""}, metadata) == "local"
    metadata.write_text("{}")
    assert choose_target({}, metadata) == "aws"


def test_an_unknown_target_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(ConnectionProblem, match="'AWS'; it can be 'aws' or 'local'"):
        choose_target({"WORKSHOP_TARGET": "AWS"}, tmp_path / "none")


def test_on_aws_the_session_tells_region_account_and_user(on_aws, capsys):
    user = f"arn:aws:iam::{ACCOUNT}:user/dana"
    answered_by(on_aws, sts_GetCallerIdentity={"Account": ACCOUNT, "Arn": user})
    on_aws.setenv("WORKSHOP_PREFIX", "dana")
    found = connection.connect()
    assert (found.target, found.region, found.account_id, found.role_arn) == ("aws", "eu-central-1", ACCOUNT, user)
    assert found.bucket == f"dana-project1-{ACCOUNT}"
    assert capsys.readouterr().out.count("\n") == 1


def test_connecting_to_aws_creates_nothing(on_aws):
    aws = answered_by(on_aws, sts_GetCallerIdentity={"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/dana"})
    connection.connect()
    assert aws.names() == ["sts:GetCallerIdentity"]


def test_a_kernel_that_was_connected_to_the_embedded_aws_is_refused(on_aws):
    on_aws.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    with pytest.raises(ConnectionProblem, match="restart it"):
        connection.connect()


def test_no_region_is_said_plainly(on_aws):
    on_aws.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(ConnectionProblem, match="AWS_DEFAULT_REGION"):
        connection.connect()


def test_credentials_that_have_expired_are_said_plainly(on_aws):
    answered_by(on_aws, sts_GetCallerIdentity=refuse("ExpiredToken", "The security token is expired", 403))
    with pytest.raises(ConnectionProblem, match=r"sign in first.*expired"):
        connection.connect()


def test_another_partition_is_refused(on_aws):
    answered_by(on_aws, sts_GetCallerIdentity={"Account": ACCOUNT, "Arn": f"arn:aws-cn:iam::{ACCOUNT}:user/dana"})
    with pytest.raises(ConnectionProblem, match="commercial regions"):
        connection.connect()


def test_nothing_that_was_set_for_aws_leads_away_from_this_machine():
    environment = {
        "AWS_PROFILE": "work",
        "AWS_SESSION_TOKEN": "token",
        "AWS_ENDPOINT_URL_S3": "https://s3.example.com",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "HTTP_PROXY": "http://proxy.example.com:3128",
        "NO_PROXY": "internal.example.com",
        "HOME": "/home/dana",
    }
    for _ in range(2):
        connection.forget_other_endpoints(environment)
    assert environment == {
        "HTTP_PROXY": "http://proxy.example.com:3128",
        "NO_PROXY": "internal.example.com,127.0.0.1",
        "no_proxy": "internal.example.com,127.0.0.1",
        "HOME": "/home/dana",
    }


def test_studios_own_note_gives_the_role_with_its_path(tmp_path):
    metadata = tmp_path / "resource-metadata.json"
    metadata.write_text(json.dumps({"ExecutionRoleArn": ROLE}))
    assert find_principal(Aws({}), SESSION, metadata) == ROLE


def test_with_other_credentials_in_studio_its_note_is_not_believed(tmp_path):
    metadata = tmp_path / "resource-metadata.json"
    metadata.write_text(json.dumps({"ExecutionRoleArn": ROLE}))
    other = f"arn:aws:iam::{ACCOUNT}:role/teams/Other"
    aws = Aws({"iam:GetRole": lambda params: _role(params["RoleName"], other)})
    assert find_principal(aws, SESSION.replace("Studio", "Other"), metadata) == other
    assert aws.calls == [("iam:GetRole", {"RoleName": "Other"})]


def test_without_a_note_iam_gives_the_role_with_its_path(tmp_path):
    aws = Aws({"iam:GetRole": _role("Studio", ROLE)})
    assert find_principal(aws, SESSION, tmp_path / "none") == ROLE


def test_a_role_that_may_not_look_itself_up_is_told_what_it_needs(tmp_path):
    aws = Aws({"iam:GetRole": refuse("AccessDenied", "not authorized to perform: iam:GetRole", 403)})
    with pytest.raises(ConnectionProblem, match="allow it iam:GetRole on itself"):
        find_principal(aws, SESSION, tmp_path / "none")


def test_root_is_refused_because_no_policy_can_be_given_to_it(tmp_path):
    with pytest.raises(ConnectionProblem, match="IAM role or an IAM user"):
        find_principal(Aws({}), f"arn:aws:iam::{ACCOUNT}:root", tmp_path / "none")


@pytest.mark.parametrize("value", ["Demo", "demo_exp", "demo.exp", "-demo", "demo-", "demo--exp", "", "démo"])
def test_names_that_a_service_would_refuse_are_refused_at_once(value):
    with pytest.raises(ConnectionProblem, match="WORKSHOP_PREFIX"):
        Connection("aws", **HERE, prefix=value)
    with pytest.raises(ConnectionProblem, match="WORKSHOP_PROJECT"):
        Connection("aws", **HERE, project=value)


def test_names_that_are_too_long_are_refused_at_once():
    assert len(Connection("aws", **HERE, prefix="a" * 32, project="b" * 17).bucket) == 63
    with pytest.raises(ConnectionProblem, match="at most 32"):
        Connection("aws", **HERE, prefix="a" * 33)
    with pytest.raises(ConnectionProblem, match="64 characters; S3 takes 63"):
        Connection("aws", **HERE, prefix="a" * 32, project="b" * 18)


def test_names_that_s3_reserves_are_refused():
    with pytest.raises(ConnectionProblem, match="S3 keeps"):
        Connection("aws", **HERE, prefix="sthree")


def test_the_longest_names_fit_what_the_services_take():
    longest = Connection("aws", **HERE, prefix="a" * 32)
    assert len(longest.name("pipeline-dispatcher")) <= 64  # a function, and its role's session
    assert len(longest.name("preprocess-train-predict-evaluate")) <= 80  # a state machine


def test_tags_come_in_the_spelling_of_each_service():
    workshop = Connection("aws", **HERE)
    assert workshop.tags == {"workshop": "demo-exp"}
    assert workshop.tag_list == [{"Key": "workshop", "Value": "demo-exp"}]
    assert workshop.state_tags == [{"key": "workshop", "value": "demo-exp"}]


def test_clones_on_aws_go_where_git_ignores_them():
    assert Connection("aws", **HERE).work_dir == Path(connection.__file__).parents[1] / "build" / "work"


def _role(name, arn):
    return {"Role": {"RoleName": name, "Arn": arn}}

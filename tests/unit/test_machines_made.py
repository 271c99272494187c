"""State machines and log groups are made once, and brought up to date afterwards."""

import json

import boto3
import pytest
from answers import ACCOUNT, REGION, Aws, in_turn, refuse

from helpers import loggroups, machines

ARN = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:demo-exp-any"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/demo-exp-any"
DEFINITION = {"StartAt": "end", "States": {"end": {"Type": "Succeed"}}}
NOT_YET = refuse("AccessDeniedException", "Neither the global service principal states.amazonaws.com, nor the regional"
                 " one is authorized to assume the provided role.")  # fmt: skip


@pytest.fixture
def aws(monkeypatch):
    """Return a function that makes an account of answers."""

    def make(answers):
        account = Aws(answers)
        monkeypatch.setattr(boto3, "client", account.client)
        return account

    return make


def test_a_machine_is_created_once_its_role_is_known(aws):
    waits: list[float] = []
    account = aws({
        "stepfunctions:ListStateMachines": {"stateMachines": []},
        "stepfunctions:CreateStateMachine": in_turn(NOT_YET, {"stateMachineArn": ARN, "creationDate": 0}),
    })  # fmt: skip
    made = machines.ensure_state_machine(
        boto3.client("stepfunctions"), "demo-exp-any", DEFINITION, role_arn=ROLE, sleep=waits.append
    )
    assert (made.arn, made.created, len(waits)) == (ARN, True, 1)
    assert json.loads(account.calls[-1][1]["definition"]) == DEFINITION


def test_a_machine_that_is_there_is_brought_up_to_date(aws):
    there = {"name": "demo-exp-any", "stateMachineArn": ARN, "type": "STANDARD", "creationDate": 0}
    account = aws({
        "stepfunctions:ListStateMachines": {"stateMachines": [there]},
        "stepfunctions:UpdateStateMachine": {"updateDate": 0},
    })  # fmt: skip
    made = machines.ensure_state_machine(boto3.client("stepfunctions"), "demo-exp-any", DEFINITION, role_arn=ROLE)
    assert (made.arn, made.created) == (ARN, False)
    assert [name for name, _ in account.calls][-1] == "stepfunctions:UpdateStateMachine"


@pytest.mark.parametrize(
    ("answer", "created"), [({}, True), (refuse("ResourceAlreadyExistsException"), False)], ids=["new", "found"]
)
def test_a_log_group_keeps_its_events_for_a_week(aws, answer, created):
    account = aws({"logs:CreateLogGroup": answer, "logs:PutRetentionPolicy": {}})
    assert loggroups.ensure_log_group(boto3.client("logs"), "/ecs/any", tags={"workshop": "demo-exp"}) is created
    assert account.calls[-1][1] == {"logGroupName": "/ecs/any", "retentionInDays": 7}


def test_lines_are_found_behind_a_page_without_any(aws):
    def page(token, *lines):
        events = [{"timestamp": 0, "message": line, "ingestionTime": 0} for line in lines]
        return {"events": events, "nextBackwardToken": token, "nextForwardToken": "f"}

    account = aws({"logs:GetLogEvents": in_turn(page("b1"), page("b2", "two", "three"), page("b2", "one"))})
    assert loggroups.tail(boto3.client("logs"), "/ecs/any", "stream", lines=9) == ["one", "two", "three"]
    assert [params.get("nextToken") for _, params in account.calls] == [None, "b1", "b2"]


def test_a_stream_that_is_not_there_has_no_lines(aws):
    aws({"logs:GetLogEvents": refuse("ResourceNotFoundException")})
    assert loggroups.tail(boto3.client("logs"), "/ecs/any", "stream") == []

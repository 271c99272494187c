"""The function behind the API: one execution for each part and run, and clear answers to everything else."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from answers import Aws, refuse
from function_modules import load_function

from helpers import functions

(start,) = load_function(functions.SOURCES / "activity_start", "lambda_function")
EVENT = json.loads((Path(__file__).parent / "events" / "api_start.json").read_text())
BUCKET = "demo-exp-processing-123456789012"
MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:demo-exp-activity"
ARN = MACHINE.replace("stateMachine", "execution") + ":x"
STARTED = {"executionArn": ARN, "startDate": 0}


def event(body: Any = None, **wanted: Any) -> dict[str, Any]:
    """Return a request for parts/part-7.csv in the run first, or with what is given."""
    told = {"key": "parts/part-7.csv", "run": "first", **wanted}
    return {**EVENT, "body": json.dumps({k: v for k, v in told.items() if v is not None} if body is None else body)}


def test_a_request_starts_an_execution_named_after_run_and_part() -> None:
    plan = start.plan(EVENT, BUCKET)
    assert plan.input == {"bucket": BUCKET, "key": "parts/part-7.csv", "run": "first"}
    assert re.fullmatch("first-part-7-[0-9a-f]{12}", plan.name)
    assert start.plan(event(bucket=BUCKET), BUCKET) == plan


def test_another_run_or_part_is_another_execution() -> None:
    names = {start.plan(event(**more), BUCKET).name for more in ({}, {"run": "second"}, {"key": "parts/part-8.csv"})}
    assert len(names) == 3


def test_a_run_without_a_name_is_named_after_the_request() -> None:
    plan = start.plan(event(run=None), BUCKET)
    assert re.fullmatch("run-[0-9a-f]{10}", plan.input["run"])
    assert plan == start.plan(event(run=None), BUCKET)


def test_names_are_as_long_as_step_functions_allows() -> None:
    plan = start.plan(event(run="r" * 40, key=f"parts/{'p' * 100}.csv"), BUCKET)
    assert len(plan.name) == 80


def test_a_body_may_come_in_base64() -> None:
    encoded = {**EVENT, "body": base64.b64encode(EVENT["body"].encode()).decode(), "isBase64Encoded": True}
    assert start.plan(encoded, BUCKET) == start.plan(EVENT, BUCKET)


def test_what_the_worker_is_to_get_wrong_is_handed_on() -> None:
    trials = {"fail": "no luck", "stall_seconds": 60, "slow_seconds": 0.5}
    assert start.plan(event(**trials), BUCKET).input.items() >= trials.items()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"bucket": "other"}, f"bucket must be {BUCKET}"),
        ({"key": None}, "key must name a part"),
        ({"key": 7}, "key must name a part"),
        ({"key": "models/model.csv"}, "key must name a part"),
        ({"key": "parts/../secret.csv"}, "key must name a part"),
        ({"key": "parts/a/b.csv"}, "key must name a part"),
        ({"key": "parts/part-1.json"}, "key must name a part"),
        ({"run": "a/b"}, "run must be"),
        ({"run": "x" * 41}, "run must be"),
        ({"run": ["x"]}, "run must be"),
        ({"token": "x"}, "a request has no token"),
        ({"fail": ""}, "fail must be"),
        ({"fail": 1}, "fail must be"),
        ({"stall_seconds": "1"}, "stall_seconds must be"),
        ({"stall_seconds": True}, "stall_seconds must be"),
        ({"slow_seconds": 601}, "slow_seconds must be"),
        ({"slow_seconds": -1}, "slow_seconds must be"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(start.BadRequest, match=re.escape(message)):
        start.plan(event(**wanted), BUCKET)


@pytest.mark.parametrize("body", [None, "", "no JSON", "[]", "7", "[" * 5000, '{"a": NaN'])
def test_a_body_that_is_no_object_is_refused(body: str | None) -> None:
    with pytest.raises(start.BadRequest, match="the body must be"):
        start.plan({**EVENT, "body": body}, BUCKET)


def test_the_answer_is_the_executions_arn() -> None:
    aws = Aws({"stepfunctions:StartExecution": STARTED})
    plan = start.plan(EVENT, BUCKET)
    answer = start.dispatch(plan, MACHINE, aws.client("stepfunctions"))
    assert (answer["statusCode"], json.loads(answer["body"])) == (202, {"execution": ARN})
    (asked,) = aws.asked("stepfunctions:StartExecution")
    assert asked == {"stateMachineArn": MACHINE, "name": plan.name, "input": json.dumps(plan.input)}


def test_a_part_that_was_worked_on_is_a_conflict() -> None:
    aws = Aws({"stepfunctions:StartExecution": refuse("ExecutionAlreadyExists")})
    answer = start.dispatch(start.plan(EVENT, BUCKET), MACHINE, aws.client("stepfunctions"))
    assert answer["statusCode"] == 409
    assert json.loads(answer["body"])["message"] == "parts/part-7.csv has been started in the run first"


def test_other_errors_are_lambdas_to_report() -> None:
    aws = Aws({"stepfunctions:StartExecution": refuse("AccessDeniedException")})
    client = aws.client("stepfunctions")
    with pytest.raises(client.exceptions.ClientError):
        start.dispatch(start.plan(EVENT, BUCKET), MACHINE, client)


def test_the_handler_answers_a_bad_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET", BUCKET)
    answer = start.lambda_handler(event(key="x"), None)
    assert answer["statusCode"] == 400
    assert "key must name a part" in json.loads(answer["body"])["message"]

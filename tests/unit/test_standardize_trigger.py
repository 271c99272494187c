"""The function that S3 invokes: one execution for each record of an object that was created."""

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber
from function_modules import load_function

from helpers import functions

(trigger,) = load_function(functions.SOURCES / "standardize_trigger", "lambda_function")
EVENTS = Path(__file__).with_name("events")
MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:demo-exp-standardize"
STARTED = {"executionArn": f"{MACHINE.replace('stateMachine', 'execution')}:x", "startDate": 0}


def event(name: str) -> dict[str, Any]:
    return json.loads((EVENTS / f"s3_{name}.json").read_text())


@pytest.fixture
def states() -> Any:
    return boto3.client("stepfunctions", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")


def expected(start: Any) -> dict[str, str]:
    return {"stateMachineArn": MACHINE, "name": start.name, "input": json.dumps(start.input)}


def test_a_put_starts_an_execution_with_the_s3_part_of_the_record() -> None:
    (start,) = trigger.plan(event("put")).starts
    assert start.input == event("put")["Records"][0]["s3"]
    assert len(start.name) == 24
    assert set(start.name) <= set("0123456789abcdef")


def test_a_key_is_decoded_as_s3_encodes_it() -> None:
    (start,) = trigger.plan(event("encoded_key")).starts
    assert start.input["object"]["key"] == start.key == "meta-data/für uns 100%/a+b/partition_7.csv"


def test_a_multipart_upload_starts_one_too() -> None:
    (start,) = trigger.plan(event("multipart_upload")).starts
    assert start.input["object"]["size"] == 500_000_000


def test_the_same_event_gives_the_same_name_and_any_other_write_another() -> None:
    def name(part: str = "object", **changes: str) -> str:
        changed = event("put")
        changed["Records"][0]["s3"][part] |= changes
        return trigger.plan(changed).starts[0].name

    assert name() == name()
    others = [
        name("bucket", name="other"),
        name(key="meta-data/partition_8.csv"),
        name(eTag="0" * 32),
        name(versionId="v1"),
        name(sequencer="0055AED6DCD90281E6"),
    ]
    assert len({name(), *others}) == 6


def test_records_that_start_nothing_are_told_apart() -> None:
    planned = trigger.plan(event("four_records"))
    assert [start.key for start in planned.starts] == ["meta-data/partition_7.csv", "meta-data/partition_8.csv"]
    assert planned.ignored == ("ObjectRemoved:Delete",)
    assert planned.unreadable == ("record 2: KeyError('sequencer')",)


@pytest.mark.parametrize(("content", "reason"), [
    (event("test_event"), "s3:TestEvent"),
    ({}, "an event without records"),
])  # fmt: skip
def test_an_event_without_records_starts_nothing(content: dict[str, Any], reason: str, states: Any) -> None:
    planned = trigger.plan(content)
    assert (planned.starts, planned.ignored, planned.unreadable) == ((), (reason,), ())
    with Stubber(states):  # calls nothing
        assert trigger.dispatch(planned, MACHINE, states) == {"started": [], "repeated": [], "ignored": [reason]}


def test_a_key_that_is_not_utf8_is_unreadable() -> None:
    content = event("put")
    content["Records"][0]["s3"]["object"]["key"] = "meta-data/%FF.csv"
    assert "UnicodeDecodeError" in trigger.plan(content).unreadable[0]


def test_a_name_in_use_is_no_error_but_said_in_the_log(states: Any, capsys: pytest.CaptureFixture[str]) -> None:
    planned = trigger.plan(event("put"))
    with Stubber(states) as stub:
        stub.add_client_error("start_execution", "ExecutionAlreadyExists", expected_params=expected(planned.starts[0]))
        answer = trigger.dispatch(planned, MACHINE, states)
    assert answer == {"started": [], "repeated": [planned.starts[0].name], "ignored": []}
    logged = json.loads(capsys.readouterr().out)
    assert (logged["outcome"], logged["key"]) == ("repeated", "meta-data/partition_7.csv")


def test_all_records_are_tried_before_the_failed_ones_are_reported(states: Any) -> None:
    planned = trigger.plan(event("four_records"))
    with Stubber(states) as stub:
        refused = {"service_error_code": "AccessDeniedException", "service_message": "not authorized"}
        stub.add_client_error("start_execution", **refused, expected_params=expected(planned.starts[0]))
        stub.add_response("start_execution", STARTED, expected(planned.starts[1]))
        with pytest.raises(trigger.NotStarted) as caught:
            trigger.dispatch(planned, MACHINE, states)
        stub.assert_no_pending_responses()
    text = str(caught.value)
    assert text.startswith("2 of 4 records started nothing: record 2: KeyError('sequencer'); ")
    assert "meta-data/partition_7.csv: An error occurred (AccessDeniedException)" in text
    assert "partition_8" not in text


def test_a_service_that_cannot_be_reached_is_reported_like_a_refusal(states: Any) -> None:
    planned = trigger.plan(event("put"))

    def fail(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://states")

    states.meta.events.register("before-send", fail)
    with pytest.raises(trigger.NotStarted, match=r"meta-data/partition_7\.csv: Could not connect"):
        trigger.dispatch(planned, MACHINE, states)


def test_the_machine_is_in_the_account_and_region_of_the_function() -> None:
    function = "arn:aws:lambda:us-east-1:123456789012:function:demo-exp-standardize-trigger:live"
    assert trigger.machine_arn(function, "demo-exp-standardize") == MACHINE

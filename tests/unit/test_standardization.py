"""The system of notebook 06: its state machine against a golden file and two validators, its files and its tables.

After a wanted change: PYTHONPATH=. .venv/bin/python tests/unit/test_standardization.py writes the golden file anew.
"""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pandas as pd
import pytest
from answers import Aws, in_turn
from botocore.loaders import Loader
from botocore.stub import Stubber
from jsonata.jexception import JException
from statelint.config import Config
from statelint.linter import Linter
from test_pipeline_definition import as_text, unknown_members

from helpers import dataset, standardization
from helpers.local_aws.states.definition import problems

GOLDEN = Path(__file__).with_name("standardization_definition.json")
DEFINITION = standardization.state_machine(
    project="project1",
    bucket="demo-exp-partitions-123456789012",
    image="683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3",
    batch_id_arn="arn:aws:lambda:us-east-1:123456789012:function:demo-exp-batch-id",
    job_role_arn="arn:aws:iam::123456789012:role/demo-exp-standardize-job",
    tags={"workshop": "demo-exp"},
)
STATES = DEFINITION["States"]
MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:demo-exp-standardize"


def test_the_definition_is_the_golden_file() -> None:
    assert as_text(DEFINITION) == GOLDEN.read_text()


def test_an_independent_validator_finds_nothing() -> None:
    assert Linter.validate(json.loads(GOLDEN.read_text()), Config([], False, True)) == []


def test_the_validator_reads_the_expressions_too() -> None:
    broken = json.loads(GOLDEN.read_text())
    broken["States"]["failed"]["Cause"] = "{% $name & %}"
    with pytest.raises(JException):
        Linter.validate(broken, Config([], False, True))


def test_the_embedded_aws_finds_nothing() -> None:
    assert problems(GOLDEN.read_text()) == []


def test_the_arguments_are_those_of_create_processing_job() -> None:
    service = Loader().load_service_model("sagemaker", "service-2")
    arguments = STATES["standardize"]["Arguments"]
    assert list(unknown_members(arguments, "CreateProcessingJobRequest", service["shapes"])) == []


def test_a_project_that_makes_job_names_too_long_is_refused() -> None:
    names = dict.fromkeys(("bucket", "image", "batch_id_arn", "job_role_arn"), "x")
    with pytest.raises(ValueError, match="room for 19 characters"):
        standardization.state_machine(project="p" * 20, **names, tags={})
    assert len(f"{'p' * 19}-{10**15 - 1}-{'e' * 24}-60") == 63


def test_each_failure_has_a_state_of_its_own_that_says_why() -> None:
    failures = {name: state["Error"] for name, state in STATES.items() if state["Type"] == "Fail"}
    assert failures == {"wrong name": "WrongName", "no batch id": "NoBatchId", "failed": "StandardizationFailed"}
    assert all(STATES[name]["Cause"].startswith("{% ") for name in failures)


def test_lambda_errors_are_tried_six_times_more() -> None:
    (retry,) = STATES["batch id"]["Retry"]
    assert (retry["IntervalSeconds"], retry["MaxAttempts"], retry["BackoffRate"]) == (2, 6, 2.0)
    assert len(retry["ErrorEquals"]) == 4


def test_a_job_is_stopped_after_five_minutes_and_waits_for_a_quota() -> None:
    task = STATES["standardize"]
    assert task["Arguments"]["StoppingCondition"] == {"MaxRuntimeInSeconds": 300}
    quota, throttling = task["Retry"]
    assert quota["ErrorEquals"] == ["SageMaker.ResourceLimitExceededException"]
    assert throttling["ErrorEquals"] == ["SageMaker.AmazonSageMakerException"]


def test_partitions_are_the_numeric_columns_with_every_row_once(tmp_path: Path) -> None:
    files = standardization.partitions(dataset.sample_path(), tmp_path, 7)
    assert [file.name for file in files] == [f"partition_{number}.csv" for number in range(1, 8)]
    whole = pd.read_csv(dataset.sample_path(), skipinitialspace=True)
    together = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    pd.testing.assert_frame_equal(together, whole.select_dtypes("number"))
    assert len(together.columns) == 13


@pytest.mark.parametrize("count", [0, 2001])
def test_more_partitions_than_rows_are_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(ValueError, match=r"has 2,000 rows: it cannot be cut into"):
        standardization.partitions(dataset.sample_path(), tmp_path, count)


def test_a_large_file_repeats_the_rows_that_are_returned(tmp_path: Path) -> None:
    part = tmp_path / "part.csv"
    part.write_text("a,b\n1,2\n3,4\n")
    rows = standardization.write_large(part, tmp_path / "large.csv", size=1000)
    assert 1000 <= (tmp_path / "large.csv").stat().st_size < 1100
    written = pd.read_csv(tmp_path / "large.csv")
    np.testing.assert_array_equal(written, np.tile(rows, (len(written) // 2, 1)))


@pytest.fixture
def states() -> Any:
    return boto3.client("stepfunctions", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")


def listed(*executions: tuple[str, str]) -> dict[str, Any]:
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    members = [
        {"executionArn": name, "stateMachineArn": MACHINE, "name": name, "status": status, "startDate": start}
        for name, status in executions
    ]
    return {"executions": members}


def test_waiting_ends_when_as_many_new_executions_have_ended(states: Any) -> None:
    pauses: list[float] = []
    with Stubber(states) as stub:
        for answer in (
            listed(("old", "FAILED")),
            listed(("b", "RUNNING"), ("a", "SUCCEEDED"), ("old", "FAILED")),
            listed(("b", "FAILED"), ("a", "SUCCEEDED"), ("old", "FAILED")),
        ):
            stub.add_response("list_executions", answer)
        found = standardization.wait_for_executions(states, MACHINE, 2, known={"old"}, sleep=pauses.append)
    assert found == ["a", "b"]
    assert pauses == pytest.approx([0.2, 0.3])


def test_waiting_does_not_end_while_one_too_many_runs(states: Any) -> None:
    with Stubber(states) as stub:
        stub.add_response("list_executions", listed(("b", "RUNNING"), ("a", "SUCCEEDED")))
        stub.add_response("list_executions", listed(("b", "SUCCEEDED"), ("a", "SUCCEEDED")))
        found = standardization.wait_for_executions(states, MACHINE, 1, known=(), sleep=lambda _: None)
    assert found == ["a", "b"]


def test_waiting_gives_up_and_says_how_many_have_ended(states: Any) -> None:
    with Stubber(states) as stub:
        for _ in range(3):
            stub.add_response("list_executions", listed(("a", "SUCCEEDED")))
        with pytest.raises(TimeoutError, match=r"1 executions have ended within 0\.4 seconds, not 2"):
            standardization.wait_for_executions(states, MACHINE, 2, known=(), seconds=0.4, sleep=lambda _: None)


def test_a_notification_is_waited_for_with_an_upload_again_and_again() -> None:
    old, new = listed(("old", "FAILED")), listed(("new", "FAILED"), ("old", "FAILED"))
    begun = listed(("new", "RUNNING"), ("old", "FAILED"))
    aws = Aws({"stepfunctions:ListExecutions": in_turn(*[old] * 32, begun, begun, new), "s3:PutObject": {}})
    clients = aws.client("s3"), "b", aws.client("stepfunctions")
    standardization.wait_for_notification(*clients, MACHINE, sleep=lambda _: None)
    assert [asked["Key"] for asked in aws.asked("s3:PutObject")] == ["meta-data/probe.csv"] * 2


def test_a_notification_that_never_comes_is_an_error() -> None:
    aws = Aws({"stepfunctions:ListExecutions": {"executions": []}, "s3:PutObject": {}})
    with pytest.raises(TimeoutError, match="no upload to b has started an execution within 60 seconds"):
        standardization.wait_for_notification(
            aws.client("s3"), "b", aws.client("stepfunctions"), MACHINE, seconds=60, sleep=lambda _: None
        )


def test_what_is_known_is_not_read_again(states: Any) -> None:
    with Stubber(states) as stub:  # a second page would be one call too many
        stub.add_response("list_executions", {**listed(("old", "FAILED")), "nextToken": "more"})
        assert standardization._new_executions(states, MACHINE, {"old"}) == {}


def test_the_overview_is_a_table_in_the_order_of_the_numbers(states: Any) -> None:
    def described(key: str, **more: str) -> dict[str, Any]:
        start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        document = json.dumps({"object": {"key": key}})
        return {"executionArn": "e", "stateMachineArn": MACHINE, "startDate": start, "input": document, **more}

    with Stubber(states) as stub:
        for answer in (
            described("meta-data/partition_10.csv", status="SUCCEEDED", output='{"batch_id": 10}'),
            described("meta-data/partition_9.csv", status="FAILED", error="StandardizationFailed", cause="empty"),
            described("meta-data/part.csv", status="RUNNING"),
        ):
            stub.add_response("describe_execution", answer)
        table = standardization.overview(states, ["1", "2", "3"])
    assert table.to_dict("split")["data"] == [
        ["meta-data/part.csv", "", "RUNNING", ""],
        ["meta-data/partition_9.csv", "", "FAILED", "StandardizationFailed: empty"],
        ["meta-data/partition_10.csv", "10", "SUCCEEDED", ""],
    ]


def test_columns_are_found_by_their_treatment() -> None:
    statistics = {"columns": [{"name": "a", "treatment": "constant"}, {"name": "b", "treatment": "standardized"}]}
    assert standardization.treated(statistics, "constant") == ["a"]
    assert standardization.treated(statistics, "constant", "standardized") == ["a", "b"]


if __name__ == "__main__":
    GOLDEN.write_text(as_text(DEFINITION))

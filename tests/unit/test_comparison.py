"""The four ways compared: the table of limits and prices, and what executions took."""

import datetime as dt
import json
import math
from typing import Any

import pytest
from answers import Aws
from botocore.loaders import Loader

from helpers import comparison

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def test_every_way_has_limits_and_prices_and_sources() -> None:
    table = json.loads(comparison.TABLE.read_text())
    assert list(comparison.limits().index) == list(comparison.prices().index) == list(comparison.WAYS)
    assert not comparison.limits().isna().any().any()
    assert all(limits["source"].startswith("https://docs.aws.amazon.com/") for limits in table["limits"].values())
    priced = table["prices"]["us-east-1"].values()
    assert all(prices["source"].startswith("https://aws.amazon.com/") for prices in priced)
    assert dt.date.fromisoformat(comparison.as_of()) <= dt.date(2027, 12, 31)


def test_limits_that_apis_know_are_theirs() -> None:
    limits = comparison.limits()
    shapes = Loader().load_service_model("sagemaker", "service-2")["shapes"]
    assert shapes["MaxRuntimeInSeconds"].get("max", 28 * 86_400) == 28 * 86_400
    assert limits.loc["SageMaker training", "longest"].startswith("28 days")
    assert f"{shapes['HyperParameters']['max']} hyper-parameters" in limits.loc["SageMaker training", "handed over"]
    memory = Loader().load_service_model("lambda", "service-2")["shapes"]["MemorySize"]
    assert memory["max"] >= 10_240


def test_a_run_costs_what_its_parts_do() -> None:
    prices = comparison.prices()
    fargate = 20 * (0.25 * 0.04048 + 0.5 * 0.004445 + 0.005) / 60 + 25 * 0.025 / 1000
    assert prices.loc["Fargate", "a run"] == pytest.approx(fargate)
    work = 20 * (1e-6 + 2 * 0.2e-6 + 0.25 * 2 * 0.0000166667) + 40 * 0.025 / 1000
    assert prices.loc["Lambda", "a run"] == pytest.approx(work)
    assert prices.loc["SageMaker training", "a run"] == pytest.approx(0.4 * 0.115 * 120 / 3600 + 3 * 0.025 / 1000)
    assert prices.loc["Batch", "a run"] < prices.loc["Fargate", "a run"]  # spot
    assert sorted(prices["rank"]) == [1, 2, 3, 4]
    assert (prices["idle a month"] < 0.1).all()


def test_a_region_without_prices_has_none() -> None:
    prices = comparison.prices("eu-central-1")
    assert prices[["idle a month", "a run", "an hour"]].isna().all().all()
    assert prices["rank"].isna().all()


def event(number: int, kind: str, second: float, before: int, **more: Any) -> dict[str, Any]:
    timestamp = START + dt.timedelta(seconds=second)
    return {"id": number, "type": kind, "timestamp": timestamp, "previousEventId": before, **more}


def succeeded(number: int, second: float, before: int, service: str, output: Any) -> dict[str, Any]:
    details = {"resourceType": service, "resource": "x", "output": json.dumps(output)}
    return event(number, "TaskSucceeded", second, before, taskSucceededEventDetails=details)


def at(second: float) -> int:
    return round((START.timestamp() + second) * 1000)


def test_pieces_are_read_from_a_history_whose_branches_are_mixed() -> None:
    events = [
        event(1, "TaskScheduled", 0, 0), event(2, "TaskScheduled", 1, 0),
        event(3, "TaskSubmitted", 2, 2), event(4, "TaskSubmitted", 2, 1),
        succeeded(5, 60, 3, "ecs", {"TaskArn": "t", "StartedAt": at(31), "StoppedAt": at(36.5)}),
        succeeded(6, 70, 4, "batch", {"JobId": "j", "StartedAt": at(40), "StoppedAt": at(42)}),
        event(7, "ActivityScheduled", 80, 0), event(8, "ActivityStarted", 100, 7),
        event(9, "ActivitySucceeded", 103, 8),
    ]  # fmt: skip
    assert comparison.pieces(events) == [
        comparison.Piece(30.0, 5.5), comparison.Piece(40.0, 2.0), comparison.Piece(20.0, 3.0),
    ]  # fmt: skip


def test_functions_and_tokens_are_no_pieces_and_clocks_may_differ() -> None:
    events = [
        event(1, "TaskScheduled", 10, 0),
        succeeded(2, 20, 1, "lambda", {"StatusCode": 200}),
        succeeded(3, 20, 1, "ecs", {"part": "p"}),
        succeeded(4, 20, 1, "ecs", "text"),
        succeeded(5, 20, 1, "sagemaker", {"TrainingStartTime": at(9), "TrainingEndTime": at(19)}),
    ]
    assert comparison.pieces(events) == [comparison.Piece(0.0, 10.0)]


def test_what_was_measured_is_medians_and_stays_as_a_count() -> None:
    events = [
        event(1, "ActivityScheduled", 0, 0),
        event(2, "ActivityStarted", 2, 1),
        event(3, "ActivitySucceeded", 3, 2),
    ]
    aws = Aws({"stepfunctions:GetExecutionHistory": {"events": events}})
    found = comparison.measured(aws.client("stepfunctions"), {"Lambda": ["a", "b"], "Batch": []})
    assert tuple(found.loc["Lambda"]) == (2, 2.0, 1.0)
    assert found.loc["Batch", "pieces"] == 0
    assert math.isnan(found.loc["Batch", "seconds to start"])
    assert list(comparison.show_measured(found, sleep=lambda _: None).columns) == ["pieces"]

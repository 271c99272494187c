"""What jobs will cost and did cost, from prices.json."""

import json
import math
import re
from typing import Any

import pytest

from helpers.planning import costs

REGION = "us-east-1"


def jobs(number: int, *, instances: int = 1, kind: str = "ml.t3.medium") -> list[dict[str, Any]]:
    return [{"InstanceCount": instances, "InstanceType": kind}] * number


def sweep(**more: Any) -> costs.Estimate:
    """Return the estimate of a sweep of eight values in train; ``more`` replaces steps."""
    steps = {"preprocess": jobs(1), "train": jobs(8), "predict": jobs(8), "evaluate": jobs(8)} | more
    return costs.estimate(steps, region=REGION)


def test_the_table_is_dated_and_says_where_its_prices_are_from() -> None:
    table = json.loads(costs.PRICES.read_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", table["as_of"])
    for section in ("processing", "step_functions"):
        assert table[section]["source"].startswith("https://aws.amazon.com/")
    assert all(price > 0 for price in table["processing"]["usd_per_hour"][REGION].values())


def test_an_estimate_counts_start_up_and_work_of_each_job() -> None:
    made = sweep()
    assert made.steps["train"] == costs.Step(jobs=8, instances=8, seconds=300, usd=pytest.approx(8 * 300 / 3600 * 0.05))
    assert made.steps["evaluate"].seconds == 270
    assert made.transitions == 8 + 6 * 25
    total = (9 * 300 + 16 * 270) / 3600 * 0.05 + 158 / 1000 * 0.025
    assert made.usd == pytest.approx(total)
    assert made.seconds == 300 + 300 + 270 + 270  # eight at a time
    assert made.notes == ()


def test_more_jobs_than_run_at_once_take_turns() -> None:
    made = costs.estimate({"train": jobs(11)}, region=REGION, seconds={"train": 60})
    assert made.seconds == 2 * 300


def test_instances_of_one_job_are_all_paid() -> None:
    made = costs.estimate({"preprocess": jobs(1, instances=4)}, region=REGION, seconds={"preprocess": 120})
    assert made.steps["preprocess"].usd == pytest.approx(4 * 360 / 3600 * 0.05)


def test_a_simple_machine_has_fewer_transitions() -> None:
    made = costs.estimate({step: jobs(1) for step in ("train", "predict")}, region=REGION, kind="simple")
    assert made.transitions == 4


def test_nothing_to_run_costs_the_transitions_alone() -> None:
    made = costs.estimate({step: [] for step in ("preprocess", "train")}, region=REGION)
    assert (made.usd, made.seconds) == (made.transitions_usd, 0)
    assert "nothing to run" in made.lines()[0]


@pytest.mark.parametrize(("region", "kind", "words"), [
    (REGION, "ml.p9.large", "no price of ml.p9.large in us-east-1"),
    ("eu-west-1", "ml.t3.medium", "no prices of the region eu-west-1"),
])  # fmt: skip
def test_an_unknown_price_is_said_and_is_within_no_budget(region: str, kind: str, words: str) -> None:
    made = costs.estimate({"train": jobs(1), "predict": jobs(1, kind=kind)}, region=region)
    assert math.isnan(made.usd)
    assert not made.usd <= 1_000_000
    assert any(words in note for note in made.notes)
    assert "an unknown price" in made.lines()[0]
    assert any(words in line for line in made.lines())


def test_the_lines_name_the_total_the_steps_and_the_date() -> None:
    lines = sweep(preprocess=jobs(1, instances=4)).lines()
    assert lines[0].startswith("Estimate: $0.11 on AWS and about 19 minutes for 25 jobs (prices in us-east-1 of 20")
    assert lines[1:] == [
        "- preprocess: 1 job on 4 instances, $0.017",
        "- train: 8 jobs, $0.033",
        "- predict: 8 jobs, $0.030",
        "- evaluate: 8 jobs, $0.030",
        "- Step Functions: 158 transitions, $0.0040",
    ]


def test_an_estimate_survives_json() -> None:
    for made in (sweep(), sweep(train=jobs(1, kind="ml.p9.large"))):
        kept = json.loads(json.dumps(made.as_dict(), allow_nan=False))
        again = costs.Estimate.from_dict(kept)
        assert again.as_dict() == made.as_dict()
        assert again.lines() == made.lines()


def test_the_embedded_aws_costs_nothing_and_says_what_aws_would() -> None:
    here, there = costs.explain(sweep(), "local"), costs.explain(sweep(), "aws")
    assert here.startswith("On the embedded AWS this costs nothing")
    assert here.endswith(there)
    assert there == "\n".join(sweep().lines())


def test_a_job_costs_its_seconds_on_each_instance() -> None:
    assert costs.job_usd(REGION, "ml.m5.large", 2, 1800) == pytest.approx(0.115)
    assert math.isnan(costs.job_usd("eu-west-1", "ml.m5.large", 2, 1800))


def test_transitions_of_a_run_depend_on_how_its_items_ended() -> None:
    assert costs.run_transitions(["run", "failed", "skipped", "cached"]) == 8 + 6 + 6 + 5 + 3


@pytest.mark.parametrize(("usd", "words"), [
    (0, "$0.00"), (12.345, "$12.35"), (1234.5, "$1,234.50"), (0.5, "$0.50"), (0.0333, "$0.033"), (0.000125, "$0.00013"),
    (math.nan, "an unknown price"),
])  # fmt: skip
def test_dollars_in_words(usd: float, words: str) -> None:
    assert costs.dollars(usd) == words

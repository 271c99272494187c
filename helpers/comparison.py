"""The four places to process compared: limits, prices, and what executions really took.

Limits and prices are in comparison.json beside this file, dated, with their sources, to be edited. What it does
not know is nan and never a guess.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import Markdown, display

TABLE = Path(__file__).with_name("comparison.json")
WAYS = ("Lambda", "Fargate", "Batch", "SageMaker training")
HOUR = 3600
HOUR_VCPU, HOUR_GB = 1, 2  # what "an hour of work" is; a training job has its instance, which is larger

# By the service of a Task: where its output, in the spelling of a state, says when the work began and ended.
_TIMES = {
    "ecs": ("StartedAt", "StoppedAt"),
    "batch": ("StartedAt", "StoppedAt"),
    "sagemaker": ("TrainingStartTime", "TrainingEndTime"),
}


@dataclass(frozen=True)
class Piece:
    """One piece of work: seconds from scheduled to started, and from started to ended."""

    waiting: float
    working: float


def limits() -> pd.DataFrame:
    """Return what each way can and cannot do, and when to use it: a row for each, from comparison.json."""
    table = pd.DataFrame.from_dict(_read()["limits"], orient="index").loc[list(WAYS)]
    return table.drop(columns="source").rename_axis("way")


def prices(region: str = "us-east-1") -> pd.DataFrame:
    """Return what each way costs on AWS in dollars, a row for each; nan where the region's prices are not known.

    ``idle a month``: while nothing is done. ``a run``: the workshop's twenty parts as the notebooks run them (Batch
    and training on spot). ``an hour``: of one vCPU and 2 GB, for training of its instance. ``seconds to start``: as
    is usual. ``rank``: by what a run costs, 1 the cheapest.
    """
    table = _read()
    known, usual = table["prices"].get(region), table["usual"]
    rows = {}
    for way in WAYS:
        idle, run, hour = (math.nan,) * 3 if known is None else _costs(way, known, usual)
        rows[way] = (idle, run, hour, usual["ways"][way]["start_seconds"])
    columns = ["idle a month", "a run", "an hour", "seconds to start"]
    found = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("way")
    return found.assign(rank=found["a run"].rank().astype("Int64"))


def as_of() -> str:
    """Return the date of the prices and limits."""
    return _read()["as_of"]


def measured(states: Any, executions: Mapping[str, Iterable[str]]) -> pd.DataFrame:
    """Return what executions took, a row for each way: pieces of work, seconds to start and of work (medians).

    ``states``: a Step Functions client; ``executions``: ARNs by way. Counted is what an activity's task, an ECS task,
    a Batch job or a training job took, of those that ended well; of the functions around them, nothing.
    """
    rows = {}
    for way, arns in executions.items():
        found = [piece for arn in arns for piece in pieces(_history(states, arn))]
        waiting = pd.Series([piece.waiting for piece in found], dtype=float)
        working = pd.Series([piece.working for piece in found], dtype=float)
        rows[way] = (len(found), waiting.median(), working.median())
    columns = ["pieces", "seconds to start", "seconds of work"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("way")


def show_measured(
    found: pd.DataFrame, *, seconds: float = 10, sleep: Callable[[float], None] = time.sleep
) -> pd.DataFrame:
    """Show measured times for some seconds, and return how many pieces of work they are from.

    Times differ from run to run: what stays in the notebook does not.
    """
    heading = Markdown("Measured just now (durations are not kept in the notebook):")
    handle = display(heading, display_id=True)
    if handle is not None:
        rows = [f"| {way} | {row.iloc[1]:.2f} s | {row.iloc[2]:.2f} s |" for way, row in found.iterrows()]
        lines = ["| way | to start | work |", "| --- | --- | --- |", *rows]
        handle.update(Markdown("\n".join(lines)))
        sleep(seconds)
        handle.update(heading)
    return found[["pieces"]]


def pieces(events: Iterable[Mapping[str, Any]]) -> list[Piece]:
    """Return the pieces of work in an execution's history that ended well, in the order of their ends."""
    by_id = {event["id"]: event for event in events}
    found = []
    for event in by_id.values():
        if event["type"] == "ActivitySucceeded":
            started = _before(by_id, event, "ActivityStarted")
            scheduled = _before(by_id, started, "ActivityScheduled")
            found.append(_piece(scheduled["timestamp"], started["timestamp"], event["timestamp"]))
        elif event["type"] == "TaskSucceeded":
            details = event["taskSucceededEventDetails"]
            names, output = _TIMES.get(details["resourceType"]), _output(details)
            # A function's output, or that of a task with a token, is what a program wrote: it has no such times.
            if names and isinstance(output, Mapping) and all(name in output for name in names):
                scheduled = _before(by_id, event, "TaskScheduled")
                found.append(_piece(scheduled["timestamp"], *(_moment(output[name]) for name in names)))
    return found


def _output(details: Mapping[str, Any]) -> Any:
    try:
        return json.loads(details.get("output", "null"))
    except ValueError:
        return None


def _before(by_id: Mapping[int, Mapping[str, Any]], event: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return the event of a kind that led to ``event``."""
    while event["type"] != kind:
        event = by_id[event["previousEventId"]]
    return event


def _piece(scheduled: datetime, started: datetime, ended: datetime) -> Piece:
    # The clocks of two services are not one: a piece may seem to start before it was scheduled.
    return Piece(max(0.0, (started - scheduled).total_seconds()), max(0.0, (ended - started).total_seconds()))


def _moment(value: Any) -> datetime:
    """Return a time as a service's description has it in a state: milliseconds since 1970, or text."""
    if isinstance(value, str):
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    return datetime.fromtimestamp(value / 1000).astimezone()


def _history(states: Any, arn: str) -> list[Mapping[str, Any]]:
    pages = states.get_paginator("get_execution_history").paginate(executionArn=arn)
    return [event for page in pages for event in page["events"]]


def _costs(way: str, known: Mapping[str, Any], usual: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return dollars of an idle month, of a run and of an hour of work."""
    work, parts = usual["ways"][way], usual["parts"]
    transitions = usual["transitions"][way]
    count = transitions["of_a_run"] + parts * transitions["of_a_part"]
    fees = count * known["step_functions"]["usd_per_1000_transitions"] / 1000
    if way == "Lambda":
        return _lambda_costs(known, usual, fees)
    seconds = work["billed_start_seconds"] + work["work_seconds"]
    if way == "SageMaker training":
        price, share = known["training"]["usd_per_hour"], known["training"]["usual_spot_share"]
        hour = price.get(work["instance"], math.nan) * share
        return 0.0, hour * seconds / HOUR + fees, hour
    container = known["fargate"]
    share = container["usual_spot_share"] if way == "Batch" else 1.0

    def per_hour(vcpu: float, gb: float) -> float:
        compute = vcpu * container["usd_per_vcpu_hour"] + gb * container["usd_per_gb_hour"]
        return compute * share + known["public_ipv4"]["usd_per_hour"]

    billed = max(container["least_seconds"], seconds)
    idle = usual["image_gb"] * known["ecr"]["usd_per_gb_month"]
    run = parts * per_hour(work["vcpu"], work["memory_gb"]) * billed / HOUR + fees
    return idle, run, per_hour(HOUR_VCPU, HOUR_GB)


def _lambda_costs(known: Mapping[str, Any], usual: Mapping[str, Any], fees: float) -> tuple[float, float, float]:
    function, work, checker = known["lambda"], usual["ways"]["Lambda"], usual["checker"]
    request = function["usd_per_million_requests"] / 1e6
    second = function["usd_per_gb_second"]
    rule = known["event_bridge_rules"]["usd_per_million_invocations"] / 1e6
    idle = checker["per_month"] * (checker["memory_gb"] * checker["seconds"] * second + request + rule)
    api = known["http_api"]["usd_per_million_requests"] / 1e6
    part = api + 2 * request + work["memory_gb"] * work["work_seconds"] * second  # the start's function, and the worker
    return idle, usual["parts"] * part + fees, HOUR_GB * HOUR * second


def _read() -> dict[str, Any]:
    return json.loads(TABLE.read_text())

"""What jobs cost on AWS: before they start, from usual durations; after, from their real ones.

Prices and usual durations are in prices.json beside this file, dated, to be
edited. What it does not know is nan and never a guess; a sum with a nan is
nan, so that ``usd <= budget`` is false for it.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PRICES = Path(__file__).with_name("prices.json")
CONCURRENCY = 10  # jobs of a step that run at once, unless the state machine was made with another number

# Transitions of the sweep's state machine: of an execution, and of an item by how it ended. The usual
# ways; waiting for another run's job and retries add some. A test counts them in the definition.
EXECUTION_TRANSITIONS = 8
ITEM_TRANSITIONS = {"run": 6, "failed": 6, "skipped": 5, "cached": 3}
SIMPLE_TRANSITIONS = 4

Item = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """What the jobs of one step will take: seconds of each one, and dollars of all together (nan: unknown)."""

    jobs: int
    instances: int
    seconds: float
    usd: float


@dataclass(frozen=True)
class Estimate:
    """What a run will cost, and how long it will take.

    ``seconds`` is wall-clock time, start-up included; ``usd`` counts start-up
    too, which makes it the upper figure: nan when a price is not known, and
    ``notes`` say which.
    """

    region: str
    as_of: str
    steps: Mapping[str, Step]
    seconds: float
    transitions: int
    transitions_usd: float
    usd: float
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the estimate in words: the total first, then a line a step, then what is not known."""
        jobs = sum(step.jobs for step in self.steps.values())
        if not jobs:
            return ["Estimate: nothing to run, so nothing to pay but Step Functions' transitions."]
        total = f"Estimate: {dollars(self.usd)} on AWS and about {minutes(self.seconds)} for {count(jobs, 'job')}"
        lines = [f"{total} (prices in {self.region} of {self.as_of})."]
        for name, step in self.steps.items():
            if step.jobs:
                spread = f" on {step.instances} instances" if step.instances > step.jobs else ""
                lines.append(f"- {name}: {count(step.jobs, 'job')}{spread}, {dollars(step.usd)}")
        lines.append(f"- Step Functions: {count(self.transitions, 'transition')}, {dollars(self.transitions_usd)}")
        return [*lines, *(f"- {note}" for note in self.notes)]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON, which has no nan: None stands for an unknown price."""
        steps = {
            name: {"jobs": step.jobs, "instances": step.instances, "seconds": step.seconds, "usd": known(step.usd)}
            for name, step in self.steps.items()
        }
        return {
            "usd": known(self.usd),
            "seconds": self.seconds,
            "transitions": self.transitions,
            "transitions_usd": known(self.transitions_usd),
            "steps": steps,
            "region": self.region,
            "as_of": self.as_of,
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> "Estimate":
        """Return the estimate that ``as_dict`` wrote, such as that of a plan.json."""
        steps = {name: Step(**{**step, "usd": _number(step["usd"])}) for name, step in kept["steps"].items()}
        return cls(
            kept["region"],
            kept["as_of"],
            steps,
            kept["seconds"],
            kept["transitions"],
            _number(kept["transitions_usd"]),
            _number(kept["usd"]),
            tuple(kept["notes"]),
        )


def estimate(
    to_run: Mapping[str, Sequence[Item]],
    *,
    region: str,
    seconds: Mapping[str, float] | None = None,
    kind: str = "plan",
    concurrency: int = CONCURRENCY,
) -> Estimate:
    """Return what the jobs of each step will cost and take.

    ``to_run``: by step, the items of a plan that run (of each, InstanceCount
    and InstanceType count). ``seconds``: how long a job of a step works, where
    it is known better than prices.json does. ``kind``: "plan" for the sweep's
    state machine, "simple" for the one that runs four jobs one after the other.
    """
    table = _table()
    startup = 60 * table["usual"]["startup_minutes"]
    working = {**table["usual"]["seconds"], **(seconds or {})}
    steps, wall = {}, 0.0
    for name, items in to_run.items():
        each = startup + working[name]
        usd = math.fsum(job_usd(region, item["InstanceType"], item["InstanceCount"], each) for item in items)
        steps[name] = Step(len(items), sum(item["InstanceCount"] for item in items), each, usd)
        wall += math.ceil(len(items) / concurrency) * each
    jobs = sum(step.jobs for step in steps.values())
    count_of = EXECUTION_TRANSITIONS + jobs * ITEM_TRANSITIONS["run"] if kind == "plan" else SIMPLE_TRANSITIONS
    fees = transitions_usd(region, count_of)
    total = math.fsum([fees, *(step.usd for step in steps.values())])
    types = {item["InstanceType"] for items in to_run.values() for item in items}
    return Estimate(region, table["as_of"], steps, wall, count_of, fees, total, _notes(region, types))


def explain(prediction: Estimate, target: str) -> str:
    """Return an estimate in words for a notebook. ``target``: "aws" or "local" (the embedded AWS)."""
    if target == "aws":
        return "\n".join(prediction.lines())
    first, *others = prediction.lines()
    return "\n".join(
        ["On the embedded AWS this costs nothing, and jobs start at once.", f"The same on AWS: {first}", *others]
    )


def usd_per_hour(region: str, instance_type: str) -> float:
    """Return the price of one instance of SageMaker Processing; nan where prices.json has none."""
    return _table()["processing"]["usd_per_hour"].get(region, {}).get(instance_type, math.nan)


def job_usd(region: str, instance_type: str, instances: int, seconds: float) -> float:
    """Return what ``instances`` cost in ``seconds``; nan where the price is not known."""
    return usd_per_hour(region, instance_type) * instances * seconds / 3600


def transitions_usd(region: str, transitions: int) -> float:
    """Return what Step Functions asks for state transitions; nan where the price is not known."""
    price = _table()["step_functions"]["usd_per_1000_transitions"].get(region, math.nan)
    return price * transitions / 1000


def run_transitions(statuses: Iterable[str]) -> int:
    """Return the transitions of a sweep's execution from how each item that it was given ended."""
    return EXECUTION_TRANSITIONS + sum(ITEM_TRANSITIONS[status] for status in statuses)


def known(usd: float) -> float | None:
    """Return a price for JSON, None for nan. Rounded to a billionth: on the embedded AWS a job takes milliseconds."""
    return None if math.isnan(usd) else round(usd, 9)


def dollars(usd: float) -> str:
    """Return a price in words; small ones keep two digits that count."""
    if math.isnan(usd):
        return "an unknown price"
    if usd >= 0.1 or usd == 0:
        return f"${usd:,.2f}"
    return f"${usd:.{1 - math.floor(math.log10(usd))}f}"


def minutes(seconds: float) -> str:
    """Return a duration in words."""
    if seconds < 90:
        return count(round(seconds), "second")
    if seconds < 5400:
        return count(round(seconds / 60), "minute")
    return f"{seconds / 3600:.1f} hours"


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where that is right."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _notes(region: str, types: Iterable[str]) -> tuple[str, ...]:
    table = _table()
    if region not in table["processing"]["usd_per_hour"]:
        return (f"prices.json has no prices of the region {region}: add them to know the cost",)
    unknown = sorted(name for name in set(types) if math.isnan(usd_per_hour(region, name)))
    notes = [f"prices.json has no price of {name} in {region}: add it to know the cost" for name in unknown]
    if math.isnan(transitions_usd(region, 1)):
        notes.append(f"prices.json has no price of Step Functions in {region}: add it to know the cost")
    return tuple(notes)


def _number(usd: float | None) -> float:
    return math.nan if usd is None else usd


@cache
def _table() -> dict[str, Any]:
    return json.loads(PRICES.read_text())

"""Expand a sweep into its variants: the same sweep gives the same variants in the same order."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

MAX_VARIANTS = 1_000
DIGITS = 6  # significant ones, of a number that is drawn

Changes = Mapping[str, Mapping[str, str]]  # step: option: value


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, drawn evenly, evenly on a logarithmic scale, or as whole numbers."""

    kind: Literal["uniform", "log_uniform", "integer"]
    low: float
    high: float

    def at(self, share: float) -> str:
        """Return the number that lies at ``share``, from 0 up to but not including 1, of the way to ``high``."""
        if self.kind == "integer":
            low, high = int(self.low), int(self.high)
            return str(min(high, low + int(share * (high - low + 1))))
        if self.kind == "log_uniform":
            low_log, high_log = math.log(self.low), math.log(self.high)
            return f"{math.exp(low_log + share * (high_log - low_log)):.{DIGITS}g}"
        return f"{self.low + share * (self.high - self.low):.{DIGITS}g}"


@dataclass(frozen=True)
class Axis:
    """One swept argument: the option of a step, and the values or the range it takes."""

    step: str
    option: str
    values: tuple[str, ...] | Range


@dataclass(frozen=True)
class Grid:
    """Every combination of the axes' values; the last axis varies fastest."""

    axes: tuple[Axis, ...]


@dataclass(frozen=True)
class Listed:
    """Just these changes."""

    changes: tuple[Changes, ...]


@dataclass(frozen=True)
class RandomSample:
    """``samples`` draws, each with one value of every axis."""

    axes: tuple[Axis, ...]
    samples: int
    seed: int = 0


Sweep = Grid | Listed | RandomSample


def variants(sweep: Sweep | None) -> list[Changes]:
    """Return what each variant changes, without repetitions; without a sweep, one variant that changes nothing."""
    if sweep is None:
        return [{}]
    unique = {tuple(describe(changes).items()): changes for changes in reversed(list(_expand(sweep)))}
    return list(unique.values())[::-1]


def describe(changes: Changes) -> dict[str, str]:
    """Return changes as people read them: {"train --C": "0.1"}."""
    return {f"{step} {option}": value for step, options in changes.items() for option, value in options.items()}


def apply(args: Sequence[str], options: Mapping[str, str]) -> list[str]:
    """Return ``args`` with the swept ``options``: each replaces the value that it has there, or is appended."""
    changed = list(args)
    for option, value in options.items():
        place = next((n for n, item in enumerate(changed) if item == option or item.startswith(f"{option}=")), None)
        if place is None:
            changed += [option, value]
        elif changed[place] != option:
            changed[place] = f"{option}={value}"
        elif place + 1 < len(changed) and not changed[place + 1].startswith("--"):
            changed[place + 1] = value
        else:
            changed.insert(place + 1, value)
    return changed


def _expand(sweep: Sweep) -> Iterator[Changes]:
    if isinstance(sweep, Listed):
        yield from sweep.changes
    elif isinstance(sweep, Grid):
        for values in product(*(axis.values for axis in sweep.axes if isinstance(axis.values, tuple))):
            yield _changes(sweep.axes, values)
    else:
        # random() alone: Python promises its sequence for a seed, and of no other method
        draw = random.Random(sweep.seed).random  # noqa: S311
        for _ in range(sweep.samples):
            yield _changes(sweep.axes, [_pick(axis.values, draw()) for axis in sweep.axes])


def _changes(axes: Sequence[Axis], values: Sequence[str]) -> Changes:
    changes: dict[str, dict[str, str]] = {}
    for axis, value in zip(axes, values, strict=True):
        changes.setdefault(axis.step, {})[axis.option] = value
    return changes


def _pick(values: tuple[str, ...] | Range, share: float) -> str:
    return values.at(share) if isinstance(values, Range) else values[int(share * len(values))]

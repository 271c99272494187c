"""The figures to reach, and whether they were."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.figures import Figure, rounded

# The whole way through its command is what a peer's user waits for. The process that has everything loaded stands
# beside them in the table; it has no commit, no isolation and no record.
OURS, BY_HAND, WARM = "git push", "by hand", "by hand, warm Python"


@dataclass
class Measured:
    """All that was measured: seconds by case and who; details by case, who and name; sections' rows; what failed."""

    seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    details: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)
    growth: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    table: dict[str, list[float]] = field(default_factory=dict)
    ready: dict[str, list[float]] = field(default_factory=dict)
    work: dict[str, list[float]] = field(default_factory=dict)

    def median(self, case: str, who: str) -> float | None:
        """Return the median seconds, or None where there are none."""
        values = self.seconds.get((case, who))
        return Figure(values).median if values else None


@dataclass(frozen=True)
class Bar:
    """One figure to reach: what, how much, what was measured; ``reached`` is None where nothing was measured."""

    what: str
    limit: str
    found: str
    reached: bool | None


def bars(measured: Measured, peers: Sequence[str]) -> list[Bar]:
    """Return every bar. ``peers``: the names of the peers to be faster than."""
    return [
        _share(measured, "first run", 0.5, "first run, push to metrics"),
        *_faster(measured, "four no-op steps", peers),
        _at_most(measured.seconds.get(("nothing changed", OURS)), 0.5, "s", "nothing changed"),
        *_faster(measured, "nothing changed", peers),
        _share(measured, "evaluate.py changed", 0.25, "only evaluate.py changed"),
        _sweep(measured),
        _at_most(measured.details.get(("first run", OURS, "first job")), 0.3, "s", "push to first job started"),
        *_growth(measured),
        _at_most(measured.ready.get("start to ready, s"), 1.5, "s", "embedded AWS ready after start"),
        _at_most(measured.ready.get("all processes when ready, MB"), 200, "MB", "with its warm workers"),
        _at_most(measured.table.get("1000"), 2, "s", "table of 1,000 runs"),
    ]


def sweep_work(steps: dict[str, list[float]]) -> list[float]:
    """Return preprocess + the variants' (train + predict + evaluate) / 2, turn by turn. ``steps``: seconds of each."""
    later = zip(*(steps[step] for step in ("train", "predict", "evaluate")), strict=True)
    return [first + sum(rest) / 2 for first, rest in zip(steps["preprocess"], later, strict=True)]


def _share(measured: Measured, case: str, share: float, what: str) -> Bar:
    """Bar: at most ``share`` of the first run by hand."""
    limit = f"{share:g} x the four scripts by hand"
    mine, theirs = measured.median(case, OURS), measured.median("first run", BY_HAND)
    if mine is None or theirs is None:
        return Bar(what, limit, "not measured", None)
    return Bar(what, limit, f"{mine / theirs:.2f} x ({rounded(mine)} s of {rounded(theirs)} s)", mine <= share * theirs)


def _at_most(values: Sequence[float] | None, limit: float, unit: str, what: str) -> Bar:
    if not values:
        return Bar(what, f"{limit:g} {unit}", "not measured", None)
    figure = Figure(values)
    return Bar(what, f"{limit:g} {unit}", f"{figure} {unit}", figure.median <= limit)


def _faster(measured: Measured, case: str, peers: Sequence[str]) -> list[Bar]:
    """Bars: faster than each peer that was measured."""
    mine, found = measured.median(case, OURS), []
    for peer in peers:
        theirs = measured.median(case, peer)
        if mine is not None and theirs is not None:
            text = f"{rounded(mine)} s, {peer} {rounded(theirs)} s"
            found.append(Bar(case, f"faster than {peer}", text, mine < theirs))
    return found or [Bar(case, "faster than every peer", "not measured", None)]


def _sweep(measured: Measured) -> Bar:
    case, limit = "8-point sweep", "1.15 x (preprocess + 8 x (train + predict + evaluate) / 2), warm"
    mine = measured.median(case, OURS)
    steps = {
        step: measured.details.get((case, WARM, step), []) for step in ("preprocess", "train", "predict", "evaluate")
    }
    if mine is None or not all(steps.values()):
        return Bar(case, limit, "not measured", None)
    work = statistics.median(sweep_work(steps))
    return Bar(case, limit, f"{mine / work:.2f} x ({rounded(mine)} s of {rounded(work)} s)", mine <= 1.15 * work)


def _growth(measured: Measured) -> list[Bar]:
    found = []
    for way, rows in measured.growth.items():
        if "10" in rows and "1000" in rows:
            ratio, grown = rows["1000"][0] / rows["10"][0], rows["1000"][1]
            found.append(Bar(f"1,000 executions, {way}", "1.2 x each of 10", f"{ratio:.2f} x", ratio <= 1.2))
            found.append(Bar(f"1,000 executions, {way}", "server grows < 50 MB", f"{grown:.1f} MB", grown < 50))
    return found or [Bar("1,000 executions", "1.2 x each of 10; server grows < 50 MB", "not measured", None)]

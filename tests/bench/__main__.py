"""The benchmarks: ``make bench``, or ``PYTHONPATH=.:tests:tests/local_aws python -m bench``.

Measures and tells; reaches no verdict: the exit code is 0 also where a bar is missed.
"""

import argparse
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import report, server, work
from bench.bars import Measured
from bench.by_hand import ByHand, WarmPython
from bench.experiment import CASES, Task, cases
from bench.figures import rounded
from bench.ours import Ours, StartExecution, embedded_aws
from bench.peers import PEERS

from helpers import dataset

SECTIONS = ("ready", "table", "growth", "work", "peers")
NO_OP = CASES[-1]
FIRST, REMEMBERED = CASES[0], CASES[1:4]  # these find what the first run of the same turn left


def main() -> None:
    """Run the sections that are asked for, and print the page; write it with --write."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left running
    measured = Measured()
    contenders: list[tuple[str, str]] = []
    sizes = tuple(size for size in server.SIZES if size <= options.most)
    dataset.fetch()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        sections: dict[str, Callable[[], object]] = {
            "ready": lambda: measured.ready.update(server.ready(folder, options.runs)),
            "table": lambda: measured.table.update(server.table(folder, options.runs)),
            "growth": lambda: server.growth(folder, sizes, measured.growth, say),
            "work": lambda: measured.work.update(work.work(folder, options.runs)),
            "peers": lambda: contenders.extend(side_by_side(folder, options, measured)),
        }
        for section in options.sections:
            try:
                sections[section]()
            except Exception as error:  # noqa: BLE001 - it is told, and the rest goes on
                traceback.print_exc()
                measured.failed["section", section] = f"{type(error).__name__}: {error}"
    page = report.document(measured, contenders, options.cases, options.runs)
    print(page)
    if options.write:
        report.TARGET.write_text(page)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each case")
    parser.add_argument("--sections", type=names_of(SECTIONS), default=SECTIONS, help=", ".join(SECTIONS))
    parser.add_argument("--peers", type=names_of(PEERS), default=tuple(PEERS), help=", ".join(PEERS))
    parser.add_argument("--cases", type=names_of(CASES), default=CASES, help=", ".join(CASES))
    parser.add_argument("--most", type=int, default=server.SIZES[-1], help="the most executions of the growth section")
    parser.add_argument("--write", action="store_true", help=f"write {report.TARGET.name} in docs/")
    return parser.parse_args()


def names_of(known: Sequence[str] | dict[str, Any]) -> Any:
    """Return the reader of a comma-separated list of known names."""

    def read(text: str) -> tuple[str, ...]:
        names = tuple(part.strip() for part in text.split(",") if part.strip())
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return names

    return read


def side_by_side(folder: Path, options: argparse.Namespace, measured: Measured) -> list[tuple[str, str]]:
    """Run every case by everyone, in turn. Returns name and note of each row."""
    with embedded_aws(folder / "state") as embedded:
        ours = Ours(folder / "ours", embedded)
        everyone: list[Any] = [ours]
        kinds = [ByHand, WarmPython, *(kind for peer in options.peers for kind in PEERS[peer])]
        for number, kind in enumerate(kinds):
            try:
                everyone.append(Pair(kind, folder / str(number)))
            except Exception as error:  # noqa: BLE001 - whoever cannot be set up has failed rows, the rest goes on
                say(f"{kind.name} cannot be set up: {error}")
                measured.failed |= {(case, kind.name): str(error) for case in options.cases}
        simple = StartExecution(ours)
        for turn in range(options.runs + 1):
            say(f"turn {turn} of {options.runs}" + ("" if turn else ", not counted"))
            for task in cases(turn):
                if wanted(task, turn, options.cases):
                    counted = turn > 0 and task.case in options.cases
                    for one in everyone:
                        attempt(one, task, measured, counted)
                if task.nothing and task.case in options.cases and turn:
                    note(measured, task.case, simple.name, server.timed(simple.run))
        for one in everyone:
            one.close()
    return [(one.name, one.note) for one in [ours, simple, *kinds]]


class Pair:
    """A contender twice: on the four scripts, and on four that do nothing."""

    def __init__(self, kind: Any, folder: Path) -> None:
        self.name, self.same_as_first = kind.name, kind.same_as_first
        self.full, self.empty = kind(folder / "full"), kind(folder / "empty")
        self.used = self.full

    @property
    def extra(self) -> dict[str, float]:
        """What there is to tell of the last run."""
        return getattr(self.used, "steps", {})

    def prepare(self, task: Task) -> None:
        """Choose the one that the task is for, and prepare it."""
        self.used = self.empty if task.nothing else self.full
        self.used.prepare(task)

    def run(self, task: Task) -> float:
        """Return the seconds that the task takes."""
        return self.used.run(task)

    def check(self, task: Task, since: float) -> None:
        """Raise RuntimeError unless the task was really done."""
        self.used.check(task, since)

    def close(self) -> None:
        """End both."""
        self.full.close()
        self.empty.close()


def wanted(task: Task, turn: int, chosen: Sequence[str]) -> bool:
    """Tell whether a case has to be run: it is chosen, or one that is finds what it left. No sweep to warm up."""
    if turn == 0:
        return task.case in (FIRST, NO_OP)
    return task.case in chosen or (task.case == FIRST and any(case in chosen for case in REMEMBERED))


def attempt(one: Any, task: Task, measured: Measured, counted: bool) -> None:
    """Run a case and keep its time; or keep why it failed, which takes its other times away."""
    place = (task.case, one.name)
    if place in measured.failed:
        return
    if task.case in one.same_as_first:
        if counted and measured.seconds.get((FIRST, one.name)):
            measured.seconds.setdefault(place, []).append(measured.seconds[FIRST, one.name][-1])
        return
    try:
        one.prepare(task)
        since = time.time()
        seconds = one.run(task)
        one.check(task, since)
    except Exception as error:  # noqa: BLE001 - it is told, and the rest goes on
        say(f"{one.name}, {task.case} failed: {error}")
        measured.failed[place] = f"{type(error).__name__}: {error}"
        measured.seconds.pop(place, None)
        return
    if counted:
        note(measured, task.case, one.name, seconds)
        for name, value in one.extra.items():
            measured.details.setdefault((*place, name), []).append(value)


def note(measured: Measured, case: str, name: str, seconds: float) -> None:
    """Keep a time, and show it."""
    measured.seconds.setdefault((case, name), []).append(seconds)
    say(f"{case}, {name}: {rounded(seconds)} s")


def say(text: str) -> None:
    """Show progress."""
    print(f"  {text}", flush=True)


if __name__ == "__main__":
    main()

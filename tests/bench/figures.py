"""Times and memory, and what is made of several of them."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """Measurements of one thing, in seconds or megabytes."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        """Return median, and minimum to maximum where there are several."""
        text = rounded(self.median)
        if len(self.values) > 1:
            text += f" ({rounded(min(self.values))} to {rounded(max(self.values))})"
        return text


def rounded(value: float) -> str:
    """Return three digits or so, as tables want them."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that ``call`` takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def memory(pid: int) -> float:
    """Return the megabytes of a process alone: its proportional set size, in which shared pages count by share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no proportional set size")


def tree_memory(pid: int) -> float:
    """Return the megabytes of a process and of everything that it started."""
    total = 0.0
    for one in [pid, *descendants(pid)]:
        try:
            total += memory(one)
        except (ProcessLookupError, FileNotFoundError, ValueError):
            continue  # it ended meanwhile
    return total


def descendants(pid: int) -> list[int]:
    """Return the processes below a process."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()  # a command's name may hold spaces
        except (ProcessLookupError, FileNotFoundError):
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found, level = [], [pid]
    while level:
        level = [child for child, parent in parents.items() if parent in level]
        found += level
    return found


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a Markdown table, aligned; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)

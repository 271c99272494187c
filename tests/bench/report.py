"""What was measured, as Markdown."""

import datetime as dt
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from bench.bars import Measured, bars
from bench.figures import Figure, rounded, table
from bench.peers import PEERS

from helpers.local_aws.control import PROJECT

HERE = Path(__file__).parent
TARGET = PROJECT / "docs" / "benchmarks.md"


def document(measured: Measured, contenders: Sequence[tuple[str, str]], cases: Sequence[str], runs: int) -> str:
    """Return the whole page. ``contenders``: name and note of each, in the order of the rows."""
    names = [name for name, _ in contenders]
    peers = [name for name in names if name.startswith(tuple(PEERS))]
    parts = [
        "# Benchmarks",
        "Written by `make bench` with `--write`. Everything ran in one run, case by case, each case by everyone in "
        f"turn. Seconds: median of {runs}, minimum to maximum in brackets; one turn before them is not counted. The "
        "same four scripts of `code/` with the same arguments on the full data set (199,523 rows).",
        "## Machine",
        machine(),
        "## Bars",
        table([["what", "bar", "measured", "reached"], *_bars(measured, peers)]),
    ]
    if contenders:
        parts += ["## Side by side", _side_by_side(measured, names, cases), "What each row is:"]
        parts += ["\n".join(f"- **{name}**: {note}." for name, note in contenders)]
    if measured.growth:
        parts += [
            "## Growth",
            "Executions of four jobs that do nothing, after ten that are not counted.",
            _growth(measured),
        ]
    if measured.table:
        rows = [[f"{int(size):,}", str(Figure(values))] for size, values in measured.table.items()]
        parts += ["## Table of runs", table([["runs", "seconds"], *rows])]
    if measured.work:
        rows = [[what, str(Figure(values))] for what, values in measured.work.items()]
        parts += [
            "## Programs and functions started by services",
            "The program is a Python that does nothing; of a service, with its isolation, role, log and record. An "
            "execution counts from StartExecution to its end. The function writes an object.",
            table([["what", "seconds"], *rows]),
        ]
    if measured.ready:
        rows = [[name, str(Figure(values))] for name, values in measured.ready.items()]
        parts += ["## Start", "Memory is proportional set size.", table([["", "measured"], *rows])]
    if measured.failed:
        failures = [f"- {case}, {name}: {' '.join(why.split())}" for (case, name), why in measured.failed.items()]
        parts += ["## Failed", "\n".join(failures)]
    return "\n\n".join(parts) + "\n"


def machine() -> str:
    """Return what the figures depend on: date, machine and versions."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    packages = ("numpy", "pandas", "scikit-learn", "ministack", "botocore")
    versions = [f"{name} {metadata.version(name)}" for name in packages]
    versions += [f"{name} {version}" for name, version in peer_versions().items()]
    rows = [
        ["date", f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"],
        ["processor", f"{os.cpu_count()} cores, {model[1] if model else platform.machine()}"],
        ["memory", f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "?"],
        ["system", f"{platform.system()} {platform.release()}"],
        ["Python", f"{platform.python_version()}, git {git}"],
        ["packages", ", ".join(versions)],
    ]
    return table([["", ""], *rows])


def peer_versions() -> dict[str, str]:
    """Return the versions that the peers' requirements pin."""
    found = {}
    for file in sorted((HERE / "requirements").glob("*.txt")):
        pinned = re.search(rf"^{file.stem}(\[.*\])?==(\S+)", file.read_text(), re.MULTILINE)
        if pinned:
            found[file.stem] = pinned[2]
    return found


def _bars(measured: Measured, peers: Sequence[str]) -> list[list[str]]:
    words = {True: "yes", False: "**no**", None: "-"}
    return [[bar.what, bar.limit, bar.found, words[bar.reached]] for bar in bars(measured, peers)]


def _side_by_side(measured: Measured, names: Sequence[str], cases: Sequence[str]) -> str:
    rows = []
    for name in names:
        cells = []
        for case in cases:
            values = measured.seconds.get((case, name))
            failed = "failed" if (case, name) in measured.failed else ""
            cells.append(str(Figure(values)) if values else failed)
        rows.append([name, *cells])
    return table([["seconds", *cases], *rows])


def _growth(measured: Measured) -> str:
    head = ["executions", "how", "seconds each", "server's process, MB more", "all its processes, MB more"]
    rows = [
        [f"{int(size):,}", way, f"{seconds:.3f}", rounded(alone), rounded(together)]
        for way, sizes in measured.growth.items()
        for size, (seconds, alone, together) in sizes.items()
    ]
    return table([head, *rows])

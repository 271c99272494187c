"""How an execution looks: while it runs, and the picture that stays in the notebook."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from helpers import diagrams
from helpers.diagrams import Look
from helpers.histories import Items

BAR = 20  # characters
_MARKS = {"SUCCEEDED": "✔", "RUNNING": "▶", "FAILED": "✘", "TIMED_OUT": "✘", "ABORTED": "✘"}

Definition = Mapping[str, Any]


def final(
    definition: Definition | None,
    states: Mapping[str, str],
    items: Mapping[str, Items],
    status: str,
    output: str = "",
) -> str:
    """Return Markdown of an execution that has ended: of what it did alone, so the same at every run that did the same.

    ``definition``: None where it may not be read; then the states are a table. ``output``:
    of the execution; a sweep's says how its variants ended.
    """
    ending = f"**execution: {_MARKS[status]} {status}**{_variants(output)}"
    return f"{_states(definition, states, items)}\n\n{ending}"


def live(
    definition: Definition | None,
    states: Mapping[str, str],
    items: Mapping[str, Items],
    *,
    seconds: float,
    expected: Mapping[str, int],
) -> str:
    """Return Markdown of an execution that runs: its states, how many jobs are through, and the elapsed time.

    ``seconds``: since its start. ``expected``: items of the Maps, where they are known before a Map begins.
    """
    parts = [_states(definition, states, items)]
    ahead = diagrams.reachable(definition, set(states)) if definition and states else set(expected)
    maps = {**{name: Items(total) for name, total in expected.items() if name in ahead}, **items}
    if maps := {name: found for name, found in maps.items() if found.total is not None}:
        rows = [f"| {_cell(name)} | {bar(found)} | {found.text()} |" for name, found in maps.items()]
        parts.append("\n".join(["| step | progress | jobs |", "| :-- | :-- | :-- |", *rows]))
    parts.append(f"**{_MARKS['RUNNING']} running** for {clock(seconds)}")
    return "\n\n".join(parts)


def table(states: Mapping[str, str], items: Mapping[str, Items]) -> str:
    """Return the states as a table in Markdown."""
    rows = [
        f"| {_cell(name)} | {_MARKS[status]} {status}{_counts(items.get(name))} |" for name, status in states.items()
    ]
    return "\n".join(["| state | status |", "| --- | --- |", *rows])


def log(title: str, lines: Sequence[str]) -> str:
    """Return Markdown of the last lines of a log; a fence that the lines hold does not end it."""
    text = "\n".join(lines)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{title}\n\n{fence}text\n{text}\n{fence}"


def bar(items: Items) -> str:
    """Return how many items are through as a bar of characters. An empty Map is through."""
    share = items.ended / items.total if items.total else 1
    full = int(share * BAR)
    return "▰" * full + "▱" * (BAR - full)


def clock(seconds: float) -> str:
    """Return a duration in whole seconds: "14 s", "3 min 20 s", "2 h 5 min"."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def expected(definition: Definition | None, given: Any) -> dict[str, int]:
    """Return how many items each Map that is to run will have, where the execution's input ``given`` says it.

    A Map counts when its ItemsPath is a plain path such as ``$.steps.train``.
    """
    found = {}
    for name, state in (definition or {"States": {}})["States"].items():
        path = state.get("ItemsPath", "")
        if state["Type"] != "Map" or not re.fullmatch(r"\$(\.\w+)+", path):
            continue
        value = given
        for part in path.split(".")[1:]:
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, list):
            found[name] = len(value)
    return found


def _variants(output: str) -> str:
    found = json.loads(output or "null")
    if not isinstance(found, Mapping) or not {"finished", "failed", "skipped"} <= set(found):
        return ""
    counts = [f"{found[name]} {name}" for name in ("finished", "failed", "skipped") if found[name]]
    return f", variants: {', '.join(counts)}"


def _states(definition: Definition | None, states: Mapping[str, str], items: Mapping[str, Items]) -> str:
    if definition is None:
        return table(states, items)
    looks = {name: _look(status, items.get(name)) for name, status in states.items()}
    return diagrams.fenced(diagrams.mermaid(definition, looks))


def _cell(text: str) -> str:
    """Return a name as a cell of a table: it may be somebody else's, and hold what Markdown would heed."""
    return re.sub(r"[\\`\[\]<|&]", lambda found: f"&#{ord(found[0])};", " ".join(text.split()))


def _counts(items: Items | None) -> str:
    return f", {items.text()}" if items and items.total is not None else ""


def _look(status: str, items: Items | None) -> Look:
    if items is None:
        return Look(status)
    partly = status == "SUCCEEDED" and (items.count("failed") or items.count("skipped"))
    return Look("PARTLY" if partly else status, items.text() if items.total is not None else "")

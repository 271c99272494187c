"""Pictures that JupyterLab and GitHub draw by themselves: Mermaid in a Markdown output."""

import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from IPython.display import Markdown

# Colours that also differ in brightness, and a mark in front of the name: no state is told by its colour alone.
STYLES = {
    "SUCCEEDED": ("✔", "fill:#d5ecdb,stroke:#1a7f37,color:#1f2328"),
    "RUNNING": ("▶", "fill:#cfe3ff,stroke:#0b63b0,stroke-width:3px,color:#1f2328"),
    "PARTLY": ("✘", "fill:#ffe8b8,stroke:#9a6700,color:#1f2328"),  # a Map of which not every item succeeded
    "FAILED": ("✘", "fill:#f7c4ae,stroke:#a8320a,stroke-width:3px,color:#1f2328"),
    "TIMED_OUT": ("✘", "fill:#f7c4ae,stroke:#a8320a,stroke-width:3px,color:#1f2328"),
    "ABORTED": ("✘", "fill:#e4dcf0,stroke:#5b3f91,stroke-width:3px,color:#1f2328"),
}
_WAITING = "fill:#f6f8fa,stroke:#8c959f,color:#57606a,stroke-dasharray:4"
_CLOSE = '%%{init: {"flowchart": {"rankSpacing": 28, "nodeSpacing": 24}}}%%'  # else the letters of a long one get small
_RESERVED = {"end", "graph", "flowchart", "subgraph", "style", "class", "click", "call", "href", "default", "linkstyle"}
# What would end a label, its fence, or begin HTML: a state machine may be somebody else's.
_ENTITIES = {'"': "#quot;", "#": "#35;", "<": "#60;", "`": "#96;"}


@dataclass(frozen=True)
class Look:
    """How a state is to be drawn: its status (a key of STYLES, or empty), and a line below its name."""

    status: str = ""
    note: str = ""


def draw(definition: Mapping[str, Any]) -> Markdown:
    """Draw a state machine: its states, and the transitions between them.

    ``definition``: in the Amazon States Language. Error transitions (Catch) are dashed;
    a Map, which runs its states once for each item, has double sides.
    """
    return Markdown(fenced(mermaid(definition)))


def fenced(picture: str) -> str:
    """Return Markdown that holds a Mermaid picture."""
    return f"```mermaid\n{picture}\n```"


def mermaid(definition: Mapping[str, Any], looks: Mapping[str, Look] | None = None) -> str:
    """Return a state machine as a Mermaid flow chart.

    ``looks``: of the states that an execution has entered. With them the others are
    grey, and what the execution can no more come to, behind a Choice, is left out.
    """
    states = definition["States"]
    drawn = set(states) if looks is None else reachable(definition, set(looks))
    ids = {name: _id(name, number) for number, name in enumerate(states)}
    lines = [_CLOSE, "flowchart LR", f"  _start((start)) --> {ids[definition['StartAt']]}"]
    for name in (name for name in states if name in drawn):
        lines.append(f"  {ids[name]}{_shape(name, states[name], looks)}")
        targets = ((arrow, target) for arrow, target in _transitions(states[name]) if target in drawn | {""})
        lines += [f"  {ids[name]} {arrow} {ids[target] if target else '_end((done))'}" for arrow, target in targets]
    if looks is not None:
        lines += _classes(drawn, ids, looks)
    return "\n".join(lines)


def _classes(drawn: Set[str], ids: Mapping[str, str], looks: Mapping[str, Look]) -> Iterator[str]:
    by_status: dict[str, list[str]] = {}
    for name in ids:
        if name in drawn:
            by_status.setdefault(looks.get(name, Look()).status, []).append(ids[name])
    for status, members in by_status.items():
        style = STYLES[status][1] if status else _WAITING
        yield f"  classDef {(status or 'WAITING').lower()} {style}"
        yield f"  class {','.join(members)} {(status or 'WAITING').lower()}"


def _id(name: str, number: int) -> str:
    """Return the name by which Mermaid knows a state: its own where that is a word, and none of Mermaid's own."""
    plain = re.fullmatch(r"[A-Za-z]\w*", name) and name.lower() not in _RESERVED
    return name if plain else f"_{number}"


def _shape(name: str, state: Mapping[str, Any], looks: Mapping[str, Look] | None) -> str:
    opening, closing = {
        "Choice": ("{{", "}}"),
        "Fail": ("[/", "/]"),
        "Succeed": ("([", "])"),
        "Map": ("[[", "]]"),
    }.get(state["Type"], ("[", "]"))
    look = (looks or {}).get(name, Look())
    label = "".join(_ENTITIES.get(letter, letter) for letter in " ".join(name.split()))
    label = f"{STYLES[look.status][0]} {label}" if look.status else label
    label = f"{label}<br/>{look.note}" if look.note else label
    return f"{opening}{label}{closing}" if re.fullmatch(r"\w+", label) else f'{opening}"{label}"{closing}'


def reachable(definition: Mapping[str, Any], entered: Set[str]) -> set[str]:
    """Return the states that were entered or may still be; a Choice that was made has left its other ways behind."""
    states, found, open_ends = definition["States"], set[str](), [definition["StartAt"]]
    while open_ends:
        name = open_ends.pop()
        if name in found:
            continue
        found.add(name)
        targets = _targets(states[name])
        chosen = [target for target in targets if target in entered] if states[name]["Type"] == "Choice" else []
        made = chosen and not any(_leads(states, target, name) for target in chosen)
        open_ends += chosen if made else targets
    return found


def _leads(states: Mapping[str, Any], source: str, target: str) -> bool:
    """Return whether a way leads from one state to another: such as from a Wait back to the Choice before it."""
    found, open_ends = set[str](), [source]
    while open_ends:
        name = open_ends.pop()
        if name == target:
            return True
        if name not in found:
            found.add(name)
            open_ends += _targets(states[name])
    return False


def _targets(state: Mapping[str, Any]) -> list[str]:
    return [target for _, target in _transitions(state) if target]


def _transitions(state: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield an arrow and a state for each way on; no state's name stands for the execution's end."""
    if "Next" in state:
        yield "-->", state["Next"]
    if state.get("End") or state["Type"] == "Succeed":
        yield "-->", ""
    for choice in state.get("Choices", ()):
        yield "-->", choice["Next"]
    if "Default" in state:
        yield "-->|otherwise|", state["Default"]
    for catcher in state.get("Catch", ()):
        yield "-.->|error|", catcher["Next"]

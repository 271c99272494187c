"""Executions over a stop of the embedded AWS: where one that was running goes on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What keeps more than a history tells: items and branches under way, and tokens that were given out.
_FAN_OUT = ("Map", "Parallel")


@dataclass(frozen=True)
class Place:
    """A state that was entered and not left: its input, when and with which event that was.

    ``interrupted``: its task was under way.
    """

    state: str
    data: Any
    entered: str
    last: int
    interrupted: bool
    variables: Mapping[str, Any]


def has_not_begun(events: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether an execution was started and has entered no state."""
    return all(event["type"] == "ExecutionStarted" for event in events)


def place(
    definition: Mapping[str, Any], events: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]
) -> Place | None:
    """Return where an execution that was running goes on, with its variables; None where its history does not tell."""
    fanned_out = sum(_step(event["type"]) for event in events)
    entries = [number for number, event in enumerate(events) if event["type"].endswith("StateEntered")]
    if fanned_out or not entries or _keeps_more(definition):
        return None
    told = events[entries[-1]]["stateEnteredEventDetails"]
    after = [event["type"] for event in events[entries[-1] + 1 :]]
    if told["name"] not in definition["States"] or any(kind.endswith(("StateExited", "Succeeded")) for kind in after):
        return None
    entered = events[entries[-1]]["timestamp"]
    interrupted = bool(after) and not after[-1].endswith(("Failed", "TimedOut"))
    return Place(told["name"], json.loads(told["input"]), entered, len(events), interrupted, variables)


def _step(kind: str) -> int:
    """Return by how much an event changes the number of Maps and Parallel states that are under way."""
    if not kind.startswith(_FAN_OUT):
        return 0
    return {"StateEntered": 1, "StateExited": -1}.get(kind.removeprefix("Map").removeprefix("Parallel"), 0)


def _keeps_more(value: Any) -> bool:
    """Tell whether a definition waits for tokens."""
    if isinstance(value, dict):
        resource = str(value.get("Resource", ""))
        if ".waitForTaskToken" in resource or ":activity:" in resource:
            return True
        value = list(value.values())
    return isinstance(value, list) and any(_keeps_more(item) for item in value)

"""Executions over a stop of the embedded AWS: where one that was running goes on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What keeps more than a history tells: items and branches under way.
_FAN_OUT = ("Map", "Parallel")


@dataclass(frozen=True)
class Place:
    """A state that was entered and not left: its input, when and with which event that was.

    ``interrupted``: the events of its task, from when that was scheduled, where it was under way.
    """

    state: str
    data: Any
    entered: str
    last: int
    entry: int
    interrupted: Sequence[Mapping[str, Any]] | None
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
    if fanned_out or not entries:
        return None
    told = events[entries[-1]]["stateEnteredEventDetails"]
    after = events[entries[-1] + 1 :]
    if told["name"] not in definition["States"] or any(e["type"].endswith(("StateExited", "Succeeded")) for e in after):
        return None
    entered = events[entries[-1]]["timestamp"]
    return Place(
        told["name"], json.loads(told["input"]), entered, len(events), entries[-1] + 1, _attempt(after), variables
    )


def submitted(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield resource, parameters and answer of each task that was started and has not ended: nothing followed it."""
    known, followed = {event["id"]: event for event in events}, {event["previousEventId"] for event in events}
    for event in events:
        if event["type"] != "TaskSubmitted" or event["id"] in followed:
            continue
        answer, before = json.loads(event["taskSubmittedEventDetails"]["output"]), event
        while before["type"] != "TaskScheduled":
            before = known[before["previousEventId"]]
        told = before["taskScheduledEventDetails"]
        yield f"arn:aws:states:::{told['resourceType']}:{told['resource']}", json.loads(told["parameters"]), answer


def _attempt(events: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]] | None:
    """Return the events of the last attempt of a state's task; None where it ended, or nothing was begun."""
    if not events or events[-1]["type"].endswith(("Failed", "TimedOut")):
        return None
    begun = [number for number, event in enumerate(events) if event["type"].endswith("Scheduled")]
    return events[begun[-1] :] if begun else events


def _step(kind: str) -> int:
    """Return by how much an event changes the number of Maps and Parallel states that are under way."""
    if not kind.startswith(_FAN_OUT):
        return 0
    return {"StateEntered": 1, "StateExited": -1}.get(kind.removeprefix("Map").removeprefix("Parallel"), 0)

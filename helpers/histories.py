"""An execution's history, read as it grows: the status of each state, and how far the items of a Map are."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

FINAL = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")
# How an item ended whose errors are caught: by the last word of its last state's name.
ENDINGS = {"cached": "cached", "skipped": "skipped", "failed": "failed", "failure": "failed"}
PAGE = 50  # events of a page: most looks find a handful of new ones


@dataclass
class Items:
    """How far the items of a Map state are. ``total`` is None until it is known."""

    total: int | None = None
    outcomes: dict[int, str] = field(default_factory=dict)  # by index: running, succeeded, failed, cached, skipped
    jobs: dict[int, str] = field(default_factory=dict)  # by index: the name of its last processing job

    def count(self, outcome: str) -> int:
        """Return how many items have this outcome."""
        return sum(found == outcome for found in self.outcomes.values())

    @property
    def ended(self) -> int:
        """How many items are through, however they ended."""
        return len(self.outcomes) - self.count("running")

    def text(self) -> str:
        """Say it in words: "5 of 8, 1 failed"."""
        if self.total == 0:
            return "nothing to run"
        total = len(self.outcomes) if self.total is None else self.total
        counts = [
            f"{number} {outcome}" for outcome in dict.fromkeys(ENDINGS.values()) if (number := self.count(outcome))
        ]
        return ", ".join([f"{self.ended} of {total}", *counts])


@dataclass(frozen=True)
class _Place:
    """Where in the machine an event happened: the state, and the items that it is in, the outermost Map's first."""

    state: str = ""
    items: tuple[tuple[str, int], ...] = ()  # a Map's name, an index

    def outside(self, name: str) -> tuple[tuple[str, int], ...]:
        """Return the items that Map ``name`` itself is in. Its next item may follow on an event in the one before."""
        maps = [item[0] for item in self.items]
        return self.items[: maps.index(name)] if name in maps else self.items


class Progress:
    """What a history says so far. Feed it events in order, each one once."""

    def __init__(self) -> None:
        """Begin with a history without events."""
        self.statuses: dict[str, str] = {}  # of the states outside of Maps, in the order of entering
        self.items: dict[str, Items] = {}  # by Map state
        self.jobs: dict[str, str] = {}  # by state outside of Maps: its last processing job
        self.map_runs: dict[str, str] = {}  # by Distributed Map state: the ARN of its run
        self.last = 0  # the newest event's number
        self.ended = False
        self._places: dict[int, _Place] = {}
        self._last_states: dict[tuple[str, int], str] = {}

    def add(self, event: dict[str, Any]) -> None:
        """Take the next event in.

        AWS says which event led to which (previousEventId), so that the branches of a
        Parallel state and the items of a Map are not mixed up.
        """
        place = self._places.get(event.get("previousEventId", event["id"] - 1), _Place())
        self._places[event["id"]] = self._next_place(event, place)
        self.last = event["id"]

    def _next_place(self, event: dict[str, Any], place: _Place) -> _Place:
        kind = event["type"]
        if kind.startswith("Execution"):
            self.ended = kind != "ExecutionStarted"
        elif kind.endswith("StateEntered"):
            return self._enter(event["stateEnteredEventDetails"]["name"], place)
        elif kind.startswith("MapIteration"):
            return self._iterate(event, place)
        elif kind.endswith("StateExited"):
            return self._leave(event["stateExitedEventDetails"]["name"], place)
        elif place.items:
            if name := _job_name(event):
                outermost, index = place.items[0]
                self.items[outermost].jobs[index] = name
        elif place.state:
            self._note(event, place.state)
        return place

    def _enter(self, name: str, place: _Place) -> _Place:
        if place.items:
            self._last_states[place.items[0]] = name
        else:
            self.statuses[name] = "RUNNING"
        return _Place(name, place.items)

    def _leave(self, name: str, place: _Place) -> _Place:
        # A state whose error was caught is left like one that succeeded: what tells them
        # apart is the failure since its last attempt.
        if not place.items and self.statuses.get(name) == "RUNNING":
            self.statuses[name] = "SUCCEEDED"
        return _Place(name, place.items)

    def _iterate(self, event: dict[str, Any], place: _Place) -> _Place:
        kind = event["type"]
        details = event[kind[0].lower() + kind[1:] + "EventDetails"]
        name, index = details["name"], details["index"]
        around = place.outside(name)
        started = kind == "MapIterationStarted"
        if not around:  # a Map within a Map is part of the outer one's item
            outcome = "running" if started else self._outcome(kind, (name, index))
            self.items.setdefault(name, Items()).outcomes[index] = outcome
        return _Place("", (*around, (name, index))) if started else _Place(name, around)

    def _outcome(self, kind: str, item: tuple[str, int]) -> str:
        if not kind.endswith("Succeeded"):
            return "failed"
        ending = self._last_states.get(item, "").split(" ")[-1]
        return ENDINGS.get(ending, "succeeded")

    def _note(self, event: dict[str, Any], state: str) -> None:
        kind = event["type"]
        if kind == "MapStateStarted":
            self.items.setdefault(state, Items()).total = event["mapStateStartedEventDetails"]["length"]
        elif kind == "MapRunStarted":
            self.map_runs[state] = event["mapRunStartedEventDetails"]["mapRunArn"]
            self.items[state] = Items()  # its items are counted in its run, and its own length is 0
        elif kind.endswith("Scheduled"):
            self.statuses[state] = "RUNNING"  # the first attempt, or one more
            if name := _job_name(event):
                self.jobs[state] = name
        elif kind.endswith(("Failed", "TimedOut")):
            self.statuses[state] = "TIMED_OUT" if kind.endswith("TimedOut") else "FAILED"


def read_new(states: Any, arn: str, progress: Progress) -> int:
    """Take in what the history of execution ``arn`` has gained. Returns the number of events.

    Read from its end, back to what is known: a long history is not read again.
    """
    unseen: list[dict[str, Any]] = []
    pages = states.get_paginator("get_execution_history").paginate(
        executionArn=arn, reverseOrder=True, maxResults=PAGE if progress.last else 1000
    )
    for page in pages:
        new = [event for event in page["events"] if event["id"] > progress.last]
        unseen += new
        if len(new) < len(page["events"]):
            break
    for event in sorted(unseen, key=lambda event: event["id"]):
        progress.add(event)
    return len(unseen)


def read_map_runs(states: Any, progress: Progress, running: Iterable[str]) -> None:
    """Ask how far the Distributed Maps ``running`` are: the executions of their items have histories of their own."""
    for name in running:
        if name in progress.map_runs:
            counts = states.describe_map_run(mapRunArn=progress.map_runs[name])["itemCounts"]
            progress.items[name] = _distributed(counts)


def _distributed(counts: dict[str, int]) -> Items:
    ended = {
        "succeeded": counts["succeeded"],
        "failed": sum(counts[name] for name in ("failed", "timedOut", "aborted")),
    }
    outcomes = [name for name, number in {**ended, "running": counts["running"]}.items() for _ in range(number)]
    return Items(counts["total"], dict(enumerate(outcomes)))


def _job_name(event: dict[str, Any]) -> str:
    """Return the name of the processing job that an event schedules, if it does."""
    details = event.get("taskScheduledEventDetails", {})
    if details.get("resourceType") != "sagemaker" or "createProcessingJob" not in details.get("resource", ""):
        return ""
    return json.loads(details.get("parameters", "{}")).get("ProcessingJobName", "")

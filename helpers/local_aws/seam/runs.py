"""A running execution: its record, its history, its role, and how it ends; and the strands that run in it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from helpers.local_aws.seam.identity import RoleSession
from helpers.local_aws.states import histories
from helpers.local_aws.states.failures import TaskFailed
from helpers.local_aws.states.scopes import Cancelled, Scope

_ENDINGS = {
    "SUCCEEDED": "ExecutionSucceeded", "FAILED": "ExecutionFailed", "ABORTED": "ExecutionAborted",
    "TIMED_OUT": "ExecutionTimedOut",
}  # fmt: skip
# What is still written once the embedded AWS is stopping: that a state or a task came to a good end, and what
# follows. Whatever else happens then happens because of the stop.
_LAST_WORDS = ("Succeeded", "StateExited", "StateEntered")
_TOO_MANY = f"The execution reached the maximum number of history events ({histories.MAX_EVENTS})."


class Run:
    """One execution while it runs. ``record`` is ministack's, which its API answers from.

    ``ended`` is called with it once it has ended.
    """

    def __init__(
        self,
        record: dict[str, Any],
        session: RoleSession,
        *,
        now: Callable[[], str],
        ended: Callable[["Run"], None],
        scope: Scope,
    ) -> None:
        self.record, self.session, self.scope = record, session, scope
        self.output: Any = None  # of a walk that came to its end
        self._now, self._ended = now, ended
        self._lock = threading.Lock()
        self._frozen = False

    @property
    def arn(self) -> str:
        """The execution's ARN."""
        return self.record["executionArn"]

    def begin(self) -> None:
        """Write the first event, in place of the one that ministack wrote."""
        told = histories.details("ExecutionStarted", input=self.record["input"], roleArn=self.session.role_arn)
        with self._lock:
            if self.record["status"] == "RUNNING":
                self.record["events"] = [self._event([], "ExecutionStarted", 0, told)]

    def freeze(self) -> None:
        """Leave the execution as it is, to be resumed after a restart: nothing that the stop does to it counts."""
        with self._lock:
            self._frozen = True

    def event(self, kind: str, previous: int, told: Mapping[str, Any]) -> int:
        """Write an event and return its id. Raises Cancelled when the execution has ended.

        The last event that AWS allows is the one that ends the execution.
        """
        with self._lock:
            if self.record["status"] != "RUNNING" or (self._frozen and not kind.endswith(_LAST_WORDS)):
                raise Cancelled
            if len(self.record["events"]) < histories.MAX_EVENTS - 1:
                return self._append(kind, previous, told)
        self.end("FAILED", previous, error="States.Runtime", cause=_TOO_MANY)
        raise Cancelled

    def end(
        self,
        status: str,
        previous: int | None = None,
        *,
        output: str | None = None,
        error: Any = None,
        cause: Any = None,
    ) -> bool:
        """End the execution, and with it what still runs in it. False when it has ended already."""
        told: dict[str, Any] = {} if output is None else {"output": output}
        told.update({name: value for name, value in (("error", error), ("cause", cause)) if value is not None})
        with self._lock:
            if self.record["status"] != "RUNNING" or (self._frozen and status != "SUCCEEDED"):
                return False
            events = self.record["events"]
            self._append(_ENDINGS[status], len(events) if previous is None else previous,
                         histories.details(_ENDINGS[status], **told))  # fmt: skip
            for name in ("variables", "token"):
                self.record.pop(name, None)
            self.record.update(status=status, stopDate=events[-1]["timestamp"], output=output, error=error, cause=cause)
        self.scope.cancel()
        self._ended(self)
        return True

    def _append(self, kind: str, previous: int, told: Mapping[str, Any]) -> int:
        events = self.record["events"]
        events.append(self._event(events, kind, previous, told))
        return len(events)

    def _event(self, before: list, kind: str, previous: int, told: Mapping[str, Any]) -> dict[str, Any]:
        number = len(before) + 1
        return {"id": number, "previousEventId": previous, "type": kind, "timestamp": self._now(), **told}


@dataclass
class Strand:
    """A line of states that run one after the other: an execution's own, a branch's, an item's."""

    run: Run
    scope: Scope
    context: dict[str, Any]
    last: int = 0  # the event before, of this strand
    entered: int = 0  # the event with which its state was entered
    # The events of its task, where a stop of the embedded AWS cut that off.
    interrupted: Sequence[Mapping[str, Any]] | None = None
    _written: tuple[Any, str] = field(default=(None, ""), repr=False)

    def event(self, kind: str, told: Mapping[str, Any] | None = None, /, **fields: Any) -> int:
        """Write an event after the strand's last. Raises Cancelled when the strand is no more."""
        self.scope.require()
        if fields:
            told = histories.details(kind, **fields)
        self.last = self.run.event(kind, self.last, told or {})
        return self.last

    def fatal(self, said: str) -> TaskFailed:
        """Return the error that ends an execution in its present state, whatever handlers there are."""
        place = f"'{self.context['State']['Name']}' (entered at the event id #{self.entered})"
        return TaskFailed("States.Runtime", f"An error occurred while executing the state {place}. {said}")

    def enter(self, kind: str, name: str, data: Any) -> None:
        """Write that a state is entered. The first one of an execution follows on nothing, as AWS counts."""
        self.entered = self.event(f"{kind}StateEntered", name=name, input=self._text(name, data))

    def leave(self, kind: str, name: str, data: Any) -> None:
        """Write that a state is left. Raises TaskFailed when it gives out more than it may."""
        self.event(f"{kind}StateExited", name=name, output=self._text(name, data))

    def check(self, name: str, data: Any) -> str:
        """Return ``data`` as text. Raises TaskFailed when it is more than a state may give out."""
        text = histories.text_of(data)
        if histories.too_large(text):
            raise TaskFailed(
                "States.DataLimitExceeded",
                f"The state/task '{name}' returned a result with a size exceeding the maximum number of bytes service"
                " limit.",
            )
        return text

    def branch(self, scope: Scope, **context: Any) -> "Strand":
        """Return a strand that starts where this one is, with a context of its own."""
        variables = dict(self.context.get("variables", {}))
        own = {**self.context, "State": dict(self.context["State"]), "variables": variables, **context}
        return Strand(self.run, scope, own, self.last)

    def _text(self, name: str, data: Any) -> str:
        """Return ``data`` as text; what a state gives out the next one takes in, and is written once."""
        if self._written[0] is not data or data is None:
            self._written = data, self.check(name, data)
        return self._written[1]

"""Tasks that end when their token comes back: an activity's worker sends it, or whoever was given it."""

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.runs import Strand
from helpers.local_aws.states.activities import ActivityQueues, ActivityTask
from helpers.local_aws.states.callbacks import Callback, Callbacks
from helpers.local_aws.states.failures import TaskFailed
from helpers.local_aws.states.histories import text_of

Events = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Limits:
    """How long a task may take, and how long it may be silent, in seconds."""

    timeout: float | None = None
    heartbeat: float | None = None

    @property
    def told(self) -> dict[str, int]:
        """What an event says of them."""
        named = {"timeoutInSeconds": self.timeout, "heartbeatInSeconds": self.heartbeat}
        return {name: int(seconds) for name, seconds in named.items() if seconds is not None}


class TokenTasks:
    """Run them. ``queues`` are what GetActivityTask is answered from, ``callbacks`` what SendTask... reach."""

    def __init__(self, ministack: Ministack, callbacks: Callbacks, queues: ActivityQueues) -> None:
        self._language, self._callbacks, self._queues = ministack.states, callbacks, queues

    def token(self, resource: str, strand: Strand, *, again: bool) -> str:
        """Return the token of an attempt: a new one, or ``again`` the one that was given out before a restart.

        ``resource``: what IAM is asked about when it is sent back.
        """
        record = strand.run.record
        if again and "token" in record:
            return record["token"]
        token = self._callbacks.tokens.new(resource)
        if strand.scope is strand.run.scope:  # an execution's own task: what it would be resumed with
            record["token"] = token
        return token

    def activity(self, activity: str, params: Any, limits: Limits, strand: Strand, before: Events = ()) -> Any:
        """Return what a worker of ``activity`` makes of ``params``. ``before``: the task's events before a restart.

        On AWS too the clocks run from when a worker has taken the task, and not before.
        Raises TaskFailed, or Cancelled.
        """
        token = self.token(activity, strand, again=bool(before))
        callback = Callback(strand.scope, limits.timeout, limits.heartbeat)

        def begin(worker: str | None) -> bool:
            told = {"workerName": worker} if worker else {}
            return callback.begin(lambda: strand.event("ActivityStarted", {"activityStartedEventDetails": told}))

        task = ActivityTask(token, text_of(params), begin)
        taken = [event["timestamp"] for event in before if event["type"] == "ActivityStarted"]
        with self._callbacks.open(token, callback):
            if taken:
                callback.begin(spent=_seconds_since(taken[-1]))
            else:
                self._queues.put(activity, task)
            try:
                return json.loads(callback.wait())
            finally:
                self._queues.discard(activity, task)

    def callback(self, limits: Limits, strand: Strand, submit: Callable[[], Any], before: Events = ()) -> Any:
        """Give the token of the context away with ``submit``, then return what comes back with it.

        Raises TaskFailed, or Cancelled.
        """
        token = strand.context["Task"]["Token"]
        callback = Callback(strand.scope, limits.timeout, limits.heartbeat)
        with self._callbacks.open(token, callback):
            callback.begin(spent=_seconds_since(before[0]["timestamp"]) if before else 0.0)
            submit()
            return json.loads(callback.wait())

    def require_activity(self, activity: str) -> None:
        """Raise TaskFailed unless there is such an activity."""
        if activity not in self._language._activities:
            raise TaskFailed("States.Runtime", f"The activity {activity} does not exist.")


def _seconds_since(moment: str) -> float:
    return (dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(moment.replace("Z", "+00:00"))).total_seconds()

"""How an attempt of a job ended, and whether another one follows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from helpers.local_aws.containers import End

EXITED = "Essential container in task exited"
TIMED_OUT = "Job attempt duration exceeded timeout"
NOT_STARTED = "Task failed to start"
LOST = "The embedded AWS was stopped while the job was running."
_LONGEST_REASON = 255  # characters of a container's reason


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. ``again``: the retry strategy may have a say; it has none after a timeout or a wish."""

    succeeded: bool
    status_reason: str
    code: int | None = None
    reason: str = ""
    again: bool = True


def outcome(end: End, wish: str) -> Outcome:
    """Return the outcome of a container's end. ``wish``: the reason with which the job was terminated, or ""."""
    reason = end.message[:_LONGEST_REASON]
    if end.reason == "stopped":
        return Outcome(False, wish, end.code, reason, again=False)
    if end.reason == "timeout":
        return Outcome(False, TIMED_OUT, end.code, reason, again=False)
    if end.reason == "failed" or (end.reason != "lost" and end.code is None):
        return not_started(end.problem)
    if end.reason == "lost":
        return Outcome(False, LOST, end.code, reason)
    return Outcome(end.reason == "exited" and end.code == 0, EXITED, end.code, reason)


def not_started(problem: str) -> Outcome:
    """Return the outcome of an attempt of which nothing has run.

    That a task had nothing to begin with is the reason of the attempt; all else is the container's.
    """
    if problem.startswith("ResourceInitializationError"):
        return Outcome(False, problem)
    return Outcome(False, NOT_STARTED, reason=problem[:_LONGEST_REASON])


def retries(strategy: Mapping[str, Any], attempts: int, ended: Outcome) -> bool:
    """Tell whether a failed job is tried again after ``attempts`` attempts: the first condition that fits decides."""
    if not ended.again or attempts >= strategy.get("attempts", 1):
        return False
    for condition in strategy.get("evaluateOnExit", []):
        code = "" if ended.code is None else str(ended.code)
        seen = {"onStatusReason": ended.status_reason, "onReason": ended.reason, "onExitCode": code}
        if all(_fits(condition[name], text) for name, text in seen.items() if name in condition):
            return condition["action"].upper() == "RETRY"
    return True


def _fits(pattern: str, text: str) -> bool:
    """Compare with a pattern that may end in an asterisk; nothing but an asterisk fits what is not there."""
    if pattern.endswith("*"):
        return text.startswith(pattern[:-1])
    return bool(text) and text == pattern

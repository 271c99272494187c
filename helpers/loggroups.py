"""Log groups that nobody makes for us, or that should not be kept for ever."""

from collections.abc import Mapping
from typing import Any

DAYS = 7


def ensure_log_group(logs: Any, name: str, *, tags: Mapping[str, str], days: int = DAYS) -> bool:
    """Create a log group whose events go after ``days``, or find it. Returns whether it is new.

    ``logs``: a CloudWatch Logs client. ``days``: one of the numbers that CloudWatch Logs takes.
    """
    try:
        logs.create_log_group(logGroupName=name, tags=dict(tags))
        created = True
    except logs.exceptions.ResourceAlreadyExistsException:
        created = False
    logs.put_retention_policy(logGroupName=name, retentionInDays=days)
    return created


def tail(logs: Any, group: str, stream: str, *, lines: int = 20) -> list[str]:
    """Return the last lines of a stream, oldest first; [] where there is none.

    ``logs``: a CloudWatch Logs client. A page may be empty before the last one; the end is where the token repeats.
    """
    events: list[Mapping[str, Any]] = []
    token: dict[str, str] = {}
    while len(events) < lines:
        try:
            page = logs.get_log_events(
                logGroupName=group, logStreamName=stream, limit=lines, startFromHead=False, **token
            )
        except logs.exceptions.ResourceNotFoundException:
            break
        events = [*page["events"], *events]
        if page.get("nextBackwardToken") == token.get("nextToken"):
            break
        token = {"nextToken": page["nextBackwardToken"]}
    return [event["message"] for event in events[-lines:]]

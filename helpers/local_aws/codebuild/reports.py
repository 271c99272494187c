"""What a build's agent reports. It runs next to user code, which may report in its place: nothing of it is trusted."""

import json
from typing import Any

from helpers.local_aws.wire import AwsError

_TYPES = (
    "DOWNLOAD_SOURCE",
    "INSTALL",
    "PRE_BUILD",
    "BUILD",
    "POST_BUILD",
    "UPLOAD_ARTIFACTS",
    "FINALIZING",
    "COMPLETED",
)
_STATUSES = ("SUCCEEDED", "FAILED")


def read(body: bytes) -> dict[str, Any]:
    """Return a report: ``phases``, and where they are known ``resolved``, ``exported``, ``artifacts``, ``status``.

    Raises AwsError for what is none.
    """
    try:
        content = json.loads(body)
        report: dict[str, Any] = {"phases": [_phase(phase) for phase in content["phases"]]}
        report |= {name: str(content[name]) for name in ("resolved", "artifacts") if name in content}
        if "exported" in content:
            report["exported"] = [{"name": str(it["name"]), "value": str(it["value"])} for it in content["exported"]]
        if content.get("status") in _STATUSES:
            report["status"] = content["status"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise AwsError("InvalidInputException", "this is no report of a build") from None
    return report


def _phase(phase: Any) -> dict[str, Any]:
    if phase["type"] not in _TYPES:
        raise ValueError(phase["type"])
    found: dict[str, Any] = {"type": phase["type"], "started": float(phase["started"])}
    if "ended" in phase and phase["status"] in _STATUSES:
        contexts = [{name: str(context[name]) for name in ("statusCode", "message")} for context in phase["contexts"]]
        found |= {"ended": float(phase["ended"]), "status": phase["status"], "contexts": contexts}
    return found

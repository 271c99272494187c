"""Read a CodeCommit event: which references were pushed, by whom, and which of them may start something."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Push:
    """One reference of an event. ``ignored`` says why it starts nothing, if so."""

    partition: str
    region: str
    account: str
    repository: str
    ref: str
    commit: str
    pusher: str
    ignored: str = ""


def plan(event: Mapping[str, Any], function_arn: str) -> list[Push]:
    """Return every reference of every record of ``event``.

    Raises ValueError for a record that is not of a CodeCommit repository in the
    account and region of the function.
    """
    partition, _, region, account = function_arn.split(":")[1:5]
    pushes = []
    for record in event["Records"]:
        arn = record["eventSourceARN"]
        found = re.fullmatch(rf"arn:{partition}:codecommit:{region}:{account}:([\w.-]{{1,100}})", arn)
        if not found:
            raise ValueError(f"{arn} is not a CodeCommit repository of account {account} in {region}")
        for reference in record["codecommit"]["references"]:
            push = Push(
                partition=partition,
                region=region,
                account=account,
                repository=found[1],
                ref=reference["ref"],
                commit=reference.get("commit", ""),
                pusher=pusher_name(record.get("userIdentityARN") or ""),
                ignored=_why_ignored(record, reference),
            )
            pushes.append(push)
    return pushes


def pusher_name(arn: str) -> str:
    """Return who pushed: a user's name, ``root``, or ``role/session``; an ARN of another form as it is."""
    kind, _, rest = arn.rpartition(":")[2].partition("/")
    if not arn.startswith("arn:") or not (rest or kind == "root"):
        return arn
    names = {"root": "root", "user": rest.rpartition("/")[2], "federated-user": rest}
    if kind == "assumed-role":
        return "/".join(rest.split("/")[-2:])  # a path may stand before the role's name
    return names.get(kind, arn)


def _why_ignored(record: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    if record.get("eventName") == "TriggerEventTest":
        return "the trigger was only tested"
    if reference.get("deleted"):
        return "the reference was deleted"
    if not reference["ref"].startswith("refs/heads/"):
        return "the reference is not a branch"
    return ""

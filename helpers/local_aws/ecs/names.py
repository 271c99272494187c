"""How ECS's resources are named: short names, families with revisions, ids and ARNs."""

import re
import secrets
from typing import NamedTuple

from helpers.local_aws.ecs.errors import client, invalid
from helpers.local_aws.wire import Site

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_ARN = re.compile(r"arn:aws:ecs:([a-z0-9-]+):(\d{12}):([a-z-]+)/(.+)", re.S)
_ROLE_ARN = re.compile(r"arn:aws:iam::\d{12}:role/[\w+=,.@/-]+", re.A)
_ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.A)


class Reference(NamedTuple):
    """What an ARN, or a name in its place, stands for: a kind of resource and its name."""

    kind: str
    name: str


def new_id() -> str:
    """Return an id as tasks have it."""
    return secrets.token_hex(16)


def is_name(text: str) -> bool:
    """Tell whether a cluster or a family can be called this."""
    return _NAME.fullmatch(text) is not None


def resource(site: Site, arn: str) -> Reference:
    """Take an ARN of this account and region apart. Raises InvalidParameterException."""
    match = _ARN.fullmatch(arn)
    if match is None or (match[1], match[2]) != (site.region, site.account_id):
        raise invalid(f"Invalid arn: {arn:.300}")
    return Reference(match[3], match[4])


def cluster(site: Site, reference: str | None) -> str:
    """Return the name of the cluster that a name or an ARN stands for; without one, the default cluster's."""
    if not reference:
        return "default"
    if not reference.startswith("arn:"):
        if not is_name(reference):
            raise invalid("Identifier contains invalid characters.")
        return reference
    found = resource(site, reference)
    if found.kind != "cluster":
        raise invalid(f"Unsupported resource type: {found.kind}")
    return found.name


def definition(site: Site, reference: str) -> tuple[str, int | None]:
    """Return family and revision of ``family``, ``family:revision`` or an ARN. Raises ClientException."""
    name = reference
    if reference.startswith("arn:"):
        found = resource(site, reference)
        if found.kind != "task-definition":
            raise invalid(f"Unsupported resource type: {found.kind}")
        name = found.name
    family, colon, revision = name.partition(":")
    if not is_name(family) or (colon and not re.fullmatch(r"[1-9]\d{0,8}", revision, re.A)):
        raise client("Invalid revision number." if is_name(family) else "Family contains invalid characters.")
    return family, int(revision) if colon else None


def task(site: Site, reference: str, cluster_name: str) -> str:
    """Return the id of the task that an id or an ARN stands for, in a cluster. Raises InvalidParameterException."""
    if not reference.startswith("arn:"):
        if len(reference) not in (32, 36):
            raise invalid("taskId length should be one of [32,36]")
        return reference
    found = resource(site, reference)
    if found.kind != "task":
        raise invalid(f"Unsupported resource type: {found.kind}")
    owner, _, task_id = found.name.rpartition("/")
    if owner != cluster_name:
        raise invalid(f"Invalid identifier: Identifier is for cluster {owner}. Your cluster is {cluster_name}")
    return task_id


def role(site: Site, reference: str) -> str:
    """Return the ARN of a role given by its name or its ARN. Raises ClientException."""
    if _ROLE_ARN.fullmatch(reference):
        return reference
    if _ROLE_NAME.fullmatch(reference):
        return f"arn:aws:iam::{site.account_id}:role/{reference}"
    raise client("Role is not valid")

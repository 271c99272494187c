"""Records as ECS describes them."""

import datetime as dt
from typing import Any

from helpers.local_aws.ecs.store import Record
from helpers.local_aws.wire import Params

_DEFINITION_TIMES = ("registeredAt", "deregisteredAt", "deleteRequestedAt")
_TASK_TIMES = (
    "createdAt", "connectivityAt", "pullStartedAt", "pullStoppedAt", "startedAt", "stoppingAt", "executionStoppedAt",
    "stoppedAt",
)  # fmt: skip
_TASK_MEMBERS = (
    "attachments", "availabilityZone", "capacityProviderName", "clusterArn", "connectivity", "containers", "cpu",
    "desiredStatus", "enableExecuteCommand", "group", "healthStatus", "lastStatus", "launchType", "memory", "overrides",
    "platformVersion", "platformFamily", "startedBy", "stopCode", "stoppedReason", "taskArn", "taskDefinitionArn",
    "version", "attributes", "inferenceAccelerators", "ephemeralStorage",
)  # fmt: skip


def definition_view(record: Record) -> dict[str, Any]:
    """Return a task definition as ECS describes it, without its tags."""
    return _timed({name: value for name, value in record.items() if name != "tags"}, _DEFINITION_TIMES)


def task_view(record: Record, *, with_tags: bool) -> Params:
    """Return a task as ECS describes it."""
    members = {name: record[name] for name in (*_TASK_MEMBERS, *_TASK_TIMES) if name in record}
    return {**_timed(members, _TASK_TIMES), "tags": record["tags"] if with_tags else []}


def _timed(members: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    times = {name: dt.datetime.fromtimestamp(members[name], dt.UTC) for name in names if name in members}
    return {**members, **times}

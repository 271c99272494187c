"""A job out of a request: the definition, with what SubmitJob puts over it."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from helpers.local_aws.batch import definitions
from helpers.local_aws.batch.environments import existing_queue
from helpers.local_aws.batch.errors import client, executing, unsupported
from helpers.local_aws.batch.records import Job, now
from helpers.local_aws.batch.resources import Resources, check_name, check_tags
from helpers.local_aws.batch.sizes import size_of
from helpers.local_aws.wire import Params

_MOST_DEPENDENCIES = 20
_SIZES = (2, 10000)  # of an array


def job_of(resources: Resources, find: Callable[[str], Job | None], params: Params) -> Job:
    """Return the job that a SubmitJob request asks for; its number is 0. ``find`` returns jobs by id."""
    _refuse(params)
    name = params["jobName"]
    check_name("jobName", name)
    queue = existing_queue(resources, params["jobQueue"])
    if queue["state"] != "ENABLED" or queue["status"] == "DELETING":
        raise executing(f"Job Queue {queue['jobQueueArn']} is not ENABLED: it does not take new jobs.")
    definition = definitions.active(resources, params["jobDefinition"])
    overrides = params.get("containerOverrides", {})
    size = _size(params)
    if "retryStrategy" in params:
        definitions.check_retry(params["retryStrategy"])
    definitions.check_timeout(params.get("timeout", {}))
    retry = params.get("retryStrategy") or definition.get("retryStrategy") or {}
    order = {
        "container": overridden(definition["containerProperties"], overrides),
        "parameters": {**definition["parameters"], **params.get("parameters", {})},
        "dependsOn": _dependencies(params.get("dependsOn", []), size, find),
        "propagateTags": params.get("propagateTags", definition.get("propagateTags", False)),
        "platformCapabilities": definition["platformCapabilities"],
        "retryStrategy": {"attempts": 1, "evaluateOnExit": [], **retry},
        "timeout": params.get("timeout") or definition.get("timeout") or {},
        "overrides": overrides,
        "arraySize": size,
    }
    _check_references(order)
    return Job(
        job_id=str(uuid.uuid4()), number=0, name=name, queue=queue["jobQueueArn"],
        definition=definition["jobDefinitionArn"], order=order, created=now(), tags=check_tags(params.get("tags", {})),
        size=size,
    )  # fmt: skip


def overridden(container: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return containerProperties with containerOverrides over them."""
    for name in ("vcpus", "memory"):
        if name in overrides:
            raise executing(f"{name} is not applicable for Fargate. Use resource requirements instead.")
    if "instanceType" in overrides:
        raise executing("instanceType is not applicable for Fargate.")
    definitions.check_command(overrides.get("command", []))
    definitions.check_environment(overrides.get("environment", []))
    variables = {each["name"]: each for each in (*container["environment"], *overrides.get("environment", []))}
    asked = (*container["resourceRequirements"], *overrides.get("resourceRequirements", []))
    requirements = list({each["type"]: each for each in asked}.values())
    size_of(requirements)
    return {
        **container,
        "command": overrides.get("command") or container["command"],
        "environment": list(variables.values()),
        "resourceRequirements": requirements,
    }


def _refuse(params: Params) -> None:
    if params.get("shareIdentifier") or "schedulingPriorityOverride" in params:
        # "onlybe" is how AWS writes it.
        raise client(
            "Job with shareIdentifier or schedulingPriority can onlybe submitted to job queue with fair share "
            "scheduling policy."
        )
    for name in ("nodeOverrides", "eksPropertiesOverride", "ecsPropertiesOverride"):
        if params.get(name):
            raise unsupported(f"SubmitJob's {name}")
    if (params.get("consumableResourcePropertiesOverride") or {}).get("consumableResourceList"):
        raise unsupported("SubmitJob's consumableResourcePropertiesOverride")


def _check_references(order: Mapping[str, Any]) -> None:
    """Raise ClientException for a ``Ref::name`` in the command that no parameter has a value for."""
    for word in order["container"]["command"]:
        name = word.removeprefix("Ref::")
        if name != word and name not in order["parameters"]:
            raise client(f"Unable to substitute value. No parameter found for reference {name:.100}")


def _size(params: Params) -> int:
    """Return the size of an array, or 0 for a job that is none."""
    size = params.get("arrayProperties", {}).get("size")
    if size is None:
        return 0
    if not _SIZES[0] <= size <= _SIZES[1]:
        raise executing(f"Array size must be between {_SIZES[0]} and {_SIZES[1]}.")
    return size


def _dependencies(
    given: Sequence[Mapping[str, str]], size: int, find: Callable[[str], Job | None]
) -> list[dict[str, str]]:
    """Return what a job depends on. Raises ClientException for what it cannot depend on."""
    if len(given) > _MOST_DEPENDENCIES:
        raise executing(f"A job can depend upon a maximum of {_MOST_DEPENDENCIES} jobs.")
    for each in given:
        kind, other = each.get("type"), each.get("jobId")
        if kind and not size:
            raise executing(f"Only an array job can have a dependency of the type {kind}.")
        if kind == "SEQUENTIAL":
            if other:
                raise executing("A dependency of the type SEQUENTIAL has no job ID.")
            continue
        if not other:
            raise executing("A dependency needs a job ID.")
        found = find(other)
        if found is None:
            raise client(f"Job {other:.100} does not exist")
        if kind == "N_TO_N" and found.size != size:
            raise executing(f"A dependency of the type N_TO_N needs an array of the same size: {other} is not one.")
    return [dict(each) for each in given]

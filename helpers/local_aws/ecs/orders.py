"""What RunTask asks for, held against what ECS documents and what can be run here."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from helpers.local_aws.ecs import names, sizes, tags
from helpers.local_aws.ecs.clusters import PROVIDERS, require_strategy
from helpers.local_aws.ecs.definitions import require_known_compatibility
from helpers.local_aws.ecs.errors import client, invalid, unsupported
from helpers.local_aws.ecs.request import require_environment
from helpers.local_aws.ecs.store import Record
from helpers.local_aws.wire import AwsError, Params, Site

PLATFORM = "1.4.0"  # what LATEST is on Linux
MOST_TASKS = 10
_LONGEST_OVERRIDES = 8192  # characters of JSON
_STARTED_BY = re.compile(r"[A-Za-z0-9/_-]{0,128}|AWS Step Functions")  # which Step Functions sets, spaces and all
_REFUSED = ("enableExecuteCommand", "referenceId", "volumeConfigurations")
_OVERRIDES_REFUSED = ("inferenceAcceleratorOverrides", "ephemeralStorage")
_CONTAINER_REFUSED = ("environmentFiles", "resourceRequirements")


class Networks(Protocol):
    """Where tasks can be: EC2's subnets and security groups."""

    def zone(self, subnet_id: str) -> str:
        """Return the availability zone of a subnet. Raises AwsError (InvalidSubnetID.NotFound)."""

    def require_group(self, group_id: str) -> None:
        """Raise AwsError (InvalidGroup.NotFound) unless there is this security group."""


@dataclass(frozen=True)
class Order:
    """A checked request: what each of its tasks is to be."""

    cluster: Record
    definition: Record
    count: int
    cpu: str
    memory: str
    overrides: dict[str, Any]
    providers: Sequence[str]  # the capacity provider of each task; "" where a launch type was asked for
    subnet: str
    zone: str
    public: bool
    group: str
    started_by: str
    tags: tags.Tags
    token: str
    digest: str

    @property
    def roles(self) -> dict[str, str]:
        """The ARNs of the task's role and its execution role, those that there are."""
        return roles(self.definition, self.overrides)


def roles(definition: Record, overrides: Params) -> dict[str, str]:
    """Return the roles of a task as ``taskRoleArn`` and ``executionRoleArn``, those that there are."""
    found = {name: overrides.get(name) or definition.get(name) for name in ("taskRoleArn", "executionRoleArn")}
    return {name: arn for name, arn in found.items() if arn}


def with_role_arns(site: Site, overrides: Params) -> Params:
    """Return overrides with ARNs for roles that were given by name."""
    named = {name: overrides[name] for name in ("taskRoleArn", "executionRoleArn") if overrides.get(name)}
    return {**overrides, **{name: names.role(site, role) for name, role in named.items()}}


def task_tags(params: Params, cluster: str, definition: Record) -> tags.Tags:
    """Return the tags that a task gets: the request's, over those that are propagated."""
    propagate = params.get("propagateTags", "NONE")
    if propagate == "SERVICE":
        raise invalid("Tags can be propagated from a service only to the tasks that it starts.")
    own = tags.checked(params.get("tags", []))
    managed = [{"key": "aws:ecs:clusterName", "value": cluster}] if params.get("enableECSManagedTags") else []
    inherited = definition["tags"] if propagate == "TASK_DEFINITION" else []
    return tags.merged([*inherited, *managed], own)


def read(site: Site, params: Params, cluster: Record, definition: Record, networks: Networks) -> Order:
    """Check a request. Raises AwsError. Changes nothing."""
    for member in _REFUSED:
        if params.get(member):
            raise unsupported("RunTask", member)
    count = params.get("count", 1)
    if not 1 <= count <= MOST_TASKS:
        raise invalid(f"count must be between 1 and {MOST_TASKS}.")
    providers = _providers(params, cluster, count)
    require_known_compatibility(definition, "FARGATE" if all(providers) else params.get("launchType", "EC2"))
    for member, what in (("placementConstraints", "constraints"), ("placementStrategy", "strategies")):
        if params.get(member):
            raise invalid(f"Placement {what} are not supported with FARGATE launch type.")
    _require_platform(params.get("platformVersion", "LATEST"))
    overrides = _overrides(site, params.get("overrides", {}), definition)
    cpu, memory = sizes.size(overrides.get("cpu", definition["cpu"]), overrides.get("memory", definition["memory"]))
    overrides |= {name: value for name, value in (("cpu", cpu), ("memory", memory)) if name in overrides}
    subnet, zone, public = _place(params, networks)
    token = params.get("clientToken", "")
    if len(token) > 64 or not all(33 <= ord(letter) <= 126 for letter in token):
        raise invalid("clientToken has at most 64 characters, in the range of 33-126.")
    return Order(
        cluster,
        definition,
        count,
        cpu,
        memory,
        overrides,
        providers,
        subnet,
        zone,
        public,
        _group(params.get("group") or f"family:{definition['family']}"),
        _started_by(params.get("startedBy", "")),
        task_tags(params, cluster["clusterName"], definition),
        token,
        digest(params),
    )


def digest(params: Params) -> str:
    """Return what tells one request from another that has the same clientToken."""
    kept = {name: value for name, value in params.items() if name != "clientToken"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=repr).encode()).hexdigest()


def _providers(params: Params, cluster: Record, count: int) -> Sequence[str]:
    strategy = params.get("capacityProviderStrategy", [])
    if strategy and "launchType" in params:
        raise invalid(
            "Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again."
        )
    require_strategy(strategy, cluster["capacityProviders"])
    if not strategy and "launchType" not in params:
        strategy = cluster["defaultCapacityProviderStrategy"]
    if strategy:
        return _spread(strategy, count)
    if params.get("launchType", "EC2") in ("EC2", "EXTERNAL"):
        # There are none here, as in an account where nobody has registered any.
        raise invalid("No Container Instances were found in your cluster.")
    return [""] * count


def _spread(strategy: Sequence[Params], count: int) -> list[str]:
    """Return the capacity providers of ``count`` tasks: bases first, then in the ratio of the weights."""
    chosen = [each["capacityProvider"] for each in strategy for _ in range(each.get("base", 0))][:count]
    weighted = [each for each in strategy if each.get("weight")] or list(strategy[:1])
    placed = dict.fromkeys(PROVIDERS, 0)
    while len(chosen) < count:
        least = min(weighted, key=lambda each: (placed[each["capacityProvider"]] + 1) / (each.get("weight") or 1))
        placed[least["capacityProvider"]] += 1
        chosen.append(least["capacityProvider"])
    return chosen


def _require_platform(version: str) -> None:
    if version == "1.3.0":
        raise unsupported("RunTask", f"platformVersion {version}, only {PLATFORM}")
    if version not in ("LATEST", PLATFORM):
        raise AwsError("PlatformUnknownException", "The specified platform does not exist.")


def _overrides(site: Site, given: Params, definition: Record) -> dict[str, Any]:
    if len(json.dumps(given, separators=(",", ":"))) > _LONGEST_OVERRIDES:
        raise invalid(f"Container Overrides length must be at most {_LONGEST_OVERRIDES}")
    for member in _OVERRIDES_REFUSED:
        if given.get(member):
            raise unsupported("RunTask", f"overrides.{member}")
    known = {container["name"] for container in definition["containerDefinitions"]}
    for container in given.get("containerOverrides", []):
        for member in _CONTAINER_REFUSED:
            if container.get(member):
                raise unsupported("RunTask", f"containerOverrides.{member}")
        if container.get("name") not in known:
            name = container.get("name", "")
            raise invalid(f"Override for container named {name:.300} is not a container in the TaskDefinition.")
        require_environment(container.get("environment", []))
    if len(given.get("containerOverrides", [])) > len(known):
        raise invalid("A container is overridden twice.")
    shown = {"containerOverrides": given.get("containerOverrides", []), "inferenceAcceleratorOverrides": []}
    return {**with_role_arns(site, given), **shown}


def _place(params: Params, networks: Networks) -> tuple[str, str, bool]:
    """Return subnet, its zone, and whether the task gets a public address."""
    if "awsvpcConfiguration" not in params.get("networkConfiguration", {}):
        raise invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
    asked = params["networkConfiguration"]["awsvpcConfiguration"]
    subnets, groups = asked["subnets"], asked.get("securityGroups", [])
    if not subnets:
        raise invalid("subnets can not be empty.")
    for name, items, most in (("subnets", subnets, 16), ("securityGroups", groups, 5)):
        if len(items) > most:
            raise invalid(f"{name} can have at most {most} items.")
    try:
        zones = [networks.zone(subnet) for subnet in subnets]
    except AwsError as error:
        said = f"Error retrieving subnet information for [{', '.join(subnets)}]"
        raise invalid(f"{said}: {error.message} (ErrorCode: {error.code})") from error
    try:
        for each in groups:
            networks.require_group(each)
    except AwsError as error:
        said = f"Error retrieving security group information for [{', '.join(groups)}]"
        raise invalid(f"{said}: {error.message} (ErrorCode: {error.code})") from error
    return subnets[0], zones[0], asked.get("assignPublicIp", "DISABLED") == "ENABLED"


def _group(name: str) -> str:
    if name.startswith("service:"):
        raise invalid("Invalid namespace in group name.")
    if len(name) > 255:
        raise invalid("group has at most 255 characters.")
    return name


def _started_by(text: str) -> str:
    if not _STARTED_BY.fullmatch(text):
        raise client("startedBy has at most 128 letters, numbers, hyphens, forward slashes and underscores.")
    return text

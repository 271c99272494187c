"""Hold a RegisterTaskDefinition request against what ECS documents and what can be run here."""

import copy
import re
from collections.abc import Iterator
from typing import Any

from helpers.local_aws.ecs import names, sizes
from helpers.local_aws.ecs.errors import client, unsupported
from helpers.local_aws.wire import Params, Site

LONGEST_STOP = 120  # seconds
_ECR_IMAGE = re.compile(r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/.+")
_LOG_OPTIONS = ("awslogs-group", "awslogs-region", "awslogs-stream-prefix")

# Members that would have to be ignored; what is empty or false in them asks for nothing.
_TASK_REFUSED = (
    "volumes", "placementConstraints", "pidMode", "ipcMode", "proxyConfiguration", "inferenceAccelerators",
    "ephemeralStorage", "enableFaultInjection",
)  # fmt: skip
_CONTAINER_REFUSED = (
    "repositoryCredentials", "links", "portMappings", "restartPolicy", "environmentFiles", "mountPoints", "volumesFrom",
    "linuxParameters", "secrets", "dependsOn", "startTimeout", "hostname", "user", "disableNetworking", "privileged",
    "readonlyRootFilesystem", "dnsServers", "dnsSearchDomains", "extraHosts", "dockerSecurityOptions", "interactive",
    "pseudoTerminal", "ulimits", "healthCheck", "systemControls", "resourceRequirements", "firelensConfiguration",
    "credentialSpecs",
)  # fmt: skip


def complete(site: Site, params: Params) -> dict[str, Any]:
    """Return the task definition that a request describes, with ECS's defaults. Raises AwsError."""
    for member in _unsupported(params):
        raise unsupported("RegisterTaskDefinition", member)
    if not names.is_name(params["family"]):
        raise client("Family contains invalid characters.")
    wanted = copy.deepcopy({name: value for name, value in params.items() if name != "tags"})
    if wanted.get("networkMode") != "awsvpc":
        raise client("Fargate only supports network mode \u2018awsvpc\u2019.")
    wanted["cpu"], wanted["memory"] = sizes.size(wanted.get("cpu"), wanted.get("memory"))
    for member in ("taskRoleArn", "executionRoleArn"):
        if wanted.get(member):
            wanted[member] = names.role(site, wanted[member])
        else:
            wanted.pop(member, None)
    container = _container(site, wanted["containerDefinitions"][0], wanted)
    if not wanted.get("executionRoleArn"):
        for needs, what in (
            (_ECR_IMAGE.fullmatch(container["image"]), "ECR images"),
            (container.get("logConfiguration"), "log driver awslogs"),
        ):
            if needs:
                raise client(f"Fargate requires task definition to have execution role ARN to support {what}.")
    for member in _TASK_REFUSED:
        wanted.pop(member, None)
    defaults = {"volumes": [], "placementConstraints": [], "compatibilities": ["EC2", "FARGATE"]}
    return {**wanted, **defaults, "containerDefinitions": [container]}


def _unsupported(params: Params) -> Iterator[str]:
    compatibilities = params.get("requiresCompatibilities", [])
    if "FARGATE" not in compatibilities or not set(compatibilities) <= {"FARGATE", "EC2"}:
        yield f"requiresCompatibilities {compatibilities}: only FARGATE"
    for member in _TASK_REFUSED:
        if params.get(member):
            yield member
    system = params.get("runtimePlatform", {}).get("operatingSystemFamily", "LINUX")
    if system != "LINUX":
        yield f"runtimePlatform.operatingSystemFamily {system}, only LINUX"
    containers = params["containerDefinitions"]
    if not containers:
        raise client("Container list cannot be empty.")
    if len(containers) > 1:
        yield f"{len(containers)} containerDefinitions, only one"
    for member in _CONTAINER_REFUSED:
        if not _asks_nothing(containers[0].get(member)):
            yield f"containerDefinitions.{member}"
    driver = containers[0].get("logConfiguration", {}).get("logDriver", "awslogs")
    if driver != "awslogs":
        yield f"logConfiguration.logDriver {driver}, only awslogs"
    if containers[0].get("logConfiguration", {}).get("secretOptions"):
        yield "logConfiguration.secretOptions"


def _asks_nothing(value: Any) -> bool:
    """Tell whether a member is there in form only: false, empty, or with such members only."""
    if isinstance(value, dict):
        return all(_asks_nothing(item) for item in value.values())
    return not value


def _container(site: Site, container: Params, task: Params) -> dict[str, Any]:
    name = container.get("name", "")
    for member in ("name", "image"):
        if not container.get(member):
            raise client(f"Container.{member} should not be null or empty.")
    if not names.is_name(name):
        raise client(f"Invalid container name: {name:.300}")
    if container.get("essential") is False:
        raise client("Task definition doesn't have any essential container")
    for member in ("cpu", "memory", "memoryReservation"):
        _require_fitting(name, member, container.get(member), int(task["cpu" if member == "cpu" else "memory"]))
    if container.get("memoryReservation", 0) > container.get("memory", container.get("memoryReservation", 0)):
        raise client(
            f"Invalid setting for container '{name}'. 'memory' must be greater than or equal to 'memoryReservation'."
        )
    stop = container.get("stopTimeout", 2)
    if not 2 <= stop <= LONGEST_STOP:
        raise client(
            f"Invalid setting for container '{name}'. The 'stopTimeout' value is between 2 and {LONGEST_STOP} seconds."
        )
    require_environment(container.get("environment", []))
    if "logConfiguration" in container:
        _require_log_options(site, container["logConfiguration"].get("options", {}))
    kept = {member: value for member, value in container.items() if member not in _CONTAINER_REFUSED}
    defaults = {"cpu": 0, "portMappings": [], "essential": True, "environment": [], "mountPoints": []}
    return {**defaults, "volumesFrom": [], "systemControls": [], **kept}


def _require_fitting(name: str, member: str, value: int | None, bound: int) -> None:
    if value is not None and value > bound and member == "cpu":
        raise client("The sum of all container 'cpu' values cannot be greater than the task-level 'cpu' value")
    if value is not None and value > bound:
        raise client(f"The '{member}' setting for container '{name}' is greater than for the task.")
    if value is not None and (value < 0 or (member != "cpu" and value < 4)):
        raise client(f"Invalid setting for container '{name}'. The '{member}' setting is too small.")


def require_environment(pairs: list[Params]) -> None:
    """Raise ClientException unless a process can be given these variables."""
    for pair in pairs:
        name, value = pair.get("name", ""), pair.get("value", "")
        if not name or "=" in name or "\0" in name + value:
            raise client(f"Invalid environment variable name: {name!r:.300}")


def _require_log_options(site: Site, options: dict[str, str]) -> None:
    for name in ("awslogs-group", "awslogs-region"):
        if not options.get(name):
            raise client(f"Log driver awslogs requires options: {name}")
    if not options.get("awslogs-stream-prefix"):
        raise client("Fargate requires log configuration options to include awslogs-stream-prefix")
    for name in options:
        if name not in (*_LOG_OPTIONS, "awslogs-create-group"):
            raise unsupported("RegisterTaskDefinition", f"the log option {name}")
    if options["awslogs-region"] != site.region:
        raise unsupported("RegisterTaskDefinition", f"awslogs-region {options['awslogs-region']}, only {site.region}")
    if options.get("awslogs-create-group", "true") not in ("true", "false"):
        raise client("Log driver awslogs option awslogs-create-group is true or false")

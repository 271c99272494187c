"""Job definitions: what they may say, and what a job becomes of one."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from helpers.local_aws.batch.errors import client, executing, unsupported
from helpers.local_aws.batch.resources import Record, Resources, check_name, check_tags
from helpers.local_aws.batch.sizes import size_of
from helpers.local_aws.wire import Params

LOG_GROUP = "/aws/batch/job"
_RESERVED = "AWS_BATCH"  # how the names of variables begin that Batch sets
_LOG_OPTIONS = {"awslogs-group", "awslogs-region", "awslogs-stream-prefix", "awslogs-create-group"}
_LOG_OPTIONS_REFUSED = ("awslogs-datetime-format", "awslogs-multiline-pattern")
_PLATFORMS = ("LATEST", "1.4.0")
_SHORTEST_TIMEOUT = 60  # seconds
_MOST_ATTEMPTS = 10
_MOST_CONDITIONS = 5
_LONGEST_PATTERN = 512  # characters
# What an embedded container does not have; a value that asks for nothing is no reason to refuse.
_UNSUPPORTED = (
    "volumes", "mountPoints", "readonlyRootFilesystem", "ulimits", "user", "linuxParameters", "secrets",
    "enableExecuteCommand", "repositoryCredentials",
)  # fmt: skip
_PATTERNS = {
    "onStatusReason": re.compile(r"[A-Za-z0-9.:\s]*\*?"),
    "onReason": re.compile(r"[A-Za-z0-9.:\s]*\*?"),
    "onExitCode": re.compile(r"[0-9]*\*?"),
}


def register(resources: Resources, params: Params) -> Record:
    """Add the next revision of a job definition, and return it."""
    name = params["jobDefinitionName"]
    check_name("jobDefinitionName", name)
    for member in ("ecsProperties", "eksProperties", "nodeProperties", "schedulingPriority"):
        if member in params:
            raise unsupported(f"job definitions that have {member}")
    if (params.get("consumableResourceProperties") or {}).get("consumableResourceList"):
        raise unsupported("job definitions that have consumableResourceProperties")
    if params["type"] != "container":
        raise unsupported(f"job definitions of the type {params['type']}, only container")
    if params.get("platformCapabilities", ["EC2"]) != ["FARGATE"]:
        raise unsupported("job definitions for EC2 resources, only those whose platformCapabilities are FARGATE")
    if "containerProperties" not in params:
        raise executing(
            "ECS ContainerProperties, ecsProperties, or eksProperties is required when creating a job definition"
        )
    container = _container(params["containerProperties"])
    if "retryStrategy" in params:
        check_retry(params["retryStrategy"])
    check_timeout(params.get("timeout", {}))
    tags = check_tags(params.get("tags", {}))
    revisions = resources.definitions.setdefault(name, [])
    number = revisions[-1]["revision"] + 1 if revisions else 1
    record: Record = {
        "jobDefinitionName": name,
        "jobDefinitionArn": resources.arn("job-definition", f"{name}:{number}"),
        "revision": number,
        "status": "ACTIVE",
        "type": "container",
        "parameters": params.get("parameters", {}),
        **{member: params[member] for member in ("retryStrategy", "timeout", "propagateTags") if member in params},
        "containerProperties": container,
        "tags": tags,
        "platformCapabilities": ["FARGATE"],
        "containerOrchestrationType": "ECS",
    }
    revisions.append(record)
    return record


def deregister(resources: Resources, given: str) -> None:
    """Make a revision INACTIVE; its number stays taken."""
    if ":" not in resources.name("job-definition", given):
        raise executing(f"The job definition {given:.200} must be name:revision or an ARN with a revision.")
    record = resources.definition(given)
    if record is not None:
        record["status"] = "INACTIVE"


def active(resources: Resources, given: str) -> Record:
    """Return the revision that a job is submitted with. Raises ClientException unless there is an active one."""
    record = resources.definition(given)
    if record is None or record["status"] != "ACTIVE":
        name = resources.name("job-definition", given)
        raise client(f"JobDefinition name {name} does not exist or is not in ACTIVE status")
    return record


def check_retry(strategy: Mapping[str, Any]) -> None:
    """Raise ClientException unless Batch takes a retry strategy."""
    if "attempts" not in strategy:
        raise executing("RetryAttempts must be provided with retry strategy")
    if not 1 <= strategy["attempts"] <= _MOST_ATTEMPTS:
        raise executing(f"RetryAttempts must be between 1 and {_MOST_ATTEMPTS}")
    conditions = strategy.get("evaluateOnExit", [])
    if len(conditions) > _MOST_CONDITIONS:
        raise executing(f"Up to {_MOST_CONDITIONS} evaluateOnExit condition can be specified.")
    for condition in conditions:
        given = [name for name in _PATTERNS if name in condition]
        if not given:
            raise executing("EvaluateOnExit should contain at least one of onExitCode, onReason or onStatusReason")
        for name in given:
            if len(condition[name]) > _LONGEST_PATTERN:
                raise executing(f"Evaluate on exit condition cannot exceed {_LONGEST_PATTERN} characters.")
            if not _PATTERNS[name].fullmatch(condition[name]):
                raise executing("Evaluate on exit condition contains restricted characters.")


def check_timeout(timeout: Mapping[str, Any]) -> None:
    """Raise ClientException unless Batch takes a timeout."""
    if "attemptDurationSeconds" in timeout and timeout["attemptDurationSeconds"] < _SHORTEST_TIMEOUT:
        raise executing(f"Timeout attemptDurationSeconds must be at least {_SHORTEST_TIMEOUT} seconds.")


def check_command(command: Sequence[str]) -> None:
    """Raise ClientException for an empty string in a command."""
    if "" in command:
        raise executing("the command cannot contain an empty string.")


def check_environment(variables: Sequence[Mapping[str, str]]) -> None:
    """Raise ClientException for variables without a name, or with one of Batch's own."""
    for each in variables:
        if not each.get("name"):
            raise executing("Environment variable name is required.")
        if "value" not in each or "=" in each["name"] or "\0" in each["name"] + each["value"]:
            raise executing("each environment variable needs a name and a value.")
        if each["name"].startswith(_RESERVED):
            raise executing(f"Environment variables cannot start with {_RESERVED}.")


def _container(given: Mapping[str, Any]) -> Record:
    """Return containerProperties with their defaults. Raises AwsError for what Fargate or this Batch does not have."""
    for name, instead in (("vcpus", "resource requirements"), ("memory", "resource requirements")):
        if name in given:
            raise executing(f"{name} is not applicable for Fargate. Use {instead} instead.")
    if "instanceType" in given:
        raise executing("instanceType is not applicable for Fargate.")
    if given.get("privileged"):
        raise executing(
            "Fargate requires that the \u2018privileged\u2019 setting be \u2018false\u2019 at the container level."
        )
    for name in _UNSUPPORTED:
        if given.get(name):
            raise unsupported(f"containerProperties that have {name}")
    if not given.get("image") or len(given["image"]) > 255:
        raise executing("Container properties image must be 1 to 255 characters.")
    if not given.get("executionRoleArn"):
        raise executing("executionRoleArn is required for Fargate jobs.")
    for name in ("executionRoleArn", "jobRoleArn"):
        if name in given and not re.fullmatch(r"arn:aws:iam::\d{12}:role/[\w+=,.@/-]+", given[name]):
            raise executing(f"{name} {given[name]:.200} is not the ARN of a role.")
    asked = [each["type"] for each in given.get("resourceRequirements", [])]
    if len(set(asked)) < len(asked):
        raise executing("Cannot provide duplicates in resourceRequirements.")
    size_of(given.get("resourceRequirements", []))
    check_command(given.get("command", []))
    check_environment(given.get("environment", []))
    _check_logs(given.get("logConfiguration"))
    _check_platform(given)
    empty: dict[str, Any] = {name: [] for name in ("volumes", "mountPoints", "ulimits", "secrets")}
    defaults = {"command": [], "environment": [], "networkConfiguration": {"assignPublicIp": "DISABLED"},
                "fargatePlatformConfiguration": {"platformVersion": "LATEST"}}  # fmt: skip
    return {**empty, **defaults, **{name: value for name, value in given.items() if value is not None}}


def _check_logs(logs: Mapping[str, Any] | None) -> None:
    if logs is None:
        return
    driver = logs["logDriver"]
    if driver not in ("awslogs", "splunk", "awsfirelens"):
        raise executing(f"Log driver for Fargate is not valid: {driver}")
    if driver != "awslogs":
        raise unsupported(f"the logDriver {driver}, only awslogs")
    if logs.get("secretOptions"):
        raise unsupported("logConfiguration that has secretOptions")
    options = logs.get("options", {})
    for name in sorted(options.keys() - _LOG_OPTIONS):
        if name not in _LOG_OPTIONS_REFUSED:
            raise executing(f"Log driver awslogs disallows options: {name:.100}")
        raise unsupported(f"the option {name} of awslogs")
    if options.get("awslogs-create-group", "true") not in ("true", "false"):
        raise executing("the option awslogs-create-group is true or false.")


def _check_platform(given: Mapping[str, Any]) -> None:
    version = given.get("fargatePlatformConfiguration", {}).get("platformVersion", "LATEST")
    if version not in _PLATFORMS:
        raise unsupported(f"the platformVersion {version:.50}, only {' and '.join(_PLATFORMS)}")
    public = given.get("networkConfiguration", {}).get("assignPublicIp", "DISABLED")
    if public not in ("ENABLED", "DISABLED"):
        raise executing("assignPublicIp is ENABLED or DISABLED.")
    storage = given.get("ephemeralStorage")
    if storage and not 21 <= storage["sizeInGiB"] <= 200:
        raise executing("Ephemeral storage for Fargate tasks can be only between range 21 GiB to 200 GiB")
    runtime = given.get("runtimePlatform", {})
    if runtime.get("operatingSystemFamily", "LINUX") != "LINUX":
        raise unsupported(f"the operatingSystemFamily {runtime['operatingSystemFamily']:.50}, only LINUX")
    if runtime.get("cpuArchitecture", "X86_64") not in ("X86_64", "ARM64"):
        raise executing("cpuArchitecture is X86_64 or ARM64.")

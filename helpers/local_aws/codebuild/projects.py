"""What a project asks for, held against what CodeBuild documents and what can run here."""

import copy
import re
from collections.abc import Iterator
from typing import Any

from helpers.local_aws.wire import AwsError, Params

_IMAGES = re.compile(
    r"aws/codebuild/(amazonlinux-x86_64-standard:[4-6]\.0|amazonlinux2-x86_64-standard:[3-5]\.0|standard:[5-8]\.0)"
)
_COMPUTE = re.compile(r"BUILD_GENERAL1_\w+")
# Members of a request that nothing here can do; those that say "off" in a value are no problem.
_REFUSED = (
    "secondarySources", "secondarySourceVersions", "secondaryArtifacts", "encryptionKey", "vpcConfig", "badgeEnabled",
    "fileSystemLocations", "buildBatchConfig", "concurrentBuildLimit", "autoRetryLimit",
)  # fmt: skip
_REFUSED_OF_SOURCE = (
    "gitCloneDepth", "gitSubmodulesConfig", "auth", "reportBuildStatus", "buildStatusConfig", "insecureSsl",
    "sourceIdentifier",
)  # fmt: skip
_REFUSED_OF_ENVIRONMENT = (
    "computeConfiguration", "fleet", "certificate", "registryCredential", "dockerServer", "hostKernel",
)  # fmt: skip
_REFUSED_OF_ARTIFACTS = ("artifactIdentifier", "bucketOwnerAccess")
# The overrides of StartBuild, by where they go in a project.
_OVERRIDES = {
    "sourceVersion": ("sourceVersion",),
    "sourceTypeOverride": ("source", "type"),
    "sourceLocationOverride": ("source", "location"),
    "buildspecOverride": ("source", "buildspec"),
    "artifactsOverride": ("artifacts",),
    "environmentTypeOverride": ("environment", "type"),
    "imageOverride": ("environment", "image"),
    "computeTypeOverride": ("environment", "computeType"),
    "privilegedModeOverride": ("environment", "privilegedMode"),
    "imagePullCredentialsTypeOverride": ("environment", "imagePullCredentialsType"),
    "cacheOverride": ("cache",),
    "serviceRoleOverride": ("serviceRole",),
    "timeoutInMinutesOverride": ("timeoutInMinutes",),
    "queuedTimeoutInMinutesOverride": ("queuedTimeoutInMinutes",),
    "logsConfigOverride": ("logsConfig",),
}


def invalid(message: str) -> AwsError:
    """Return CodeBuild's error for a request that cannot be."""
    return AwsError("InvalidInputException", message)


def complete(params: Params) -> Params:
    """Return a project with CodeBuild's defaults filled in. Raises AwsError for what cannot be or cannot run here."""
    project = copy.deepcopy(params)
    for what in _unsupported(project):
        raise AwsError("NotImplemented", f"the embedded AWS does not support CodeBuild projects with {what}", 501)
    project.setdefault("timeoutInMinutes", 60)
    project.setdefault("queuedTimeoutInMinutes", 480)
    project.setdefault("tags", [])
    project.setdefault("cache", {"type": "NO_CACHE"})
    _complete_source(project["source"])
    _complete_artifacts(project["artifacts"], project["name"])
    environment = project["environment"]
    environment.setdefault("privilegedMode", False)
    environment.setdefault("imagePullCredentialsType", "CODEBUILD")
    variables = environment.setdefault("environmentVariables", [])
    for variable in variables:
        variable.setdefault("type", "PLAINTEXT")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable["name"]):
            raise invalid(f"Invalid environment variable name: {variable['name']}")
        if variable["name"].startswith("CODEBUILD_"):
            raise invalid("No user environment variables can start with CODEBUILD_")
    names = [variable["name"] for variable in variables]
    if len(set(names)) < len(names):
        raise invalid("EnvironmentVariable name cannot be duplicated")
    return project


def overridden(project: Params, params: Params) -> Params:
    """Return a project as one StartBuild wants it. Raises AwsError for an override that cannot be had here."""
    changed = copy.deepcopy(project)
    for member, value in params.items():
        if member in ("projectName", "environmentVariablesOverride"):
            continue
        if member not in _OVERRIDES:
            if value:
                raise AwsError("NotImplemented", f"the embedded AWS does not support StartBuild with {member}", 501)
            continue
        *path, last = _OVERRIDES[member]
        target = changed
        for part in path:
            target = target[part]
        target[last] = value
    variables = {variable["name"]: variable for variable in changed["environment"]["environmentVariables"]}
    variables |= {variable["name"]: variable for variable in params.get("environmentVariablesOverride", [])}
    changed["environment"]["environmentVariables"] = list(variables.values())
    return complete(changed)


def _unsupported(project: Params) -> Iterator[str]:
    """Name every member that would have to be ignored."""
    yield from (name for name in _REFUSED if project.get(name))
    source, environment = project["source"], project["environment"]
    yield from (f"source.{name}" for name in _REFUSED_OF_SOURCE if source.get(name))
    yield from (f"environment.{name}" for name in _REFUSED_OF_ENVIRONMENT if environment.get(name))
    yield from (f"artifacts.{name}" for name in _REFUSED_OF_ARTIFACTS if project["artifacts"].get(name))
    if source["type"] not in ("S3", "NO_SOURCE"):
        yield f"source.type {source['type']}"
    if source["type"] == "S3" and str(source.get("location", "")).endswith("/"):
        yield "a folder of S3 as source.location: pack it as a .zip object"
    if str(source.get("buildspec", "")).startswith("arn:"):
        yield "source.buildspec in a bucket"
    if project["artifacts"]["type"] == "CODEPIPELINE":
        yield "artifacts.type CODEPIPELINE"
    if project.get("cache", {}).get("type", "NO_CACHE") != "NO_CACHE":
        yield f"cache.type {project['cache']['type']}"
    if project.get("logsConfig", {}).get("s3Logs", {}).get("status", "DISABLED") != "DISABLED":
        yield "logsConfig.s3Logs"
    yield from _unsupported_environment(environment)


def _unsupported_environment(environment: Params) -> Iterator[str]:
    if environment["type"] != "LINUX_CONTAINER":
        yield f"environment.type {environment['type']}"
    if not _COMPUTE.fullmatch(environment["computeType"]):
        yield f"environment.computeType {environment['computeType']}"
    if not _IMAGES.fullmatch(environment["image"]):
        yield f"environment.image {environment['image']}: it has aws/codebuild/standard:5.0 to 8.0 and Amazon Linux's"
    if environment.get("imagePullCredentialsType", "CODEBUILD") != "CODEBUILD":
        yield "environment.imagePullCredentialsType SERVICE_ROLE"
    for variable in environment.get("environmentVariables", []):
        if variable.get("type") == "SECRETS_MANAGER":
            yield f"the environment variable {variable['name']} of type SECRETS_MANAGER"


def _complete_source(source: Params) -> None:
    if source["type"] == "NO_SOURCE":
        if not source.get("buildspec"):
            raise invalid("Project source type NO_SOURCE requires a buildspec")
        if source.get("location"):
            raise invalid("Invalid input: source location must be empty for source type NO_SOURCE")
        return
    if not source.get("location"):
        raise invalid("Project source location is required")
    location = source["location"].removeprefix("arn:aws:s3:::")
    bucket, _, key = location.partition("/")
    if not bucket or not key:
        raise invalid("Invalid project source: location must be a valid S3 source")


def _complete_artifacts(artifacts: Params, name: str) -> None:
    if artifacts["type"] == "NO_ARTIFACTS":
        if artifacts.get("location"):
            raise invalid("Invalid artifacts: artifact type NO_ARTIFACTS should have null location")
        return
    if not artifacts.get("location"):
        raise invalid("Invalid artifacts: location is required")
    artifacts.setdefault("name", name)
    artifacts.setdefault("packaging", "NONE")
    artifacts.setdefault("namespaceType", "NONE")
    artifacts.setdefault("encryptionDisabled", False)


def described(project: Params) -> dict[str, Any]:
    """Return a project as the API tells it: what only the service counts is left out."""
    return {name: value for name, value in project.items() if name not in ("builds",)}

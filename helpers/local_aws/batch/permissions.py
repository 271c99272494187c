"""What IAM has to allow for Batch's operations, as AWS's Service Authorization Reference says.

SubmitJob is decided on the queue and on the revision of the job definition that
the job gets; it passes no role, since RegisterJobDefinition did. Describe
operations and ListJobs know no resources.
"""

from collections.abc import Callable, Mapping
from typing import Any

from helpers.local_aws import tag_keys
from helpers.local_aws.batch.definitions import LOG_GROUP
from helpers.local_aws.batch.records import Job
from helpers.local_aws.batch.resources import Record, Resources
from helpers.local_aws.wire import Params, Permission, Site

SERVICE = "batch.amazonaws.com"
TASKS = "ecs-tasks.amazonaws.com"
Context = dict[str, Any]


class Permissions:
    """The permissions of a site's Batch operations. ``find`` returns jobs by id."""

    def __init__(self, site: Site, resources: Resources, find: Callable[[str], Job | None]) -> None:
        self._site, self._resources, self._find = site, resources, find

    def of(self, operation: str, params: Params) -> list[Permission]:
        """Return what the caller needs for an operation."""
        if operation in ("TagResource", "UntagResource", "ListTagsForResource"):
            return [self._on(operation, params["resourceArn"], _requested(params.get("tags", {}), params))]
        if operation in ("CancelJob", "TerminateJob"):
            return [self._on(operation, self._resources.arn("job", params["jobId"]))]
        rule: Callable[[str, Params], list[Permission]] | None = {
            "CreateComputeEnvironment": self._environment,
            "UpdateComputeEnvironment": self._environment,
            "DeleteComputeEnvironment": self._environment,
            "CreateJobQueue": self._queue,
            "UpdateJobQueue": self._queue,
            "DeleteJobQueue": self._queue,
            "RegisterJobDefinition": self._register,
            "DeregisterJobDefinition": self._deregister,
            "SubmitJob": self._submit,
        }.get(operation)
        return rule(operation, params) if rule else [Permission(f"batch:{operation}")]

    def _environment(self, operation: str, params: Params) -> list[Permission]:
        given = params.get("computeEnvironmentName") or params["computeEnvironment"]
        arn = self._arn("compute-environment", given)
        needed = [self._on(operation, arn, _requested(params.get("tags", {}))), *self._tagging(arn, params)]
        role = params.get("serviceRole")
        return [*needed, Permission("iam:PassRole", role, {"iam:PassedToService": SERVICE})] if role else needed

    def _queue(self, operation: str, params: Params) -> list[Permission]:
        arn = self._arn("job-queue", params.get("jobQueueName") or params["jobQueue"])
        context = _requested(params.get("tags", {}))
        named = [each["computeEnvironment"] for each in params.get("computeEnvironmentOrder", [])]
        environments = [self._on(operation, self._arn("compute-environment", each), context) for each in named]
        return [self._on(operation, arn, context), *environments, *self._tagging(arn, params)]

    def _register(self, operation: str, params: Params) -> list[Permission]:
        name = params["jobDefinitionName"]
        container = params.get("containerProperties", {})
        context = _requested(params.get("tags", {})) | _about(container)
        needed = [Permission(f"batch:{operation}", self._resources.arn("job-definition", name), context)]
        revisions = self._resources.definitions.get(name, [])
        number = revisions[-1]["revision"] + 1 if revisions else 1
        needed += self._tagging(self._resources.arn("job-definition", f"{name}:{number}"), params)
        for role in dict.fromkeys(container.get(member) for member in ("jobRoleArn", "executionRoleArn")):
            if role:
                needed.append(Permission("iam:PassRole", role, {"iam:PassedToService": TASKS}))
        return needed

    def _deregister(self, operation: str, params: Params) -> list[Permission]:
        return [self._on(operation, self._arn("job-definition", params["jobDefinition"]))]

    def _submit(self, operation: str, params: Params) -> list[Permission]:
        definition: Record | None = self._resources.definition(params["jobDefinition"])
        arn = definition["jobDefinitionArn"] if definition else self._arn("job-definition", params["jobDefinition"])
        context = _requested(params.get("tags", {}))
        needed = [
            self._on(operation, arn, context),
            self._on(operation, self._arn("job-queue", params["jobQueue"]), context),
        ]
        return [*needed, *self._tagging(self._resources.arn("job", "*"), params)]

    def _arn(self, kind: str, given: str) -> str:
        return given if given.startswith("arn:") else self._resources.arn(kind, given)

    def _on(self, operation: str, arn: str, context: Mapping[str, Any] | None = None) -> Permission:
        """Return the permission on one resource, with its tags."""
        found = self._resources.tagged(arn)
        job = self._find(arn.rpartition("/")[2]) if ":job/" in arn else None
        tags: Mapping[str, str] = found["tags"] if found else job.tags if job else {}
        return Permission(f"batch:{operation}", arn, tag_keys.of_resource(tags) | dict(context or {}))

    def _tagging(self, arn: str, params: Params) -> list[Permission]:
        tags = params.get("tags")
        return [Permission("batch:TagResource", arn, _requested(tags))] if tags else []


def _requested(tags: Mapping[str, str], params: Params | None = None) -> Context:
    """Return the condition keys of the tags, or keys of tags, that a request names."""
    return tag_keys.of_request(tags, (params or {}).get("tagKeys", []))


def _about(container: Mapping[str, Any]) -> Context:
    """Return Batch's own condition keys of a container."""
    logs = container.get("logConfiguration") or {}
    options = logs.get("options", {})
    context: Context = {"batch:Image": container.get("image", "")}
    if "privileged" in container:
        context["batch:Privileged"] = str(container["privileged"]).lower()
    if "user" in container:
        context["batch:User"] = container["user"]
    if logs:
        context["batch:LogDriver"] = logs.get("logDriver", "")
        context["batch:AWSLogsGroup"] = options.get("awslogs-group", LOG_GROUP)
    named = {"Region": "region", "StreamPrefix": "stream-prefix", "CreateGroup": "create-group"}
    return context | {
        f"batch:AWSLogs{key}": options[f"awslogs-{option}"]
        for key, option in named.items()
        if f"awslogs-{option}" in options
    }

"""Find and delete everything that the notebooks made: by name and by tag.

A resource whose name begins with the prefix but which does not carry the
workshop's tag is somebody else's. It is reported and left alone. What cannot
carry a tag (logs, clones) is taken by the exact name of what made it: another
workshop's prefix may begin with ours.
"""

import time
from collections.abc import Callable
from typing import Any

import boto3

from helpers import permissions, roles
from helpers.cleanup import pipeline, processing, uploads
from helpers.cleanup.found import Kind, Resource, unless_gone
from helpers.connection import Connection

__all__ = ["Resource", "delete_notebook_policies", "delete_resource", "find_resources", "wait_until_gone"]

# In the order of deletion: what starts things first, then what they use, logs after their writers.
_KINDS: dict[str, Kind] = {
    "repository": pipeline.REPOSITORY,
    "clone": pipeline.CLONE,
    "API": processing.API,
    "schedule": processing.SCHEDULE,
    "stack": uploads.STACK,
    "state machine": pipeline.STATE_MACHINE,
    "activity": processing.ACTIVITY,
    "running job": pipeline.RUNNING_JOB,
    "running training job": processing.TRAINING_JOB,
    "job queue": processing.JOB_QUEUE,
    "compute environment": processing.COMPUTE_ENVIRONMENT,
    "job definition": processing.JOB_DEFINITION,
    "cluster": processing.CLUSTER,
    "task definition": processing.TASK_DEFINITION,
    "build project": processing.BUILD_PROJECT,
    "image repository": processing.IMAGE_REPOSITORY,
    "instance": uploads.INSTANCE,
    "managed rule": pipeline.MANAGED_RULE,
    "function": pipeline.FUNCTION,
    "role": pipeline.ROLE,
    "log group": pipeline.LOG_GROUP,
    "log stream": pipeline.LOG_STREAM,
    "training log": pipeline.TRAINING_LOG,
    "queue": uploads.QUEUE,
    "bucket": pipeline.BUCKET,
}


def find_resources(workshop: Connection) -> list[Resource]:
    """Return everything there is with the workshop's prefix, in the order in which it can be deleted."""
    found = [resource for kind in _KINDS.values() for resource in sorted(kind.find(workshop))]
    stacks = [resource.name for resource in found if resource.kind == "stack"]
    return [resource for resource in found if not any(_is_part(resource, stack) for stack in stacks)]


def delete_resource(workshop: Connection, resource: Resource) -> None:
    """Delete one resource with all that it holds; one that is gone already is no error."""
    if not resource.ours:
        raise ValueError(f"{resource}: delete it by hand if it is yours")
    with unless_gone():
        _KINDS[resource.kind].delete(workshop, resource.name)


def wait_until_gone(
    workshop: Connection, *, seconds: float = 120, sleep: Callable[[float], None] = time.sleep
) -> list[Resource]:
    """Return what is left of the workshop, looking again for up to ``seconds``.

    Some services delete in their own time.
    """
    waited = 0.0
    while True:
        left = find_resources(workshop)
        if waited >= seconds or not any(resource.ours for resource in left):
            return left
        sleep(2)
        waited += 2


def delete_notebook_policies(workshop: Connection) -> list[str]:
    """Take ``permissions.POLICIES`` from this notebook's role, the one that allows it last. Returns those it had."""
    if ":role/" not in workshop.role_arn:
        return []  # what a user has, an administrator gave
    iam, role = boto3.client("iam"), workshop.role_arn.rpartition("/")[2]
    return [workshop.name(policy) for policy in reversed(permissions.POLICIES) if _take(iam, workshop, policy, role)]


def _take(iam: Any, workshop: Connection, policy: str, role: str) -> bool:
    """Take a policy from the notebook's role; False where it has none."""
    if policy == permissions.MANAGED_POLICY:
        return roles.delete_managed_policy(iam, permissions.policy_arn(workshop, policy), role=role)
    try:
        iam.delete_role_policy(RoleName=role, PolicyName=workshop.name(policy))
    except iam.exceptions.NoSuchEntityException:
        return False
    return True


def _is_part(resource: Resource, stack: str) -> bool:
    """Tell whether a stack made it: its name is the stack's, or begins with it."""
    return resource.kind != "stack" and f"{resource.name.removeprefix('/aws/lambda/')}-".startswith(f"{stack}-")

"""Compute environments and job queues: what a request may say of them, and what becomes of it."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from helpers.local_aws.batch.around import Networks
from helpers.local_aws.batch.errors import client, executing, unsupported
from helpers.local_aws.batch.resources import Record, Resources, check_name, check_tags
from helpers.local_aws.wire import AwsError, Params

FARGATE = ("FARGATE", "FARGATE_SPOT")
_NOT_FARGATE = (
    "allocationStrategy", "minvCpus", "desiredvCpus", "instanceTypes", "imageId", "ec2KeyPair", "instanceRole", "tags",
    "placementGroup", "bidPercentage", "spotIamFleetRole", "launchTemplate", "ec2Configuration", "scalingPolicy",
)  # fmt: skip
_COMPUTE = ("type", "maxvCpus", "subnets", "securityGroupIds")
_CHANGING = ("CREATING", "UPDATING", "DELETING")
_MOST_ENVIRONMENTS = 3  # of a queue
_MOST_SUBNETS = 16
_MOST_GROUPS = 5


def create_environment(resources: Resources, params: Params, linked_role: str) -> Record:
    """Add a compute environment, which is CREATING until ``settle_environment`` has looked at it.

    ``linked_role``: the ARN of the role that it gets where the request names none.
    """
    _refuse(params, "eksConfiguration", "context", "ecsSettings", "unmanagedvCpus")
    name = params["computeEnvironmentName"]
    check_name("computeEnvironmentName", name)
    if params["type"] != "MANAGED":
        raise unsupported("an UNMANAGED compute environment: there is no EC2 fleet here, only MANAGED ones of Fargate")
    if "computeResources" not in params:
        raise executing("computeResources must be provided for a MANAGED compute environment.")
    if params.get("state", "ENABLED") != "ENABLED":
        raise executing("Compute Environment must be created in ENABLED state.")
    compute = _compute(params["computeResources"])
    tags = check_tags(params.get("tags", {}))
    if name in resources.environments:
        raise client("Object already exists")
    record: Record = {
        "computeEnvironmentName": name,
        "computeEnvironmentArn": resources.arn("compute-environment", name),
        "tags": tags,
        "type": "MANAGED",
        "state": "ENABLED",
        "status": "CREATING",
        "statusReason": "",
        "computeResources": compute,
        "serviceRole": params.get("serviceRole") or linked_role,
        "containerOrchestrationType": "ECS",
        "uuid": str(uuid.uuid4()),
    }
    resources.environments[name] = record
    return record


def update_environment(resources: Resources, params: Params) -> Record:
    """Change what a compute environment of Fargate can have changed."""
    _refuse(params, "updatePolicy", "context", "ecsSettings", "eksConfiguration", "unmanagedvCpus")
    record = existing_environment(resources, params["computeEnvironment"])
    if record["status"] in _CHANGING:
        raise client("Cannot update, resource is being modified")
    given = params.get("computeResources", {})
    _refuse_not_fargate(given)
    role, linked = params.get("serviceRole") or record["serviceRole"], "/aws-service-role/"
    if (linked in role) != (linked in record["serviceRole"]):
        raise executing("a service-linked role cannot be changed to a regular IAM role, nor the other way round.")
    compute = _compute({**record["computeResources"], **given})
    record.update(
        state=params.get("state", record["state"]), computeResources=compute, serviceRole=role, status="UPDATING"
    )
    return record


def delete_environment(resources: Resources, params: Params) -> None:
    """Let a compute environment go; ``settle_environment`` sees to the rest. One that is not there is no error."""
    record = resources.environment(params["computeEnvironment"])
    if record is None:
        return
    if record["status"] in _CHANGING:
        raise client("Cannot delete, resource is being modified")
    if record["state"] != "DISABLED":
        raise client("Cannot delete, resource must be in DISABLED state")
    if _queues_of(resources, record["computeEnvironmentArn"]):
        raise client("Cannot delete, found existing JobQueue relationship")
    record["status"] = "DELETING"


def settle_environment(
    resources: Resources, record: Record, problem: Callable[[Record], str], busy: Callable[[str], bool]
) -> None:
    """Take a compute environment that is CREATING, UPDATING or DELETING to where that leads.

    ``problem(record)`` says what keeps it from being VALID, or ""; ``busy(arn)`` whether jobs run in it.
    """
    if record["status"] not in _CHANGING:
        return
    if record["status"] == "DELETING":
        if busy(record["computeEnvironmentArn"]):
            reason = "CLIENT_ERROR - Jobs that run in the compute environment must end before it is deleted."
            record.update(status="INVALID", statusReason=reason)
        else:
            del resources.environments[record["computeEnvironmentName"]]
        return
    found = problem(record)
    reason = f"CLIENT_ERROR - {found}" if found else "ComputeEnvironment Healthy"
    record.update(status="INVALID" if found else "VALID", statusReason=reason)


def create_queue(resources: Resources, params: Params) -> Record:
    """Add a job queue, which is CREATING until ``settle_queue`` has looked at it."""
    _refuse_queue(params)
    name = params["jobQueueName"]
    check_name("jobQueueName", name)
    order = _order(resources, params.get("computeEnvironmentOrder", []))
    _check_priority(params["priority"])
    tags = check_tags(params.get("tags", {}))
    if name in resources.queues:
        raise client("Object already exists")
    record: Record = {
        "jobQueueName": name,
        "jobQueueArn": resources.arn("job-queue", name),
        "state": params.get("state", "ENABLED"),
        "status": "CREATING",
        "statusReason": "",
        "priority": params["priority"],
        "computeEnvironmentOrder": order,
        "serviceEnvironmentOrder": [],
        "jobQueueType": "ECS_FARGATE",
        "jobStateTimeLimitActions": [],
        "tags": tags,
    }
    resources.queues[name] = record
    return record


def update_queue(resources: Resources, params: Params) -> Record:
    """Change a job queue."""
    _refuse_queue(params)
    record = existing_queue(resources, params["jobQueue"])
    if record["status"] in _CHANGING:
        raise client("Cannot update, resource is being modified")
    changes: Record = {}
    if "computeEnvironmentOrder" in params:
        changes["computeEnvironmentOrder"] = _order(resources, params["computeEnvironmentOrder"])
    if "priority" in params:
        _check_priority(params["priority"])
        changes["priority"] = params["priority"]
    record.update(changes, state=params.get("state", record["state"]), status="UPDATING")
    return record


def delete_queue(resources: Resources, params: Params) -> Record | None:
    """Let a job queue go: it is DELETING, and returned, until its jobs have ended. None where there is none."""
    record = resources.queue(params["jobQueue"])
    if record is None:
        return None
    if record["status"] in _CHANGING:
        raise client("Cannot delete, resource is being modified")
    if record["state"] != "DISABLED":
        raise client("Cannot delete, resource must be in DISABLED state")
    record["status"] = "DELETING"
    return record


def settle_queue(resources: Resources, record: Record, busy: Callable[[str], bool]) -> None:
    """Take a queue that is CREATING, UPDATING or DELETING to where that leads. ``busy(arn)``: it has jobs."""
    if record["status"] == "DELETING":
        if not busy(record["jobQueueArn"]):
            del resources.queues[record["jobQueueName"]]
    elif record["status"] in _CHANGING:
        record.update(status="VALID", statusReason="JobQueue Healthy")


def existing_environment(resources: Resources, given: str) -> Record:
    """Return a compute environment. Raises ClientException."""
    record = resources.environment(given)
    if record is None:
        raise executing(f"{given} does not exist")
    return record


def existing_queue(resources: Resources, given: str) -> Record:
    """Return a job queue. Raises ClientException."""
    record = resources.queue(given)
    if record is None:
        raise client(f"JobQueue {given} not found.")
    return record


def network_problem(compute: Mapping[str, Any], networks: Networks) -> str:
    """Return what EC2 says of subnets or security groups that do not exist, or ""."""
    try:
        for subnet in compute["subnets"]:
            networks.zone(subnet)
        for group in compute["securityGroupIds"]:
            networks.require_group(group)
    except AwsError as error:
        return error.message
    return ""


def _compute(given: Mapping[str, Any]) -> Record:
    if given["type"] not in FARGATE:
        raise unsupported(f"computeResources of the type {given['type']}, only {' and '.join(FARGATE)}")
    _refuse_not_fargate(given)
    if not given.get("subnets"):
        raise executing("Resource subnets are required.")
    if len(given["subnets"]) > _MOST_SUBNETS:
        raise executing(f"Fargate supports a maximum of {_MOST_SUBNETS} subnets.")
    if not given.get("securityGroupIds"):
        raise executing("Security group ids are required.")
    if len(given["securityGroupIds"]) > _MOST_GROUPS:
        raise executing(f"Fargate supports a maximum of {_MOST_GROUPS} security groups.")
    if given["maxvCpus"] < 1:
        raise executing("Resource maxvCpus must be greater than 0.")
    return {name: given[name] for name in _COMPUTE}


def _refuse_not_fargate(given: Mapping[str, Any]) -> None:
    for name in _NOT_FARGATE:
        if name in given:
            raise executing(f"{name} is not applicable for Fargate.")
    _refuse(given, "managedInstancesProvider", "capacityTags", "updateToLatestImageVersion")
    if "type" in given and given["type"] not in FARGATE:
        raise unsupported(f"computeResources of the type {given['type']}, only {' and '.join(FARGATE)}")


def _order(resources: Resources, given: list[dict[str, Any]]) -> list[Record]:
    if not given:
        raise executing("computeEnvironmentOrder must have a compute environment.")
    if len(given) > _MOST_ENVIRONMENTS:
        raise executing(f"Only {_MOST_ENVIRONMENTS} environments are allowed in job queue request.")
    if len({each["order"] for each in given}) < len(given):
        raise executing("Duplicate ComputeEnvironment order values.")
    found = []
    for each in sorted(given, key=lambda entry: entry["order"]):
        record = resources.environment(each["computeEnvironment"])
        if record is None or record["status"] != "VALID":
            raise executing("Compute Environments must be created and valid before attaching them to a job queue")
        found.append({"order": each["order"], "computeEnvironment": record["computeEnvironmentArn"]})
    if len({each["computeEnvironment"] for each in found}) < len(found):
        raise executing("Duplicate ComputeEnvironments within order list.")
    return found


def _queues_of(resources: Resources, arn: str) -> list[str]:
    return [
        name
        for name, queue in resources.queues.items()
        if any(each["computeEnvironment"] == arn for each in queue["computeEnvironmentOrder"])
    ]


def _check_priority(priority: int) -> None:
    if not 0 <= priority <= 1000000:
        raise executing("priority must be a whole number that is not negative.")


def _refuse_queue(params: Params) -> None:
    if params.get("schedulingPolicyArn"):
        raise unsupported("a fair-share scheduling policy (schedulingPolicyArn), only queues that are FIFO")
    _refuse(params, "serviceEnvironmentOrder", "jobStateTimeLimitActions")
    if params.get("jobQueueType", "ECS_FARGATE") != "ECS_FARGATE":
        raise unsupported(f"the jobQueueType {params['jobQueueType']}, only ECS_FARGATE")


def _refuse(params: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if params.get(name) not in (None, {}, [], ""):
            raise unsupported(f"the parameter {name}")

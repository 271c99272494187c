"""What a task may call, and what a state machine asks for that calls it."""

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from helpers.local_aws.states import maps, parameters, services
from helpers.local_aws.states.services import INTEGRATION, SYNC, TOKEN
from helpers.local_aws.wire import AwsError, Permission, Site, service_model

# Operations called through Step Functions' SDK integrations. Others are refused by name: ministack
# would make them without asking the role, or of services that only pretend.
SDK = {
    f"{INTEGRATION}aws-sdk:{service}:{operation[0].lower()}{operation[1:]}": (service, operation)
    for service, operations in {
        "s3": ("ListObjectsV2", "PutObject", "GetObject", "HeadObject"),
        "sagemaker": ("DescribeProcessingJob", "DescribeTrainingJob", "StopTrainingJob"),
        "ecs": ("DescribeTasks", "StopTask"),
        "batch": ("DescribeJobs", "TerminateJob"),
    }.items()
    for operation in operations
}
LAMBDA = f"{INTEGRATION}lambda:invoke"
INTEGRATIONS = frozenset({*services.BY_RESOURCE, LAMBDA, f"{LAMBDA}{TOKEN}", *SDK})


def is_activity(resource: str) -> bool:
    """Whether a task is done by an activity's workers."""
    return ":activity:" in resource


def waits_for_token(resource: str) -> bool:
    """Whether a task ends when its token comes back."""
    return resource.endswith(TOKEN) or is_activity(resource)


def require_supported(machine: Mapping[str, Any]) -> None:
    """Raise AwsError (NotImplemented) naming the first thing of a definition that the embedded AWS does not run."""
    for state in walk_tasks(machine):
        require_integration(state["Resource"])
    for what in maps.unsupported(machine):
        raise AwsError("NotImplemented", f"the embedded AWS does not run {what}", 501)


def require_integration(resource: str) -> None:
    """Raise AwsError (NotImplemented) unless a task may call ``resource``."""
    if resource.startswith(INTEGRATION) and resource not in INTEGRATIONS:
        raise AwsError("NotImplemented", f"the embedded AWS does not run tasks of {resource}", 501)


def task_resources(definition: str) -> set[str]:
    """Return the Resource of every Task state, nested ones included. Raises ValueError if it is not JSON."""
    return {state["Resource"] for state in walk_tasks(json.loads(definition))}


def walk_tasks(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every Task state in a definition, nested ones included."""
    if isinstance(value, dict):
        if value.get("Type") == "Task" and isinstance(value.get("Resource"), str):
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from walk_tasks(item)


def parameter_problems(state: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the field and what is wrong with it, of a Task state that starts work with parameters it does not take."""
    work = services.BY_RESOURCE.get(str(state.get("Resource")))
    for name in ("Parameters", "Arguments") if work else ():
        shape = service_model(work.service).operation_model(work.operation).input_shape if work else None
        for problem in parameters.problems(shape, state.get(name), work.refused if work else frozenset()):
            yield name, problem


def managed_rules(resources: set[str]) -> list[services.Work]:
    """Return the work that a state machine with these task resources is told the end of, a rule of EventBridge each."""
    return [work for work in services.ALL if f"{work.resource}{SYNC}" in resources]


def managed_rule_permissions(site: Site, rule: str) -> list[Permission]:
    """Return what the state machine's role needs so that AWS can make a managed rule."""
    arn = site.arn("events", f"rule/{rule}")
    return [Permission(f"events:{action}", arn) for action in ("PutTargets", "PutRule", "DescribeRule")]


def map_permissions(machine_arn: str) -> list[Permission]:
    """Return what the role of a machine needs to run its Distributed Map states."""
    executions = machine_arn.replace(":stateMachine:", ":execution:")
    return [
        Permission("states:StartExecution", machine_arn),
        Permission("states:DescribeExecution", f"{executions}:{uuid.uuid4()}"),
    ]

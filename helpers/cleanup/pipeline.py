"""Find and delete everything that the notebooks made: by name and by tag.

A resource whose name begins with the prefix but which does not carry the
workshop's tag is somebody else's. It is reported and left alone. What cannot
carry a tag (logs, clones) is taken by the exact name of what made it: another
workshop's prefix may begin with ours.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import boto3
from botocore.exceptions import ClientError

from helpers import permissions, roles, stacks, storage
from helpers.connection import Connection
from helpers.executions import STREAMS


@dataclass(frozen=True, order=True)
class Resource:
    """Something with the workshop's name. ``ours``: it carries the workshop's tag, or belongs to what does."""

    kind: str
    name: str
    ours: bool = True

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}" + ("" if self.ours else " (not tagged: left alone)")


def find_resources(workshop: Connection) -> list[Resource]:
    """Return everything there is with the workshop's prefix, in the order in which it can be deleted."""
    found = [resource for kind, (find, _) in _KINDS.items() for resource in sorted(find(workshop))]
    stacks = [resource.name for resource in found if resource.kind == "stack"]
    return [resource for resource in found if not any(_is_part(resource, stack) for stack in stacks)]


def delete_resource(workshop: Connection, resource: Resource) -> None:
    """Delete one resource with all that it holds; one that is gone already is no error."""
    if not resource.ours:
        raise ValueError(f"{resource}: delete it by hand if it is yours")
    with _unless_gone():
        _KINDS[resource.kind][1](workshop, resource.name)


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
    iam, had = boto3.client("iam"), []
    for name in (workshop.name(policy) for policy in reversed(permissions.POLICIES)):
        try:
            iam.delete_role_policy(RoleName=workshop.role_arn.rpartition("/")[2], PolicyName=name)
            had.append(name)
        except iam.exceptions.NoSuchEntityException:
            continue
    return had


def _is_part(resource: Resource, stack: str) -> bool:
    """Tell whether a stack made it: its name is the stack's, or begins with it."""
    return resource.kind != "stack" and f"{resource.name.removeprefix('/aws/lambda/')}-".startswith(f"{stack}-")


def _has_tag(workshop: Connection, tags: Mapping[str, str]) -> bool:
    return tags.items() >= workshop.tags.items()


def _as_mapping(tags: list[dict[str, str]], key: str = "Key", value: str = "Value") -> dict[str, str]:
    return {tag[key]: tag[value] for tag in tags}


def _pages(client: Any, operation: str, result: str, **arguments: Any) -> Iterator[Any]:
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page.get(result, ())


def _find_stacks(workshop: Connection) -> Iterator[Resource]:
    cloudformation = boto3.client("cloudformation")
    for stack in _pages(cloudformation, "list_stacks", "StackSummaries"):
        if stack["StackName"].startswith(f"{workshop.prefix}-") and stack["StackStatus"] != "DELETE_COMPLETE":
            (found,) = cloudformation.describe_stacks(StackName=stack["StackId"])["Stacks"]
            yield Resource("stack", stack["StackName"], _has_tag(workshop, _as_mapping(found["Tags"])))


def _delete_stack(workshop: Connection, name: str) -> None:
    """Delete a stack, and before it what would hold it back: executions, the instances they started, objects."""
    cloudformation = boto3.client("cloudformation")
    parts: dict[str, list[str]] = {}
    for part in _pages(cloudformation, "list_stack_resources", "StackResourceSummaries", StackName=name):
        parts.setdefault(part["ResourceType"], []).append(part.get("PhysicalResourceId", ""))
    for arn in filter(None, parts.get("AWS::StepFunctions::StateMachine", ())):
        _ignore_absent(partial(_stop_executions, arn))
    _terminate(_running_instances(workshop))
    for bucket in filter(None, parts.get("AWS::S3::Bucket", ())):
        storage.empty_bucket(boto3.client("s3"), bucket)
    cloudformation.delete_stack(StackName=name)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig=stacks.PATIENCE)
    logs = boto3.client("logs")  # a function that ran last of all may have made its log group anew
    for group in _pages(logs, "describe_log_groups", "logGroups", logGroupNamePrefix=f"/aws/lambda/{name}-"):
        _delete_log_group(workshop, group["logGroupName"])


def _find_instances(workshop: Connection) -> Iterator[Resource]:
    # A stack ends its instances first: ours is the second try, for those of a stack that is gone.
    for instance in _running_instances(workshop):
        yield Resource("instance", instance)


def _running_instances(workshop: Connection) -> list[str]:
    states = ["pending", "running", "stopping", "stopped"]
    filters = [
        {"Name": "tag:workshop", "Values": [workshop.prefix]},
        {"Name": "instance-state-name", "Values": states},
    ]
    reservations = _pages(boto3.client("ec2"), "describe_instances", "Reservations", Filters=filters)
    return [instance["InstanceId"] for reservation in reservations for instance in reservation["Instances"]]


def _terminate(instances: list[str]) -> None:
    if instances:
        ec2 = boto3.client("ec2")
        ec2.terminate_instances(InstanceIds=instances)
        ec2.get_waiter("instance_terminated").wait(InstanceIds=instances, WaiterConfig=stacks.PATIENCE)


def _find_queues(workshop: Connection) -> Iterator[Resource]:
    sqs = boto3.client("sqs")
    for url in _pages(sqs, "list_queues", "QueueUrls", QueueNamePrefix=f"{workshop.prefix}-"):
        with _unless_gone():
            tags = sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
            yield Resource("queue", url.rpartition("/")[2], _has_tag(workshop, tags))


def _delete_queue(workshop: Connection, name: str) -> None:
    sqs = boto3.client("sqs")
    _ignore_absent(lambda: sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"]))


def _find_state_machines(workshop: Connection) -> Iterator[Resource]:
    states = boto3.client("stepfunctions")
    for machine in _pages(states, "list_state_machines", "stateMachines"):
        if machine["name"].startswith(f"{workshop.prefix}-"):
            with _unless_gone():
                tags = states.list_tags_for_resource(resourceArn=machine["stateMachineArn"])["tags"]
                yield Resource("state machine", machine["name"], _has_tag(workshop, _as_mapping(tags, "key", "value")))


def _delete_state_machine(workshop: Connection, name: str) -> None:
    arn = f"arn:aws:states:{workshop.region}:{workshop.account_id}:stateMachine:{name}"
    _stop_executions(arn)
    boto3.client("stepfunctions").delete_state_machine(stateMachineArn=arn)


def _stop_executions(machine_arn: str) -> None:
    states = boto3.client("stepfunctions")
    running = {"stateMachineArn": machine_arn, "statusFilter": "RUNNING"}
    for execution in _pages(states, "list_executions", "executions", **running):
        states.stop_execution(executionArn=execution["executionArn"], cause="workshop clean-up")


def _find_rules(workshop: Connection) -> Iterator[Resource]:
    # The rule is the account's: it goes only when the workshop's state machines are the last that could use it.
    states, events = boto3.client("stepfunctions"), boto3.client("events")
    machines = [machine["name"] for machine in _pages(states, "list_state_machines", "stateMachines")]
    others = [name for name in machines if not name.startswith(f"{workshop.prefix}-")]
    try:
        events.describe_rule(Name=permissions.MANAGED_RULE)
    except events.exceptions.ResourceNotFoundException:
        return
    if not others:
        yield Resource("managed rule", permissions.MANAGED_RULE)


def _delete_rule(workshop: Connection, name: str) -> None:
    events = boto3.client("events")
    targets = [target["Id"] for target in events.list_targets_by_rule(Rule=name)["Targets"]]
    if targets:
        events.remove_targets(Rule=name, Ids=targets, Force=True)
    events.delete_rule(Name=name, Force=True)  # without Force EventBridge keeps the rules that AWS made


def _find_jobs(workshop: Connection) -> Iterator[Resource]:
    # A stopped execution stops its job with the state machine's role, which is about to go: ours is the second try.
    running = {"NameContains": f"{workshop.short_name}-", "StatusEquals": "InProgress"}
    for job in _pages(boto3.client("sagemaker"), "list_processing_jobs", "ProcessingJobSummaries", **running):
        if _is_own_job(workshop, job["ProcessingJobName"]):
            yield Resource("running job", job["ProcessingJobName"])


def _stop_job(workshop: Connection, name: str) -> None:
    try:
        boto3.client("sagemaker").stop_processing_job(ProcessingJobName=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationException":  # it has ended meanwhile
            raise


def _find_functions(workshop: Connection) -> Iterator[Resource]:
    client = boto3.client("lambda")
    for function in _pages(client, "list_functions", "Functions"):
        if function["FunctionName"].startswith(f"{workshop.prefix}-"):
            with _unless_gone():
                tags = client.list_tags(Resource=function["FunctionArn"])["Tags"]
                yield Resource("function", function["FunctionName"], _has_tag(workshop, tags))


def _find_repositories(workshop: Connection) -> Iterator[Resource]:
    codecommit = boto3.client("codecommit")
    for repository in _pages(codecommit, "list_repositories", "repositories"):
        name = repository["repositoryName"]
        if name.startswith(f"{workshop.prefix}-"):
            arn = f"arn:aws:codecommit:{workshop.region}:{workshop.account_id}:{name}"
            with _unless_gone():
                tags = codecommit.list_tags_for_resource(resourceArn=arn)["tags"]
                yield Resource("repository", name, _has_tag(workshop, tags))


def _find_roles(workshop: Connection) -> Iterator[Resource]:
    iam = boto3.client("iam")
    for role in _pages(iam, "list_roles", "Roles"):
        if role["RoleName"].startswith(f"{workshop.prefix}-"):
            with _unless_gone():
                tags = iam.list_role_tags(RoleName=role["RoleName"])["Tags"]
                yield Resource("role", role["RoleName"], _has_tag(workshop, _as_mapping(tags)))


def _find_log_groups(workshop: Connection) -> Iterator[Resource]:
    # Lambda makes these and does not tag them: one belongs to whom its function belongs to. The group of a
    # function that is gone is ours, since whoever deletes a function with its clean-up takes the group along.
    others = {f"/aws/lambda/{function.name}" for function in _find_functions(workshop) if not function.ours}
    prefix = f"/aws/lambda/{workshop.prefix}-"
    for group in _pages(boto3.client("logs"), "describe_log_groups", "logGroups", logGroupNamePrefix=prefix):
        if group["logGroupName"] not in others:
            yield Resource("log group", group["logGroupName"])


def _delete_log_group(workshop: Connection, name: str) -> None:
    _ignore_absent(lambda: boto3.client("logs").delete_log_group(logGroupName=name))


def _find_log_streams(workshop: Connection) -> Iterator[Resource]:
    # All processing jobs of an account share one group: only the streams of this workshop's jobs are its own.
    logs = boto3.client("logs")
    arguments = {"logGroupName": STREAMS, "logStreamNamePrefix": f"{workshop.short_name}-"}
    try:
        for stream in _pages(logs, "describe_log_streams", "logStreams", **arguments):
            if _is_own_job(workshop, stream["logStreamName"].partition("/")[0]):
                yield Resource("log stream", stream["logStreamName"])
    except logs.exceptions.ResourceNotFoundException:
        return


def _delete_log_stream(workshop: Connection, name: str) -> None:
    logs = boto3.client("logs")
    _ignore_absent(lambda: logs.delete_log_stream(logGroupName=STREAMS, logStreamName=name))
    try:
        rest = logs.describe_log_streams(logGroupName=STREAMS, limit=1)["logStreams"]
    except logs.exceptions.ResourceNotFoundException:
        return
    if not rest:
        _delete_log_group(workshop, STREAMS)


def _find_buckets(workshop: Connection) -> Iterator[Resource]:
    # By their full names, those of a stack too: one that was kept when its stack went is found here.
    for name in (workshop.bucket, *map(workshop.bucket_for, ("partitions", "units"))):
        tags = _bucket_tags(boto3.client("s3"), name)
        if tags is not None:
            yield Resource("bucket", name, _has_tag(workshop, _as_mapping(tags)))


def _bucket_tags(s3: Any, name: str) -> list[dict[str, str]] | None:
    """Return a bucket's tags, None where there is no bucket."""
    try:
        return s3.get_bucket_tagging(Bucket=name)["TagSet"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchBucket":
            return None
        if error.response["Error"]["Code"] == "NoSuchTagSet":
            return []
        raise


def _find_clones(workshop: Connection) -> Iterator[Resource]:
    repository = workshop.name(workshop.project)
    if (workshop.work_dir / repository).exists():
        yield Resource("clone", repository)


def _run_name(workshop: Connection) -> str:
    """Return how the names of this project's executions and jobs begin; a commit's first characters follow."""
    return f"{workshop.name(workshop.project)[:32].rstrip('-')}-"


def _is_own_job(workshop: Connection, name: str) -> bool:
    """Tell whether a run started it, or an upload of notebook 06: name, batch, execution and retry."""
    on_upload = rf"{workshop.short_name}-\d+-[0-9a-f]{{24}}(-\d+)?"
    return name.startswith(_run_name(workshop)) or bool(re.fullmatch(on_upload, name))


def _delete_clone(workshop: Connection, name: str) -> None:
    if (workshop.work_dir / name).exists():
        shutil.rmtree(workshop.work_dir / name)


def _ignore_absent(call: Callable[[], Any]) -> None:
    with _unless_gone():
        call()


@contextmanager
def _unless_gone() -> Iterator[None]:
    """Do what follows unless its resource is gone: also one that is listed still, for AWS's lists lag behind."""
    try:
        yield
    except ClientError as error:
        told = error.response["Error"]
        if told["Code"] not in _ABSENT and not (told["Code"] == "ValidationError" and _NO_STACK in told["Message"]):
            raise


_NO_STACK = "does not exist"  # CloudFormation has no code of its own for it
_ABSENT = (
    "ResourceNotFoundException",
    "ResourceNotFound",  # Step Functions, about tags
    "StateMachineDoesNotExist",
    "AWS.SimpleQueueService.NonExistentQueue",
    "NoSuchEntity",
    "RepositoryDoesNotExistException",
)

# In the order of deletion: what starts things first, then what they use, logs after their writers.
_KINDS: dict[str, tuple[Callable[[Connection], Iterator[Resource]], Callable[[Connection, str], Any]]] = {
    "repository": (
        _find_repositories,
        lambda workshop, name: boto3.client("codecommit").delete_repository(repositoryName=name),
    ),
    "clone": (_find_clones, _delete_clone),
    "stack": (_find_stacks, _delete_stack),
    "state machine": (_find_state_machines, _delete_state_machine),
    "running job": (_find_jobs, _stop_job),
    "instance": (_find_instances, lambda workshop, name: _terminate([name])),
    "managed rule": (_find_rules, _delete_rule),
    "function": (
        _find_functions,
        lambda workshop, name: _ignore_absent(lambda: boto3.client("lambda").delete_function(FunctionName=name)),
    ),
    "role": (_find_roles, lambda workshop, name: roles.delete_role(boto3.client("iam"), name)),
    "log group": (_find_log_groups, _delete_log_group),
    "log stream": (_find_log_streams, _delete_log_stream),
    "queue": (_find_queues, _delete_queue),
    "bucket": (_find_buckets, lambda workshop, name: storage.delete_bucket(boto3.client("s3"), name)),
}

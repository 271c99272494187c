"""What notebooks 06 and 07 made besides: stacks, instances, queues."""

from collections.abc import Iterator
from functools import partial

import boto3

from helpers import stacks, storage
from helpers.cleanup import pipeline
from helpers.cleanup.found import Kind, Resource, as_mapping, has_tag, ignore_absent, pages, unless_gone
from helpers.connection import Connection


def _find_stacks(workshop: Connection) -> Iterator[Resource]:
    cloudformation = boto3.client("cloudformation")
    for stack in pages(cloudformation, "list_stacks", "StackSummaries"):
        if stack["StackName"].startswith(f"{workshop.prefix}-") and stack["StackStatus"] != "DELETE_COMPLETE":
            (found,) = cloudformation.describe_stacks(StackName=stack["StackId"])["Stacks"]
            yield Resource("stack", stack["StackName"], has_tag(workshop, as_mapping(found["Tags"])))


def _delete_stack(workshop: Connection, name: str) -> None:
    """Delete a stack, and before it what would hold it back: executions, the instances they started, objects."""
    cloudformation = boto3.client("cloudformation")
    parts: dict[str, list[str]] = {}
    for part in pages(cloudformation, "list_stack_resources", "StackResourceSummaries", StackName=name):
        parts.setdefault(part["ResourceType"], []).append(part.get("PhysicalResourceId", ""))
    for arn in filter(None, parts.get("AWS::StepFunctions::StateMachine", ())):
        ignore_absent(partial(pipeline.stop_executions, arn))
    _terminate(_running_instances(workshop))
    for bucket in filter(None, parts.get("AWS::S3::Bucket", ())):
        storage.empty_bucket(boto3.client("s3"), bucket)
    cloudformation.delete_stack(StackName=name)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig=stacks.PATIENCE)
    logs = boto3.client("logs")  # a function that ran last of all may have made its log group anew
    for group in pages(logs, "describe_log_groups", "logGroups", logGroupNamePrefix=f"/aws/lambda/{name}-"):
        pipeline.delete_log_group(workshop, group["logGroupName"])


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
    reservations = pages(boto3.client("ec2"), "describe_instances", "Reservations", Filters=filters)
    return [instance["InstanceId"] for reservation in reservations for instance in reservation["Instances"]]


def _terminate(instances: list[str]) -> None:
    if instances:
        ec2 = boto3.client("ec2")
        ec2.terminate_instances(InstanceIds=instances)
        ec2.get_waiter("instance_terminated").wait(InstanceIds=instances, WaiterConfig=stacks.PATIENCE)


def _find_queues(workshop: Connection) -> Iterator[Resource]:
    sqs = boto3.client("sqs")
    for url in pages(sqs, "list_queues", "QueueUrls", QueueNamePrefix=f"{workshop.prefix}-"):
        with unless_gone():
            tags = sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
            yield Resource("queue", url.rpartition("/")[2], has_tag(workshop, tags))


def _delete_queue(workshop: Connection, name: str) -> None:
    sqs = boto3.client("sqs")
    ignore_absent(lambda: sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"]))


STACK = Kind(_find_stacks, _delete_stack)
INSTANCE = Kind(_find_instances, lambda workshop, name: _terminate([name]))
QUEUE = Kind(_find_queues, _delete_queue)

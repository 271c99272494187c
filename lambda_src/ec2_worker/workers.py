"""The stack's instances: find them by their tags, read their last words, end them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

LIVE = ("pending", "running", "stopping", "stopped")  # the others are ended, or about to be
ENDED = ("shutting-down", "terminated")
SCRIPT_FAILED = "the instance's script failed"  # how user_data.sh begins to say it


@dataclass(frozen=True)
class Worker:
    """An instance, by its tags: whose it is."""

    id: str
    state: str
    launched: datetime
    unit: str
    execution: str


def find_workers(ec2: Any, stack: str, *, execution: str = "", states: tuple[str, ...] = LIVE) -> list[Worker]:
    """Return the stack's instances in one of ``states``; with the name of an ``execution`` only its own."""
    filters = {"tag:stack": [stack], "instance-state-name": list(states)}
    if execution:
        filters["tag:execution"] = [execution]
    pages = ec2.get_paginator("describe_instances").paginate(
        Filters=[{"Name": name, "Values": values} for name, values in filters.items()]
    )
    return [worker for page in pages for worker in _workers(page)]


def end(ec2: Any, instances: list[str]) -> None:
    """Terminate instances; those that are gone are no error."""
    for instance in instances:  # one by one: an id that EC2 has forgotten would save the others
        try:
            ec2.terminate_instances(InstanceIds=[instance])
        except ClientError as error:
            if error.response["Error"]["Code"] != "InvalidInstanceID.NotFound":
                raise


def last_words(ec2: Any, instance: str) -> str:
    """Return why an instance's script failed, as far as its console tells: "" if not, an error if it cannot be read."""
    try:
        text = _console(ec2, instance)
    except ClientError as error:
        return f"it cannot be read: {error}"
    _, begin, rest = text.rpartition(SCRIPT_FAILED)
    return begin + rest.partition("\n")[0].rstrip() if begin else ""


def _console(ec2: Any, instance: str) -> str:
    try:
        answer = ec2.get_console_output(InstanceId=instance, Latest=True)
    except ClientError as error:
        if error.response["Error"]["Code"] != "UnsupportedOperation":
            raise
        answer = ec2.get_console_output(InstanceId=instance)  # t2: what EC2 wrote down some minutes ago
    return answer.get("Output", "")


def _workers(page: dict[str, Any]) -> Iterator[Worker]:
    for reservation in page["Reservations"]:
        for found in reservation["Instances"]:
            tags = {tag["Key"]: tag["Value"] for tag in found.get("Tags", ())}
            yield Worker(
                found["InstanceId"],
                found["State"]["Name"],
                found["LaunchTime"],
                tags.get("unit", ""),
                tags.get("execution", ""),
            )

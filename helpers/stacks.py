"""CloudFormation stacks in a notebook: what a change set will do, a stack's operation as it runs, outputs."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from botocore.exceptions import ClientError, WaiterError
from IPython.display import Markdown, display

from helpers import progress

NOTHING = ("The submitted information didn't contain changes", "No updates are to be performed")
EVERY = 1.0  # seconds between two looks
PATIENCE = {"Delay": 2, "MaxAttempts": 900}  # of a waiter: half an hour, as AWS's own, but with more looks
BAD = ("_FAILED", "ROLLBACK_COMPLETE")
NOT_ITS_OWN = ("Resource creation cancelled", "Resource update cancelled")  # another resource's failure stopped it


class StackFailed(Exception):
    """A stack's operation has failed; the message names each resource that could not be made, and why."""


def change_set_type(cloudformation: Any, stack: str) -> str:
    """Return the type of a stack's next change set: CREATE for one that is not there yet, else UPDATE.

    A stack whose creation was rolled back holds nothing and can only be deleted: that is done here.
    """
    try:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if "does not exist" not in error.response["Error"]["Message"]:
            raise
        return "CREATE"
    if found["StackStatus"] == "ROLLBACK_COMPLETE":
        cloudformation.delete_stack(StackName=stack)
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=found["StackId"], WaiterConfig=PATIENCE)
        return "CREATE"
    return "CREATE" if found["StackStatus"] == "REVIEW_IN_PROGRESS" else "UPDATE"


def wait_for_change_set(cloudformation: Any, stack: str, change_set: str) -> bool:
    """Wait until a change set is made. Returns False, and deletes it, when nothing would change.

    Raises StackFailed with CloudFormation's reason when it cannot be made.
    """
    name = {"StackName": stack, "ChangeSetName": change_set}
    try:
        cloudformation.get_waiter("change_set_create_complete").wait(**name, WaiterConfig=PATIENCE)
    except WaiterError as error:
        reason = error.last_response.get("StatusReason", str(error))
        if not reason.startswith(NOTHING):
            raise StackFailed(f"{stack}: {reason}") from error
        cloudformation.delete_change_set(**name)
        return False
    return True


def changes(cloudformation: Any, stack: str, change_set: str) -> pd.DataFrame:
    """Return what a change set will do, by the resources' logical names: action, type, replacement."""
    pages = cloudformation.get_paginator("describe_change_set").paginate(StackName=stack, ChangeSetName=change_set)
    found = [change["ResourceChange"] for page in pages for change in page["Changes"]]
    rows = [(one["LogicalResourceId"], one["Action"], one["ResourceType"], one.get("Replacement", "")) for one in found]
    table = pd.DataFrame(sorted(rows), columns=["resource", "action", "type", "replacement"])
    return table.set_index("resource")


def follow(
    cloudformation: Any,
    stack: str,
    *,
    seconds: float = 1800,
    sleep: Callable[[float], None] = time.sleep,
) -> pd.DataFrame:
    """Show a stack's resources while its operation runs. Returns them, by their logical names, once it has ended.

    Raises StackFailed when the operation failed or was rolled back, TimeoutError after ``seconds``.
    """
    stack_id = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackId"]  # a deleted one has no name
    heading = Markdown("Resources of the stack:")
    handle = display(heading, display_id=True)
    waited = 0.0
    while True:
        status = cloudformation.describe_stacks(StackName=stack_id)["Stacks"][0]["StackStatus"]
        table = resources(cloudformation, stack_id)
        if not status.endswith("_IN_PROGRESS"):
            break
        if waited >= seconds:
            raise TimeoutError(f"the stack {stack} is {status} after {seconds:g} seconds")
        if handle is not None:
            handle.update(Markdown(_live(table, status, waited)))
        sleep(EVERY)
        waited += EVERY
    if handle is not None:
        handle.update(heading)  # what stays is the same at every run: nbval compares it
    if status.endswith(BAD):
        raise StackFailed(f"{stack}: {status}\n" + "\n".join(failures(cloudformation, stack_id)))
    return table


def resources(cloudformation: Any, stack: str) -> pd.DataFrame:
    """Return a stack's resources, by their logical names: type and status."""
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
    found = [one for page in pages for one in page["StackResourceSummaries"]]
    rows = sorted((one["LogicalResourceId"], one["ResourceType"], one["ResourceStatus"]) for one in found)
    return pd.DataFrame(rows, columns=["resource", "type", "status"]).set_index("resource")


def failures(cloudformation: Any, stack: str) -> list[str]:
    """Return why the last operation of a stack failed: "resource: reason", the first one first."""
    found: list[str] = []
    for page in cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack):
        for event in page["StackEvents"]:  # the newest first
            status, reason = event["ResourceStatus"], event.get("ResourceStatusReason", "")
            own = event["PhysicalResourceId"] == event["StackId"]
            if own and status in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"):
                return found[::-1]
            if status.endswith("_FAILED") and not own and not reason.startswith(NOT_ITS_OWN):
                found.append(f"{event['LogicalResourceId']}: {reason}")
    return found[::-1]


def outputs(cloudformation: Any, stack: str) -> Mapping[str, str]:
    """Return a stack's outputs by name."""
    found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", ())}


def _live(table: pd.DataFrame, status: str, waited: float) -> str:
    rows = [f"| {name} | {kind} | {state} |" for name, kind, state in table.itertuples()]
    lines = ["| resource | type | status |", "| --- | --- | --- |", *rows]
    return "\n".join(lines) + f"\n\n**{status}** for {progress.clock(waited)}"

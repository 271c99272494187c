"""Change sets: what a template would change, kept with its stack until it is executed or deleted."""

import time
import uuid
from typing import Any

from helpers.local_aws.cloudformation import answers, intrinsics, parameters, requests, targets
from helpers.local_aws.cloudformation import changes as planning
from helpers.local_aws.cloudformation.errors import invalid
from helpers.local_aws.cloudformation.records import Data, Stack
from helpers.local_aws.cloudformation.targets import Around, Target
from helpers.local_aws.cloudformation.template import Template, parse
from helpers.local_aws.wire import AwsError, Params, Site

NOTHING = ("The submitted information didn't contain changes. Submit different information to create a change "
           "set.")  # fmt: skip
_PER_PAGE = 100


def require_type(stack: Stack | None, kind: str, name: str) -> None:
    """Raise AwsError unless a change set of this kind can be made now."""
    if kind not in ("CREATE", "UPDATE"):
        raise AwsError("NotImplemented", f"the embedded AWS does not support change sets of type {kind}", 501)
    review = stack is not None and stack.status == "REVIEW_IN_PROGRESS"
    if kind == "CREATE" and stack is not None and not review:
        raise AwsError("AlreadyExistsException", f"Stack [{name}] already exists and cannot be created again with the "
                       f"changeSet")  # fmt: skip
    if kind == "UPDATE":
        if stack is None or review:
            raise invalid(f"Stack [{name}] does not exist")
        if stack.status.endswith("_IN_PROGRESS") or stack.status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED"):
            raise invalid(f"Stack:{stack.id} is in {stack.status} state and can not be updated.")


def changes(around: Around, stack: Stack, target: Target) -> list[Data] | None:
    """Return the changes of the stack's resources, or None when the stack would stay just as it is."""
    former, values = _former(around, stack)
    found = planning.plan(around, stack, target, former, values)
    if found or former is None:
        return found
    return [] if _outputs(around, stack, former, target) else None


def _former(around: Around, stack: Stack) -> tuple[Template | None, dict[str, Any]]:
    """Return the stack's template and what its parameters were, where it has resources already."""
    if not stack.data["template"]:
        return None, {}
    template = parse(stack.data["template"])
    return template, {
        name: parameters.reference(template.parameters[name], stored)
        for name, stored in stack.data["parameters"].items()
    }


def _outputs(around: Around, stack: Stack, former: Template, target: Target) -> bool:
    """Whether the outputs would differ although no resource does."""
    if former.outputs != target.template.outputs:
        return True
    scope = targets.scope(
        around, target, lambda name: stack.resources[name]["physical"],
        lambda name, attribute: stack.resources[name]["attributes"][attribute],
    )  # fmt: skip
    held = {output["OutputKey"]: output["OutputValue"] for output in stack.data["outputs"]}
    wanted = {
        name: intrinsics.text_of(intrinsics.resolve(output["Value"], scope), f"Output {name}")
        for name, output in target.template.outputs.items()
        if target.holds.get(output.get("Condition", ""), True)
    }
    return held != wanted


def record(site: Site, stack: Stack, params: Params, target: Target, found: list[Data] | None) -> Data:
    """Return a new change set."""
    name = params["ChangeSetName"]
    return {
        "id": site.arn("cloudformation", f"changeSet/{name}/{uuid.uuid4()}"),
        "name": name,
        "description": params.get("Description", ""),
        "created": time.time(),
        "status": "FAILED" if found is None else "CREATE_COMPLETE",
        "reason": NOTHING if found is None else "",
        "execution": "UNAVAILABLE" if found is None else "AVAILABLE",
        "changes": found or [],
        "template": target.template.body,
        "parameters": {name: dict(stored) for name, stored in target.settled.items()},
        "tags": dict(target.tags),
        "request": requests.plain(params),
    }


def find(stack: Stack, name: str) -> Data:
    """Return a change set by name or ARN. Raises AwsError."""
    for found in stack.data["change_sets"].values():
        if name in (found["name"], found["id"]):
            return found
    raise AwsError("ChangeSetNotFound", f"ChangeSet [{name}] does not exist", 404)


def described(stack: Stack, found: Data, params: Params) -> Params:
    """Return a change set as DescribeChangeSet does."""
    page = answers.page("Changes", found["changes"], params, dict, _PER_PAGE)
    return {
        "ChangeSetName": found["name"],
        "ChangeSetId": found["id"],
        "StackId": stack.id,
        "StackName": stack.name,
        "Description": found["description"] or None,
        "Parameters": parameters.shown(found["parameters"]),
        "CreationTime": found["created"],
        "ExecutionStatus": found["execution"],
        "Status": found["status"],
        "StatusReason": found["reason"] or None,
        "Capabilities": found["request"].get("Capabilities", []),
        "Tags": answers.tags(found["tags"]),
        "OnStackFailure": found["request"].get("OnStackFailure"),
        **page,
    }


def summary(stack: Stack, found: Data) -> Params:
    """Return a change set as ListChangeSets does."""
    return {
        "StackId": stack.id,
        "StackName": stack.name,
        "ChangeSetId": found["id"],
        "ChangeSetName": found["name"],
        "ExecutionStatus": found["execution"],
        "Status": found["status"],
        "StatusReason": found["reason"] or None,
        "CreationTime": found["created"],
        "Description": found["description"] or None,
    }


def executing(stack: Stack, found: Data, token: str) -> None:
    """Begin to execute a change set: the stack's others are void from now on."""

    def change(data: Data) -> None:
        found["execution"] = "EXECUTE_IN_PROGRESS"
        data.update(change_sets={found["name"]: found}, change_set=found["id"], token=token)
        if data["status"] != "REVIEW_IN_PROGRESS":
            data["updated"] = time.time()

    stack.change(change)


def make_obsolete(stack: Stack) -> None:
    """Note that the stack is being changed another way: what its change sets say is no longer true."""

    def change(data: Data) -> None:
        for found in data["change_sets"].values():
            if found["execution"] == "AVAILABLE":
                found["execution"] = "OBSOLETE"

    stack.change(change)

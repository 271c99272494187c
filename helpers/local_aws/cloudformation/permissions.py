"""What a caller needs for the operations of CloudFormation."""

from collections.abc import Sequence
from typing import Any

from helpers.local_aws import tag_keys
from helpers.local_aws.cloudformation.records import Stack
from helpers.local_aws.wire import Params, Permission, Site

# Operations that are asked of no stack.
_ANYWHERE = {"ListExports", "ListImports", "ListStacks", "ValidateTemplate"}


def of(site: Site, operation: str, params: Params, stack: Stack | None) -> Sequence[Permission]:
    """Return the permissions of one call. ``stack``: the one that it is about, where there is one.

    A call that takes a service role also needs iam:PassRole on it.
    """
    name = params.get("StackName", "")
    if operation in _ANYWHERE:
        resource = "*"
    elif stack is not None:
        resource = stack.id
    else:
        resource = site.arn("cloudformation", f"stack/{name}/*") if name and not name.startswith("arn:") else name
    needed = [Permission(f"cloudformation:{operation}", resource or "*", _context(params))]
    if params.get("RoleARN"):
        passed = {"iam:PassedToService": "cloudformation.amazonaws.com"}
        needed.append(Permission("iam:PassRole", params["RoleARN"], passed))
    return needed


def _context(params: Params) -> dict[str, Any]:
    """Return the condition keys of CloudFormation and of tags."""
    members = {"RoleArn": "RoleARN", "TemplateUrl": "TemplateURL", "ChangeSetName": "ChangeSetName"}
    found: dict[str, Any] = {
        f"cloudformation:{key}": params[member] for key, member in members.items() if params.get(member)
    }
    return found | tag_keys.of_request({tag["Key"]: tag["Value"] for tag in params.get("Tags", [])})

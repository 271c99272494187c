"""What requests ask for: which of their parameters are carried out, and what those mean."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from helpers.local_aws.cloudformation import checks
from helpers.local_aws.cloudformation.errors import invalid
from helpers.local_aws.cloudformation.operations import Failing
from helpers.local_aws.cloudformation.records import Data, Stack
from helpers.local_aws.cloudformation.session import Session
from helpers.local_aws.cloudformation.targets import Target
from helpers.local_aws.cloudformation.template import BODY_LIMIT, Template
from helpers.local_aws.wire import AwsError, Params

_TEMPLATE = {"StackName", "TemplateBody", "TemplateURL", "Parameters", "Capabilities", "RoleARN", "Tags"}
# The parameters that are carried out. An operation that is not here takes all that it has.
CARRIED_OUT = {
    "CreateStack": _TEMPLATE
    | {"DisableRollback", "OnFailure", "ClientRequestToken", "EnableTerminationProtection", "RetainExceptOnCreate"},
    "UpdateStack": _TEMPLATE | {"UsePreviousTemplate", "DisableRollback", "ClientRequestToken"},
    "DeleteStack": {"StackName", "RetainResources", "RoleARN", "ClientRequestToken"},
    "CreateChangeSet": _TEMPLATE
    | {"UsePreviousTemplate", "ChangeSetName", "ChangeSetType", "Description", "OnStackFailure"},
    "ExecuteChangeSet": {"ChangeSetName", "StackName", "ClientRequestToken", "DisableRollback", "RetainExceptOnCreate"},
    "DescribeChangeSet": {"ChangeSetName", "StackName", "NextToken"},
    "DeleteChangeSet": {"ChangeSetName", "StackName"},
    "GetTemplate": {"StackName", "ChangeSetName", "TemplateStage"},
    "GetTemplateSummary": {"TemplateBody", "TemplateURL", "StackName"},
    "DescribeStackResources": {"StackName", "LogicalResourceId"},
    "DescribeStackEvents": {"StackName", "NextToken"},
    "ContinueUpdateRollback": {"StackName", "RoleARN", "ResourcesToSkip", "ClientRequestToken"},
}
_MOST_TAGS = 50
_BUCKET_HOST = re.compile(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\.s3[.-](?:[a-z0-9-]+\.)?amazonaws\.com")
_S3_HOST = re.compile(r"s3[.-](?:[a-z0-9-]+\.)?amazonaws\.com")


def body_of(params: Params, reader: Callable[[], Session], endpoint: str, former: str) -> str:
    """Return the template that a request gives, names, or keeps; ``reader`` reads a named one. Raises AwsError."""
    given = [name for name in ("TemplateBody", "TemplateURL") if params.get(name)]
    previous = params.get("UsePreviousTemplate", False)
    if len(given) + bool(previous) != 1:
        raise invalid("Either Template URL or Template Body must be specified.")
    if previous:
        if not former:
            raise invalid("UsePreviousTemplate cannot be used: the stack has no template yet")
        return former
    if given == ["TemplateBody"]:
        if len(params["TemplateBody"].encode()) > BODY_LIMIT:
            raise invalid("1 validation error detected: Value at 'templateBody' failed to satisfy constraint: Member "
                          f"must have length less than or equal to {BODY_LIMIT}")  # fmt: skip
        return params["TemplateBody"]
    bucket, key = _place(params["TemplateURL"], endpoint)
    return reader().object_text(bucket, key)


def _place(url: str, endpoint: str) -> tuple[str, str]:
    """Return bucket and key of a template's URL: S3's, or that of S3 here."""
    parts = urlsplit(url)
    host, path = parts.netloc, unquote(parts.path).lstrip("/")
    bucket, _, key = path.partition("/")
    named = _BUCKET_HOST.fullmatch(host)
    if named:
        bucket, key = named[1], path
    elif not _S3_HOST.fullmatch(host) and host != urlsplit(endpoint).netloc:
        bucket = ""
    if not bucket or not key:
        raise invalid("TemplateURL must be a supported URL.")
    return bucket, key


def failing(params: Params) -> Failing:
    """Return what CreateStack and UpdateStack say of a failure. Raises AwsError."""
    if "OnFailure" in params and "DisableRollback" in params:
        raise invalid("You can specify either DisableRollback or OnFailure, but not both.")
    then = "DO_NOTHING" if params.get("DisableRollback") else params.get("OnFailure", "ROLLBACK")
    return Failing(then, params.get("RetainExceptOnCreate", False))


def failing_of_change_set(created: Params, executed: Params) -> Failing:
    """Return what a change set and its execution say of a failure. Raises AwsError."""
    if "OnStackFailure" in created and "DisableRollback" in executed:
        raise invalid("You can specify either DisableRollback or OnStackFailure, but not both.")
    then = "DO_NOTHING" if executed.get("DisableRollback") else created.get("OnStackFailure", "ROLLBACK")
    return Failing(then, executed.get("RetainExceptOnCreate", False))


def require_capabilities(template: Template, params: Params) -> None:
    """Raise AwsError unless the request acknowledges that the template makes IAM resources."""
    needed, _ = checks.capabilities(template)
    given = params.get("Capabilities", [])
    enough = needed in given or (needed == "CAPABILITY_IAM" and "CAPABILITY_NAMED_IAM" in given)
    if needed and not enough:
        raise AwsError("InsufficientCapabilitiesException", f"Requires capabilities : [{needed}]")


def tags(params: Params, stack: Stack) -> dict[str, str]:
    """Return the stack's tags: the request's, or those that it has. Raises AwsError."""
    if "Tags" not in params:
        return dict(stack.data["tags"])
    found = {tag["Key"]: tag["Value"] for tag in params["Tags"]}
    if len(found) != len(params["Tags"]):
        raise invalid("Duplicate tag keys are not allowed")
    if len(found) > _MOST_TAGS:
        raise invalid(f"A stack can have at most {_MOST_TAGS} tags")
    reserved = sorted(key for key in found if key.lower().startswith("aws:"))
    if reserved:
        raise invalid(f"aws: prefixed tag key names are not allowed for external use: {reserved[0]}")
    return found


def settled(params: Params, target: Target, stack: Stack) -> Data:
    """Return what of a stack's data an operation replaces when it begins."""
    return {
        "template": target.template.body,
        "parameters": {name: dict(stored) for name, stored in target.settled.items()},
        "tags": dict(target.tags),
        "description": target.template.description,
        "capabilities": list(params.get("Capabilities", [])),
        "role": params.get("RoleARN") or stack.data["role"],
        "disable_rollback": bool(params.get("DisableRollback", stack.data["disable_rollback"])),
    }


def plain(params: Params) -> dict[str, Any]:
    """Return what a change set keeps of its request."""
    return {name: params[name] for name in ("RoleARN", "Capabilities", "OnStackFailure") if name in params}

"""Stacks, resources and templates as the API's answers show them."""

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from helpers.local_aws.cloudformation import checks, parameters
from helpers.local_aws.cloudformation.errors import invalid
from helpers.local_aws.cloudformation.records import Stack
from helpers.local_aws.cloudformation.template import Template
from helpers.local_aws.wire import Params

_PER_PAGE = 100
_UNCHECKED = {"StackDriftStatus": "NOT_CHECKED"}
_UNCHECKED_RESOURCE = {"StackResourceDriftStatus": "NOT_CHECKED"}


def page(
    member: str, items: Sequence[Any], params: Params, shown: Callable[[Any], Any], size: int = _PER_PAGE
) -> Params:
    """Return one page of ``items``, each as ``shown`` shows it; the token says where the next one begins."""
    try:
        start = int(base64.urlsafe_b64decode(params.get("NextToken", "MA==")))
        if not 0 <= start <= len(items):
            raise ValueError
    except (binascii.Error, ValueError):
        raise invalid("The pagination token is not valid.") from None
    more = {}
    if start + size < len(items):
        more = {"NextToken": base64.urlsafe_b64encode(str(start + size).encode()).decode()}
    return {member: [shown(item) for item in items[start : start + size]], **more}


def tags(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as a list."""
    return [{"Key": key, "Value": value} for key, value in values.items()]


def stack(found: Stack) -> Params:
    """Return a stack as DescribeStacks does."""
    data = found.data
    return {
        "StackId": found.id,
        "StackName": found.name,
        "ChangeSetId": data["change_set"] or None,
        "Description": data["description"] or None,
        "Parameters": parameters.shown(data["parameters"]),
        "CreationTime": data["created"],
        "DeletionTime": data["deleted"],
        "LastUpdatedTime": data["updated"],
        "RollbackConfiguration": {},
        "StackStatus": found.status,
        "StackStatusReason": data["reason"] or None,
        "DisableRollback": data["disable_rollback"],
        "NotificationARNs": [],
        "Capabilities": data["capabilities"],
        "Outputs": data["outputs"],
        "RoleARN": data["role"] or None,
        "Tags": tags(data["tags"]),
        "EnableTerminationProtection": data["protected"],
        "DriftInformation": _UNCHECKED,
    }


def stack_summary(found: Stack) -> Params:
    """Return a stack as ListStacks does."""
    data = found.data
    return {
        "StackId": found.id,
        "StackName": found.name,
        "TemplateDescription": data["description"] or None,
        "CreationTime": data["created"],
        "LastUpdatedTime": data["updated"],
        "DeletionTime": data["deleted"],
        "StackStatus": found.status,
        "StackStatusReason": data["reason"] or None,
        "DriftInformation": _UNCHECKED,
    }


def resource(found: Stack, logical: str) -> Params:
    """Return a resource as DescribeStackResources does."""
    return {
        "StackName": found.name,
        "StackId": found.id,
        **_resource(found, logical, "Timestamp"),
        "DriftInformation": _UNCHECKED_RESOURCE,
    }


def resource_detail(found: Stack, logical: str, template: Template | None) -> Params:
    """Return a resource as DescribeStackResource does."""
    metadata = (template.resources.get(logical, {}) if template else {}).get("Metadata", {})
    return {
        "StackName": found.name,
        "StackId": found.id,
        **_resource(found, logical, "LastUpdatedTimestamp"),
        "Metadata": json.dumps(metadata),
        "DriftInformation": _UNCHECKED_RESOURCE,
    }


def resource_summary(found: Stack, logical: str) -> Params:
    """Return a resource as ListStackResources does."""
    return {**_resource(found, logical, "LastUpdatedTimestamp"), "DriftInformation": _UNCHECKED_RESOURCE}


def _resource(found: Stack, logical: str, moment: str) -> Params:
    entry = found.resources[logical]
    return {
        "LogicalResourceId": logical,
        "PhysicalResourceId": entry["physical"] or None,
        "ResourceType": entry["type"],
        moment: entry["time"],
        "ResourceStatus": entry["status"],
        "ResourceStatusReason": entry["reason"] or None,
    }


def validated(template: Template) -> Params:
    """Return a template as ValidateTemplate does."""
    declared = [
        {
            "ParameterKey": name,
            "DefaultValue": _text(item.get("Default")),
            "NoEcho": parameters.hidden(item),
            "Description": item.get("Description"),
        }
        for name, item in template.parameters.items()
    ]
    return {"Parameters": declared, "Description": template.description or None, **_capabilities(template)}


def summary(template: Template) -> Params:
    """Return a template as GetTemplateSummary does."""
    declared = [
        {
            "ParameterKey": name,
            "DefaultValue": _text(item.get("Default")),
            "ParameterType": item["Type"],
            "NoEcho": parameters.hidden(item),
            "Description": item.get("Description"),
            "ParameterConstraints": {"AllowedValues": [str(_text(value)) for value in item.get("AllowedValues", [])]},
        }
        for name, item in template.parameters.items()
    ]
    metadata = template.document.get("Metadata")
    return {
        "Parameters": declared,
        "Description": template.description or None,
        **_capabilities(template),
        "ResourceTypes": sorted({item["Type"] for item in template.resources.values()}),
        "Version": str(template.document.get("AWSTemplateFormatVersion", "2010-09-09")),
        "Metadata": json.dumps(metadata) if metadata else None,
    }


def _capabilities(template: Template) -> Params:
    needed, types = checks.capabilities(template)
    if not needed:
        return {"Capabilities": []}
    reason = f"The following resource(s) require capabilities: [{', '.join(types)}]"
    return {"Capabilities": [needed], "CapabilitiesReason": reason}


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)

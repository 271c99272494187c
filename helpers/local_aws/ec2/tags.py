"""Tags: which resources have them, and what a tag may be."""

from collections.abc import Mapping, Sequence
from typing import Any

from helpers.local_aws.ec2.catalog import IMAGES
from helpers.local_aws.ec2.query import invalid
from helpers.local_aws.ec2.store import Store
from helpers.local_aws.wire import AwsError

_MOST = 50
_TYPES = {"i": "instance", "vol": "volume", "sg": "security-group", "vpc": "vpc", "subnet": "subnet"}
_NOT_FOUND = {
    "i": ("InvalidInstanceID.NotFound", "instance"),
    "vol": ("InvalidVolume.NotFound", "volume"),
    "sg": ("InvalidGroup.NotFound", "securityGroup"),
    "vpc": ("InvalidVpcID.NotFound", "vpc"),
    "subnet": ("InvalidSubnetID.NotFound", "subnet"),
}


def resource_type(resource_id: str) -> str:
    """Return the type of a resource, by its id. Raises InvalidID."""
    kind = resource_id.partition("-")[0]
    if kind == "ami" and resource_id in IMAGES:
        raise AwsError("AuthFailure", f"Not authorized for image: {resource_id}", 403)  # Amazon's, not the caller's
    if kind not in _TYPES or resource_id == kind:
        raise AwsError("InvalidID", f"The ID '{resource_id}' is not valid")
    return _TYPES[kind]


def require_resource(store: Store, resource_id: str) -> None:
    """Raise the error of its type unless there is a resource with this id."""
    kind = resource_id.partition("-")[0]
    resource_type(resource_id)
    resources: dict[str, Mapping[str, Any]] = {
        "i": store.instances,
        "vol": {each.volume.volume_id: each for each in store.instances.values() if each.holds},
        "sg": store.groups,
        "vpc": {store.network.vpc_id: True},
        "subnet": store.network.subnets,
    }
    if resource_id not in resources[kind]:
        code, noun = _NOT_FOUND[kind]
        raise AwsError(code, f"The {noun} ID '{resource_id}' does not exist")


def checked(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return tags that were asked for by key. Raises AwsError for what EC2 does not take."""
    found: dict[str, str] = {}
    for tag in tags:
        key, value = tag.get("Key", ""), tag.get("Value", "")
        if not 1 <= len(key) <= 127:
            raise invalid(f"Tag key must be between 1 and 127 characters long: '{key:.150}'")
        if len(value) > 256:
            raise invalid(f"Tag value exceeds the maximum length of 256 characters: '{key}'")
        if key.lower().startswith("aws:"):
            raise invalid("Tag keys starting with 'aws:' are reserved for internal use")
        if key in found:
            raise invalid(f"Duplicate tag key '{key}' specified.")
        found[key] = value
    return found


def of_specification(specification: Sequence[Mapping[str, Any]], kind: str) -> dict[str, str]:
    """Return the tags that a TagSpecification has for one type of resource."""
    tags: list[Mapping[str, str]] = []
    for item in specification:
        if not item.get("ResourceType"):
            raise AwsError("MissingParameter", "The request must contain the parameter TagSpecification.ResourceType")
        if item["ResourceType"] == kind:
            tags += item.get("Tag", [])
    return bounded(checked(tags))


def remove(store: Store, resource_id: str, tags: Sequence[Mapping[str, str]] | None) -> None:
    """Take tags away: all, or those of a key, and where a value is given only with that value."""
    if tags is None:
        store.tags.pop(resource_id, None)
        return
    kept = store.tags_of(resource_id)
    for tag in tags:
        if kept.get(tag["Key"]) == tag.get("Value", kept.get(tag["Key"])):
            kept.pop(tag["Key"], None)


def bounded(tags: dict[str, str]) -> dict[str, str]:
    """Return the tags of one resource. Raises TagLimitExceeded."""
    if len(tags) > _MOST:
        raise AwsError("TagLimitExceeded", f"The maximum number of Tags for a resource has been reached: {_MOST}")
    return tags

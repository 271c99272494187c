"""Tags of ECS's resources: lists of ``{"key": …, "value": …}``."""

from collections.abc import Iterable, Mapping
from typing import Any

from helpers.local_aws import tag_keys
from helpers.local_aws.ecs.errors import invalid

MOST = 50
Tags = list[dict[str, str]]


def checked(given: Iterable[Mapping[str, str]]) -> Tags:
    """Return the tags of a request. Raises InvalidParameterException for what ECS takes for no tag."""
    found: dict[str, str] = {}
    for tag in given:
        key, value = tag.get("key", ""), tag.get("value", "")
        if not 1 <= len(key) <= 128 or len(value) > 256:
            raise invalid("Tag keys have 1 to 128 characters, and tag values at most 256.")
        if key.lower().startswith("aws:"):
            raise invalid("Tag keys that begin with aws: are reserved.")
        if key in found:
            raise invalid(f"Tag keys must be unique: {key}")
        found[key] = value
    if len(found) > MOST:
        raise invalid(f"The maximum number of tags per resource is {MOST}.")
    return [{"key": key, "value": value} for key, value in found.items()]


def merged(old: Tags, new: Tags) -> Tags:
    """Return ``old`` with ``new`` over them. Raises InvalidParameterException for too many."""
    both = {tag["key"]: tag["value"] for tag in (*old, *new)}
    if len(both) > MOST:
        raise invalid(f"The maximum number of tags per resource is {MOST}.")
    return [{"key": key, "value": value} for key, value in both.items()]


def requested(given: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """Return the condition keys of tags that a request names."""
    return tag_keys.of_request({tag.get("key", ""): tag.get("value", "") for tag in given})


def of_resource(given: Tags) -> dict[str, Any]:
    """Return the condition keys of the tags that a resource has."""
    return tag_keys.of_resource({tag["key"]: tag["value"] for tag in given}, "ecs")

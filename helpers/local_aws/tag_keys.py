"""The condition keys of tags, with which policies decide."""

from collections.abc import Iterable, Mapping
from typing import Any


def of_request(tags: Mapping[str, str], keys: Iterable[str] = ()) -> dict[str, Any]:
    """Return the condition keys of the ``tags``, and the bare ``keys`` of tags, that a request names."""
    named = [*tags, *keys]
    context: dict[str, Any] = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    return context | ({"aws:TagKeys": named} if named else {})


def of_resource(tags: Mapping[str, str], service: str = "") -> dict[str, Any]:
    """Return the condition keys of the tags that a resource has; ``service``: one that has a key of its own, too."""
    owners = ("aws", service) if service else ("aws",)
    return {f"{owner}:ResourceTag/{key}": value for owner in owners for key, value in tags.items()}

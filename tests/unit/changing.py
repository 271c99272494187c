"""Requests that differ in one place."""

import copy
from collections.abc import Mapping
from typing import Any


def changed(request: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return ``request`` with ``value`` at ``path`` ("Inputs.0.Name"), or without what is there for None."""
    changed: Any = copy.deepcopy(request)
    *parents, last = path.split(".")
    place = changed
    for parent in parents:
        place = place[int(parent)] if parent.isdigit() else place.setdefault(parent, {})
    if value is None:
        place.pop(last)
    else:
        place[last] = value
    return changed

"""The filters and the pages of Describe operations."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from helpers.local_aws import pages
from helpers.local_aws.ec2.query import invalid
from helpers.local_aws.wire import AwsError, Params

Item = TypeVar("Item")
Known = Mapping[str, Callable[[Any], str | Iterable[str]]]


def select(
    items: Iterable[Item], params: Params, known: Known, tags: Callable[[Item], Mapping[str, str]]
) -> list[Item]:
    """Return the items that pass every filter: any of its values, which may have * and ?.

    ``known``: the item's value, or values, by filter name. Every kind of item has tag:<key> and tag-key.
    Raises InvalidParameterValue for another filter.
    """
    wanted = [(_name(each), each.get("Value") or []) for each in params.get("Filter", [])]
    for name, values in wanted:
        if name not in known and name != "tag-key" and not name.startswith("tag:"):
            raise invalid(f"The filter '{name}' is invalid (the embedded AWS knows {', '.join(sorted(known))}, tag:…)")
        if not values:
            raise AwsError("InvalidParameterCombination", f"The filter '{name}' has no values")
    return [item for item in items if all(_passes(item, *filter_, known, tags) for filter_ in wanted)]


def page(
    items: Sequence[Item], params: Params, given: str = "", *, low: int = 5, high: int = 1000
) -> tuple[Sequence[Item], str | None]:
    """Return one page of ``items`` and the token of the next, or None.

    ``given``: the parameter that lists ids, which cannot stand beside MaxResults. Raises AwsError.
    """
    size = params.get("MaxResults")
    if size is not None and not low <= size <= high:
        raise invalid(f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value from {low} to {high}.")
    if size is not None and given and params.get(given):
        raise AwsError(
            "InvalidParameterCombination", f"The parameter {given} cannot be used with the parameter maxResults"
        )
    try:
        found, token = pages.cut(items, params.get("NextToken"), size)
    except ValueError:
        raise AwsError("InvalidNextToken", "The token is not valid.") from None
    return found, token or None


def _name(filter_: Params) -> str:
    if not filter_.get("Name"):
        raise AwsError("MissingParameter", "The request must contain the parameter Filter.Name")
    return filter_["Name"]


def _passes(
    item: Any, name: str, values: Sequence[str], known: Known, tags: Callable[[Any], Mapping[str, str]]
) -> bool:
    found: str | Iterable[str]
    if name in known:
        found = known[name](item)
    elif name == "tag-key":
        found = tags(item)
    else:
        value = tags(item).get(name.removeprefix("tag:"))
        found = [] if value is None else [value]
    found = [found] if isinstance(found, str) else list(found)
    return any(_pattern(value).fullmatch(each) for value in values for each in found)


@lru_cache(256)
def _pattern(value: str) -> re.Pattern[str]:
    r"""Compile a filter's value: \*, \? and \\ stand for themselves."""
    parts = re.findall(r"\\[*?\\]|.", value, re.S)
    wild = {"*": ".*", "?": "."}
    return re.compile("".join(wild.get(part) or re.escape(part[-1]) for part in parts), re.S)

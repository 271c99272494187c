"""What a resource's properties look like, written down beside the code that carries them out.

A specification is one of TEXT, WHOLE, FLAG, ANY, POLICY, a list ``[specification]`` of one, a
dictionary of members, or ``Map(specification)``. Values in templates are often text where a
service wants a number: ``fit`` turns them into what the service takes.
"""

import json
from dataclasses import dataclass
from typing import Any

from helpers.local_aws.cloudformation.intrinsics import UNKNOWN, function_of, text_of
from helpers.local_aws.wire import AwsError

TEXT, WHOLE, FLAG, ANY, POLICY = "text", "whole", "flag", "any", "policy"


@dataclass(frozen=True)
class Map:
    """A mapping of free names to values of one kind."""

    values: Any


TAGS = [{"Key": TEXT, "Value": TEXT}]


class Unfit(Exception):
    """A value that its specification does not take; the text begins with the place, as CloudFormation writes it."""


def fit(specification: Any, value: Any, place: str = "#") -> Any:
    """Return ``value`` as the service takes it. Functions that are not carried out yet stay. Raises Unfit."""
    if function_of(value) or value == UNKNOWN:
        return _branches(specification, value, place)
    if isinstance(specification, dict):
        return _members(specification, value, place)
    if isinstance(specification, list):
        if not isinstance(value, list):
            raise Unfit(f"{place}: expected type: JSONArray, found: {_kind(value)}")
        return [fit(specification[0], item, f"{place}/{index}") for index, item in enumerate(value)]
    if isinstance(specification, Map):
        if not isinstance(value, dict):
            raise Unfit(f"{place}: expected type: JSONObject, found: {_kind(value)}")
        return {key: fit(specification.values, item, f"{place}/{key}") for key, item in value.items()}
    if specification == ANY:
        return value
    if specification == POLICY:
        return _policy(value, place)
    return _scalar(specification, value, place)


def text(document: Any) -> str:
    """Return a JSON document as the text that services take."""
    return document if isinstance(document, str) else json.dumps(document, separators=(",", ":"))


def _branches(specification: Any, value: Any, place: str) -> Any:
    if function_of(value) == "Fn::If" and isinstance(value["Fn::If"], list) and len(value["Fn::If"]) == 3:
        for branch in value["Fn::If"][1:]:
            if branch != {"Ref": "AWS::NoValue"}:
                fit(specification, branch, place)
    return value


def _members(specification: dict[str, Any], value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unfit(f"{place}: expected type: JSONObject, found: {_kind(value)}")
    unknown = sorted(set(value) - set(specification))
    if unknown:
        raise Unfit(f"{place}: extraneous key [{unknown[0]}] is not permitted")
    return {key: fit(specification[key], item, f"{place}/{key}") for key, item in value.items()}


def _policy(value: Any, place: str) -> Any:
    """Return a policy document as an object: templates also hold it as text."""
    if isinstance(value, str) and UNKNOWN not in value:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Unfit(f"{place}: expected a JSON document") from None
    if not isinstance(value, dict | str):
        raise Unfit(f"{place}: expected type: JSONObject, found: {_kind(value)}")
    return value


def _scalar(specification: str, value: Any, place: str) -> Any:
    try:
        found = text_of(value, specification)
    except AwsError:
        expected = {"whole": "Integer", "flag": "Boolean"}.get(specification, "String")
        raise Unfit(f"{place}: expected type: {expected}, found: {_kind(value)}") from None
    if specification == TEXT:
        return found
    if specification == FLAG:
        if found.lower() not in ("true", "false"):
            raise Unfit(f"{place}: expected type: Boolean, found: {_kind(value)}")
        return found.lower() == "true"
    try:
        number = float(found)
        if number != int(number):
            raise ValueError
    except (ValueError, OverflowError):
        raise Unfit(f"{place}: expected type: Integer, found: {_kind(value)}") from None
    return int(number)


def _kind(value: Any) -> str:
    kinds = {dict: "JSONObject", list: "JSONArray", str: "String", bool: "Boolean", int: "Integer", float: "Number"}
    return kinds.get(type(value), "Null")

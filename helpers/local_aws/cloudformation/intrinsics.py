"""Intrinsic functions: which there are, what they refer to, and what they give."""

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from helpers.local_aws.cloudformation.errors import invalid, unsupported

# What stands for a value that is known only when a change set is executed.
UNKNOWN = "{{changeSet:KNOWN_AFTER_APPLY}}"
NO_VALUE = object()

FUNCTIONS = {"Ref", "Fn::GetAtt", "Fn::Sub", "Fn::Join", "Fn::Select", "Fn::Split", "Fn::If", "Fn::FindInMap",
             "Fn::Base64", "Fn::ImportValue", "Fn::GetAZs"}  # fmt: skip
CONDITION_FUNCTIONS = {"Fn::Equals", "Fn::And", "Fn::Or", "Fn::Not", "Condition"}
_VARIABLE = re.compile(r"\$\{(!?)([^}]*)\}")


@dataclass(frozen=True)
class Scope:
    """What the functions of one template look things up in."""

    values: Mapping[str, Any]  # parameters and pseudo parameters
    mappings: Mapping[str, Any]
    conditions: Mapping[str, bool]
    reference: Callable[[str], Any]
    attribute: Callable[[str, str], Any]
    imported: Callable[[str], str]
    zones: Callable[[str], list[str]]


def function_of(value: Any) -> str:
    """Return the name of the function that ``value`` is a call of, or ""."""
    if isinstance(value, dict) and len(value) == 1:
        name = next(iter(value))
        if name == "Ref" or name.startswith("Fn::"):
            return name
    return ""


def references(value: Any) -> Iterator[tuple[str, str]]:
    """Yield what ``value`` refers to: (name, "") of Ref and Sub, (resource, attribute) of GetAtt and Sub.

    Raises AwsError for a function that is unknown or badly formed.
    """
    name = function_of(value)
    if name and name not in FUNCTIONS:
        if name in CONDITION_FUNCTIONS:
            raise invalid(f"Template error: {name} can be used in Conditions only")
        raise unsupported(f"the intrinsic function {name}")
    if name == "Ref":
        yield _text(value["Ref"], "Ref"), ""
    elif name == "Fn::GetAtt":
        yield _get_att(value)
    elif name == "Fn::Sub":
        text, variables = _sub(value)
        yield from references(variables)
        for literal, variable in _VARIABLE.findall(text):
            if not literal and variable.strip() not in variables:
                found = variable.strip().split(".", 1)
                yield found[0], found[1] if len(found) > 1 else ""
    elif isinstance(value, dict):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def named_conditions(value: Any) -> Iterator[str]:
    """Yield the conditions that Fn::If names inside ``value``."""
    if function_of(value) == "Fn::If":
        name, *branches = _arguments(value, "Fn::If", 3)
        yield _text(name, "Fn::If")
        yield from named_conditions(branches)
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from named_conditions(item)


def resolve(value: Any, scope: Scope) -> Any:
    """Return ``value`` with every function carried out; NO_VALUE where nothing is left of it."""
    name = function_of(value)
    if name:
        return _CALLS[name](value, scope)
    if isinstance(value, dict):
        found = {key: resolve(item, scope) for key, item in value.items()}
        return {key: item for key, item in found.items() if item is not NO_VALUE}
    if isinstance(value, list):
        return [item for item in (resolve(item, scope) for item in value) if item is not NO_VALUE]
    return value


def text_of(value: Any, function: str) -> str:
    """Return a scalar as CloudFormation writes it into text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise invalid(f"Template error: {function} must resolve to text, not to {_kind(value)}")


def _kind(value: Any) -> str:
    return "nothing" if value is NO_VALUE or value is None else "a list" if isinstance(value, list) else "an object"


def _text(value: Any, function: str) -> str:
    if not isinstance(value, str):
        raise invalid(f"Template error: every {function} must name something in text")
    return value


def _arguments(value: Any, name: str, count: int) -> list[Any]:
    items = value[name]
    if not isinstance(items, list) or len(items) != count:
        raise invalid(f"Template error: {name} takes a list of {count} arguments")
    return items


def _get_att(value: Any) -> tuple[str, str]:
    found = value["Fn::GetAtt"]
    if isinstance(found, str):
        found = found.split(".", 1)
    if not isinstance(found, list) or len(found) != 2 or not all(isinstance(item, str) for item in found):
        raise invalid("Template error: every Fn::GetAtt object requires two non-empty parameters, the resource name "
                      "and the resource attribute")  # fmt: skip
    return found[0], found[1]


def _sub(value: Any) -> tuple[str, dict[str, Any]]:
    found = value["Fn::Sub"]
    if isinstance(found, str):
        return found, {}
    if isinstance(found, list) and len(found) == 2 and isinstance(found[0], str) and isinstance(found[1], dict):
        return found[0], found[1]
    raise invalid("Template error: One or more Fn::Sub intrinsic functions don't specify expected arguments. Specify a "
                  "string as first argument and optionally a second one to specify a mapping of values")  # fmt: skip


def _ref(value: Any, scope: Scope) -> Any:
    name = value["Ref"]
    if name == "AWS::NoValue":
        return NO_VALUE
    return scope.values[name] if name in scope.values else scope.reference(name)


def _call_sub(value: Any, scope: Scope) -> str:
    text, variables = _sub(value)
    known = {name: resolve(item, scope) for name, item in variables.items()}

    def replace(match: re.Match[str]) -> str:
        literal, name = match.group(1), match.group(2).strip()
        if literal:
            return "${" + match.group(2) + "}"
        if name in known:
            found = known[name]
        elif name in scope.values:
            found = scope.values[name]
        elif "." in name:
            found = scope.attribute(*name.split(".", 1))
        else:
            found = scope.reference(name)
        return text_of(found, "Fn::Sub")

    return _VARIABLE.sub(replace, text)


def _call_join(value: Any, scope: Scope) -> str:
    separator, items = _arguments(value, "Fn::Join", 2)
    found = resolve(items, scope)
    if found == UNKNOWN:
        return UNKNOWN
    if not isinstance(separator, str) or not isinstance(found, list):
        raise invalid("Template error: every Fn::Join object requires two parameters, (1) a string delimiter and (2) a "
                      "list of strings to be joined")  # fmt: skip
    return separator.join(text_of(item, "Fn::Join") for item in found)


def _call_select(value: Any, scope: Scope) -> Any:
    index, items = _arguments(value, "Fn::Select", 2)
    index, found = resolve(index, scope), resolve(items, scope)
    if found == UNKNOWN or (isinstance(found, list) and any(UNKNOWN in str(item) for item in found)):
        return UNKNOWN
    if not isinstance(found, list) or not str(index).isdigit() or int(index) >= len(found):
        raise invalid(f"Template error: Fn::Select cannot select nonexistent value at index {index}")
    return found[int(index)]


def _call_split(value: Any, scope: Scope) -> Any:
    separator, text = _arguments(value, "Fn::Split", 2)
    found = text_of(resolve(text, scope), "Fn::Split")
    if not isinstance(separator, str) or not separator:
        raise invalid("Template error: Fn::Split requires a delimiter")
    return UNKNOWN if UNKNOWN in found else found.split(separator)


def _call_if(value: Any, scope: Scope) -> Any:
    name, then, otherwise = _arguments(value, "Fn::If", 3)
    return resolve(then if scope.conditions[name] else otherwise, scope)


def _call_find(value: Any, scope: Scope) -> Any:
    keys = [text_of(resolve(item, scope), "Fn::FindInMap") for item in _arguments(value, "Fn::FindInMap", 3)]
    found: Any = scope.mappings
    for key in keys:
        if not isinstance(found, dict) or key not in found:
            raise invalid(f"Template error: Unable to get mapping for {'::'.join(keys)}")
        found = found[key]
    return found


def _call_base64(value: Any, scope: Scope) -> str:
    text = text_of(resolve(value["Fn::Base64"], scope), "Fn::Base64")
    return UNKNOWN if UNKNOWN in text else base64.b64encode(text.encode()).decode()


def _call_zones(value: Any, scope: Scope) -> list[str]:
    region = text_of(resolve(value["Fn::GetAZs"], scope), "Fn::GetAZs")
    return scope.zones(region or scope.values["AWS::Region"])


_CALLS: dict[str, Callable[[Any, Scope], Any]] = {
    "Ref": _ref,
    "Fn::GetAtt": lambda value, scope: scope.attribute(*_get_att(value)),
    "Fn::Sub": _call_sub,
    "Fn::Join": _call_join,
    "Fn::Select": _call_select,
    "Fn::Split": _call_split,
    "Fn::If": _call_if,
    "Fn::FindInMap": _call_find,
    "Fn::Base64": _call_base64,
    "Fn::ImportValue": lambda value, scope: scope.imported(
        text_of(resolve(value["Fn::ImportValue"], scope), "Fn::ImportValue")
    ),
    "Fn::GetAZs": _call_zones,
}

"""The values of a template's parameters: given, kept or default, held against what the template says of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import regex

from helpers.local_aws.cloudformation.errors import invalid, unsupported
from helpers.local_aws.cloudformation.template import Template

_KEYS = {"Type", "Default", "Description", "NoEcho", "AllowedValues", "AllowedPattern", "ConstraintDescription",
         "MinLength", "MaxLength", "MinValue", "MaxValue"}  # fmt: skip
_FROM_STORE = "AWS::SSM::Parameter::Value<"
_PATTERN_SECONDS = 1.0
_VALUE_LIMIT = 4096  # bytes

# The types whose values must exist, by what EC2 calls them.
EXISTING = {
    "AWS::EC2::Subnet::Id": "subnet",
    "AWS::EC2::VPC::Id": "vpc",
    "AWS::EC2::SecurityGroup::Id": "security-group",
    "AWS::EC2::Image::Id": "image",
    "AWS::EC2::AvailabilityZone::Name": "zone",
}
_PLAIN = {"String", "Number", "CommaDelimitedList", "List<Number>", "List<String>", "AWS::SSM::Parameter::Name"}

# "value"; "resolved" of one that came from the parameter store; "hidden" of one that is not to be shown.
Stored = dict[str, str]


@dataclass(frozen=True)
class Lookups:
    """What parameters are looked up with, as the caller.

    ``stored(names)`` returns the values of SSM parameters that exist; ``missing(kind, ids)``
    returns those of the EC2 ids that do not exist. Both raise AwsError.
    """

    stored: Callable[[Sequence[str]], dict[str, str]]
    missing: Callable[[str, Sequence[str]], list[str]]


def check(template: Template) -> None:
    """Raise AwsError for a declaration that CloudFormation does not take."""
    for name, declared in template.parameters.items():
        unknown = sorted(set(declared) - _KEYS)
        if unknown:
            raise invalid(f"Invalid template parameter property '{unknown[0]}'")
        allowed = declared.get("AllowedValues", [])
        if not isinstance(allowed, list) or not all(isinstance(item, str | int | float) for item in allowed):
            raise invalid(f"Template format error: AllowedValues of parameter {name} must be a list of texts.")
        kind = declared.get("Type")
        if not isinstance(kind, str):
            raise invalid(f"Template format error: Every Parameters object must contain a Type: {name}.")
        plain = kind.removeprefix(_FROM_STORE).removesuffix(">") if kind.startswith(_FROM_STORE) else kind
        single = plain.removeprefix("List<").removesuffix(">")
        if plain not in _PLAIN and single not in EXISTING:
            if kind.startswith("AWS::") or single.startswith("AWS::"):
                raise unsupported(f"the parameter type {kind} (parameter {name})")
            raise invalid(f"Template format error: Unrecognized parameter type: {kind}")


def settle(
    template: Template, given: Sequence[Mapping[str, Any]], kept: Mapping[str, Stored], lookups: Lookups
) -> dict[str, Stored]:
    """Return every parameter's value. Raises AwsError (ValidationError), or what the lookups raise."""
    asked = {item.get("ParameterKey", ""): item for item in given}
    if len(asked) != len(given):
        raise invalid("Parameters: a key is given more than once")
    unknown = sorted(set(asked) - set(template.parameters))
    if unknown:
        raise invalid(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    values, lacking = {}, []
    for name, declared in template.parameters.items():
        item = asked.get(name, {})
        if item.get("UsePreviousValue"):
            if "ParameterValue" in item:
                raise invalid(f"Invalid input for parameter key {name}. Cannot specify usePreviousValue as true and "
                              "non empty value for a parameter")  # fmt: skip
            if name in kept:
                values[name] = kept[name]["value"]
            else:
                lacking.append(name)
        elif "ParameterValue" in item:
            values[name] = item["ParameterValue"]
        elif "Default" in declared:
            values[name] = _default(name, declared["Default"])
        else:
            lacking.append(name)
    if lacking:
        raise invalid(f"Parameters: [{', '.join(lacking)}] must have values")
    for name, value in values.items():
        _check_value(name, template.parameters[name], value)
    settled = {
        name: {"value": value, **({"hidden": "true"} if hidden(template.parameters[name]) else {})}
        for name, value in values.items()
    }
    _look_up(template, settled, lookups)
    return settled


def reference(declared: Mapping[str, Any], stored: Stored) -> Any:
    """Return what Ref gives for a parameter: text, or a list."""
    text = stored.get("resolved", stored["value"])
    kind = declared["Type"]
    if "List<" in kind or "CommaDelimitedList" in kind:
        return [item.strip() for item in text.split(",")] if text else []
    return text


def hidden(declared: Mapping[str, Any]) -> bool:
    """Whether a parameter's value is not to be shown."""
    return str(declared.get("NoEcho", "false")).lower() == "true"


def shown(settled: Mapping[str, Stored]) -> list[dict[str, str]]:
    """Return parameters as an API answer shows them: without the values of NoEcho."""
    found = []
    for name, stored in settled.items():
        secret = "hidden" in stored
        item = {"ParameterKey": name, "ParameterValue": "****" if secret else stored["value"]}
        if "resolved" in stored:
            item["ResolvedValue"] = "****" if secret else stored["resolved"]
        found.append(item)
    return found


def _default(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise invalid(f"Template format error: Every Default member must be a string: {name}.")
    return str(value)


def _check_value(name: str, declared: Mapping[str, Any], value: str) -> None:
    if len(value.encode()) > _VALUE_LIMIT:
        raise invalid(f"Parameter '{name}' must be at most {_VALUE_LIMIT} bytes")
    problem = _problem(name, declared, value)
    if problem:
        described = declared.get("ConstraintDescription")
        raise invalid(f"Parameter {name} failed to satisfy constraint: {described}" if described else problem)


def _problem(name: str, declared: Mapping[str, Any], value: str) -> str:
    kind = declared["Type"]
    listed = kind.startswith("List<") or kind == "CommaDelimitedList"
    parts = [part.strip() for part in value.split(",")] if listed else [value]
    if kind in ("Number", "List<Number>") and not all(_is_number(part) for part in parts):
        return f"Parameter '{name}' must be a number"
    allowed = declared.get("AllowedValues")
    if allowed is not None and not all(part in [_default(name, item) for item in allowed] for part in parts):
        return f"Parameter '{name}' must be one of AllowedValues"
    pattern = declared.get("AllowedPattern")
    if pattern is not None and not all(_matches(name, pattern, part) for part in parts):
        return f"Parameter '{name}' must match pattern {pattern}"
    for key, words, wrong in (
        ("MinLength", "must contain at least", lambda limit: len(value) < limit),
        ("MaxLength", "must contain at most", lambda limit: len(value) > limit),
    ):
        if key in declared and wrong(_limit(name, key, declared)):
            return f"Parameter '{name}' {words} {declared[key]} characters"
    for key, words, wrong in (
        ("MinValue", "not less than", lambda limit: float(value) < limit),
        ("MaxValue", "not greater than", lambda limit: float(value) > limit),
    ):
        if key in declared and kind == "Number" and wrong(_limit(name, key, declared)):
            return f"Parameter '{name}' must be a number {words} {declared[key]}"
    return ""


def _limit(name: str, key: str, declared: Mapping[str, Any]) -> float:
    if not _is_number(str(declared[key])):
        raise invalid(f"Template format error: {key} of parameter {name} must be a number")
    return float(declared[key])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip().lower() not in ("nan", "inf", "-inf", "+inf", "infinity", "-infinity")


def _matches(name: str, pattern: Any, value: str) -> bool:
    try:
        return regex.fullmatch(str(pattern), value, timeout=_PATTERN_SECONDS) is not None
    except (regex.error, TimeoutError):
        raise invalid(f"Template format error: AllowedPattern of parameter {name} cannot be matched") from None


def _look_up(template: Template, settled: dict[str, Stored], lookups: Lookups) -> None:
    """Fetch what comes from the parameter store, and make sure that ids exist."""
    fetched = [name for name in settled if template.parameters[name]["Type"].startswith(_FROM_STORE)]
    if fetched:
        wanted = sorted({settled[name]["value"] for name in fetched})
        found = lookups.stored(wanted)
        absent = [key for key in wanted if key not in found]
        if absent:
            raise invalid(f"Unable to fetch parameters [{','.join(absent)}] from parameter store for this account.")
        for name in fetched:
            settled[name]["resolved"] = found[settled[name]["value"]]
    for name, stored in settled.items():
        kind = template.parameters[name]["Type"]
        plain = kind.removeprefix(_FROM_STORE).removesuffix(">") if kind.startswith(_FROM_STORE) else kind
        single = plain.removeprefix("List<").removesuffix(">")
        if single in EXISTING:
            text = stored.get("resolved", stored["value"])
            ids = [item.strip() for item in text.split(",")] if plain != single else [text]
            absent = lookups.missing(EXISTING[single], ids)
            if absent:
                raise invalid(f"Parameter validation failed: parameter value {absent[0]} for parameter name {name} "
                              "does not exist")  # fmt: skip

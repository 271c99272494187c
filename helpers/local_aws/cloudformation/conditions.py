"""Conditions: evaluated once, before any resource is looked at."""

from collections.abc import Mapping
from typing import Any

from helpers.local_aws.cloudformation.errors import invalid
from helpers.local_aws.cloudformation.intrinsics import CONDITION_FUNCTIONS, Scope, resolve
from helpers.local_aws.cloudformation.template import Template


def evaluate(template: Template, values: Mapping[str, Any]) -> dict[str, bool]:
    """Return whether each condition holds. Raises AwsError for one that is wrong, or depends on itself."""
    found: dict[str, bool] = {}

    def forbid(*_: str) -> Any:
        raise invalid("Template format error: Conditions can only refer to parameters and mappings")

    scope = Scope(values, template.mappings, found, forbid, forbid, forbid, forbid)

    def named(name: Any, waiting: tuple[str, ...]) -> bool:
        if not isinstance(name, str) or name not in template.conditions:
            raise invalid(f"Template format error: Unresolved condition dependency {name} in the Conditions block")
        if name in waiting:
            raise invalid(f"Template format error: Found circular condition dependency with {', '.join(waiting)}")
        if name not in found:
            found[name] = holds(template.conditions[name], (*waiting, name))
        return found[name]

    def holds(value: Any, waiting: tuple[str, ...]) -> bool:
        function = next(iter(value)) if isinstance(value, dict) and len(value) == 1 else ""
        if function not in CONDITION_FUNCTIONS:
            raise invalid(f"Template format error: a condition must be one of {', '.join(sorted(CONDITION_FUNCTIONS))}")
        if function == "Condition":
            return named(value[function], waiting)
        arguments = _arguments(function, value[function])
        if function == "Fn::Equals":
            left, right = (_comparable(resolve(item, scope)) for item in arguments)
            return left == right
        answers = [holds(item, waiting) for item in arguments]
        if function == "Fn::Not":
            return not answers[0]
        return all(answers) if function == "Fn::And" else any(answers)

    for name in template.conditions:
        named(name, ())
    return found


def _arguments(function: str, arguments: Any) -> list[Any]:
    least, most = {"Fn::Equals": (2, 2), "Fn::Not": (1, 1)}.get(function, (2, 10))
    if not isinstance(arguments, list) or not least <= len(arguments) <= most:
        raise invalid(f"Template error: {function} takes a list of {least} to {most} arguments")
    return arguments


def _comparable(value: Any) -> Any:
    """Return a scalar as text: "3" equals 3 in a template."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, list | dict | str) else str(value)

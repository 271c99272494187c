"""Check the hyper-parameters that an execution was given, and name its training job.

A wrong value is found here, in milliseconds, and not by an instance that was started for it.

Environment: JOB_PREFIX, with which the names of jobs begin.

IAM actions: logs of the function itself, and nothing else.
"""

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

DIGITS = 16  # of an execution's hash; a training job's name has 63 characters in all
LONGEST_PREFIX = 63 - 1 - DIGITS


class BadHyperParameters(Exception):
    """Values that cannot be trained with; the message names each, and why."""


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Return the job's name and hyper-parameters for ``event["execution"]``, an ARN, and ``event["input"]``."""
    return plan(event, os.environ["JOB_PREFIX"])


def plan(event: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return ``{"job_name", "hyper_parameters"}``, the values as strings, which SageMaker wants.

    All hyper-parameters are there, those that the execution's input does not name with their defaults. A job's
    name can be used once in the life of an account: it comes from the execution's ARN, so that this function,
    invoked twice for one execution, gives the same name. Raises BadHyperParameters.
    """
    given = (event["input"] or {}).get("hyper_parameters", {})
    if not isinstance(given, Mapping):
        raise BadHyperParameters(f"hyper_parameters is {given!r}: it has to be an object of names and values")
    problems = [f"{name!r} is none of {', '.join(CHECKS)}" for name in given if name not in CHECKS]
    values = {}
    for name, (default, check, expected) in CHECKS.items():
        value = given.get(name, default)
        if check(value):
            values[name] = str(value)
        else:
            problems.append(f"{name} is {value!r}: it has to be {expected}")
    if problems:
        raise BadHyperParameters("; ".join(problems))
    digest = hashlib.sha256(event["execution"].encode()).hexdigest()[:DIGITS]
    return {"job_name": f"{prefix[:LONGEST_PREFIX].rstrip('-')}-{digest}", "hyper_parameters": values}


def _number(value: Any) -> float:
    """Return a number, or a text that is one, as a float; anything else as nan, which no check lets through."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        return float(value)
    except ValueError:
        return math.nan


def _whole(value: Any, least: int) -> bool:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    return type(value) is int and value >= least


Check = tuple[Any, Callable[[Any], bool], str]

# Of each hyper-parameter: its default, what makes a value right, and how to say so.
CHECKS: dict[str, Check] = {
    "C": (1.0, lambda value: 0 < _number(value) < math.inf, "a number above 0"),
    "class-weight": ("balanced", lambda value: value in ("balanced", "none"), "balanced or none"),
    "max-iter": (1000, lambda value: _whole(value, 1), "a whole number above 0"),
    "test-size": (0.2, lambda value: 0 < _number(value) < 1, "a number between 0 and 1"),
    "seed": (0, lambda value: _whole(value, 0), "a whole number, 0 or above"),
}

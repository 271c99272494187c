"""Rules for single values: each takes a YAML node, and returns the value or raises InvalidError."""

import math
import re
from pathlib import PurePosixPath

import yaml

from .limits import instance_types, limit
from .reader import InvalidError, hint
from .yaml_nodes import has_control_characters, kind, quote

_IMAGE = re.compile(
    r"[0-9]{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/"
    r"[a-z0-9]+([._/-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OPTION = re.compile(r"--[A-Za-z0-9][A-Za-z0-9_.-]*")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")  # YAML 1.1 takes 1e-3 for text


def text(node: yaml.Node) -> str:
    """Return text, which a number or a truth value is not."""
    if kind(node) == "text":
        return node.value
    advice = ": put it in quotes" if kind(node) not in ("a list", "a mapping", "nothing") else ""
    raise InvalidError(f"must be text, not {kind(node)}{advice}")


def comment(node: yaml.Node) -> str:
    """Return any one value as the text that stands in the file."""
    if not isinstance(node, yaml.ScalarNode):
        raise InvalidError(f"must be text, not {kind(node)}")
    if has_control_characters(node.value):
        raise InvalidError("holds control characters")
    return node.value


def argument(node: yaml.Node) -> str:
    """Return an argument of a job. A number stays as it is written: 0.10 is not 0.1."""
    return _word(node, limit("ContainerArgument", "max"))


def environment_value(node: yaml.Node) -> str:
    """Return the value of an environment variable of a job."""
    return _word(node, limit("ProcessingEnvironmentValue", "max"))


def environment_name(name: str) -> None:
    """Check the name of an environment variable of a job."""
    if not _NAME.fullmatch(name) or len(name) > limit("ProcessingEnvironmentKey", "max"):
        raise InvalidError(f"{quote(name)} is not a name of letters, digits and _ that begins with a letter or _")


def option(name: str) -> None:
    """Check the name of an option that a sweep sets."""
    if not _OPTION.fullmatch(name):
        bare = name.strip(" -=")
        advice = f" Did you mean {quote('--' + bare)}?" if _OPTION.fullmatch(f"--{bare}") else ""
        raise InvalidError(f"{quote(name)} is not an option: it must begin with '--' and be one word.{advice}")


def truth(node: yaml.Node) -> bool:
    """Return true or false."""
    if kind(node) != "true or false":
        advice = ", without quotes" if node.value in ("true", "false") else ""
        raise InvalidError(f"must be true or false{advice}, not {_shown(node)}")
    return node.value.lower() in ("true", "yes", "on")


def dollars(node: yaml.Node) -> float:
    """Return an amount above 0."""
    amount = number(node)
    if amount <= 0:
        raise InvalidError(f"must be an amount of US dollars above 0, not {node.value}")
    return amount


def number(node: yaml.Node) -> float:
    """Return a finite number."""
    if not isinstance(node, yaml.ScalarNode) or kind(node) not in ("a number", "text"):
        raise InvalidError(f"must be a number, not {kind(node)}")
    plain = node.style is None and _NUMBER.fullmatch(node.value)
    if not plain or not math.isfinite(float(node.value)):
        advice = ", without quotes" if node.style and _NUMBER.fullmatch(node.value) else ""
        raise InvalidError(f"must be a number{advice}, not {_shown(node)}")
    return float(node.value)


def whole_number(node: yaml.Node, least: int, most: int) -> int:
    """Return a whole number from ``least`` to ``most``."""
    if not isinstance(node, yaml.ScalarNode):
        raise InvalidError(f"must be a whole number, not {kind(node)}")
    if not node.tag.endswith(":int") or not re.fullmatch(r"-?(0|[1-9][0-9]{0,9})", node.value):
        advice = ", without quotes" if node.tag.endswith(":str") and node.value.isdecimal() else ""
        raise InvalidError(f"must be a whole number from {least} to {most}{advice}, not {quote(node.value)}")
    if not least <= int(node.value) <= most:
        raise InvalidError(f"must be from {least} to {most}, not {int(node.value)}")
    return int(node.value)


def within(node: yaml.Node, shape: str) -> int:
    """Return a whole number within SageMaker's limits for ``shape``."""
    return whole_number(node, limit(shape, "min"), limit(shape, "max"))


def instance_type(node: yaml.Node) -> str:
    """Return an instance type that processing jobs take."""
    value, known = text(node), instance_types()
    if value not in known:
        raise InvalidError(f"{quote(value)} is not an instance type for processing jobs.{hint(value, known)}")
    return value


def image_uri(node: yaml.Node) -> str:
    """Return the URI of an image in Amazon ECR."""
    value = text(node)
    if not _IMAGE.fullmatch(value) or len(value) > limit("ImageUri", "max"):
        raise InvalidError(
            f"{quote(value)} is not an image in Amazon ECR (ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY:TAG)"
        )
    return value


def inner_path(value: str) -> PurePosixPath:
    """Return a path, or a pattern of paths, that stays inside the repository."""
    if "\\" in value or value != value.strip() or has_control_characters(value) or "\n" in value:
        raise InvalidError(f"{quote(value)} must be a path with forward slashes and no spaces around it")
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts:
        raise InvalidError(f"{quote(value)} must be a path inside the repository, from its root, without '..'")
    return path


def _word(node: yaml.Node, longest: int) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise InvalidError(f"must be text, not {kind(node)}")
    if kind(node) in ("true or false", "nothing"):
        raise InvalidError(f'YAML reads {node.value or "an empty item"} as {kind(node)}: quote it: "{node.value}"')
    if len(node.value) > longest:
        raise InvalidError(f"has {len(node.value)} characters; SageMaker takes at most {longest}")
    if has_control_characters(node.value) or "\n" in node.value or "\r" in node.value:
        raise InvalidError("holds a line end or a control character, which SageMaker does not take")
    return node.value


def _shown(node: yaml.Node) -> str:
    return quote(node.value) if isinstance(node, yaml.ScalarNode) else kind(node)

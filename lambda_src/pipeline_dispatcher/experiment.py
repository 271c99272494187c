"""Validate an ``experiment.yml``: every problem at once, each with its line.

Nothing here talks to AWS. Limits and names of instance types come from
botocore's model of SageMaker, so that what passes here passes there.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import PurePosixPath
from typing import Any

import yaml
from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape
from yaml_nodes import FILE_NAME, UnreadableError, has_control_characters, kind, line_of, quote, read_nodes

STEPS = ("preprocess", "train", "predict", "evaluate")
PIPELINE_KEYS = ("stateMachineArn", "input_data_uri")
STEP_KEYS = ("code", "ImageUri", "InstanceCount", "InstanceType", "VolumeSizeInGB")
CODE_ROOT = "/opt/ml/processing/input/code"
DEFAULT_ARGS = ("--log-level", "INFO")  # SageMaker refuses an empty list of ContainerArguments
MAX_PROBLEMS = 100

_ARN = re.compile(r"arn:(aws[a-z-]*):states:([a-z0-9-]*):([0-9]*):stateMachine:([A-Za-z0-9_-]{1,80})")
_IMAGE = re.compile(
    r"[0-9]{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/"
    r"[a-z0-9]+([._/-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)


@dataclass(frozen=True)
class Place:
    """Where runs may happen: one bucket, and the state machines of one prefix in one account and region."""

    partition: str
    region: str
    account: str
    prefix: str
    bucket: str


@dataclass
class Experiment:
    """What an experiment.yml asks for, as far as it is valid.

    ``values`` has the file's structure; ``lines`` has the line of each value by
    its path, such as ``train.InstanceType``.
    """

    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def problem(self, path: str, text: str) -> str:
        """Return ``text`` as a problem of the value at ``path``."""
        return f"{FILE_NAME}:{self.lines[path]}: {path}: {text}"


class _InvalidError(Exception):
    """One value breaks a rule; the message says which."""


class _TooManyError(Exception):
    """So much is wrong that more messages would not help."""


def read_experiment(content: bytes, files: Collection[str], skipped: Mapping[str, str], place: Place) -> Experiment:
    """Return the experiment in ``content``, with a problem for each rule that it breaks.

    ``files`` are the paths of the repository at the same commit that are copied
    to the run, ``skipped`` those that are not, with the reason: each step's
    ``code`` is checked against them. The experiment may run only if
    ``problems`` is empty.
    """
    result = Experiment()
    try:
        root = read_nodes(content)
        _Reader(result, files, skipped, place).read(root)
    except UnreadableError as error:
        result.problems.append(str(error))
    except _TooManyError:
        result.problems.append(f"{FILE_NAME}: there are more problems; these are the first {MAX_PROBLEMS}")
    return result


def closest(word: str, known: Collection[str]) -> str | None:
    """Return the one of ``known`` that ``word`` most looks like, if any; upper and lower case count as the same."""
    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(word[:200].lower(), list(by_lower), n=1)
    return by_lower[close[0]] if close else None


def hint(word: str, known: Collection[str]) -> str:
    """Return " Did you mean …?" for the closest of ``known``, or nothing."""
    match = closest(word, known)
    return f" Did you mean {quote(match)}?" if match else ""


class _Reader:
    def __init__(self, result: Experiment, files: Collection[str], skipped: Mapping[str, str], place: Place) -> None:
        self.result, self.files, self.skipped, self.place = result, files, skipped, place

    def read(self, root: yaml.MappingNode) -> None:
        top = self.mapping(root, "", ("pipeline", *STEPS), ("comment",))
        values = self.result.values
        values["comment"] = self.value(top["comment"], "comment", _comment) if "comment" in top else ""
        if "pipeline" in top:
            keys = self.mapping(top["pipeline"], "pipeline", PIPELINE_KEYS)
            rules = {"stateMachineArn": self.state_machine, "input_data_uri": self.input_data}
            values["pipeline"] = {key: self.value(node, f"pipeline.{key}", rules[key]) for key, node in keys.items()}
        for step in STEPS:
            if step in top:
                values[step] = self.step(top[step], step)

    def step(self, node: yaml.Node, step: str) -> dict[str, Any]:
        keys = self.mapping(node, step, STEP_KEYS, ("args",))
        rules = {
            "code": self.code,
            "ImageUri": _image_uri,
            "InstanceCount": lambda value: _whole_number(value, "ProcessingInstanceCount"),
            "InstanceType": _instance_type,
            "VolumeSizeInGB": lambda value: _whole_number(value, "ProcessingVolumeSizeInGB"),
        }
        values = {key: self.value(value, f"{step}.{key}", rules[key]) for key, value in keys.items() if key in rules}
        values["args"] = (self.args(keys["args"], step) if "args" in keys else []) or list(DEFAULT_ARGS)
        return values

    def fail(self, node: yaml.Node, path: str, text: str) -> None:
        if len(self.result.problems) >= MAX_PROBLEMS:
            raise _TooManyError
        self.result.problems.append(f"{FILE_NAME}:{line_of(node)}: {path + ': ' if path else ''}{text}")

    def value(self, node: yaml.Node, path: str, rule: Callable[[yaml.Node], Any]) -> Any:
        """Apply ``rule`` to ``node``; where it is broken, note the problem and return None."""
        self.result.lines[path] = line_of(node)
        try:
            return rule(node)
        except _InvalidError as invalid:
            self.fail(node, path, str(invalid))
            return None

    def mapping(
        self, node: yaml.Node, path: str, required: Collection[str], optional: Collection[str] = ()
    ) -> dict[str, yaml.Node]:
        """Return the known keys of a mapping; note unknown, repeated and missing ones."""
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, path, f"must hold the keys {', '.join(required)}, but holds {kind(node)}")
            return {}
        known = (*required, *optional)
        found: dict[str, yaml.Node] = {}
        first_lines: dict[str, int] = {}
        meant: set[str | None] = set()
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":merge"):
                self.fail(key_node, path, f"a key must be a plain word, not {_key_kind(key_node)}")
                continue
            key = key_node.value
            if key in first_lines:
                self.fail(key_node, path, f"key {quote(key)} appears twice, first on line {first_lines[key]}")
            elif key in known:
                found[key] = value_node
            else:
                meant.add(closest(key, known))
                self.fail(key_node, path, f"unknown key {quote(key)}.{hint(key, known)}")
            first_lines.setdefault(key, line_of(key_node))
        for name in required:
            if name not in found and name not in meant:  # a misspelt key is not missing as well
                self.fail(node, path, f"key '{name}' is missing")
        return found

    def args(self, node: yaml.Node, step: str) -> list[str]:
        path, most = f"{step}.args", _limit("ContainerArguments", "max")
        self.result.lines[path] = line_of(node)
        if not isinstance(node, yaml.SequenceNode):
            self.fail(node, path, f'must be a list such as ["--test-size", "0.2"], not {kind(node)}')
            return []
        if len(node.value) > most:
            self.fail(node, path, f"has {len(node.value)} items; SageMaker takes at most {most}")
            return []
        return [self.value(item, f"{path}[{index}]", _argument) for index, item in enumerate(node.value)]

    def code(self, node: yaml.Node) -> str:
        text = _text(node)
        if "\\" in text or text != text.strip() or has_control_characters(text) or "\n" in text:
            raise _InvalidError(f"{quote(text)} must be a path with forward slashes and no spaces around it")
        path = PurePosixPath(text)
        if path.is_absolute() or ".." in path.parts:
            raise _InvalidError(f"{quote(text)} must be a path inside the repository, from its root, without '..'")
        if path.suffix != ".py":
            raise _InvalidError(f"{quote(text)} must be a Python file, ending in .py.{hint(text, self.scripts())}")
        if str(path) in self.skipped:
            raise _InvalidError(f"{quote(text)} is not copied to the run: {self.skipped[str(path)]}")
        if str(path) not in self.files:
            raise _InvalidError(f"there is no file {quote(text)} in this commit.{hint(str(path), self.scripts())}")
        entry, longest = f"{CODE_ROOT}/{path}", _limit("ContainerEntrypointString", "max")
        if len(entry) > longest:
            raise _InvalidError(
                f"the path in the container is longer than the {longest} characters that SageMaker takes"
            )
        return str(path)

    def scripts(self) -> list[str]:
        return [name for name in self.files if name.endswith(".py")]

    def state_machine(self, node: yaml.Node) -> str:
        text = _text(node)
        found = _ARN.fullmatch(text)
        if not found:
            raise _InvalidError(
                f"{quote(text)} is not the ARN of a state machine (arn:aws:states:REGION:ACCOUNT:stateMachine:NAME)"
            )
        partition, region, account, name = found.groups()
        if (partition, region) != (self.place.partition, self.place.region):
            raise _InvalidError(
                f"the state machine must be in the repository's region, {self.place.region}, not {region}"
            )
        if account != self.place.account:
            raise _InvalidError("the state machine must be in the repository's account")
        if not name.startswith(f"{self.place.prefix}-"):
            raise _InvalidError(f"a push may start only state machines named {self.place.prefix}-…, not {quote(name)}")
        return text

    def input_data(self, node: yaml.Node) -> str:
        text = _text(node)
        longest = _limit("S3Uri", "max")
        bucket, _, key = text.removeprefix("s3://").partition("/")
        if not text.startswith("s3://") or has_control_characters(text) or not key or len(text) > longest:
            raise _InvalidError(f"{quote(text)} is not the URI of an object (s3://{self.place.bucket}/…)")
        if bucket != self.place.bucket:
            raise _InvalidError(
                f"the data must be in s3://{self.place.bucket}/, not in {quote(bucket)}: "
                "the role of the jobs reads this bucket only"
            )
        if key.endswith("/"):
            raise _InvalidError(f"{quote(text)} is a folder; name the object itself")
        return text


def _text(node: yaml.Node) -> str:
    if kind(node) == "text":
        return node.value
    advice = ": put it in quotes" if kind(node) not in ("a list", "a mapping", "nothing") else ""
    raise _InvalidError(f"must be text, not {kind(node)}{advice}")


def _comment(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _InvalidError(f"must be text, not {kind(node)}")
    if has_control_characters(node.value):
        raise _InvalidError("holds control characters")
    return node.value


def _argument(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _InvalidError(f"must be text, not {kind(node)}")
    if kind(node) in ("true or false", "nothing"):
        raise _InvalidError(f'YAML reads {node.value or "an empty item"} as {kind(node)}: quote it: "{node.value}"')
    longest = _limit("ContainerArgument", "max")
    if len(node.value) > longest:
        raise _InvalidError(f"has {len(node.value)} characters; SageMaker takes at most {longest}")
    if has_control_characters(node.value) or "\n" in node.value or "\r" in node.value:
        raise _InvalidError("holds a line end or a control character, which SageMaker does not take")
    return node.value  # a number stays as it is written: 0.10 is not 0.1


def _whole_number(node: yaml.Node, shape: str) -> int:
    least, most = _limit(shape, "min"), _limit(shape, "max")
    if not isinstance(node, yaml.ScalarNode):
        raise _InvalidError(f"must be a whole number, not {kind(node)}")
    if not node.tag.endswith(":int") or not re.fullmatch(r"-?(0|[1-9][0-9]{0,8})", node.value):
        advice = ", without quotes" if node.tag.endswith(":str") and node.value.isdecimal() else ""
        raise _InvalidError(f"must be a whole number from {least} to {most}{advice}, not {quote(node.value)}")
    number = int(node.value)
    if not least <= number <= most:
        raise _InvalidError(f"must be from {least} to {most}, not {number}")
    return number


def _instance_type(node: yaml.Node) -> str:
    text, known = _text(node), sagemaker_shape("ProcessingInstanceType").metadata["enum"]
    if text not in known:
        raise _InvalidError(f"{quote(text)} is not an instance type for processing jobs.{hint(text, known)}")
    return text


def _image_uri(node: yaml.Node) -> str:
    text = _text(node)
    if not _IMAGE.fullmatch(text) or len(text) > _limit("ImageUri", "max"):
        raise _InvalidError(
            f"{quote(text)} is not an image in Amazon ECR (ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY:TAG)"
        )
    return text


def _key_kind(node: yaml.Node) -> str:
    return "the merge key '<<'" if isinstance(node, yaml.ScalarNode) else kind(node)


@cache
def sagemaker_shape(name: str) -> Shape:
    """Return the shape ``name`` of botocore's model of SageMaker."""
    return _sagemaker().shape_for(name)


@cache
def _sagemaker() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("sagemaker", "service-2"), "sagemaker")


def _limit(shape: str, bound: str) -> int:
    return sagemaker_shape(shape).metadata[bound]

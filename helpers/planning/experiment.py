"""Validate an ``experiment.yml``: every problem at once, each with its line.

Nothing here talks to AWS. Limits and names of instance types are those of
botocore's model of SageMaker, so that what passes here passes there.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from . import rules
from .limits import limit
from .patterns import matches
from .reader import MAX_PROBLEMS, Experiment, InvalidError, Reader, TooManyError, closest, hint
from .sweep_section import SweepSection
from .yaml_nodes import FILE_NAME, UnreadableError, has_control_characters, kind, quote, read_nodes

__all__ = ["Experiment", "Place", "closest", "read_experiment"]

STEPS = ("preprocess", "train", "predict", "evaluate")
PIPELINE_KEYS = ("stateMachineArn", "input_data_uri")
STEP_KEYS = ("code", "ImageUri", "InstanceCount", "InstanceType", "VolumeSizeInGB")
STEP_OPTIONS = ("args", "cache", "environment", "files")
CODE_ROOT = "/opt/ml/processing/input/code"
DEFAULT_ARGS = ("--log-level", "INFO")  # SageMaker refuses an empty list of ContainerArguments
MAX_PATTERNS = 100

_ARN = re.compile(r"arn:(aws[a-z-]*):states:([a-z0-9-]*):([0-9]*):stateMachine:([A-Za-z0-9_-]{1,80})")


@dataclass(frozen=True)
class Place:
    """Where runs may happen: one bucket, and the state machines of one prefix in one account and region."""

    partition: str
    region: str
    account: str
    prefix: str
    bucket: str


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
        _ExperimentReader(result, files, skipped, place).read(root)
    except UnreadableError as error:
        result.problems.append(str(error))
    except TooManyError:
        result.problems.append(f"{FILE_NAME}: there are more problems; these are the first {MAX_PROBLEMS}")
    return result


def plan_only(experiment: Experiment) -> list[str]:
    """Return a problem for each part of ``experiment`` that only a state machine which takes a plan can run."""
    paths = ["sweep", *(f"{step}.{name}" for step in STEPS for name in ("environment", "files"))]
    used = [path for path in paths if path in experiment.lines]
    if (experiment.values.get("pipeline") or {}).get("input_data_uri", "").endswith("/"):
        used.insert(0, "pipeline.input_data_uri")
    why = "needs a state machine that takes a plan (tagged input=plan); pipeline.stateMachineArn names another kind"
    named = {"pipeline.input_data_uri": "a data set stored as parts (the URI ends in '/')"}
    return [experiment.problem(path, f"{named.get(path, 'this')} {why}") for path in used]


class _ExperimentReader(Reader):
    def __init__(self, result: Experiment, files: Collection[str], skipped: Mapping[str, str], place: Place) -> None:
        super().__init__(result)
        self.files, self.skipped, self.place = files, skipped, place

    def read(self, root: yaml.MappingNode) -> None:
        top = self.mapping(root, "", ("pipeline", *STEPS), ("comment", "cache", "budget", "sweep"))
        values = self.result.values
        values["comment"] = self.value(top["comment"], "comment", rules.comment) if "comment" in top else ""
        values["cache"] = self.value(top["cache"], "cache", rules.truth) if "cache" in top else True
        values["budget"] = self.value(top["budget"], "budget", rules.dollars) if "budget" in top else None
        if "pipeline" in top:
            keys = self.mapping(top["pipeline"], "pipeline", PIPELINE_KEYS)
            checks = {"stateMachineArn": self.state_machine, "input_data_uri": self.input_data}
            values["pipeline"] = {key: self.value(node, f"pipeline.{key}", checks[key]) for key, node in keys.items()}
        for step in STEPS:
            if step in top:
                values[step] = self.step(top[step], step)
        values["sweep"] = None
        if "sweep" in top:
            self.result.lines["sweep"] = top["sweep"].start_mark.line + 1
            section = SweepSection(self, STEPS)
            sweep = values["sweep"] = section.read(top["sweep"])
            if sweep:
                section.check(sweep, {step: values[step]["args"] for step in STEPS if step in values})

    def step(self, node: yaml.Node, step: str) -> dict[str, Any]:
        keys = self.mapping(node, step, STEP_KEYS, STEP_OPTIONS)
        checks = {
            "code": self.code,
            "ImageUri": rules.image_uri,
            "InstanceCount": lambda value: rules.within(value, "ProcessingInstanceCount"),
            "InstanceType": rules.instance_type,
            "VolumeSizeInGB": lambda value: rules.within(value, "ProcessingVolumeSizeInGB"),
            "cache": rules.truth,
        }
        values = {key: self.value(value, f"{step}.{key}", checks[key]) for key, value in keys.items() if key in checks}
        values["args"] = (self.args(keys["args"], step) if "args" in keys else []) or list(DEFAULT_ARGS)
        if "environment" in keys:
            values["environment"] = self.environment(keys["environment"], f"{step}.environment")
        if "files" in keys:
            path, example = f"{step}.files", '["config/*.json"]'
            patterns = self.items(keys["files"], path, example, MAX_PATTERNS)
            values["files"] = [self.value(item, f"{path}[{n}]", self.pattern) for n, item in enumerate(patterns)]
        return values

    def args(self, node: yaml.Node, step: str) -> list[str]:
        path, most = f"{step}.args", limit("ContainerArguments", "max")
        items = self.items(node, path, '["--test-size", "0.2"]', most)
        return [self.value(item, f"{path}[{index}]", rules.argument) for index, item in enumerate(items)]

    def environment(self, node: yaml.Node, path: str) -> dict[str, str]:
        self.result.lines[path] = node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, path, f'must hold variables such as LEVEL: "2", not {kind(node)}')
            return {}
        most = limit("ProcessingEnvironmentMap", "max")
        if len(node.value) > most:
            self.fail(node, path, f"has {len(node.value)} variables; SageMaker takes at most {most}")
            return {}
        found = {}
        for key, value in self.pairs(node, path):
            self.value(key, path, lambda name: rules.environment_name(name.value))
            found[key.value] = self.value(value, f"{path}.{key.value}", rules.environment_value)
        self.result.lines[path] = node.start_mark.line + 1
        return found

    def pattern(self, node: yaml.Node) -> str:
        """Return a pattern of paths that some file of the commit matches."""
        text = rules.text(node)
        pattern = str(rules.inner_path(text))
        if not any(matches(pattern, path) for path in self.files):
            raise InvalidError(f"no file of this commit matches {quote(text)}.{hint(pattern, self.files)}")
        return pattern

    def code(self, node: yaml.Node) -> str:
        text = rules.text(node)
        path = rules.inner_path(text)
        if path.suffix != ".py":
            raise InvalidError(f"{quote(text)} must be a Python file, ending in .py.{hint(text, self.scripts())}")
        if str(path) in self.skipped:
            raise InvalidError(f"{quote(text)} is not copied to the run: {self.skipped[str(path)]}")
        if str(path) not in self.files:
            raise InvalidError(f"there is no file {quote(text)} in this commit.{hint(str(path), self.scripts())}")
        entry, longest = f"{CODE_ROOT}/{path}", limit("ContainerEntrypointString", "max")
        if len(entry) > longest:
            raise InvalidError(
                f"the path in the container is longer than the {longest} characters that SageMaker takes"
            )
        return str(path)

    def scripts(self) -> list[str]:
        return [name for name in self.files if name.endswith(".py")]

    def state_machine(self, node: yaml.Node) -> str:
        text = rules.text(node)
        found = _ARN.fullmatch(text)
        if not found:
            raise InvalidError(
                f"{quote(text)} is not the ARN of a state machine (arn:aws:states:REGION:ACCOUNT:stateMachine:NAME)"
            )
        partition, region, account, name = found.groups()
        if (partition, region) != (self.place.partition, self.place.region):
            raise InvalidError(
                f"the state machine must be in the repository's region, {self.place.region}, not {region}"
            )
        if account != self.place.account:
            raise InvalidError("the state machine must be in the repository's account")
        if not name.startswith(f"{self.place.prefix}-"):
            raise InvalidError(f"a push may start only state machines named {self.place.prefix}-…, not {quote(name)}")
        return text

    def input_data(self, node: yaml.Node) -> str:
        """Return the URI of one object, or, ending in "/", of a data set stored as parts."""
        text = rules.text(node)
        longest = limit("S3Uri", "max")
        bucket, _, key = text.removeprefix("s3://").partition("/")
        if not text.startswith("s3://") or has_control_characters(text) or not key or len(text) > longest:
            raise InvalidError(f"{quote(text)} is not the URI of an object (s3://{self.place.bucket}/…)")
        if bucket != self.place.bucket:
            raise InvalidError(
                f"the data must be in s3://{self.place.bucket}/, not in {quote(bucket)}: "
                "the role of the jobs reads this bucket only"
            )
        return text

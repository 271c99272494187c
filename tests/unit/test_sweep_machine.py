"""The sweep's state machine, against its golden file, two validators and the models of what it calls.

After a wanted change: PYTHONPATH=. .venv/bin/python tests/unit/test_sweep_machine.py writes the file anew.
"""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.loaders import Loader
from statelint.linter import Linter
from test_pipeline_definition import as_text, unknown_members

from helpers import pipeline, sweeps
from helpers.local_aws.states.definition import problems
from helpers.planning import costs

GOLDEN = Path(__file__).with_name("sweep_definition.json")
ARNS = {
    "job_role_arn": "arn:aws:iam::123456789012:role/demo-exp-jobs",
    "recorder_arn": "arn:aws:lambda:us-east-1:123456789012:function:demo-exp-run-recorder",
}
DEFINITION = sweeps.state_machine(**ARNS, tags={"workshop": "demo-exp"})
MAPS = [*pipeline.STEPS, *map(sweeps.distributed_name, pipeline.STEPS)]


def inner(name: str) -> dict[str, Any]:
    """Return the states that deal with an item, by the part of their name after the Map's."""
    states = DEFINITION["States"][name]["ItemProcessor"]["States"]
    return {state.removeprefix(f"{name}: "): value for state, value in states.items()}


def tasks(value: Any = DEFINITION) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if value.get("Type") == "Task":
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from tasks(entry)


def test_the_definition_is_the_golden_file() -> None:
    assert as_text(DEFINITION) == GOLDEN.read_text()


def test_an_independent_validator_finds_nothing() -> None:
    known_to_aws_alone = copy.deepcopy(DEFINITION)
    for name in map(sweeps.distributed_name, pipeline.STEPS):  # fields of AWS that the open specification has not
        state = known_to_aws_alone["States"][name]
        assert state.pop("Label") in pipeline.STEPS
        assert state["ItemReader"]["ReaderConfig"].pop("InputType") == "JSON"
    assert Linter.validate(known_to_aws_alone) == []


def test_the_embedded_aws_finds_nothing() -> None:
    assert problems(GOLDEN.read_text()) == []


def test_nothing_in_it_is_of_one_experiment() -> None:
    text = GOLDEN.read_text()
    assert "s3://" not in text
    assert "ml." not in text
    assert ".dkr.ecr." not in text


@pytest.mark.parametrize("number", [0, 41, -1])
def test_more_at_once_than_an_inline_map_can_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="1 to 40"):
        sweeps.state_machine(**ARNS, tags={}, max_concurrency=number)


def test_both_ways_go_through_every_step_to_the_record() -> None:
    for first in (MAPS[0], MAPS[4]):
        way, name = [], first
        while name != "record":
            way.append(name)
            name = DEFINITION["States"][name]["Next"]
        assert way == MAPS[MAPS.index(first) :][:4]


def test_both_ways_deal_with_an_item_in_the_same_way() -> None:
    for step in pipeline.STEPS:
        inline, distributed = inner(step), inner(sweeps.distributed_name(step))
        assert json.dumps(distributed).replace(f"{step} (distributed): ", f"{step}: ") == json.dumps(inline)


def test_every_call_has_the_parameters_of_its_api() -> None:
    seen = set()
    for task in tasks():
        if task["Resource"] == sweeps.INVOKE:
            continue  # its Payload is the recorder's event
        service, operation = task["Resource"].removeprefix("arn:aws:states:::").removeprefix("aws-sdk:").split(":")
        operation = operation.removesuffix(".sync")
        model = Loader().load_service_model(service, "service-2")
        [shape] = [
            one["input"]["shape"]
            for name, one in model["operations"].items()
            if xform_name(name).replace("_", "") == operation.lower()
        ]
        parameters = dict(task["Parameters"])
        parameters.pop("Body", None)  # any JSON
        assert list(unknown_members(parameters, shape, model["shapes"])) == []
        seen.add(operation)
    assert seen == {"createProcessingJob", "describeProcessingJob", "listObjectsV2", "putObject"}


@pytest.mark.parametrize("name", MAPS)
def test_every_task_of_an_item_ends_in_a_time_and_its_errors_are_caught(name: str) -> None:
    for state, task in inner(name).items():
        if task["Type"] == "Task":
            assert task["TimeoutSeconds"] <= pipeline.TASK_SECONDS, state
            assert task["Retry"], state
            assert task["Catch"][-1]["ErrorEquals"] == ["States.ALL"], state


@pytest.mark.parametrize("name", MAPS)
def test_what_an_item_leaves_is_small(name: str) -> None:
    ends = [state for state in inner(name).values() if state.get("End")]
    assert len(ends) == 5
    for state in ends:
        result = state.get("Result") or state["ResultSelector"]
        assert set(result) == {"status"}
    assert DEFINITION["States"][name]["ResultPath"] is None


def test_the_usual_transitions_are_those_that_an_estimate_counts() -> None:
    states = inner("train")
    assert way(states, {}) == ["marker", "to do?", "input", "input there?", "job", "done"]
    assert len(way(states, {})) == costs.ITEM_TRANSITIONS["run"]
    assert len(way(states, {"job": "failure"})) == costs.ITEM_TRANSITIONS["failed"]
    assert len(way(states, {"input there?": "skipped"})) == costs.ITEM_TRANSITIONS["skipped"]
    assert len(way(states, {"to do?": "cached"})) == costs.ITEM_TRANSITIONS["cached"]
    outer = DEFINITION["States"]
    found = {DEFINITION["StartAt"]: "preprocess", "any variant finished?": "finished"}
    assert len(way(outer, found, DEFINITION["StartAt"])) == costs.EXECUTION_TRANSITIONS


def way(states: dict[str, Any], turns: dict[str, str], start: str = "marker") -> list[str]:
    """Return the states from ``start`` to an end, by Next and Default, but for ``turns``."""
    name, passed = start, [start]
    while not states[name].get("End") and states[name]["Type"] != "Succeed":
        following = turns.get(name) or states[name].get("Next") or states[name]["Default"]
        name = following.rpartition(": ")[2]
        passed.append(name)
    return passed


if __name__ == "__main__":
    GOLDEN.write_text(as_text(DEFINITION))

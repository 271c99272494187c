"""The state machine of notebook 02, against its golden file and two validators.

After a wanted change: PYTHONPATH=. .venv/bin/python tests/unit/test_pipeline_definition.py writes the file anew.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader
from statelint.linter import Linter

from helpers import pipeline
from helpers.local_aws.states.definition import problems

GOLDEN = Path(__file__).with_name("pipeline_definition.json")
JOB_ROLE = "arn:aws:iam::123456789012:role/demo-exp-jobs"
DEFINITION = pipeline.state_machine(job_role_arn=JOB_ROLE, tags={"workshop": "demo-exp"})


def as_text(definition: dict[str, Any]) -> str:
    return json.dumps(definition, indent=2) + "\n"


def test_the_definition_is_the_golden_file() -> None:
    assert as_text(DEFINITION) == GOLDEN.read_text()


def test_an_independent_validator_finds_nothing() -> None:
    assert Linter.validate(json.loads(GOLDEN.read_text())) == []


def test_the_embedded_aws_finds_nothing() -> None:
    assert problems(GOLDEN.read_text()) == []


def test_the_parameters_are_those_of_create_processing_job() -> None:
    service = Loader().load_service_model("sagemaker", "service-2")
    for step in pipeline.STEPS:
        parameters = DEFINITION["States"][step]["Parameters"]
        assert list(unknown_members(parameters, "CreateProcessingJobRequest", service["shapes"])) == []


def unknown_members(value: Any, shape: str, shapes: dict[str, Any]) -> Any:
    """Yield the members of ``value`` that the API does not know. A name that ends in .$ is a path to its value."""
    known = shapes[shape]
    if known["type"] == "list":
        for entry in value:
            yield from unknown_members(entry, known["member"]["shape"], shapes)
    elif known["type"] == "structure":
        for name, inner in value.items():
            member = name.removesuffix(".$")
            if member not in known["members"]:
                yield f"{shape}.{member}"
            elif name == member:
                yield from unknown_members(inner, known["members"][member]["shape"], shapes)


def test_nothing_in_it_is_of_one_experiment() -> None:
    text = GOLDEN.read_text()
    assert "s3://" not in text
    assert "ml." not in text
    assert ".dkr.ecr." not in text


@pytest.mark.parametrize(("step", "earlier"), pipeline.STEPS.items())
def test_a_step_reads_the_code_and_the_outputs_of_earlier_steps(step: str, earlier: tuple[str, ...]) -> None:
    inputs = DEFINITION["States"][step]["Parameters"]["ProcessingInputs"]
    places = {entry["InputName"]: entry["S3Input"]["LocalPath"] for entry in inputs}
    root = "/opt/ml/processing/input"
    data = {"data": root}  # a single object arrives under its own name
    assert places == {"code": f"{root}/code"} | {name: data.get(name, f"{root}/{name}") for name in earlier}


def test_every_error_of_a_step_ends_in_the_state_that_reports_it() -> None:
    for step in pipeline.STEPS:
        assert DEFINITION["States"][step]["Catch"] == [
            {"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "failed"}
        ]
    assert DEFINITION["States"]["failed"]["Type"] == "Fail"


if __name__ == "__main__":
    GOLDEN.write_text(as_text(DEFINITION))

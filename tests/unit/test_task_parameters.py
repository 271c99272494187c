"""Parameters of tasks in PascalCase, and the names that the services give them."""

import datetime as dt
import json
from typing import Any

import pytest
from statelint.linter import Linter
from unit_machines import BATCH, FARGATE, TRAIN, machine, task

from helpers.local_aws.states import parameters, services
from helpers.local_aws.states.definition import problems
from helpers.local_aws.states.moments import iso, milliseconds
from helpers.local_aws.wire import service_model

RUN_TASK = service_model("ecs").operation_model("RunTask")
SUBMIT = service_model("batch").operation_model("SubmitJob")


def test_members_are_translated_and_keys_of_maps_are_not() -> None:
    given = {
        "JobName": "a",
        "JobQueue": "q",
        "JobDefinition": "d",
        "Parameters": {"Part": "1", "part": "2"},
        "ContainerOverrides": {"Environment": [{"Name": "A", "Value": "b"}], "Command": ["Name"]},
        "Tags": {"Name": "Value"},
    }
    sent = parameters.to_service(SUBMIT.input_shape, given)
    assert sent == {
        "jobName": "a",
        "jobQueue": "q",
        "jobDefinition": "d",
        "parameters": {"Part": "1", "part": "2"},
        "containerOverrides": {"environment": [{"name": "A", "value": "b"}], "command": ["Name"]},
        "tags": {"Name": "Value"},
    }
    assert parameters.from_service(SUBMIT.input_shape, sent, iso) == given


def test_hyper_parameters_keep_their_names() -> None:
    shape = service_model("sagemaker").operation_model("CreateTrainingJob").input_shape
    given = {"HyperParameters": {"max_depth": "3", "Alpha": "1"}, "TrainingJobName": "j"}
    assert parameters.to_service(shape, given) == given


def test_times_are_numbers_where_a_service_gives_them_as_such_or_as_moments() -> None:
    shape = service_model("ecs").operation_model("DescribeTasks").output_shape
    moment = dt.datetime(2026, 11, 22, 12, 0, 0, 250_000, tzinfo=dt.UTC)
    for given in (moment, moment.timestamp()):
        told = parameters.from_service(shape, {"tasks": [{"createdAt": given, "cpu": "256"}]}, milliseconds)
        assert told == {"Tasks": [{"CreatedAt": 1795348800250, "Cpu": "256"}]}


@pytest.mark.parametrize(("given", "problem"), [
    ({"TaskDefinition": "d", "cluster": "c"}, 'The field "cluster" is not supported by Step Functions'),
    ({"TaskDefinition": "d", "Count": 2}, 'The field "Count" is not supported by Step Functions'),
    ({"TaskDefinition": "d", "StartedBy.$": "$.me"}, 'The field "StartedBy" is not supported by Step Functions'),
    ({"TaskDefinition.$": "$.d", "Overrides": {"ContainerOverrides": [{"name": "c"}]}},
     'The field "name" is not supported by Step Functions'),
    ({"Cluster": "c"}, "The field 'TaskDefinition' is required but was missing"),
])  # fmt: skip
def test_what_step_functions_does_not_take_is_named(given: dict[str, Any], problem: str) -> None:
    assert list(parameters.problems(RUN_TASK.input_shape, given, services.TASKS.refused)) == [problem]
    found = problems(machine(S=task(f"{services.TASKS.resource}.sync", given)))
    assert found == [f"SCHEMA_VALIDATION_FAILED: {problem} at /States/S/Parameters"]


def test_what_a_path_selects_is_left_to_the_execution() -> None:
    given = {"TaskDefinition.$": "$.definition", "Overrides.$": "$.overrides", "Tags": [{"Key.$": "$.k", "Value": "v"}]}
    assert not list(parameters.problems(RUN_TASK.input_shape, given, services.TASKS.refused))


@pytest.mark.parametrize("state", [
    *(task(resource, FARGATE) for resource in services.TASKS.resources),
    *(task(resource, BATCH) for resource in services.JOBS.resources),
    *(task(resource, TRAIN) for resource in services.TRAINING.resources),
    {"Type": "Task", "Resource": "arn:aws:states:us-east-1:123456789012:activity:work", "TimeoutSeconds": 60,
     "HeartbeatSeconds": 10, "End": True},
])  # fmt: skip
def test_definitions_with_work_at_services_are_taken_here_and_by_statelint(state: dict[str, Any]) -> None:
    definition = machine(S=state)
    assert problems(definition) == []
    assert Linter().validate(json.loads(definition)) == []


def test_a_heartbeat_has_to_be_shorter_than_the_timeout() -> None:
    state = {**task(f"{services.TASKS.resource}.waitForTaskToken", FARGATE), "TimeoutSeconds": 5, "HeartbeatSeconds": 5}
    assert "HeartbeatSeconds must be smaller than TimeoutSeconds" in problems(machine(S=state))[0]

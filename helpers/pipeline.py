"""The experiment pipeline as a state machine: four SageMaker Processing jobs, one after the other."""

from collections.abc import Mapping
from typing import Any

from helpers.planning.plan import INPUTS

STEPS = INPUTS  # by step, in their order: what each reads besides the code
RESOURCE = "arn:aws:states:::sagemaker:createProcessingJob.sync"
JOB_SECONDS = 3600  # a job is stopped after an hour: the limit of what a mistake can cost
TASK_SECONDS = JOB_SECONDS + 900  # the job's own limit, and the minutes that an instance takes to start
ROOT = "/opt/ml/processing"


def state_machine(*, job_role_arn: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the definition in the Amazon States Language.

    Every value that an experiment chooses is read from the execution's input, which
    the dispatcher makes from experiment.yml; nothing in here is of one experiment.
    """
    names = list(STEPS)
    states: dict[str, Any] = {}
    for step, following in zip(names, [*names[1:], None], strict=True):
        states[step] = processing_state(step, following, job_role_arn=job_role_arn, tags=tags)
    # The caught error goes on as the execution's own, so that the console and the notebook show the reason.
    states["failed"] = {"Type": "Fail", "ErrorPath": "$.error.Error", "CausePath": "$.error.Cause"}
    return {
        "Comment": "Runs one experiment: preprocess, train, predict, evaluate",
        "StartAt": names[0],
        "TimeoutSeconds": 5 * JOB_SECONDS,
        "States": states,
    }


def processing_state(step: str, following: str | None, *, job_role_arn: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the state that runs one step and waits for it."""
    return {
        "Type": "Task",
        "Resource": RESOURCE,
        "TimeoutSeconds": TASK_SECONDS,
        "Parameters": _job(step, job_role_arn, tags),
        "ResultPath": None,
        "Retry": [
            {
                # Throttling, and a quota that another job is using up: both pass.
                "ErrorEquals": ["SageMaker.AmazonSageMakerException", "SageMaker.ResourceLimitExceededException"],
                "IntervalSeconds": 2,
                "MaxAttempts": 3,
                "BackoffRate": 2.0,
            }
        ],
        "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "failed"}],
        **({"Next": following} if following else {"End": True}),
    }


def _job(step: str, job_role_arn: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of CreateProcessingJob. A retry needs a new name: job names are unique for ever."""
    return {
        "ProcessingJobName.$": f"States.Format('{{}}-{step}-{{}}', $$.Execution.Name, $$.State.RetryCount)",
        "RoleArn": job_role_arn,
        "AppSpecification": {
            "ImageUri.$": _value(step, "ImageUri"),
            "ContainerEntrypoint.$": _value(step, "ContainerEntrypoint"),
            "ContainerArguments.$": _value(step, "args"),
        },
        "ProcessingResources": {
            "ClusterConfig": {
                f"{name}.$": _value(step, name) for name in ("InstanceCount", "InstanceType", "VolumeSizeInGB")
            }
        },
        "ProcessingInputs": [
            _input("code", _value(step, "code"), f"{ROOT}/input/code"),
            *(_step_input(source) for source in STEPS[step]),
        ],
        "ProcessingOutputConfig": output_to(_value(step, "output_data_uri")),
        **job_settings(tags),
    }


def output_to(uri_path: str) -> dict[str, Any]:
    """Return where a job's output goes: all of it, once the job has ended, to the URI at ``uri_path``."""
    place = {"S3Uri.$": uri_path, "LocalPath": f"{ROOT}/output", "S3UploadMode": "EndOfJob"}
    return {"Outputs": [{"OutputName": "output", "S3Output": place}]}


def job_settings(tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters that every job has: the time limit and the tags."""
    return {
        "StoppingCondition": {"MaxRuntimeInSeconds": JOB_SECONDS},
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }


def _step_input(source: str) -> dict[str, Any]:
    if source == "data":
        return _input("data", _value("pipeline", "input_data_uri"), f"{ROOT}/input")
    return _input(source, _value(source, "output_data_uri"), f"{ROOT}/input/{source}")


def _input(name: str, uri_path: str, local_path: str) -> dict[str, Any]:
    return {
        "InputName": name,
        "S3Input": {
            "S3Uri.$": uri_path,
            "LocalPath": local_path,
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "FullyReplicated",
        },
    }


def _value(section: str, key: str) -> str:
    return f"$$.Execution.Input['{section}']['{key}']"

"""The sweep as a state machine: for each step a Map over the plan's jobs, none of them computed twice.

Its execution's input is a plan, made by the dispatcher (helpers/planning/plan.py).
A job's output is complete when its marker is there, which this machine writes
last; so it looks for the marker first, and a job that was killed halfway has none.
"""

from collections.abc import Mapping
from typing import Any

from helpers import pipeline
from helpers.planning.costs import CONCURRENCY
from helpers.states_language import INVOKE, LAMBDA_ERRORS, MOST_AT_ONCE, READ, retry

LIST = "arn:aws:states:::aws-sdk:s3:listObjectsV2"
PUT = "arn:aws:states:::aws-sdk:s3:putObject"
DESCRIBE = "arn:aws:states:::aws-sdk:sagemaker:describeProcessingJob"
RUN_SECONDS = 24 * 3600
LONGEST_PAUSE = 32  # seconds between two looks at a job of another run
LATE_LOOKS = 10  # looks, 2 seconds apart, for the marker of a job that has completed


def state_machine(
    *, job_role_arn: str, recorder_arn: str, tags: Mapping[str, str], max_concurrency: int = CONCURRENCY
) -> dict[str, Any]:
    """Return the definition in the Amazon States Language.

    ``max_concurrency``: jobs of a step that run at once, 1 to 40. Raises
    ValueError for another number. A plan that fits into an execution's input
    goes through inline Maps; a bigger one is read from S3 by Distributed Maps.
    """
    if not 1 <= max_concurrency <= MOST_AT_ONCE:
        raise ValueError(f"max_concurrency is 1 to {MOST_AT_ONCE}, not {max_concurrency}")
    job = {"RoleArn": job_role_arn, **pipeline.job_settings(tags)}
    names = list(pipeline.STEPS)
    mode = "inline or distributed"
    states: dict[str, Any] = {
        mode: {
            "Type": "Choice",
            "Choices": [{"Variable": "$.mode", "StringEquals": "inline", "Next": names[0]}],
            "Default": distributed_name(names[0]),
        }
    }
    for step, following in zip(names, [*names[1:], None], strict=True):
        common = {"MaxConcurrency": max_concurrency, "ResultPath": None}
        states[step] = {
            "Type": "Map",
            "ItemsPath": f"$.steps.{step}",
            "ItemProcessor": {"ProcessorConfig": {"Mode": "INLINE"}, **item_processor(step, job)},
            **common,
            "Next": following or "record",
        }
    for step, following in zip(names, [*names[1:], None], strict=True):
        states[distributed_name(step)] = {
            "Type": "Map",
            "Label": step,
            "ItemReader": {
                "Resource": READ,
                "ReaderConfig": {"InputType": "JSON"},
                "Parameters": {"Bucket.$": "$.bucket", "Key.$": f"States.Format('{{}}/jobs/{step}.json', $.run)"},
            },
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                **item_processor(distributed_name(step), job),
            },
            "ToleratedFailurePercentage": 100,
            **common,
            "Next": distributed_name(following) if following else "record",
        }
    return {
        "Comment": "Runs the jobs of a plan that are not done yet, each once, and records the run",
        "StartAt": mode,
        "TimeoutSeconds": RUN_SECONDS,
        "States": {**states, **_ending(recorder_arn)},
    }


def distributed_name(step: str) -> str:
    """Return the name of the state that reads a step's jobs from S3."""
    return f"{step} (distributed)"


def item_processor(name: str, job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the states that deal with one job of the plan. All errors are caught, and all results are small.

    ``name`` goes before the names of the states: a name may appear only once in a whole definition.
    """

    def to(state: str) -> str:
        return f"{name}: {state}"

    failed = {"Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": to("failure")}]}
    return {
        "StartAt": to("marker"),
        "States": {
            to("marker"): {**_look("$.marker", "$.marked"), **failed, "Next": to("to do?")},
            to("to do?"): {
                "Type": "Choice",
                "Choices": [
                    {"Variable": "$.marked.count", "NumericGreaterThan": 0, "Next": to("cached")},
                    {"Variable": "$.needs", "StringEquals": "", "Next": to("job")},
                ],
                "Default": to("input"),
            },
            to("input"): {**_look("$.needs", "$.ready"), **failed, "Next": to("input there?")},
            to("input there?"): {
                "Type": "Choice",
                "Choices": [{"Variable": "$.ready.count", "NumericEquals": 0, "Next": to("skipped")}],
                "Default": to("job"),
            },
            to("job"): {
                **_job(job),
                "Catch": [
                    # A job of this name has been: of another run that needs the same output.
                    {
                        "ErrorEquals": ["SageMaker.ResourceInUseException"],
                        "ResultPath": "$.error",
                        "Next": to("name taken"),
                    },
                    *failed["Catch"],
                ],
                "Next": to("done"),
            },
            to("done"): {**_mark(), **failed, "End": True},
            **_other_job(to, failed),
            to("failure"): {
                **_report_failure(),
                "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": None, "Next": to("failed")}],
                "End": True,
            },
            to("cached"): _ended("cached"),
            to("skipped"): _ended("skipped"),
            to("failed"): _ended("failed"),
        },
    }


def _other_job(to: Any, failed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the states that wait for another run's job of the same key, and run our own if that came to nothing.

    A completed job has its marker a moment later, when its run hears of the end. If
    none comes, or its output is gone, the job's name is of no use any more.
    """
    first_pause = {"seconds": 1, "late": 0}
    running = {"Or": [{"Variable": "$.other.status", "StringEquals": name} for name in ("InProgress", "Stopping")]}
    return {
        to("name taken"): {"Type": "Pass", "Result": first_pause, "ResultPath": "$.pause", "Next": to("pause")},
        to("pause"): {"Type": "Wait", "SecondsPath": "$.pause.seconds", "Next": to("other job")},
        to("other job"): {
            "Type": "Task",
            "Resource": DESCRIBE,
            "TimeoutSeconds": 300,
            "Parameters": {"ProcessingJobName.$": "$.job"},
            "ResultSelector": {"status.$": "$.ProcessingJobStatus"},
            "ResultPath": "$.other",
            "Retry": [retry("States.TaskFailed", seconds=2, attempts=3)],
            **failed,
            "Next": to("other job runs?"),
        },
        to("other job runs?"): {
            "Type": "Choice",
            "Choices": [
                {
                    "And": [running, {"Variable": "$.pause.seconds", "NumericLessThan": LONGEST_PAUSE}],
                    "Next": to("longer pause"),
                },
                {**running, "Next": to("pause")},
            ],
            "Default": to("marker by now"),
        },
        to("longer pause"): {
            "Type": "Pass",
            "Parameters": {"seconds.$": "States.MathAdd($.pause.seconds, $.pause.seconds)", "late.$": "$.pause.late"},
            "ResultPath": "$.pause",
            "Next": to("pause"),
        },
        to("marker by now"): {**_look("$.marker", "$.marked"), **failed, "Next": to("marked by now?")},
        to("marked by now?"): {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.marked.count", "NumericGreaterThan": 0, "Next": to("cached")},
                {
                    "And": [
                        {"Variable": "$.other.status", "StringEquals": "Completed"},
                        {"Variable": "$.pause.late", "NumericLessThan": LATE_LOOKS},
                    ],
                    "Next": to("output"),
                },
            ],
            "Default": to("second name?"),
        },
        to("output"): {
            **_look("States.Format('steps/{}/{}/output/', $.step, $.key)", "$.output"),
            **failed,
            "Next": to("output there?"),
        },
        to("output there?"): {
            "Type": "Choice",
            "Choices": [{"Variable": "$.output.count", "NumericEquals": 0, "Next": to("second name?")}],
            "Default": to("late marker"),
        },
        to("late marker"): {
            "Type": "Pass",
            "Parameters": {"seconds": 2, "late.$": "States.MathAdd($.pause.late, 1)"},
            "ResultPath": "$.pause",
            "Next": to("pause"),
        },
        to("second name?"): {
            "Type": "Choice",
            "Choices": [{"Variable": "$.job", "StringEqualsPath": "$.again", "Next": to("failure")}],
            "Default": to("second name"),
        },
        to("second name"): {"Type": "Pass", "InputPath": "$.again", "ResultPath": "$.job", "Next": to("job")},
    }


def _job(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task that runs the item's job and waits for it; only its name and times are kept."""
    return {
        "Type": "Task",
        "Resource": pipeline.RESOURCE,
        "TimeoutSeconds": pipeline.TASK_SECONDS,
        "Parameters": {
            "ProcessingJobName.$": "$.job",
            "AppSpecification": {
                f"{name}.$": f"$.{name}" for name in ("ImageUri", "ContainerEntrypoint", "ContainerArguments")
            },
            "Environment.$": "$.Environment",
            "ProcessingResources": {
                "ClusterConfig": {
                    f"{name}.$": f"$.{name}" for name in ("InstanceCount", "InstanceType", "VolumeSizeInGB")
                }
            },
            "ProcessingInputs.$": "$.ProcessingInputs",
            "ProcessingOutputConfig": pipeline.output_to("$.OutputUri"),
            **job,
        },
        "ResultSelector": {
            "created.$": "$.CreationTime",
            "started.$": "$.ProcessingStartTime",
            "ended.$": "$.ProcessingEndTime",
        },
        "ResultPath": "$.times",
        "Retry": [
            # A quota of instances that other jobs are using up: they will end, in an hour at the latest.
            retry("SageMaker.ResourceLimitExceededException", seconds=30, attempts=60, most=120),
            # Throttling.
            retry("SageMaker.AmazonSageMakerException", seconds=2, attempts=3),
        ],
    }


def _look(path: str, result: str) -> dict[str, Any]:
    """Return the task that tells whether an object is there; HeadObject would fail where it is not."""
    return {
        "Type": "Task",
        "Resource": LIST,
        "TimeoutSeconds": 300,
        "Parameters": {"Bucket.$": "$.bucket", "Prefix.$": path, "MaxKeys": 1},
        "ResultSelector": {"count.$": "$.KeyCount"},
        "ResultPath": result,
        "Retry": [retry("States.TaskFailed", seconds=1, attempts=3)],
    }


def _mark() -> dict[str, Any]:
    body = {f"{name}.$": f"$.{name}" for name in ("key", "step", "job", "run")}
    body |= {f"{name}.$": f"$.times.{name}" for name in ("created", "started", "ended")}
    return _put("$.marker", body | {"instances.$": "$.InstanceCount", "type.$": "$.InstanceType"}, "run")


def _report_failure() -> dict[str, Any]:
    body = {f"{name}.$": f"$.{name}" for name in ("key", "step", "job")}
    return _put("$.failure", body | {"error.$": "$.error.Error", "cause.$": "$.error.Cause"}, "failed")


def _put(key: str, body: dict[str, Any], status: str) -> dict[str, Any]:
    return {
        "Type": "Task",
        "Resource": PUT,
        "TimeoutSeconds": 300,
        "Parameters": {"Bucket.$": "$.bucket", "Key.$": key, "Body": body, "ContentType": "application/json"},
        "ResultSelector": {"status": status},
        "Retry": [retry("States.TaskFailed", seconds=1, attempts=3)],
    }


def _ended(status: str) -> dict[str, Any]:
    return {"Type": "Pass", "Result": {"status": status}, "End": True}


def _ending(recorder_arn: str) -> dict[str, Any]:
    """Return the states that record the run. An execution fails when not one variant came to its metrics."""
    return {
        "record": {
            "Type": "Task",
            "Resource": INVOKE,
            "TimeoutSeconds": 900,
            "Parameters": {
                "FunctionName": recorder_arn,
                "Payload": {
                    "bucket.$": "$.bucket",
                    "run.$": "$.run",
                    "execution.$": "$$.Execution.Id",
                    "started.$": "$$.Execution.StartTime",
                    "ended.$": "$$.State.EnteredTime",
                },
            },
            "ResultSelector": {"recorded.$": "$.Payload"},
            "Retry": [retry(*LAMBDA_ERRORS, seconds=2, attempts=3)],
            "Next": "any variant finished?",
        },
        "any variant finished?": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.recorded.finished", "NumericGreaterThan": 0, "Next": "finished"}],
            "Default": "nothing finished",
        },
        "finished": {"Type": "Succeed", "OutputPath": "$.recorded"},
        "nothing finished": {"Type": "Fail", "Error": "NoVariantFinished", "CausePath": "$.recorded.cause"},
    }

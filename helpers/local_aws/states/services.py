"""The services whose work tasks start and wait for: what each calls its work, how it ended, how it is stopped.

One row for each operation. All that is done with a row, for whatever service, is in ``jobs``.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from botocore import xform_name

from helpers.local_aws.states.failures import TaskFailed
from helpers.local_aws.wire import AwsError, Caller, Params, service_model

INTEGRATION = "arn:aws:states:::"
SYNC, TOKEN = ".sync", ".waitForTaskToken"
# What AWS marks the work with that Step Functions waits for.
_MARK = ("MANAGED_BY_AWS", "STARTED_BY_STEP_FUNCTIONS")
_ENDED = "The Step Functions task that waits for the job has ended."


class Startable(Protocol):
    """A service of the embedded AWS, as tasks call it."""

    def call(self, operation: str, params: Params, caller: Caller) -> Params:
        """Validate, authorize and run an operation."""


@dataclass(frozen=True)
class Errors:
    """How Step Functions names a service's errors: ``{prefix}.{error}``, or ``{prefix}.{general}``."""

    prefix: str
    general: str
    client: str

    def failure(self, service: str, error: AwsError) -> TaskFailed:
        """Return what a task fails with: exceptions of the service's model by name, every other one as the general."""
        modelled = {shape.name for shape in service_model(service).error_shapes} & {error.code}
        name = f"{error.code.removesuffix('Exception')}Exception" if modelled else self.general
        detail = (
            f"(Service: {self.client}; Status Code: {error.status}; Error Code: {error.code}; "
            f"Request ID: {uuid.uuid4()}; Proxy: null)"
        )
        return TaskFailed(f"{self.prefix}.{name}", f"{error.message} {detail}".strip())


@dataclass(frozen=True)
class Work:
    """An operation that starts work: ``ecs:runTask``, for one.

    ``mark(params, waits)`` adds what AWS adds. ``identify(params, answer)`` names the
    work, "" where nothing was started. ``wait(service, name, seconds)`` blocks until it is
    final; ``describe`` and ``stop`` are calls about it, ``listed`` is the list that it is the one
    item of in the first one's answer, and ``succeeded`` tells how it ended. Parameters and
    answers have the service's names.
    """

    service: str
    operation: str
    rule: str
    pattern: Mapping[str, Sequence[str]]
    errors: Errors
    mark: Callable[[Params, bool], Params]
    identify: Callable[[Params, Params], str]
    wait: Callable[[Any, str, float | None], bool]
    describe: Callable[[str], tuple[str, Params]]
    succeeded: Callable[[Params], bool]
    stop: Callable[[str], tuple[str, Params]]
    listed: str = ""
    patterns: Sequence[str] = ("", SYNC)
    refused: frozenset[str] = frozenset()  # parameters, in PascalCase

    @property
    def resource(self) -> str:
        """The Resource of tasks that only start it."""
        return f"{INTEGRATION}{self.service}:{self.operation[0].lower()}{self.operation[1:]}"

    @property
    def resources(self) -> list[str]:
        """Every Resource that starts it."""
        return [f"{self.resource}{pattern}" for pattern in self.patterns]


def _tagged(params: Params, waits: bool) -> Params:
    del waits
    return {**params, "Tags": _and(params.get("Tags"), {"Key": _MARK[0], "Value": _MARK[1]})}


def _signed(params: Params, waits: bool) -> Params:
    return {**params, "startedBy": "AWS Step Functions"} if waits else params


def _with_variable(params: Params, waits: bool) -> Params:
    if not waits:
        return params
    overrides = params.get("containerOverrides") or {}
    if not isinstance(overrides, dict):  # which the service will refuse
        return params
    variables = _and(overrides.get("environment"), {"name": _MARK[0], "value": _MARK[1]})
    return {**params, "containerOverrides": {**overrides, "environment": variables}}


def _and(items: Any, item: Params) -> Any:
    """Return a list with one more item; what is no list stays as it is, for the service to refuse."""
    return [*(items or []), item] if isinstance(items, list | None) else items


def _job_of_sagemaker(kind: str) -> Work:
    """Return the row of processing or training jobs, which are named alike."""
    name = f"{kind}JobName"
    wait = "wait" if kind == "Processing" else f"wait_{xform_name(kind)}"
    return Work(
        service="sagemaker",
        operation=f"Create{kind}Job",
        rule=f"StepFunctionsGetEventsForSageMaker{kind}JobsRule",
        pattern={"source": ["aws.sagemaker"], "detail-type": [f"SageMaker {kind} Job State Change"]},
        errors=Errors("SageMaker", "AmazonSageMakerException", "AmazonSageMaker"),
        mark=_tagged,
        identify=lambda params, answer: str(params.get(name)),
        wait=lambda service, job, seconds: getattr(service, wait)(job, seconds),
        describe=lambda job: (f"Describe{kind}Job", {name: job}),
        succeeded=lambda job: job[f"{kind}JobStatus"] == "Completed",
        stop=lambda job: (f"Stop{kind}Job", {name: job}),
    )


def _task_arn(params: Params, answer: Params) -> str:
    tasks = answer.get("tasks") or []
    return tasks[0]["taskArn"] if tasks else ""


def _cluster(task_arn: str) -> str:
    """Return the cluster of a task: arn:aws:ecs:region:account:task/cluster/id."""
    return task_arn.split("/")[1]


def _exited_well(task: Params) -> bool:
    codes = [container.get("exitCode") for container in task.get("containers") or []]
    return bool(codes) and all(code == 0 for code in codes)


PROCESSING, TRAINING = _job_of_sagemaker("Processing"), _job_of_sagemaker("Training")
TASKS = Work(
    service="ecs",
    operation="RunTask",
    rule="StepFunctionsGetEventsForECSTaskRule",
    pattern={"source": ["aws.ecs"], "detail-type": ["ECS Task State Change"]},
    errors=Errors("ECS", "AmazonECSException", "AmazonECS"),
    mark=_signed,
    identify=_task_arn,
    wait=lambda service, task, seconds: service.wait(task, seconds),
    describe=lambda task: ("DescribeTasks", {"cluster": _cluster(task), "tasks": [task]}),
    listed="tasks",
    succeeded=_exited_well,
    stop=lambda task: ("StopTask", {"cluster": _cluster(task), "task": task}),
    patterns=("", SYNC, TOKEN),
    refused=frozenset({"Count", "StartedBy"}),
)
JOBS = Work(
    service="batch",
    operation="SubmitJob",
    rule="StepFunctionsGetEventsForBatchJobsRule",
    pattern={"source": ["aws.batch"], "detail-type": ["Batch Job State Change"]},
    errors=Errors("Batch", "AWSBatchException", "AWSBatch"),
    mark=_with_variable,
    identify=lambda params, answer: str(answer.get("jobId", "")),
    wait=lambda service, job, seconds: service.wait(job, seconds),
    describe=lambda job: ("DescribeJobs", {"jobs": [job]}),
    listed="jobs",
    succeeded=lambda job: job["status"] == "SUCCEEDED",
    stop=lambda job: ("TerminateJob", {"jobId": job, "reason": _ENDED}),
    patterns=("", SYNC, TOKEN),
)
ALL = (PROCESSING, TRAINING, TASKS, JOBS)
BY_RESOURCE: dict[str, Work] = {resource: work for work in ALL for resource in work.resources}

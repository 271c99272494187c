"""Tasks that start work at ECS, Batch and SageMaker: what is called, what comes out, what errors are named."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from unit_machines import BATCH, FARGATE, TRAIN

from helpers.local_aws.states import services
from helpers.local_aws.states.failures import TaskFailed
from helpers.local_aws.states.jobs import JobTasks
from helpers.local_aws.states.scopes import Cancelled, Scope
from helpers.local_aws.wire import AwsError, Caller, Params

ROLE = Caller("arn:aws:sts::123456789012:assumed-role/machine/run", lambda permission: None)
TASK = "arn:aws:ecs:us-east-1:123456789012:task/demo/0123"
ECS, BATCH_JOB, TRAINING = services.TASKS, services.JOBS, services.TRAINING


class FakeService:
    """One piece of work at a service: what it was asked, and when it ends."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers, self.calls = answers, []
        self.ended, self.waiting = threading.Event(), threading.Event()

    def call(self, operation: str, params: Params, caller: Caller) -> Params:
        assert caller is ROLE
        self.calls.append((operation, params))
        if operation in ("StopTask", "TerminateJob", "StopTrainingJob"):
            self.ended.set()
        answer = self.answers.get(operation, {})
        if isinstance(answer, AwsError):
            raise answer
        return answer

    def wait(self, name: str, timeout: float | None) -> bool:
        self.waiting.set()
        return self.ended.wait(timeout)

    wait_training = wait


def ecs(code: int | None = 0, **answers: Any) -> FakeService:
    ended = {"taskArn": TASK, "lastStatus": "STOPPED", "createdAt": 1.5, "containers": [{"name": "main"}]}
    if code is not None:
        ended["containers"] = [{"name": "main", "exitCode": code}]
    started = {"tasks": [{"taskArn": TASK, "lastStatus": "PROVISIONING"}], "failures": []}
    service = FakeService({"RunTask": started, "DescribeTasks": {"tasks": [ended], "failures": []}, **answers})
    service.ended.set()
    return service


def batch(status: str = "SUCCEEDED") -> FakeService:
    job = {"jobId": "0123", "jobName": "j", "status": status, "createdAt": 5, "parameters": {"part": "1"}}
    service = FakeService({"SubmitJob": {"jobId": "0123", "jobName": "j"}, "DescribeJobs": {"jobs": [job]}})
    service.ended.set()
    return service


def training(status: str = "Completed") -> FakeService:
    job = {"TrainingJobName": "t", "TrainingJobStatus": status, "HyperParameters": {"max_depth": "3"}}
    service = FakeService({"CreateTrainingJob": {"TrainingJobArn": "arn"}, "DescribeTrainingJob": job})
    service.ended.set()
    return service


def run(
    service: FakeService,
    resource: str,
    params: Params,
    *,
    scope: Scope | None = None,
    timeout: float | None = None,
    submitted: Callable[[], Any] = lambda: None,
) -> Params:
    tasks = JobTasks(dict.fromkeys(("ecs", "batch", "sagemaker"), service))
    sent = tasks.prepared(resource, params)
    answer = tasks.start(resource, sent, ROLE)
    if not resource.endswith(".sync"):
        return answer
    return tasks.wait(
        resource, sent, answer, role=ROLE, scope=scope or Scope(), timeout=timeout, submitted=submitted
    )  # fmt: skip


def failure(call: Callable[[], object]) -> TaskFailed:
    with pytest.raises(TaskFailed) as caught:
        call()
    return caught.value


PLAIN_TASK = {"TaskDefinition": "d", "Cluster": "demo"}
PLAIN_JOB = {"JobName": "j", "JobQueue": "q", "JobDefinition": "d"}


def test_a_container_that_ended_well_gives_its_task_as_output() -> None:
    service = ecs()
    told = run(service, f"{ECS.resource}.sync", PLAIN_TASK)
    assert (told["TaskArn"], told["CreatedAt"], told["Containers"]) == (TASK, 1500, [{"Name": "main", "ExitCode": 0}])
    assert service.calls == [
        ("RunTask", {"taskDefinition": "d", "cluster": "demo", "startedBy": "AWS Step Functions"}),
        ("DescribeTasks", {"cluster": "demo", "tasks": [TASK]}),
    ]


@pytest.mark.parametrize("code", [1, 137, None])
def test_a_container_that_failed_or_never_started_fails_its_task(code: int | None) -> None:
    failed = failure(lambda: run(ecs(code), f"{ECS.resource}.sync", PLAIN_TASK))
    assert (failed.error, json.loads(failed.cause or "")["TaskArn"]) == ("States.TaskFailed", TASK)


def test_a_task_that_cannot_be_placed_fails_only_what_waits_for_it() -> None:
    nothing = {"tasks": [], "failures": [{"arn": "a", "reason": "RESOURCE:CPU"}]}
    for pattern in (".sync", ".waitForTaskToken"):
        failed = failure(lambda pattern=pattern: run(ecs(RunTask=nothing), f"{ECS.resource}{pattern}", PLAIN_TASK))
        assert (failed.error, "RESOURCE:CPU" in (failed.cause or "")) == ("AmazonECS.Unknown", True)
    assert run(ecs(RunTask=nothing), ECS.resource, PLAIN_TASK)["Failures"] == [{"Arn": "a", "Reason": "RESOURCE:CPU"}]


def test_a_batch_job_is_marked_and_its_description_is_the_output() -> None:
    service = batch()
    told = run(service, f"{BATCH_JOB.resource}.sync", PLAIN_JOB)
    assert (told["JobId"], told["Status"], told["CreatedAt"], told["Parameters"]) == (
        "0123",
        "SUCCEEDED",
        5,
        {"part": "1"},
    )
    (_, sent), _ = service.calls
    marks = [{"name": "MANAGED_BY_AWS", "value": "STARTED_BY_STEP_FUNCTIONS"}]
    assert sent["containerOverrides"] == {"environment": marks}


def test_a_failed_batch_job_fails_its_task() -> None:
    failed = failure(lambda: run(batch("FAILED"), f"{BATCH_JOB.resource}.sync", PLAIN_JOB))
    assert (failed.error, json.loads(failed.cause or "")["Status"]) == ("States.TaskFailed", "FAILED")


@pytest.mark.parametrize(("status", "ends"), [("Completed", "output"), ("Failed", "error"), ("Stopped", "error")])
def test_a_training_job_ends_its_task_by_its_status(status: str, ends: str) -> None:
    service = training(status)
    params = {name.removesuffix(".$"): value for name, value in TRAIN.items()} | {"HyperParameters": {"max_depth": "3"}}
    if ends == "output":
        assert run(service, f"{TRAINING.resource}.sync", params)["HyperParameters"] == {"max_depth": "3"}
        assert service.calls[0][1]["Tags"] == [{"Key": "MANAGED_BY_AWS", "Value": "STARTED_BY_STEP_FUNCTIONS"}]
        return
    failed = failure(lambda: run(service, f"{TRAINING.resource}.sync", params))
    assert (failed.error, json.loads(failed.cause or "")["TrainingJobStatus"]) == ("States.TaskFailed", status)


@pytest.mark.parametrize(("work", "params", "stop"), [
    (ECS, PLAIN_TASK, ("StopTask", {"cluster": "demo", "task": TASK})),
    (BATCH_JOB, PLAIN_JOB, ("TerminateJob", {"jobId": "0123"})),
])  # fmt: skip
def test_work_of_a_cancelled_task_is_stopped(work: services.Work, params: Params, stop: tuple[str, Params]) -> None:
    service, scope = (ecs() if work is ECS else batch()), Scope()
    service.ended.clear()
    threading.Thread(target=lambda: service.waiting.wait(180) and scope.cancel()).start()
    with pytest.raises(Cancelled):
        run(service, f"{work.resource}.sync", params, scope=scope)
    operation, sent = service.calls[-1]
    assert operation == stop[0]
    assert sent | stop[1] == sent


def test_a_task_that_takes_too_long_is_stopped_and_times_out() -> None:
    service = batch()
    service.ended.clear()
    failed = failure(lambda: run(service, f"{BATCH_JOB.resource}.sync", PLAIN_JOB, timeout=0.02))
    assert (failed.error, failed.cause, service.calls[-1][0]) == ("States.Timeout", None, "TerminateJob")


@pytest.mark.parametrize(("work", "params", "code", "named"), [
    (ECS, PLAIN_TASK, "AccessDeniedException", "ECS.AccessDeniedException"),
    (ECS, PLAIN_TASK, "InvalidParameterException", "ECS.InvalidParameterException"),
    (ECS, PLAIN_TASK, "ThrottlingException", "ECS.AmazonECSException"),
    (BATCH_JOB, PLAIN_JOB, "ClientException", "Batch.ClientException"),
    (BATCH_JOB, PLAIN_JOB, "AccessDeniedException", "Batch.AWSBatchException"),
    (services.PROCESSING, {}, "ResourceInUse", "SageMaker.ResourceInUseException"),
    (services.PROCESSING, {}, "AccessDeniedException", "SageMaker.AmazonSageMakerException"),
])  # fmt: skip
def test_errors_have_the_names_that_step_functions_gives_them(
    work: services.Work, params: Params, code: str, named: str
) -> None:
    service = FakeService({work.operation: AwsError(code, "no")})
    tasks = JobTasks({work.service: service})
    failed = failure(lambda: tasks.start(work.resource, params, ROLE))
    assert failed.error == named
    assert (failed.cause or "").startswith(f"no (Service: {work.errors.client}; Status Code: 400; Error Code: {code};")


def test_work_that_the_service_forgot_fails_the_task() -> None:
    failed = failure(lambda: run(ecs(DescribeTasks={"tasks": []}), f"{ECS.resource}.sync", PLAIN_TASK))
    assert (failed.error, TASK in (failed.cause or "")) == ("ECS.ClientException", True)


def test_parameters_that_are_none_fail_before_anything_is_called() -> None:
    service = ecs()
    failed = failure(lambda: run(service, f"{ECS.resource}.sync", {"cluster": "c"}))
    assert (failed.error, service.calls) == ("States.Runtime", [])
    assert "could not be used to start the Task" in (failed.cause or "")


def test_the_sdk_integration_gives_times_as_text() -> None:
    answer = JobTasks({"ecs": ecs()}).call("ecs", "DescribeTasks", {"Tasks": [TASK]}, ROLE)
    assert answer["Tasks"][0]["CreatedAt"] == "1970-01-01T00:00:01.500Z"


def test_parameters_may_be_of_any_kind_that_the_integrations_take() -> None:
    for work, params in ((ECS, FARGATE), (BATCH_JOB, BATCH), (TRAINING, TRAIN)):
        assert JobTasks({}).prepared(f"{work.resource}.sync", params)


@pytest.mark.parametrize("odd", ["text", 5, {"a": 1}])
def test_a_list_that_is_none_reaches_the_service_to_be_refused_there(odd: Any) -> None:
    sent = JobTasks({}).prepared(
        f"{BATCH_JOB.resource}.sync", {**PLAIN_JOB, "ContainerOverrides": {"Environment": odd}}
    )
    assert sent["ContainerOverrides"]["Environment"] == odd

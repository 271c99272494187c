"""What a task may call, and Step Functions' optimized integration with SageMaker Processing.

``sagemaker:createProcessingJob`` returns when the job is created;
``sagemaker:createProcessingJob.sync`` when it has ended. Every call is made as
the state machine's role, so its policy decides, as on AWS.
"""

import datetime as dt
import json
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from helpers.local_aws.sagemaker import SageMaker
from helpers.local_aws.states import maps
from helpers.local_aws.states.scopes import Scope
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Site, service_model

INTEGRATION = "arn:aws:states:::"
PREFIX = f"{INTEGRATION}sagemaker:createProcessingJob"
SYNC = f"{PREFIX}.sync"

# Operations called through Step Functions' SDK integrations. Others are refused by name: ministack
# would make them without asking the role, or of services that only pretend.
SDK = {
    f"{INTEGRATION}aws-sdk:{service}:{operation[0].lower()}{operation[1:]}": (service, operation)
    for service, operations in {
        "s3": ("ListObjectsV2", "PutObject", "GetObject", "HeadObject"),
        "sagemaker": ("DescribeProcessingJob",),
    }.items()
    for operation in operations
}
LAMBDA = f"{INTEGRATION}lambda:invoke"
INTEGRATIONS = (PREFIX, SYNC, LAMBDA, f"{INTEGRATION}lambda:invoke.waitForTaskToken", *SDK)
_SDK_NAMES = {"s3": "S3", "sagemaker": "SageMaker"}

# The rule through which Step Functions learns that a job has ended. AWS makes one
# an account and checks, when a state machine is created, that its role may use it.
MANAGED_RULE = "StepFunctionsGetEventsForSageMakerProcessingJobsRule"

logger = logging.getLogger(__name__)


class TaskFailed(Exception):
    """A task's failure: ``error`` and ``cause`` as a Catch sees them."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(f"{error}: {cause}")
        self.error, self.cause = error, cause


class ProcessingTasks:
    """Run createProcessingJob tasks, and stop the jobs of what is cancelled."""

    def __init__(self, sagemaker: SageMaker) -> None:
        self._sagemaker = sagemaker

    def run(
        self,
        resource: str,
        params: Params,
        *,
        role: Caller,
        scope: Scope,
        timeout: float | None,
        submitted: Callable[[Params], Any],
    ) -> Params:
        """Run one task. Returns its output; raises TaskFailed, or Cancelled with its scope.

        ``timeout``: seconds after which a ``.sync`` task ends with States.Timeout and
        its job is stopped. ``submitted`` is told that the job was created. AWS adds its
        own tag to the jobs that it starts.
        """
        started_by = {"Key": "MANAGED_BY_AWS", "Value": "STARTED_BY_STEP_FUNCTIONS"}
        try:
            created = self._sagemaker.call(
                "CreateProcessingJob", {**params, "Tags": [*params.get("Tags", []), started_by]}, role
            )
        except AwsError as error:
            raise _service_error(error) from error
        if not resource.endswith(".sync"):
            return created
        undo = scope.on_cancel(lambda: self._stop_job(params["ProcessingJobName"], role))
        try:
            submitted(created)
            return self._wait(params["ProcessingJobName"], role, scope, timeout)
        finally:
            undo()

    def knows(self, params: Params) -> bool:
        """Tell whether there is, or was, a job of this name."""
        return self._sagemaker.knows(str(params.get("ProcessingJobName")))

    def rejoin(self, params: Params, *, role: Caller, scope: Scope, timeout: float | None) -> Params:
        """Wait for a job that was created before a restart. Returns and raises as ``run`` does."""
        undo = scope.on_cancel(lambda: self._stop_job(params["ProcessingJobName"], role))
        try:
            return self._wait(params["ProcessingJobName"], role, scope, timeout)
        finally:
            undo()

    def describe(self, params: Params, role: Caller) -> Params:
        """Return a job as the SDK integration does: its times are text. Raises TaskFailed."""
        try:
            return plain(self._sagemaker.call("DescribeProcessingJob", params, role), iso)
        except AwsError as error:
            raise sdk_error("sagemaker", error.code, error.message, error.status) from error

    def _wait(self, name: str, role: Caller, scope: Scope, timeout: float | None) -> Params:
        if not self._sagemaker.wait(name, timeout):
            self._stop_job(name, role)
            raise TaskFailed("States.Timeout", f"the processing job {name} ran longer than {timeout:g} seconds")
        scope.require()
        try:
            job = self._sagemaker.call("DescribeProcessingJob", {"ProcessingJobName": name}, role)
        except AwsError as error:
            raise _service_error(error) from error
        description = plain(job, milliseconds)
        if job["ProcessingJobStatus"] != "Completed":
            raise TaskFailed("States.TaskFailed", json.dumps(description, separators=(",", ":")))
        return description

    def _stop_job(self, name: str, role: Caller) -> None:
        try:
            self._sagemaker.call("StopProcessingJob", {"ProcessingJobName": name}, role)
        except AwsError as error:
            # Step Functions stops jobs as well as it can: on AWS too a role without
            # sagemaker:StopProcessingJob leaves the job running, and the state ends all the same.
            # A job that ended in between (ValidationException) needs no stop.
            if error.code == "AccessDeniedException":
                logger.warning("the processing job %s was not stopped: %s", name, error.message)


def require_supported(machine: Mapping[str, Any]) -> None:
    """Raise AwsError (NotImplemented) naming the first thing of a definition that the embedded AWS does not run."""
    for resource in walk_tasks(machine):
        require_integration(resource)
    for what in maps.unsupported(machine):
        raise AwsError("NotImplemented", f"the embedded AWS does not run {what}", 501)


def require_integration(resource: str) -> None:
    """Raise AwsError (NotImplemented) unless a task may call ``resource``."""
    if resource.startswith(INTEGRATION) and resource not in INTEGRATIONS:
        raise AwsError("NotImplemented", f"the embedded AWS does not run tasks of {resource}", 501)


def task_resources(definition: str) -> set[str]:
    """Return the Resource of every Task state, nested ones included. Raises ValueError if it is not JSON."""
    return set(walk_tasks(json.loads(definition)))


def walk_tasks(value: Any) -> Iterator[str]:
    """Yield the Resource of every Task state in a definition, nested ones included."""
    if isinstance(value, dict):
        if value.get("Type") == "Task" and isinstance(value.get("Resource"), str):
            yield value["Resource"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from walk_tasks(item)


def needs_managed_rule(resources: set[str]) -> bool:
    """Whether a state machine with these task resources waits for processing jobs."""
    return SYNC in resources


def managed_rule_permissions(site: Site) -> list[Permission]:
    """Return what the state machine's role needs so that AWS can make the managed rule."""
    rule = site.arn("events", f"rule/{MANAGED_RULE}")
    return [Permission(f"events:{action}", rule) for action in ("PutTargets", "PutRule", "DescribeRule")]


def map_permissions(machine_arn: str) -> list[Permission]:
    """Return what the role of a machine needs to run its Distributed Map states."""
    executions = machine_arn.replace(":stateMachine:", ":execution:")
    return [
        Permission("states:StartExecution", machine_arn),
        Permission("states:DescribeExecution", f"{executions}:{uuid.uuid4()}"),
    ]


def plain(value: Any, moment: Callable[[dt.datetime], Any]) -> Any:
    """Return an answer as JSON has it, its times by ``moment``."""
    if isinstance(value, dict):
        return {name: plain(item, moment) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, moment) for item in value]
    return moment(value) if isinstance(value, dt.datetime) else value


def milliseconds(moment: dt.datetime) -> int:
    """Return a time as the optimized integrations give it: milliseconds since 1970."""
    return round(moment.timestamp() * 1000)


def iso(moment: dt.datetime) -> str:
    """Return a time as the SDK integrations give it: ISO 8601 in UTC, with milliseconds where there are any."""
    moment = moment.astimezone(dt.UTC)
    precision = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def sdk_error(service: str, code: str, message: str, status: int) -> TaskFailed:
    """Return an error of an SDK integration: named after the SDK's exception, or its general one."""
    name = _SDK_NAMES[service]
    modelled = {shape.name for shape in service_model(service).error_shapes} - {"AccessDenied"}
    known = code.removesuffix("Exception") if code in modelled else name
    detail = f"(Service: {name}, Status Code: {status}, Request ID: {uuid.uuid4()})"
    return TaskFailed(f"{name}.{known}Exception", f"{message} {detail}".strip())


def _service_error(error: AwsError) -> TaskFailed:
    # AWS reports SageMaker's modelled exceptions under their own name and every other one,
    # AccessDenied and Throttling included, as the service's general exception.
    modelled = {"ResourceInUse", "ResourceLimitExceededException", "ResourceNotFound"}
    name = error.code if error.code in modelled else "AmazonSageMakerException"
    name = {"ResourceInUse": "ResourceInUseException", "ResourceNotFound": "ResourceNotFoundException"}.get(name, name)
    detail = f"(Service: AmazonSageMaker; Status Code: {error.status}; Error Code: {error.code})"
    return TaskFailed(f"SageMaker.{name}", f"{error.message} {detail}")

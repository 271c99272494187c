"""Step Functions' optimized integration with SageMaker Processing.

``sagemaker:createProcessingJob`` returns when the job is created;
``sagemaker:createProcessingJob.sync`` when it has ended. Every call is made as
the state machine's role, so its policy decides, as on AWS.
"""

import json
import logging
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from helpers.local_aws.sagemaker import SageMaker
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Site, dump

PREFIX = "arn:aws:states:::sagemaker:createProcessingJob"
SYNC = f"{PREFIX}.sync"

# What a task may call: everything that is done as the machine's role here. ministack's other
# integrations call its services without asking IAM, or services that only pretend.
INTEGRATION = "arn:aws:states:::"
INTEGRATIONS = (PREFIX, SYNC, f"{INTEGRATION}lambda:invoke", f"{INTEGRATION}lambda:invoke.waitForTaskToken")

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
    """Run createProcessingJob tasks, and know which jobs each execution waits for."""

    def __init__(self, sagemaker: SageMaker) -> None:
        self._sagemaker = sagemaker
        self._waiting: defaultdict[str, set[tuple[str, Caller]]] = defaultdict(set)
        self._lock = threading.Lock()

    def run(self, resource: str, params: Params, *, execution: str, role: Caller, timeout: float | None) -> Params:
        """Run one task. Returns its output; raises TaskFailed.

        ``timeout``: seconds after which a ``.sync`` task ends with States.Timeout and
        its job is stopped. AWS adds its own tag to the jobs that it starts.
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
        return self._wait(params["ProcessingJobName"], execution, role, timeout)

    def stop(self, execution: str) -> None:
        """Stop the jobs that ``execution`` waits for, as its role."""
        with self._lock:
            jobs = list(self._waiting.get(execution, ()))
        for name, role in jobs:
            self._stop_job(name, role)

    def _wait(self, name: str, execution: str, role: Caller, timeout: float | None) -> Params:
        with self._lock:
            self._waiting[execution].add((name, role))
        try:
            if not self._sagemaker.wait(name, timeout):
                self._stop_job(name, role)
                raise TaskFailed("States.Timeout", f"the processing job {name} ran longer than {timeout:g} seconds")
            try:
                job = self._sagemaker.call("DescribeProcessingJob", {"ProcessingJobName": name}, role)
            except AwsError as error:
                raise _service_error(error) from error
        finally:
            with self._lock:
                self._waiting[execution].discard((name, role))
                if not self._waiting[execution]:
                    del self._waiting[execution]
        description = json.loads(dump(job))
        if job["ProcessingJobStatus"] != "Completed":
            raise TaskFailed("States.TaskFailed", json.dumps(description))
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


def require_supported(resources: Iterable[str]) -> None:
    """Raise AwsError (NotImplemented) naming the first integration that the embedded AWS does not run."""
    for resource in resources:
        if resource.startswith(INTEGRATION) and resource not in INTEGRATIONS:
            raise AwsError("NotImplemented", f"the embedded AWS does not run tasks of {resource}", 501)


def resources_in(value: Any) -> Iterator[str]:
    """Yield every Resource of a definition: of tasks, and of what reads and writes the items of a Map."""
    if isinstance(value, dict):
        if isinstance(value.get("Resource"), str):
            yield value["Resource"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from resources_in(item)


def needs_managed_rule(resources: set[str]) -> bool:
    """Whether a state machine with these task resources waits for processing jobs."""
    return SYNC in resources


def managed_rule_permissions(site: Site) -> list[Permission]:
    """Return what the state machine's role needs so that AWS can make the managed rule."""
    rule = site.arn("events", f"rule/{MANAGED_RULE}")
    return [Permission(f"events:{action}", rule) for action in ("PutTargets", "PutRule", "DescribeRule")]


def _service_error(error: AwsError) -> TaskFailed:
    # AWS reports SageMaker's modelled exceptions under their own name and every other one,
    # AccessDenied and Throttling included, as the service's general exception.
    modelled = {"ResourceInUse", "ResourceLimitExceededException", "ResourceNotFound"}
    name = error.code if error.code in modelled else "AmazonSageMakerException"
    name = {"ResourceInUse": "ResourceInUseException", "ResourceNotFound": "ResourceNotFoundException"}.get(name, name)
    detail = f"(Service: AmazonSageMaker; Status Code: {error.status}; Error Code: {error.code})"
    return TaskFailed(f"SageMaker.{name}", f"{error.message} {detail}")

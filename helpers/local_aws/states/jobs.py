"""Tasks that start work at another service, and wait for its end: jobs, containers, training.

Every call is made as the state machine's role, so its policy decides, as on AWS.
"""

import json
import logging
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from botocore.model import StructureShape

from helpers.local_aws.states import parameters, services
from helpers.local_aws.states.failures import TaskFailed, sdk_error, timed_out
from helpers.local_aws.states.histories import text_of
from helpers.local_aws.states.moments import iso, milliseconds
from helpers.local_aws.states.scopes import Scope
from helpers.local_aws.states.services import Startable, Work
from helpers.local_aws.wire import AwsError, Caller, Params, service_model

logger = logging.getLogger(__name__)


class JobTasks:
    """Run tasks that start work, and end the work of what is cancelled. ``services`` by name: sagemaker, ecs, batch."""

    def __init__(self, services: Mapping[str, Startable]) -> None:
        self._services = services

    def prepared(self, resource: str, params: Any) -> Params:
        """Return a task's parameters with what AWS adds. Raises TaskFailed where Step Functions takes none such."""
        work = services.BY_RESOURCE[resource]
        inputs, _ = _shapes(work.service, work.operation)
        wrong = list(parameters.problems(inputs, params, work.refused))
        if not isinstance(params, dict):
            wrong = ["The Parameters must be a JSON object"]
        if wrong:
            told = f"The Parameters '{text_of(params)}' could not be used to start the Task: [{', '.join(wrong)}]"
            raise TaskFailed("States.Runtime", told)
        marked = work.mark(parameters.to_service(inputs, params), resource.endswith(services.SYNC))
        return parameters.from_service(inputs, marked, iso)

    def start(self, resource: str, params: Params, role: Caller) -> Params:
        """Start work with parameters that are ``prepared``. Returns the answer; raises TaskFailed.

        That a task could not be placed is no failure where nothing is waited for.
        """
        work = services.BY_RESOURCE[resource]
        inputs, outputs = _shapes(work.service, work.operation)
        answer = self._call(work, work.operation, parameters.to_service(inputs, params), role)
        told = parameters.from_service(outputs, answer, milliseconds)
        if resource != work.resource and told.get("Failures"):
            raise TaskFailed("AmazonECS.Unknown", text_of(told["Failures"]))
        return told

    def wait(
        self,
        resource: str,
        params: Params,
        answer: Params,
        *,
        role: Caller,
        scope: Scope,
        timeout: float | None,
        submitted: Callable[[], Any] = lambda: None,
    ) -> Params:
        """Wait for the end of work that was started with ``params`` and ``answer``. Returns its description.

        ``submitted`` is called first. After ``timeout`` seconds the work is stopped.
        Raises TaskFailed, with the description as its cause where the work failed, or Cancelled.
        """
        work = services.BY_RESOURCE[resource]
        name = self.name(work, params, answer)
        undo = scope.on_cancel(lambda: self._stop(work, name, role))
        try:
            submitted()
            if not self._ended(work, name, timeout):
                self._stop(work, name, role)
                raise timed_out()
        finally:
            undo()
        scope.require()
        return self._result(work, name, role)

    def abandon(self, resource: str, params: Params, answer: Params, role: Caller) -> None:
        """Stop work that nobody waits for any more, started with ``params`` and ``answer``."""
        work = services.BY_RESOURCE.get(resource)
        if work and resource.endswith(services.SYNC) and (name := self.name(work, params, answer)):
            self._stop(work, name, role)

    def name(self, work: Work, params: Params, answer: Params) -> str:
        """Return what names work that was started with ``params`` and ``answer``; "" where it is not known."""
        inputs, outputs = _shapes(work.service, work.operation)
        return work.identify(parameters.to_service(inputs, params), parameters.to_service(outputs, answer))

    def call(self, service: str, operation: str, params: Any, role: Caller) -> Params:
        """Return an operation's answer as an SDK integration does: its times are text. Raises TaskFailed."""
        inputs, outputs = _shapes(service, operation)
        try:
            answer = self._services[service].call(operation, parameters.to_service(inputs, params), role)
        except AwsError as error:
            raise sdk_error(service, error.code, error.message, error.status) from error
        return parameters.from_service(outputs, answer, iso)

    def _ended(self, work: Work, name: str, timeout: float | None) -> bool:
        try:
            return work.wait(self._services[work.service], name, timeout)
        except AwsError as error:
            raise work.errors.failure(work.service, error) from error

    def _result(self, work: Work, name: str, role: Caller) -> Params:
        operation, params = work.describe(name)
        answer = self._call(work, operation, params, role)
        told = parameters.from_service(_shapes(work.service, operation)[1], answer, milliseconds)
        if work.listed:
            if not answer.get(work.listed):
                raise work.errors.failure(work.service, AwsError("ClientException", f"{name} is not known any more"))
            answer, told = answer[work.listed][0], told[parameters.pascal(work.listed)][0]
        if not work.succeeded(answer):
            raise TaskFailed("States.TaskFailed", json.dumps(told, separators=(",", ":")))
        return told

    def _call(self, work: Work, operation: str, params: Params, role: Caller) -> Params:
        try:
            return self._services[work.service].call(operation, params, role)
        except AwsError as error:
            raise work.errors.failure(work.service, error) from error

    def _stop(self, work: Work, name: str, role: Caller) -> None:
        operation, params = work.stop(name)
        try:
            self._services[work.service].call(operation, params, role)
        except AwsError as error:
            # Step Functions stops work as well as it can: on AWS too a role that may not stop it
            # leaves it running, and the state ends all the same. Work that ended in between needs no stop.
            if error.code.startswith("AccessDenied"):
                logger.warning("%s was not stopped: %s", name, error.message)


@cache
def _shapes(service: str, operation: str) -> tuple[StructureShape, StructureShape]:
    """Return the shapes of what an operation takes and answers."""
    model = service_model(service).operation_model(operation)
    return model.input_shape, model.output_shape

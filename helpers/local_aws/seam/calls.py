"""What Task states call, as the state machine's role, and what the history tells of it."""

import contextvars
import datetime as dt
from collections.abc import Callable
from typing import Any

from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.integrations import S3Calls
from helpers.local_aws.seam.runs import Run, Strand
from helpers.local_aws.states import tasks
from helpers.local_aws.states.histories import text_of
from helpers.local_aws.wire import AwsError, Caller, Permission, Site


class TaskCalls:
    """Run tasks: processing jobs and S3 by ours, functions and activities by ministack."""

    def __init__(self, site: Site, ministack: Ministack, processing: tasks.ProcessingTasks) -> None:
        self._site, self._ministack, self._processing = site, ministack, processing
        self.s3 = S3Calls(site, ministack)
        self._running: contextvars.ContextVar[Run | None] = contextvars.ContextVar("running", default=None)

    def install(self) -> None:
        """Ask the machine's role before a function is invoked, and let TestState call nothing without a role."""
        states = self._ministack.states
        call_lambda, invoke = states._call_lambda, states._invoke_resource

        def invoke_lambda(func_ref: str, event: Any) -> Any:
            _, _, name = self._ministack.functions._get_func_record_for_ref(func_ref)
            try:
                arn = self._site.arn("lambda", f"function:{name}")
                self.role(self._running.get()).require(Permission("lambda:InvokeFunction", arn))
            except AwsError as error:
                raise states._ExecutionError("Lambda.AWSLambdaException", error.message) from error
            return call_lambda(func_ref, event)

        def invoke_supported(resource: str, params: Any) -> Any:
            try:
                tasks.require_integration(resource)
            except AwsError as error:
                raise states._ExecutionError("States.Runtime", error.message) from error
            if resource in (tasks.PREFIX, tasks.SYNC, *tasks.SDK):
                raise states._ExecutionError("States.Runtime", "a task ran outside of an execution")
            return invoke(resource, params)

        states._call_lambda, states._invoke_resource = invoke_lambda, invoke_supported

    def enter(self, strand: Strand) -> None:
        """Note in this thread which execution it works for."""
        self._running.set(strand.run)

    def role(self, run: Run | None) -> Caller:
        """Return the role of an execution's machine. Raises TaskFailed when it cannot be assumed."""
        if run is None:
            raise self._ministack.states._ExecutionError("States.Runtime", "a task ran outside of an execution")
        try:
            return run.session.caller()
        except AwsError as error:
            raise tasks.TaskFailed("States.Runtime", error.message) from error

    def run(self, state: dict, data: Any, params: Any, strand: Strand) -> Any:
        """Run one attempt of a task and write its events. Returns its result; raises TaskFailed."""
        resource, timeout = state["Resource"], self._timeout(state, data, strand)
        kind, named = _named(resource)
        if strand.interrupted:
            strand.interrupted = False
            return self._recorded(kind, named, strand, lambda: self._rejoin(resource, params, timeout, strand))
        bounded = {} if timeout is None else {"timeoutInSeconds": int(timeout)}
        if kind == "Task":
            strand.event("TaskScheduled", **named, region=self._site.region, parameters=text_of(params), **bounded)
            strand.event("TaskStarted", **named)
        else:
            strand.event(f"{kind}Scheduled", **named, input=text_of(params), **bounded)
            if kind == "LambdaFunction":
                strand.event("LambdaFunctionStarted")
        own = named if kind == "Task" else {}
        return self._recorded(kind, named, strand, lambda: self._invoke(resource, params, timeout, state, strand, own))

    def _recorded(self, kind: str, named: dict[str, str], strand: Strand, call: Callable[[], Any]) -> Any:
        """Make a call and write how it ended."""
        own = named if kind == "Task" else {}
        try:
            result = call()
            written = strand.check(strand.context["State"]["Name"], result)
        except (tasks.TaskFailed, self._ministack.states._ExecutionError) as failure:
            ending = "TimedOut" if failure.error == "States.Timeout" else "Failed"
            strand.event(f"{kind}{ending}", **own, error=failure.error, cause=failure.cause)
            raise tasks.TaskFailed(failure.error, failure.cause) from failure
        strand.event(f"{kind}Succeeded", **own, output=written)
        return result

    def _invoke(
        self, resource: str, params: Any, timeout: float | None, state: dict, strand: Strand, named: dict[str, str]
    ) -> Any:
        if resource in (tasks.PREFIX, tasks.SYNC):
            return self._processing.run(
                resource, params, role=self.role(strand.run), scope=strand.scope, timeout=timeout,
                submitted=lambda answer: strand.event("TaskSubmitted", **named, output=text_of(answer)),
            )  # fmt: skip
        if resource in tasks.SDK:
            service, operation = tasks.SDK[resource]
            role = self.role(strand.run)
            if service == "s3":
                return self.s3.call(operation, params, role)
            return self._processing.describe(params, role)
        states = self._ministack.states
        how = params.get("InvocationType", "RequestResponse") if resource == tasks.LAMBDA else "RequestResponse"
        if how != "RequestResponse":  # ministack would wait for the answer all the same
            raise tasks.TaskFailed("States.Runtime", f"the embedded AWS does not run lambda:invoke as {how}")
        if ".waitForTaskToken" in resource:
            return self._wait_for_token(resource, params, state, strand)
        if timeout is not None and ":activity:" not in resource:
            return states._invoke_resource_with_timeout(resource, params, timeout)
        return states._invoke_resource(resource, params)

    def _rejoin(self, resource: str, params: Any, timeout: float | None, strand: Strand) -> Any:
        """Return the result of a task that a stop of the embedded AWS cut off: only jobs go on. Raises TaskFailed."""
        if resource == tasks.SYNC and self._processing.knows(params):
            return self._processing.rejoin(params, role=self.role(strand.run), scope=strand.scope, timeout=timeout)
        error = "SageMaker.AmazonSageMakerException" if resource == tasks.SYNC else "Lambda.ServiceException"
        raise tasks.TaskFailed(error, "The embedded AWS was stopped while the task was running.")

    def _wait_for_token(self, resource: str, params: Any, state: dict, strand: Strand) -> Any:
        """Call, then wait until somebody sends the token back, or the execution is stopped."""
        states, token = self._ministack.states, strand.context["Task"]["Token"]

        def give_up() -> None:
            if waiting := states._task_tokens.get(token):
                waiting["error"] = {"Error": "States.Runtime", "Cause": "the execution has ended"}
                waiting["event"].set()

        undo = strand.scope.on_cancel(give_up)
        try:
            return states._invoke_with_callback(resource, params, token, state)
        finally:
            undo()

    def _timeout(self, state: dict, data: Any, strand: Strand) -> float | None:
        if "TimeoutSecondsPath" in state:
            return float(self._ministack.states._resolve_path_or_ctx(state["TimeoutSecondsPath"], data, strand.context))
        seconds = state.get("TimeoutSeconds")
        return None if seconds is None else float(seconds)

    def waiting_seconds(self, state: dict, data: Any, context: dict[str, Any], entered: str) -> float:
        """Return how long a Wait state that was entered then still waits."""
        seconds = self._seconds(state, data, context)
        counted_from_entry = "Seconds" in state or "SecondsPath" in state
        return seconds + min(0.0, until(entered)) if counted_from_entry else seconds

    def _seconds(self, state: dict, data: Any, context: dict[str, Any]) -> float:
        states = self._ministack.states
        if states._state_query_language(state, context) == "JSONata":
            if "Seconds" in state:
                return float(states._jsonata_wait_seconds(state, data, context))
            return until(states._jsonata_wait_timestamp(state, data, context))
        chosen = states._apply_input_path(state, data, context)
        if "SecondsPath" in state:
            return float(states._resolve_path_or_ctx(state["SecondsPath"], chosen, context))
        if "TimestampPath" in state:
            return until(states._resolve_path_or_ctx(state["TimestampPath"], chosen, context))
        return float(state["Seconds"]) if "Seconds" in state else until(state["Timestamp"])


def _named(resource: str) -> tuple[str, dict[str, str]]:
    """Return which kind of events tells of a task, and how they name what it calls."""
    if resource.startswith(tasks.INTEGRATION):
        service, _, operation = resource.removeprefix(tasks.INTEGRATION).rpartition(":")
        return "Task", {"resourceType": service, "resource": operation}
    return ("Activity" if ":activity:" in resource else "LambdaFunction"), {"resource": resource}


def until(moment: str) -> float:
    """Return the seconds from now to a moment in ISO 8601, less than none when it has passed."""
    return (dt.datetime.fromisoformat(moment.replace("Z", "+00:00")) - dt.datetime.now(dt.UTC)).total_seconds()

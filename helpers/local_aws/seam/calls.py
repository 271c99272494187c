"""What Task states call, as the state machine's role, and what the history tells of it."""

import contextvars
import datetime as dt
import json
import uuid
from collections.abc import Callable
from typing import Any

from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.integrations import S3Calls
from helpers.local_aws.seam.runs import Run, Strand
from helpers.local_aws.seam.waiting import Events, Limits, TokenTasks
from helpers.local_aws.states import services, tasks
from helpers.local_aws.states.failures import TIMEOUT, TaskFailed
from helpers.local_aws.states.histories import text_of
from helpers.local_aws.states.jobs import JobTasks
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Site

_STOPPED = "The embedded AWS was stopped while the task was running."


class TaskCalls:
    """Run tasks: jobs, containers, S3, activities and tokens by ours, functions by ministack."""

    def __init__(self, site: Site, ministack: Ministack, jobs: JobTasks, waiting: TokenTasks) -> None:
        self._site, self._ministack, self._jobs, self._waiting = site, ministack, jobs, waiting
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
            if resource in services.BY_RESOURCE or resource in tasks.SDK or tasks.waits_for_token(resource):
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
            raise TaskFailed("States.Runtime", error.message) from error

    def give_token(self, resource: str, strand: Strand) -> None:
        """Put a token into the context of a task that gives it away."""
        if resource.endswith(services.TOKEN):
            machine, again = strand.run.record["stateMachineArn"], strand.interrupted is not None
            strand.context["Task"] = {"Token": self._waiting.token(machine, strand, again=again)}

    def run(self, state: dict, data: Any, params: Any, strand: Strand) -> Any:
        """Run one attempt of a task and write its events. Returns its result; raises TaskFailed."""
        resource, limits = state["Resource"], self._limits(state, data, strand)
        kind, named = _named(resource)
        if strand.interrupted is not None:
            return self._recorded(kind, named, strand, lambda: self._rejoin(resource, params, limits, strand))
        params = self._prepared(resource, params, strand)
        if kind == "Task":
            strand.event("TaskScheduled", **named, region=self._site.region, parameters=text_of(params), **limits.told)
            strand.event("TaskStarted", **named)
        else:
            strand.event(f"{kind}Scheduled", **named, input=text_of(params), **limits.told)
            if kind == "LambdaFunction":
                strand.event("LambdaFunctionStarted")
        return self._recorded(kind, named, strand, lambda: self._invoke(resource, params, limits, strand))

    def _prepared(self, resource: str, params: Any, strand: Strand) -> Any:
        """Return what a task is called with. Raises TaskFailed, before anything is scheduled, where that cannot be."""
        try:
            if tasks.is_activity(resource):
                self._waiting.require_activity(resource)
            if resource in services.BY_RESOURCE:
                return self._jobs.prepared(resource, params)
        except TaskFailed as failure:
            raise strand.fatal(failure.cause or "") from failure
        return params

    def _recorded(self, kind: str, named: dict[str, str], strand: Strand, call: Callable[[], Any]) -> Any:
        """Make a call and write how it ended."""
        own = named if kind == "Task" else {}
        try:
            result = call()
            written = strand.check(strand.context["State"]["Name"], result)
        except (TaskFailed, self._ministack.states._ExecutionError) as failure:
            ending = "TimedOut" if failure.error == TIMEOUT else "Failed"
            told = {name: text for name, text in (("error", failure.error), ("cause", failure.cause)) if text}
            strand.event(f"{kind}{ending}", **own, **told)
            if isinstance(failure, TaskFailed):
                raise
            raise TaskFailed(failure.error, failure.cause) from failure
        strand.event(f"{kind}Succeeded", **own, output=written)
        return result

    def _invoke(self, resource: str, params: Any, limits: Limits, strand: Strand) -> Any:
        if tasks.is_activity(resource):
            return self._waiting.activity(resource, params, limits, strand)
        if resource.endswith(services.TOKEN):
            return self._waiting.callback(limits, strand, lambda: self._submitted(resource, params, strand))
        if resource in services.BY_RESOURCE:
            return self._start(resource, params, limits, strand)
        if resource in tasks.SDK:
            service, operation = tasks.SDK[resource]
            role = self.role(strand.run)
            if service == "s3":
                return self.s3.call(operation, params, role)
            return self._jobs.call(service, operation, params, role)
        return self._function(resource, params, limits)

    def _function(self, resource: str, params: Any, limits: Limits) -> Any:
        states = self._ministack.states
        how = params.get("InvocationType", "RequestResponse") if resource == tasks.LAMBDA else "RequestResponse"
        if how != "RequestResponse":  # ministack would wait for the answer all the same
            raise TaskFailed("States.Runtime", f"the embedded AWS does not run lambda:invoke as {how}")
        if limits.timeout is not None:
            return states._invoke_resource_with_timeout(resource, params, limits.timeout)
        return states._invoke_resource(resource, params)

    def _start(self, resource: str, params: Params, limits: Limits, strand: Strand) -> Any:
        role = self.role(strand.run)
        answer = _with_metadata(self._jobs.start(resource, params, role))
        if not resource.endswith(services.SYNC):
            return answer
        return self._jobs.wait(
            resource, params, answer, role=role, scope=strand.scope, timeout=limits.timeout,
            submitted=lambda: self._tell_submitted(resource, answer, strand),
        )  # fmt: skip

    def _submitted(self, resource: str, params: Any, strand: Strand) -> None:
        """Make the call of a task that waits for its token. Raises TaskFailed."""
        if resource in services.BY_RESOURCE:
            answer = self._jobs.start(resource, params, self.role(strand.run))
        else:
            answer = self._function(tasks.LAMBDA, params, Limits())
        self._tell_submitted(resource, _with_metadata(answer), strand)

    def _tell_submitted(self, resource: str, answer: Params, strand: Strand) -> None:
        strand.event("TaskSubmitted", **_named(resource)[1], output=text_of(answer))

    def _rejoin(self, resource: str, params: Any, limits: Limits, strand: Strand) -> Any:
        """Return the result of a task that a stop of the embedded AWS cut off: only what is not a process goes on.

        Raises TaskFailed.
        """
        events: Events = strand.interrupted or ()
        strand.interrupted = None
        submitted = [event["taskSubmittedEventDetails"] for event in events if event["type"] == "TaskSubmitted"]
        if tasks.is_activity(resource):
            return self._waiting.activity(resource, params, limits, strand, events)
        if resource.endswith(services.TOKEN) and submitted:
            return self._waiting.callback(limits, strand, lambda: None, events)
        work = services.BY_RESOURCE.get(resource)
        if work and resource.endswith(services.SYNC):
            answer = json.loads(submitted[-1]["output"]) if submitted else {}
            if self._jobs.name(work, params, answer):
                role = self.role(strand.run)
                return self._jobs.wait(resource, params, answer, role=role, scope=strand.scope, timeout=limits.timeout)
        raise TaskFailed(f"{work.errors.prefix}.{work.errors.general}" if work else "Lambda.ServiceException", _STOPPED)

    def _limits(self, state: dict, data: Any, strand: Strand) -> Limits:
        """Return a task's limits, given, computed, or found where a path says. Raises TaskFailed."""
        return Limits(*(self._seconds_of(state, name, data, strand) for name in ("TimeoutSeconds", "HeartbeatSeconds")))

    def _seconds_of(self, state: dict, name: str, data: Any, strand: Strand) -> float | None:
        states = self._ministack.states
        if f"{name}Path" in state:
            value = states._resolve_path_or_ctx(state[f"{name}Path"], data, strand.context)
        elif isinstance(state.get(name), str):
            value = states._jsonata_state_field(state, name, "number", data, strand.context)
        else:
            value = state.get(name)
        if value is None and f"{name}Path" not in state:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise strand.fatal(f"The {name} must be a positive integer, not {value!r}.")
        return float(value)

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


def _with_metadata(answer: Params) -> Params:
    """Return an answer as a task gives it out: with a word about the call that it came from."""
    call = {"SdkHttpMetadata": {"HttpStatusCode": 200}, "SdkResponseMetadata": {"RequestId": str(uuid.uuid4())}}
    return {**answer, **call}


def _named(resource: str) -> tuple[str, dict[str, str]]:
    """Return which kind of events tells of a task, and how they name what it calls."""
    if resource.startswith(services.INTEGRATION):
        service, _, operation = resource.removeprefix(services.INTEGRATION).rpartition(":")
        return "Task", {"resourceType": service, "resource": operation}
    return ("Activity" if tasks.is_activity(resource) else "LambdaFunction"), {"resource": resource}


def until(moment: str) -> float:
    """Return the seconds from now to a moment in ISO 8601, less than none when it has passed."""
    return (dt.datetime.fromisoformat(moment.replace("Z", "+00:00")) - dt.datetime.now(dt.UTC)).total_seconds()

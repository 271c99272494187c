"""Step Functions: tasks that run as the machine's role, true stops and timeouts."""

import contextvars
import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from helpers.local_aws.seam.definitions import DefinitionHooks
from helpers.local_aws.seam.guard import guarded
from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.identity import Identity
from helpers.local_aws.states import tasks
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Site

EXECUTION_NAME = re.compile(r"""[^\s\x00-\x1f\x7f-\x9f<>{}\[\]?*"#%\\^|~`$&,;:/]{1,80}""")
LAST_EVENTS = ("ExecutionSucceeded", "ExecutionFailed", "ExecutionAborted", "ExecutionTimedOut")
MAX_INPUT = 262_144  # characters of an execution's input


@dataclass(frozen=True)
class _Running:
    """The execution whose task a thread is running."""

    arn: str
    role_arn: str
    name: str


class ExecutionHooks:
    """What differs from ministack's executions."""

    def __init__(self, site: Site, ministack: Ministack, identity: Identity) -> None:
        self._site, self._ministack, self._identity = site, ministack, identity
        self._running: contextvars.ContextVar[_Running | None] = contextvars.ContextVar("running", default=None)

    def install(self, processing: tasks.ProcessingTasks) -> None:
        """Add the SageMaker integration, the checks on creation, and true stops and timeouts."""
        self._install_tasks(processing)
        self._install_function_tasks()
        self._install_endings()
        DefinitionHooks(self._site, self._ministack, self._identity).install()
        self._install_executions(processing)

    def _execution_role(self) -> tuple[str, Caller]:
        """Return the execution whose task this thread runs, and its machine's role. Raises ministack's error."""
        current = self._running.get()
        if current is None:
            raise self._ministack.states._ExecutionError("States.Runtime", "a task ran outside of an execution")
        try:
            return current.arn, self._identity.role_caller(current.role_arn, "states.amazonaws.com", current.name[:64])
        except AwsError as error:
            raise self._ministack.states._ExecutionError("States.Runtime", error.message) from error

    def _install_tasks(self, processing: tasks.ProcessingTasks) -> None:
        """Run processing jobs as tasks, and no task in an execution that has ended."""
        states = self._ministack.states
        execute_task, invoke = states._execute_task, states._invoke_resource
        with_timeout = states._invoke_resource_with_timeout

        def run_task(state: dict, task_input: Any, execution: dict, ctx: dict) -> Any:
            machine = states._state_machines[execution["stateMachineArn"]]
            self._running.set(_Running(execution["executionArn"], machine["roleArn"], execution["name"]))
            return execute_task(state, task_input, execution, ctx)

        def process(resource: str, params: Params, timeout: float | None = None) -> Params:
            execution, caller = self._execution_role()
            try:
                return processing.run(resource, params, execution=execution, role=caller, timeout=timeout)
            except tasks.TaskFailed as failure:
                raise states._ExecutionError(failure.error, failure.cause) from failure

        def require_running() -> None:
            current = self._running.get()
            if current and states._executions[current.arn]["status"] != "RUNNING":
                # No Retry matches this error: nothing starts in an execution that has ended.
                raise states._ExecutionError("States.Runtime", "the execution has ended")

        def invoke_while_running(resource: str, params: Any) -> Any:
            require_running()
            try:
                tasks.require_supported([resource])
            except AwsError as error:  # TestState, and machines of a state folder from before
                raise states._ExecutionError("States.Runtime", error.message) from error
            return invoke(resource, params)

        def invoke_with_timeout(resource: str, params: Any, timeout: float) -> Any:
            require_running()
            if resource.startswith(tasks.PREFIX):
                return process(resource, params, timeout)
            return with_timeout(resource, params, timeout)

        states._execute_task = run_task
        states._SERVICE_DISPATCH[tasks.PREFIX] = process
        states._invoke_resource, states._invoke_resource_with_timeout = invoke_while_running, invoke_with_timeout

    def _install_function_tasks(self) -> None:
        call_lambda = self._ministack.states._call_lambda

        def invoke_lambda(func_ref: str, event: Any) -> Any:
            _, _, name = self._ministack.functions._get_func_record_for_ref(func_ref)
            _, caller = self._execution_role()
            try:
                arn = self._site.arn("lambda", f"function:{name}")
                caller.require(Permission("lambda:InvokeFunction", arn))
            except AwsError as error:
                raise self._ministack.states._ExecutionError("Lambda.AWSLambdaException", error.message) from error
            return call_lambda(func_ref, event)

        self._ministack.states._call_lambda = invoke_lambda

    def _install_endings(self) -> None:
        """Keep how an execution ended: its thread goes on until its task returns."""
        states = self._ministack.states
        add_event, fail, error_matches = states._add_event, states._fail_execution, states._error_matches

        def add_event_until_the_end(execution: dict, kind: str, details: dict | None = None) -> dict:
            ended = execution["events"] and execution["events"][-1]["type"] in LAST_EVENTS
            return {} if ended else add_event(execution, kind, details)

        def fail_if_running(execution: dict, error: str, cause: str) -> None:
            if execution["status"] == "RUNNING":
                fail(execution, error, cause)

        def matches(names: Sequence[str], error: str) -> bool:
            # On AWS too these end an execution: States.ALL and States.TaskFailed do not match them.
            if error in ("States.Runtime", "States.DataLimitExceeded"):
                return error in names
            return error_matches(names, error)

        states._add_event, states._fail_execution, states._error_matches = (
            add_event_until_the_end, fail_if_running, matches,
        )  # fmt: skip

    def _install_executions(self, processing: tasks.ProcessingTasks) -> None:
        """Starting twice is harmless, stopping stops the jobs, and a machine's own timeout ends it."""
        states = self._ministack.states
        start, stop, emit = states._start_execution, states._stop_execution, states._emit_execution_status_event
        timers: dict[str, threading.Timer] = {}

        def start_execution(data: dict) -> tuple:
            arn = _execution_arn(data)
            known = states._executions.get(arn) if arn else None
            if known and known["status"] == "RUNNING" and known["input"] == data.get("input", "{}"):
                answer = {"executionArn": arn, "startDate": known["startDate"]}
                return 200, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(answer).encode()
            result = start(data)
            if result[0] == 200:
                watch(json.loads(result[2])["executionArn"])
            return result

        def watch(arn: str) -> None:
            machine = states._state_machines[states._executions[arn]["stateMachineArn"]]
            seconds = json.loads(machine["definition"]).get("TimeoutSeconds")
            if seconds:
                context = contextvars.copy_context()
                timer = threading.Timer(seconds, context.run, (time_out, arn))
                timer.daemon = True
                timers[arn] = timer
                timer.start()

        def emit_and_forget(execution: dict) -> None:
            if execution["status"] != "RUNNING" and (timer := timers.pop(execution["executionArn"], None)):
                timer.cancel()
            emit(execution)

        def time_out(arn: str) -> None:
            execution = states._executions.get(arn)
            if not execution or execution["status"] != "RUNNING":
                return
            execution.update(status="TIMED_OUT", stopDate=states.now_iso(), error="States.Timeout")
            states._add_event(execution, "ExecutionTimedOut", {"executionTimedOutEventDetails": {}})
            states._emit_execution_status_event(execution)
            processing.stop(arn)

        def stop_execution(data: dict) -> tuple:
            result = stop(data)
            if result[0] == 200:
                processing.stop(data["executionArn"])
            return result

        states._start_execution = guarded(_check_start, start_execution)
        states._stop_execution = stop_execution
        states._emit_execution_status_event = emit_and_forget


def _check_start(data: dict) -> None:
    """Refuse what StartExecution refuses: a name or an input that is none. Raises AwsError."""
    name, text = data.get("name"), data.get("input", "{}")
    if name is not None and not EXECUTION_NAME.fullmatch(name):
        raise AwsError("InvalidName", f"Invalid Name: '{name}'")
    if len(text) > MAX_INPUT:
        problem = f"Member must have length less than or equal to {MAX_INPUT}"
        raise AwsError(
            "ValidationException",
            f"1 validation error detected: Value at 'input' failed to satisfy constraint: {problem}",
        )
    try:
        json.loads(text)
    except ValueError as error:
        raise AwsError("InvalidExecutionInput", f"Invalid State Machine Execution Input: '{error}'") from None


def _execution_arn(data: dict) -> str | None:
    if not data.get("name"):
        return None
    return f"{data.get('stateMachineArn', '').replace(':stateMachine:', ':execution:')}:{data['name']}"

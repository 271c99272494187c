"""Step Functions: executions that start at once, run as the machine's role, stop when told, and take little room."""

import json
import logging
import threading
from typing import Any

from helpers.local_aws.seam.activities import ActivityHooks
from helpers.local_aws.seam.calls import TaskCalls, until
from helpers.local_aws.seam.definitions import DefinitionHooks
from helpers.local_aws.seam.guard import guarded
from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.identity import Identity, RoleSession
from helpers.local_aws.seam.runs import Run
from helpers.local_aws.seam.waiting import TokenTasks
from helpers.local_aws.seam.walker import Walker
from helpers.local_aws.states import failures, histories, names, resuming
from helpers.local_aws.states.activities import ActivityQueues
from helpers.local_aws.states.callbacks import Callbacks, Tokens, key_in
from helpers.local_aws.states.deadlines import Deadline, Deadlines
from helpers.local_aws.states.jobs import JobTasks
from helpers.local_aws.states.scopes import Scope
from helpers.local_aws.wire import AwsError, Site

logger = logging.getLogger(__name__)

_RESTARTED = "States.ServiceRestart"  # ministack's error of executions that a stop interrupted


class ExecutionHooks:
    """What differs from ministack's executions."""

    def __init__(self, site: Site, ministack: Ministack, identity: Identity) -> None:
        self._site, self._ministack, self._identity = site, ministack, identity
        self._states = ministack.states
        self._runs: dict[str, Run] = {}
        self._deadlines = Deadlines()
        self._timeouts: dict[str, Deadline] = {}
        # Of executions that were running when the embedded AWS stopped: None is the start.
        self._places: dict[str, resuming.Place | None] = {}
        self._cut_off: list[dict[str, Any]] = []  # records of those that cannot go on
        self._closing = False
        self._callbacks, self._queues = Callbacks(Tokens(key_in(site.state_dir / "task-tokens.key"))), ActivityQueues()
        self._activities = ActivityHooks(site, ministack, self._callbacks, self._queues)

    def install(self, jobs: JobTasks) -> None:
        """Run executions by our walker, and answer for those that have ended."""
        self._jobs = jobs
        waiting = TokenTasks(self._ministack, self._callbacks, self._queues)
        calls = TaskCalls(self._site, self._ministack, jobs, waiting)
        calls.install()
        self._activities.install()
        self._identity.token_resource = self._callbacks.tokens.resource
        self._walker = Walker(self._site, self._ministack, calls, self._child)
        DefinitionHooks(self._site, self._ministack, self._identity).install()
        self._install_errors()
        self._install_executions()
        self._install_saving()

    def resume(self) -> None:
        """Go on with the executions that were running when the embedded AWS was stopped."""
        for arn in list(self._places):
            threading.Thread(target=self._execute, args=(arn,), name=f"execution {arn}", daemon=True).start()
        if self._cut_off:
            threading.Thread(target=self._abandon, name="work of executions that were cut off", daemon=True).start()

    def _abandon(self) -> None:
        """Stop what executions that cannot go on waited for, such as jobs in a queue, as their end would have."""
        while self._cut_off and not self._closing:
            record = self._cut_off.pop()
            machine = self._states._state_machines.get(record["stateMachineArn"].partition("/")[0])
            work = list(resuming.submitted(record["events"]))
            if machine is None or not work:
                continue
            session = self._identity.open_session(machine["roleArn"], "states.amazonaws.com", record["name"][:64])
            try:
                for resource, params, answer in work:
                    self._jobs.abandon(resource, params, answer, session.caller())
            except AwsError as error:  # the role is gone, or does not trust Step Functions any more
                logger.warning("%s: its work goes on: %s", record["executionArn"], error.message)
            finally:
                session.close()

    def close(self) -> None:
        """Leave running executions as they are: what the stop does to their jobs and functions does not count."""
        self._closing = True
        for run in list(self._runs.values()):
            run.freeze()
        self._activities.close()

    def _install_errors(self) -> None:
        error_matches = self._states._error_matches

        def matches(handled: list[str], error: str) -> bool:
            # On AWS too these end an execution: States.ALL and States.TaskFailed do not match them.
            if error in ("States.Runtime", "States.DataLimitExceeded"):
                return error in handled
            if error == failures.HEARTBEAT:  # which is a States.Timeout too
                return error in handled or error_matches(handled, failures.TIMEOUT)
            return error_matches(handled, error)

        self._states._error_matches = matches

    def _install_executions(self) -> None:
        """Starting twice is harmless, executions run at once, and stopping one stops all that runs in it."""
        states = self._states
        start, stop = states._start_execution, states._stop_execution

        def start_execution(data: dict) -> tuple:
            arn = _execution_arn(data)
            known = states._executions.get(arn) if arn else None
            if known and known["status"] == "RUNNING" and known["input"] == data.get("input", "{}"):
                return _answer({"executionArn": arn, "startDate": known["startDate"]})
            return start(data)

        def stop_execution(data: dict) -> tuple:
            run = self._runs.get(data.get("executionArn", ""))
            if run is None or not run.end("ABORTED", error=data.get("error"), cause=data.get("cause")):
                return stop(data)
            return _answer({"stopDate": run.record["stopDate"]})

        states._start_execution = guarded(_check_start, start_execution)
        states._stop_execution = stop_execution
        states._run_execution = self._execute

    def _execute(self, arn: str) -> None:
        """Run an execution that was recorded, in the thread that ministack made for it."""
        states, record = self._states, self._states._executions[arn]
        if self._closing or record["status"] != "RUNNING":  # it may have been stopped before this thread began
            return
        machine = states._state_machines.get(record["stateMachineArn"])
        if machine is None:
            states._fail_execution(record, "StateMachineDeleted", "the state machine was deleted before it ran")
            return
        role_arn, name = machine["roleArn"], record["name"]
        session = self._identity.open_session(role_arn, "states.amazonaws.com", name[:64])
        scope = Scope(idle=session.close)  # a job that is being stopped needs it for longer than the execution lasts
        run = self._runs[arn] = Run(record, session, now=states.now_iso, ended=self._ended, scope=scope)
        definition, given = json.loads(machine["definition"]), json.loads(record["input"])
        place = self._places.pop(arn, None)
        if seconds := definition.get("TimeoutSeconds"):
            left = seconds + min(0.0, until(record["startDate"]))
            self._timeouts[arn] = self._deadlines.after(left, lambda: run.end("TIMED_OUT", error="States.Timeout"))
        if place is None:
            run.begin()
        context = {
            "QueryLanguage": definition.get("QueryLanguage", "JSONPath"),
            "Execution": {
                "Id": arn, "Input": given, "Name": name, "RoleArn": role_arn, "StartTime": record["startDate"],
            },
            "StateMachine": {"Id": record["stateMachineArn"], "Name": machine["name"]},
        }  # fmt: skip
        with scope.working():
            self._walker.execute(run, definition, given, context, place)

    def _ended(self, run: Run) -> None:
        """Tell EventBridge, then keep the execution in little room and let go of the rest."""
        self._runs.pop(run.arn, None)
        if deadline := self._timeouts.pop(run.arn, None):
            self._deadlines.cancel(deadline)
        self._states._emit_execution_status_event(run.record)
        self._keep(run)

    def _child(self, record: dict[str, Any], session: RoleSession, scope: Scope) -> Run:
        """Return the run of a child execution, which its parent's session serves."""
        self._states._executions[record["executionArn"]] = record
        run = Run(record, session, now=self._states.now_iso, ended=self._keep, scope=scope)
        run.begin()
        return run

    def _keep(self, run: Run) -> None:
        place = self._site.account_id, self._site.region, run.arn
        self._states._executions.set_scoped(*place, histories.Ended.of(run.record))

    def _install_saving(self) -> None:
        """Load histories as they were saved, in little room. What was running goes on if its history tells where."""
        restore = self._states.load_persisted_state

        def load(data: dict) -> None:
            restore(data)
            executions = self._states._executions
            for key, record in list(executions._data.items()):
                if record.get("error") == _RESTARTED and self._find_place(record):
                    continue
                if record.get("error") == _RESTARTED and "packed" not in record:
                    self._cut_off.append(dict(record))
                executions._data[key] = histories.Ended(record) if "packed" in record else histories.Ended.of(record)
            for run in self._states._map_runs.all_values():
                if run["status"] == "RUNNING":
                    run.update(status="FAILED", stopDate=self._states.now_iso())

        self._states.load_persisted_state = load

    def _find_place(self, record: dict[str, Any]) -> bool:
        """Note where an execution goes on that ministack has declared failed; False where nothing tells."""
        machine = self._states._state_machines.get(record["stateMachineArn"])
        if machine is None or record.get("mapRunArn") or "packed" in record:
            return False
        definition = json.loads(machine["definition"])
        place = resuming.place(definition, record["events"], record.get("variables", {}))
        if place is None and not resuming.has_not_begun(record["events"]):
            return False
        record.update(status="RUNNING", stopDate=None, error=None, cause=None)
        self._places[record["executionArn"]] = place
        return True


def _check_start(data: dict) -> None:
    """Refuse what StartExecution refuses: a name or an input that is none. Raises AwsError."""
    name, text = data.get("name"), data.get("input", "{}")
    if name is not None:
        names.require(name)
    if histories.too_large(text):
        problem = f"Member must have length less than or equal to {histories.MAX_BYTES}"
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


def _answer(document: dict[str, Any]) -> tuple:
    return 200, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(document).encode()

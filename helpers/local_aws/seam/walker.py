"""Step Functions: the walk through the states of a machine.

ministack walks without writing what happens inside a Map or a Parallel state, sleeps
through stops, and holds each execution back before its first state. How a state's data
is selected and shaped stays ministack's.
"""

import logging
import random
from collections.abc import Callable, Mapping
from typing import Any

from helpers.local_aws.seam.calls import TaskCalls
from helpers.local_aws.seam.fanout import inline_map, parallel
from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.mapinputs import MapInputs
from helpers.local_aws.seam.mapruns import MapRuns
from helpers.local_aws.seam.runs import Run, Strand
from helpers.local_aws.states import maps, resuming
from helpers.local_aws.states.failures import TaskFailed
from helpers.local_aws.states.scopes import Cancelled
from helpers.local_aws.wire import Site

Outcome = tuple[Any, str | None]  # a state's output, and the state that follows

logger = logging.getLogger(__name__)


class Walker:
    """Run state machines as the Amazon States Language defines them."""

    def __init__(self, site: Site, ministack: Ministack, calls: TaskCalls, new_run: Callable[..., Run]) -> None:
        """Make ready. ``new_run(record, session, scope)`` makes the run of a child execution."""
        self._language, self._calls, self._inputs = ministack.states, calls, MapInputs(ministack)
        self._map_runs = MapRuns(site, ministack, calls, self._inputs, new_run)
        self._kinds: dict[str, Callable[[dict, Any, Strand], Outcome]] = {
            "Pass": self._pass, "Task": self._task, "Choice": self._choice, "Wait": self._wait,
            "Succeed": self._succeed, "Fail": self._fail, "Parallel": self._parallel, "Map": self._map,
        }  # fmt: skip

    def execute(
        self,
        run: Run,
        definition: Mapping[str, Any],
        data: Any,
        context: dict[str, Any],
        resumed: resuming.Place | None = None,
    ) -> None:
        """Walk an execution to its end, from its start or where it was ``resumed``, and write down how it ended."""
        strand = Strand(run, run.scope, {"QueryLanguage": "JSONPath", "variables": {}, **context})
        try:
            run.output = self.walk(definition, data, strand, resumed)
            run.end("SUCCEEDED", strand.last, output=strand.check("", run.output))
        except Cancelled:
            return
        except (TaskFailed, self._language._ExecutionError) as failure:
            run.end("FAILED", strand.last, error=failure.error or None, cause=failure.cause)
        except Exception as problem:
            logger.exception("the execution %s", run.arn)
            run.end("FAILED", strand.last, error="States.Runtime", cause=str(problem))

    def walk(self, machine: Mapping[str, Any], data: Any, strand: Strand, resumed: resuming.Place | None = None) -> Any:
        """Run the states of ``machine`` one after the other, from the first or where it was ``resumed``.

        Returns the last one's output.

        Raises TaskFailed with a state's error that nothing caught, and Cancelled.
        """
        self._calls.enter(strand)
        name: str | None = machine["StartAt"]
        if resumed:
            strand.context["variables"] = dict(resumed.variables)
            name, data, strand.last, strand.interrupted = resumed.state, resumed.data, resumed.last, resumed.interrupted
            strand.entered = resumed.entry
        while name:
            state = machine["States"][name]
            if strand.scope is strand.run.scope:  # an execution's own states: what it would be resumed with
                strand.run.record["variables"] = strand.context["variables"]
            entered = resumed.entered if resumed else self._language.now_iso()
            strand.context["State"] = {"Name": name, "EnteredTime": entered, "RetryCount": 0}
            if not resumed:
                strand.enter(state["Type"], name, data)
            resumed = None
            try:
                data, following = self._kinds[state["Type"]](state, data, strand)
            except self._language._ExecutionError as error:
                raise TaskFailed(error.error, error.cause) from error
            strand.leave(state["Type"], name, data)
            name = following
        return data

    def _pass(self, state: dict, data: Any, strand: Strand) -> Outcome:
        return self._language._execute_pass(state, data, strand.context)

    def _choice(self, state: dict, data: Any, strand: Strand) -> Outcome:
        return self._language._execute_choice(state, data, strand.context)

    def _succeed(self, state: dict, data: Any, strand: Strand) -> Outcome:
        language = self._language
        if self._jsonata(state, strand):
            return language._apply_jsonata_output(state, data, strand.context, default=data), None
        chosen = language._apply_input_path(state, data, strand.context)
        return language._apply_output_path(state, chosen, strand.context), None

    def _fail(self, state: dict, data: Any, strand: Strand) -> Outcome:
        raise TaskFailed(*self._language._fail_state_error(state, data, strand.context))

    def _wait(self, state: dict, data: Any, strand: Strand) -> Outcome:
        """Wait as ministack would, but wake up when the execution is stopped."""
        language = self._language
        entered = strand.context["State"]["EnteredTime"]
        strand.scope.sleep(self._calls.waiting_seconds(state, data, strand.context, entered))
        if self._jsonata(state, strand):
            output = language._apply_jsonata_output(state, data, strand.context, default=data)
            language._apply_state_assign(state, data, strand.context)
            return output, language._next_or_end(state)
        chosen = language._apply_input_path(state, data, strand.context)
        return language._apply_output_path(state, chosen, strand.context), language._next_or_end(state)

    def _task(self, state: dict, data: Any, strand: Strand) -> Outcome:
        def once() -> Any:
            self._calls.give_token(state["Resource"], strand)
            result = self._calls.run(state, data, self._arguments(state, data, strand), strand)
            return self._shape(state, data, strand, result)

        return self._attempts(state, data, strand, once)

    def _parallel(self, state: dict, data: Any, strand: Strand) -> Outcome:
        def once() -> Any:
            branches = parallel(state, self._arguments(state, data, strand), strand, self.walk)
            return self._shape(state, data, strand, branches)

        return self._attempts(state, data, strand, once)

    def _map(self, state: dict, data: Any, strand: Strand) -> Outcome:
        def once() -> Any:
            chosen = self._language._apply_input_path(state, data, strand.context)
            if maps.is_distributed(state):
                results = self._map_runs.run(state, data, chosen, strand, self.execute)
            else:
                results = inline_map(state, data, chosen, strand, self.walk, self._inputs)
            return self._shape(state, data, strand, results)

        return self._attempts(state, data, strand, once)

    def _attempts(self, state: dict, data: Any, strand: Strand, once: Callable[[], Any]) -> Outcome:
        """Try, and try again as Retry says; then go where Catch says. Raises TaskFailed that nothing caught."""
        language, entered = self._language, strand.context["State"]
        counts: dict[int, int] = {}
        while True:
            strand.context["State"] = {**entered, "RetryCount": sum(counts.values())}
            try:
                return once(), language._next_or_end(state)
            except (TaskFailed, language._ExecutionError) as failure:
                known_as = failure.handled_as if isinstance(failure, TaskFailed) else failure.error
                retrier, index = language._find_matching_retrier(state.get("Retry", []), known_as, counts)
                if retrier is not None:
                    strand.scope.sleep(_pause(retrier, counts.get(index, 0)))
                    counts[index] = counts.get(index, 0) + 1
                    continue
                catcher = language._find_matching_catcher(state.get("Catch", []), known_as)
                if catcher is None:
                    raise
                told = {"Error": failure.error, "Cause": failure.cause or ""}
                query = language._state_query_language(state, strand.context)
                return language._apply_catcher(catcher, data, strand.context, query, told), catcher["Next"]

    def _arguments(self, state: dict, data: Any, strand: Strand) -> Any:
        language = self._language
        if self._jsonata(state, strand):
            return language._apply_jsonata_arguments(state, data, strand.context)
        chosen = language._apply_input_path(state, data, strand.context)
        return language._apply_parameters(state, chosen, strand.context)

    def _shape(self, state: dict, data: Any, strand: Strand, result: Any) -> Any:
        """Return a state's output: its result, selected and put where the state says. Raises TaskFailed."""
        language = self._language
        strand.check(strand.context["State"]["Name"], result)
        if self._jsonata(state, strand):
            output = language._apply_jsonata_output(state, data, strand.context, result=result, default=result)
            language._apply_state_assign(state, data, strand.context, result=result)
            return output
        selected = result
        if state.get("ResultSelector"):
            selected = language._resolve_params_obj(state["ResultSelector"], result, strand.context)
        return language._apply_output_path(state, language._apply_result_path(state, data, selected), strand.context)

    def _jsonata(self, state: dict, strand: Strand) -> bool:
        return self._language._state_query_language(state, strand.context) == "JSONata"


def _pause(retrier: Mapping[str, Any], count: int) -> float:
    """Return the seconds before the next attempt."""
    seconds = retrier.get("IntervalSeconds", 1) * retrier.get("BackoffRate", 2.0) ** count
    seconds = min(seconds, retrier.get("MaxDelaySeconds", seconds))
    return random.uniform(0, seconds) if retrier.get("JitterStrategy") == "FULL" else seconds  # noqa: S311

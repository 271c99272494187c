"""Distributed Map: items read as the machine's role, each an execution of its own, counted by a Map Run."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from helpers.local_aws.seam.calls import TaskCalls
from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.mapinputs import MapInputs
from helpers.local_aws.seam.runs import Run, Strand
from helpers.local_aws.seam.together import Together
from helpers.local_aws.states import items, maps, tasks
from helpers.local_aws.states.failures import TaskFailed
from helpers.local_aws.states.histories import text_of
from helpers.local_aws.states.scopes import Cancelled, Scope
from helpers.local_aws.wire import AwsError, Caller, Site

WIDTH = 100  # child executions at once, whatever more a definition asks for: this is one machine
_COUNTED = ("pending", "running", "succeeded", "failed", "timedOut", "aborted", "total", "resultsWritten")
_EXCEEDED = "States.ExceedToleratedFailureThreshold"

# Runs a child execution to its end: its run, its machine's states, its input and its context.
Execute = Callable[[Run, Mapping[str, Any], Any, dict[str, Any]], None]


@dataclass(frozen=True)
class Tolerance:
    """How many items may fail."""

    count: float | None
    percentage: float | None

    def exceeded(self, failed: int, total: int) -> bool:
        """Whether ``failed`` of ``total`` are too many. Where neither limit is set, one is."""
        if self.count is None and self.percentage is None:
            return failed > 0
        too_many = self.count is not None and failed > self.count
        return too_many or (self.percentage is not None and failed * 100 > self.percentage * total)


class MapRuns:
    """Run Distributed Map states."""

    def __init__(
        self, site: Site, ministack: Ministack, calls: TaskCalls, inputs: MapInputs, new_run: Callable[..., Run]
    ) -> None:
        self._site, self._language, self._calls, self._inputs = site, ministack.states, calls, inputs
        self._new_run = new_run

    def run(self, state: dict, data: Any, effective: Any, strand: Strand, execute: Execute) -> list[Any]:
        """Return what the child executions that succeeded give out, in the order of items. Raises TaskFailed."""
        strand.event("MapStateStarted", length=0)
        role = self._permitted_role(strand)
        try:
            values = self._items(state, data, effective, strand, role)
            run = _MapRun(self, state, data, effective, strand, values, execute)
        except TaskFailed:
            strand.event("MapStateFailed")
            raise
        strand.event("MapRunStarted", mapRunArn=run.arn)
        try:
            results = run.run()
        except TaskFailed as failure:
            strand.event("MapRunFailed", error=failure.error, cause=failure.cause)
            strand.event("MapStateFailed")
            raise
        strand.event("MapRunSucceeded")
        strand.event("MapStateSucceeded")
        return results

    def _permitted_role(self, strand: Strand) -> Caller:
        """Return the machine's role. Raises TaskFailed unless it may start and follow executions of the machine."""
        role = self._calls.role(strand.run)
        try:
            role.require(*tasks.map_permissions(strand.run.record["stateMachineArn"]))
        except AwsError as error:
            strand.event("MapStateFailed")
            raise TaskFailed("States.Permissions", error.message) from error
        return role

    def _items(self, state: dict, data: Any, effective: Any, strand: Strand, role: Caller) -> list[Any]:
        reader = state.get("ItemReader")
        if reader is None:
            return self._inputs.items(state, data, effective, strand)
        language = self._language
        params = language._resolve_params_obj(reader.get("Parameters") or {}, effective, strand.context)
        if "Arguments" in reader:
            params = language._apply_jsonata_template(reader["Arguments"], data, strand.context)
        config = reader.get("ReaderConfig") or {}
        try:
            found = self._read(reader["Resource"], params, config, role)
        except (TaskFailed, ValueError) as problem:
            cause = problem.cause if isinstance(problem, TaskFailed) else f"The items could not be read: {problem}"
            raise TaskFailed("States.ItemReaderFailed", cause) from problem
        most = self._inputs.number(config, "MaxItems", data, effective, strand)
        return found[: int(most)] if most else found

    def _read(self, resource: str, params: dict, config: Mapping[str, Any], role: Caller) -> list[Any]:
        s3 = self._calls.s3
        if resource.endswith(":getObject"):
            return items.parse(s3.answer("GetObject", params, role)["Body"].decode(), config)
        listed: list[Any] = []
        token: dict[str, str] = {}
        while True:
            page = s3.answer("ListObjectsV2", {**params, **token}, role)
            listed += [
                {
                    "Etag": item["ETag"], "Key": item["Key"], "LastModified": int(item["LastModified"].timestamp()),
                    "Size": item["Size"], "StorageClass": item["StorageClass"],
                }
                for item in page.get("Contents", [])
            ]  # fmt: skip
            if not page["IsTruncated"]:
                return listed
            token = {"ContinuationToken": page["NextContinuationToken"]}


class _MapRun:
    """One run of a Distributed Map."""

    def __init__(
        self,
        owner: MapRuns,
        state: dict,
        data: Any,
        effective: Any,
        strand: Strand,
        values: list[Any],
        execute: Execute,
    ) -> None:
        self._owner, self._state, self._data, self._effective = owner, state, data, effective
        self._strand, self._values, self._execute = strand, values, execute
        self._lock = threading.Lock()
        number = owner._inputs.number
        limits = [number(state, f"ToleratedFailure{name}", data, effective, strand) for name in ("Count", "Percentage")]
        self._tolerance = Tolerance(*limits)
        self._width = int(number(state, "MaxConcurrency", data, effective, strand) or 0)
        machine = strand.run.record["stateMachineArn"].rpartition(":")[2]
        language = owner._language
        self._label = f"{machine}/{state.get('Label') or language.new_uuid()}"
        self.arn = owner._site.arn("states", f"mapRun:{self._label}:{language.new_uuid()}")
        self._record = self._new_record(limits)
        language._map_runs[self.arn] = self._record

    def run(self) -> list[Any]:
        undo = self._strand.scope.on_cancel(lambda: self._close("ABORTED"))
        together = Together(
            self._strand.scope, len(self._values), min(self._width or WIDTH, WIDTH),
            lambda index, scope, last: (self._child(index, scope), last),
        )  # fmt: skip
        try:
            results = together.run(self._strand.last)
        except TaskFailed:
            self._close("FAILED")
            raise
        finally:
            undo()
        self._close("SUCCEEDED")
        return [result for succeeded, result in results if succeeded]

    def _child(self, index: int, scope: Scope) -> tuple[bool, Any]:
        """Run an item as an execution of its own. Raises TaskFailed when one item too many has failed."""
        owner, language = self._owner, self._owner._language
        own = self._strand.branch(scope, Map={"Item": {"Index": index, "Value": self._values[index]}})
        given = owner._inputs.item_input(self._state, self._data, self._effective, own)
        name, parent = language.new_uuid(), self._strand.run
        record = {
            "executionArn": owner._site.arn("states", f"execution:{self._label}:{name}"),
            "stateMachineArn": self._record["_stateMachineArn"], "name": name, "status": "RUNNING",
            "startDate": language.now_iso(), "stopDate": None, "input": text_of(given), "output": None,
            "mapRunArn": self.arn, "events": [], "sync": True,
        }  # fmt: skip
        self._count("running", "pending")
        inner = scope.child()
        run = owner._new_run(record, parent.session, inner)
        undo = scope.on_cancel(lambda: run.end("ABORTED"))
        execution = {"Id": run.arn, "Input": given, "Name": name, "StartTime": record["startDate"]}
        self._execute(run, maps.processor_of(self._state), given, {**own.context, "Execution": execution})
        undo()
        inner.close()
        if scope.cancelled:
            run.end("ABORTED")
        outcome = {"SUCCEEDED": "succeeded", "ABORTED": "aborted"}.get(str(record["status"]), "failed")
        failed = self._count(outcome, "running")
        if scope.cancelled:
            raise Cancelled
        if outcome != "succeeded" and self._tolerance.exceeded(failed, len(self._values)):
            raise TaskFailed(_EXCEEDED, "The specified tolerated failure threshold was exceeded")
        return outcome == "succeeded", run.output

    def _count(self, more: str, less: str) -> int:
        """Move an item from one state to another. Returns how many have failed."""
        with self._lock:
            for counts in (self._record["itemCounts"], self._record["executionCounts"]):
                counts[more] += 1
                counts[less] -= 1
            return sum(self._record["itemCounts"][name] for name in ("failed", "aborted"))

    def _close(self, status: str) -> None:
        with self._lock:
            if self._record["status"] != "RUNNING":
                return
            if status != "SUCCEEDED":  # what had not started never will
                for counts in (self._record["itemCounts"], self._record["executionCounts"]):
                    counts["aborted"] += counts["pending"]
                    counts["pending"] = 0
            self._record.update(status=status, stopDate=self._owner._language.now_iso())

    def _new_record(self, limits: list[float | None]) -> dict[str, Any]:
        total = len(self._values)
        counts = dict.fromkeys(_COUNTED, 0) | {"total": total, "pending": total}
        return {
            "mapRunArn": self.arn, "executionArn": self._strand.run.arn, "status": "RUNNING",
            "startDate": self._owner._language.now_iso(), "maxConcurrency": self._width,
            "toleratedFailureCount": int(limits[0] or 0), "toleratedFailurePercentage": float(limits[1] or 0),
            "itemCounts": dict(counts), "executionCounts": dict(counts), "redriveCount": 0,
            "_stateMachineArn": self._owner._site.arn("states", f"stateMachine:{self._label}"),
        }  # fmt: skip

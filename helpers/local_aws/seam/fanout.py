"""States that run several lines at once inside one execution: Parallel, and Map inline."""

from collections.abc import Callable, Mapping
from typing import Any

from helpers.local_aws.seam.mapinputs import MapInputs
from helpers.local_aws.seam.runs import Strand
from helpers.local_aws.seam.together import Together
from helpers.local_aws.states import maps
from helpers.local_aws.states.failures import TaskFailed
from helpers.local_aws.states.scopes import Scope

Walk = Callable[[Mapping[str, Any], Any, Strand], Any]


def parallel(state: dict, data: Any, strand: Strand, walk: Walk) -> list[Any]:
    """Return what the branches give out, in their order. Raises TaskFailed."""
    strand.event("ParallelStateStarted")
    ends = [strand.last]

    def branch(index: int, scope: Scope, last: int) -> tuple[Any, int]:
        own = strand.branch(scope)
        own.last = last
        try:
            return walk(state["Branches"][index], data, own), own.last
        finally:
            ends.append(own.last)

    count = len(state["Branches"])
    together = Together(strand.scope, count, count, branch)
    return _finish("Parallel", strand, together, ends)


def inline_map(state: dict, data: Any, effective: Any, strand: Strand, walk: Walk, inputs: MapInputs) -> list[Any]:
    """Return what the items give out, in their order. ``effective``: the input after InputPath. Raises TaskFailed."""
    values = inputs.items(state, data, effective, strand)
    width = inputs.number(state, "MaxConcurrency", data, effective, strand)
    name, processor = strand.context["State"]["Name"], maps.processor_of(state)
    strand.event("MapStateStarted", length=len(values))
    ends = [strand.last]

    def iteration(index: int, scope: Scope, last: int) -> tuple[Any, int]:
        own = strand.branch(scope, Map={"Item": {"Index": index, "Value": values[index]}})
        own.last = last
        own.event("MapIterationStarted", name=name, index=index)
        try:
            result = walk(processor, inputs.item_input(state, data, effective, own), own)
        except TaskFailed:
            own.event("MapIterationFailed", name=name, index=index)
            ends.append(own.last)
            raise
        last = own.last  # on AWS the next item follows on this, not on the end of the iteration
        ends.append(own.event("MapIterationSucceeded", name=name, index=index))
        return result, last

    together = Together(strand.scope, len(values), min(int(width or maps.MAX_INLINE), maps.MAX_INLINE), iteration)
    return _finish("Map", strand, together, ends)


def _finish(kind: str, strand: Strand, together: Together, ends: list[int]) -> list[Any]:
    name = strand.context["State"]["Name"]
    try:
        results = together.run(strand.last)
    except TaskFailed:
        strand.last = max(ends)
        for index in together.cut_off if kind == "Map" else []:
            strand.event("MapIterationAborted", name=name, index=index)
        strand.event(f"{kind}StateFailed")
        raise
    strand.last = max(ends)
    strand.event(f"{kind}StateSucceeded")
    return results

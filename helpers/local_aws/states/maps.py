"""What of Map states the embedded AWS does not run, and what Distributed Map asks of a definition."""

from collections.abc import Iterator, Mapping
from typing import Any

from helpers.local_aws.states.items import INPUT_TYPES

MAX_INLINE = 40  # items of an inline Map at once; more wait
READERS = ("arn:aws:states:::s3:getObject", "arn:aws:states:::s3:listObjectsV2")
_DISTRIBUTED_ONLY: tuple[str, ...] = ("ItemReader", "ItemBatcher", "ResultWriter", "Label", "ToleratedFailureCount")
_DISTRIBUTED_ONLY += ("ToleratedFailureCountPath", "ToleratedFailurePercentage", "ToleratedFailurePercentagePath")


def processor_of(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the machine that runs for each item."""
    found = state.get("ItemProcessor") or state.get("Iterator")
    return found if isinstance(found, dict) else {}


def is_distributed(state: Mapping[str, Any]) -> bool:
    """Whether the items run as executions of their own."""
    return (processor_of(state).get("ProcessorConfig") or {}).get("Mode") == "DISTRIBUTED"


def unsupported(machine: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the Map states of ``machine``, nested ones included, ask for that is not run here."""
    for state in (machine.get("States") or {}).values():
        if not isinstance(state, dict):
            continue
        if state.get("Type") == "Map":
            yield from _of_map(state)
        for inner in [processor_of(state), *(state.get("Branches") or [])]:
            yield from unsupported(inner)


def _of_map(state: Mapping[str, Any]) -> Iterator[str]:
    if not is_distributed(state):
        yield from (f"{name} of an inline Map" for name in _DISTRIBUTED_ONLY if name in state)
        return
    yield from (name for name in ("ItemBatcher", "ResultWriter") if name in state)
    kind = processor_of(state)["ProcessorConfig"].get("ExecutionType", "STANDARD")
    if kind != "STANDARD":
        yield f"child executions of the type {kind}"
    reader = state.get("ItemReader")
    if not isinstance(reader, dict):
        return
    if reader.get("Resource") not in READERS:
        yield f"an ItemReader of {reader.get('Resource')}"
    config = reader.get("ReaderConfig") or {}
    kind = config.get("InputType", "JSON")
    if kind not in INPUT_TYPES:
        yield f"an ItemReader of the type {kind}"
    if "Transformation" in config:
        yield f"the Transformation {config['Transformation']} of an ItemReader"

"""What a Map state says of its items: which they are, what each takes in, how many run at once."""

from typing import Any

from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.runs import Strand
from helpers.local_aws.states.failures import TaskFailed


class MapInputs:
    """Evaluate the fields of Map states."""

    def __init__(self, ministack: Ministack) -> None:
        self._language = ministack.states

    def items(self, state: dict, data: Any, effective: Any, strand: Strand) -> list[Any]:
        """Return the items that a Map finds in its input. Raises TaskFailed."""
        language = self._language
        if self._jsonata(state, strand) and "Items" in state:
            return language._jsonata_state_field(state, "Items", "array", data, strand.context)
        path = state.get("ItemsPath", "$")
        found = language._resolve_path_or_ctx(path, effective, strand.context)
        if not isinstance(found, list):
            raise TaskFailed("States.Runtime", f'Reference path "{path}" must point to array.')
        return found

    def item_input(self, state: dict, data: Any, effective: Any, strand: Strand) -> Any:
        """Return what an item's first state takes in; the strand's context says which item it is."""
        language, selector = self._language, state.get("ItemSelector") or state.get("Parameters")
        if not selector:
            return strand.context["Map"]["Item"]["Value"]
        if self._jsonata(state, strand):
            return language._apply_jsonata_template(selector, data, strand.context)
        return language._resolve_params_obj(selector, effective, strand.context)

    def number(self, state: dict, name: str, data: Any, effective: Any, strand: Strand) -> float | None:
        """Return a number that a Map gives, is told where to find, or computes; None where it says nothing."""
        if f"{name}Path" in state:
            value = self._language._resolve_path_or_ctx(state[f"{name}Path"], effective, strand.context)
        elif isinstance(state.get(name), str):
            value = self._language._jsonata_state_field(state, name, "number", data, strand.context)
        else:
            value = state.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0):
            raise TaskFailed("States.Runtime", f"The {name} of a Map must be a number of 0 or more, not {value!r}")
        return value

    def _jsonata(self, state: dict, strand: Strand) -> bool:
        return self._language._state_query_language(state, strand.context) == "JSONata"

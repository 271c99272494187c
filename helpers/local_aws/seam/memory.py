"""What ministack keeps twice, keeps for ever, or searches from one end to the other with each call."""

from collections.abc import Iterator, Mapping
from typing import Any

from helpers.local_aws.seam import listings
from helpers.local_aws.seam.hooks import Ministack


def install(ministack: Ministack) -> None:
    """Keep what was asked to be kept, once."""
    # Every event that was ever put on a bus: nothing reads it.
    ministack.events._events_log_list = lambda: []
    ministack.logs._log_records = _Records(ministack.logs)
    collect = ministack.s3._collect_list_entries

    def collect_sorted(objects: Any, *args: Any) -> tuple:
        return listings.page(objects, *args) if isinstance(objects, listings.SortedObjects) else collect(objects, *args)

    def sort(*_: Any) -> None:
        for bucket in list(ministack.s3._buckets._data.values()):
            if not isinstance(bucket["objects"], listings.SortedObjects):
                bucket["objects"] = listings.SortedObjects(bucket["objects"])

    def then_sort(call: Any) -> Any:
        def called(*args: Any, **more: Any) -> Any:
            result = call(*args, **more)
            sort()
            return result

        return called

    ministack.s3._collect_list_entries = collect_sorted
    # Where buckets come from, before anything is put into them or listed.
    for name in ("_create_bucket", "load_persisted_state"):
        setattr(ministack.s3, name, then_sort(getattr(ministack.s3, name)))
    sort()


class _Records:
    """ministack's second copy of every log event, by its pointer: made when somebody asks for one."""

    def __init__(self, logs: Any) -> None:
        self._logs = logs

    def __setitem__(self, pointer: str, record: Any) -> None:
        """Keep nothing: the event is in its stream."""

    def __delitem__(self, pointer: str) -> None:
        """Forget nothing: the event went with its stream."""

    def __deepcopy__(self, memo: dict) -> dict:
        return {}

    def get(self, pointer: str, default: Any = None) -> Any:
        for group, stream, event in self._events():
            if event.get("eventId") == pointer:
                return self._logs._build_log_record(
                    ptr=pointer, timestamp_ms=event["timestamp"], message=event["message"],
                    log_group=group, log_stream=stream,
                )  # fmt: skip
        return default

    def items(self) -> list:
        return []

    def clear(self) -> None:
        """Nothing is kept."""

    def update(self, records: Mapping[str, Any]) -> None:
        """Keep nothing of a state saved before."""

    def _events(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        for name, group in self._logs._log_groups.items():
            for stream_name, stream in group["streams"].items():
                for event in stream["events"]:
                    yield name, stream_name, event

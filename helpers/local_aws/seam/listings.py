"""The objects of a bucket, listed without looking at each of them."""

import bisect
from collections.abc import Iterator, Mapping
from typing import Any

_PART = 1001


class SortedObjects(dict):
    """A bucket's objects by key, which also knows its keys in order."""

    def __init__(self, objects: Mapping[str, Any] | None = None) -> None:
        super().__init__(objects or {})
        self._keys: list[str] = sorted(self)

    def __setitem__(self, key: str, value: Any) -> None:
        """Add or replace an object."""
        if key not in self:
            bisect.insort(self._keys, key)
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        """Remove an object."""
        super().__delitem__(key)
        del self._keys[bisect.bisect_left(self._keys, key)]

    def pop(self, key: str, *default: Any) -> Any:
        """Remove an object and return it."""
        if key in self:
            del self._keys[bisect.bisect_left(self._keys, key)]
        return super().pop(key, *default)

    def keys_below(self, prefix: str, after: str = "") -> Iterator[str]:
        """Yield the keys that begin with ``prefix`` and come after ``after``, in order."""
        start = bisect.bisect_right(self._keys, after) if after >= prefix else bisect.bisect_left(self._keys, prefix)
        # By copies of a part: a thread that lists does not see the keys move that another adds.
        while part := self._keys[start : start + _PART]:
            for key in part:
                if not key.startswith(prefix):
                    return
                yield key
            start = bisect.bisect_right(self._keys, part[-1])


def page(objects: SortedObjects, prefix: str, delimiter: str, most: int, after: str) -> tuple[list, list, bool, str]:
    """Return one page of a listing: keys, common prefixes, whether there is more, and where this page ends.

    A key with the delimiter after the prefix stands for its group; ``after`` is a key or a
    whole group, as the page before ended with it.
    """
    keys: list[str] = []
    groups: list[str] = []
    last = ""
    for key in objects.keys_below(prefix, after):
        place = key.find(delimiter, len(prefix)) if delimiter else -1
        row = key if place < 0 else key[: place + len(delimiter)]
        if row == last or row <= after:
            continue  # of the group that was counted already
        if len(keys) + len(groups) == most:
            return keys, groups, True, last
        (keys if place < 0 else groups).append(row)
        last = row
    return keys, groups, False, last

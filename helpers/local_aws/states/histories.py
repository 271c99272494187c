"""The history of an execution: its events as AWS shapes them, and how it is kept once the execution has ended."""

import functools
import json
import zlib
from collections.abc import Mapping
from typing import Any

MAX_EVENTS = 25_000
MAX_BYTES = 262_144  # of a state's input or output, in UTF-8

# What lists of executions show; everything else is asked for one execution at a time.
_SHOWN = ("executionArn", "stateMachineArn", "name", "status", "startDate", "stopDate", "mapRunArn", "sync")
_INCLUDED = {"truncated": False}


def text_of(value: Any) -> str:
    """Return JSON as Step Functions writes it: compact, characters as they are."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def too_large(text: str) -> bool:
    """Whether ``text`` is more than a state may take in or give out."""
    return len(text) > MAX_BYTES or (len(text) * 4 > MAX_BYTES and len(text.encode()) > MAX_BYTES)


def details(kind: str, **fields: Any) -> dict[str, Any]:
    """Return the member of an event that tells more, ``{}`` where there is nothing to tell.

    Every kind names it after itself, except that all states share stateEntered and stateExited.
    """
    name = kind
    for shared in ("StateEntered", "StateExited"):
        if kind.endswith(shared):
            name = shared
    if not fields:
        return {}
    for member in ("input", "output"):
        if member in fields:
            fields[f"{member}Details"] = dict(_INCLUDED)
    return {f"{name[0].lower()}{name[1:]}EventDetails": fields}


class Ended(dict):
    """The record of an execution that has ended: what lists show as it is, the rest compressed until asked for."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Ended":
        """Return ``record`` in little room."""
        rest = {name: value for name, value in record.items() if name not in _SHOWN}
        kept = cls({name: record[name] for name in _SHOWN if record.get(name) is not None})
        dict.__setitem__(kept, "packed", zlib.compress(text_of(rest).encode(), 6))
        return kept

    def __getitem__(self, name: str) -> Any:
        """Return a member, unpacked if need be."""
        if name in self:
            return dict.__getitem__(self, name)
        if name in _SHOWN:
            return None
        return _unpacked(dict.__getitem__(self, "packed"))[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a member, or ``default``."""
        try:
            return self[name]
        except KeyError:
            return default


@functools.lru_cache(maxsize=2)  # a history is read page by page
def _unpacked(packed: bytes) -> dict[str, Any]:
    return json.loads(zlib.decompress(packed))

"""Routes of an HTTP API: the keys that name them, and which one a request takes."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

DEFAULT = "$default"
METHODS = ("ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_VARIABLE = re.compile(r"\{([A-Za-z0-9._:-]+)(\+?)\}")
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%-]*")


class NotARouteKey(ValueError):
    """A text that names no route; the message says why."""


@dataclass(frozen=True)
class Match:
    """The route that a request takes, and the values of its path's variables."""

    route_id: str
    parameters: dict[str, str]


def parse(key: str) -> tuple[str, tuple[str, ...]]:
    """Return method and path segments of a route's key, such as ``GET /pets/{id}``. Raises NotARouteKey."""
    method, _, path = key.partition(" ")
    if method not in METHODS or not path.startswith("/"):
        raise NotARouteKey(
            "The provided route key is not formatted properly for HTTP protocol. "
            'Format should be "<HTTP METHOD> /<RESOURCE PATH>" or "$default"'
        )
    segments = tuple(path[1:].split("/"))
    names = [found[1] for segment in segments if (found := _VARIABLE.fullmatch(segment))]
    if len(set(names)) < len(names):
        raise NotARouteKey(f"The path of the route key has a variable twice: {key:.100}")
    for number, segment in enumerate(segments, 1):
        variable = _VARIABLE.fullmatch(segment)
        greedy = variable is not None and bool(variable[2])
        if (greedy and number < len(segments)) or (variable is None and not _SEGMENT.fullmatch(segment)):
            raise NotARouteKey(f"The path of the route key is not valid: {key:.100}")
    return method, segments


def choose(keys: Iterable[tuple[str, str]], method: str, raw_path: str) -> Match | None:
    """Return the most specific of the routes (id, key) that a request fits, $default last, or None.

    ``raw_path``: still quoted, without the stage. What is written out goes before a variable,
    that before a greedy one, and a method before ANY.
    """
    sent = tuple(raw_path.removeprefix("/").split("/"))
    found: list[tuple[tuple[object, ...], Match]] = []
    for route_id, key in keys:
        if key == DEFAULT:
            found.append(((True,), Match(route_id, {})))
            continue
        wanted, segments = parse(key)
        values = _values(segments, sent) if wanted in (method, "ANY") else None
        if values is not None:
            found.append(((False, *map(_breadth, segments), wanted == "ANY"), Match(route_id, values)))
    return min(found, key=lambda item: item[0])[1] if found else None


def source_path(key: str) -> str:
    """Return how a route stands in the ARN that a function's resource policy sees: ``POST/start``."""
    if key == DEFAULT:
        return DEFAULT
    method, segments = parse(key)
    return "/".join(("*" if method == "ANY" else method, *segments))


def _breadth(segment: str) -> int:
    variable = _VARIABLE.fullmatch(segment)
    return 0 if variable is None else 1 + bool(variable[2])


def _values(segments: Sequence[str], sent: Sequence[str]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    for number, segment in enumerate(segments):
        variable = _VARIABLE.fullmatch(segment)
        if number >= len(sent) or (variable and not sent[number]):
            return None
        if variable and variable[2]:
            return {**values, variable[1]: unquote("/".join(sent[number:]))}
        if variable:
            values[variable[1]] = unquote(sent[number])
        elif segment != sent[number]:
            return None
    return values if len(sent) == len(segments) else None

"""What a metainfo.json may hold. Whoever may upload writes it, so nothing in it is believed."""

import json
import re
from collections.abc import Mapping
from typing import Any

from units import SIGNAL, Unit

MAX_BYTES = 16_384
MAX_FILES = 16
MAX_DATA = 2 * 1024**3  # bytes of a unit's data: the worker's disk holds them twice
MAX_TARGET = 128  # characters
MAX_STALL = 3600  # seconds
FILE = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
REQUIRED = ("device", "unit", "data", "target")
OPTIONAL = ("stall_seconds",)


class UnitRefused(Exception):
    """The unit cannot be worked on; the message says what is wrong, and where."""


def read(body: bytes, unit: Unit) -> dict[str, Any]:
    """Return the content of a unit's metainfo.json. Raises UnitRefused with everything that is wrong."""
    if len(body) > MAX_BYTES:
        raise UnitRefused(f"{SIGNAL} has more than {MAX_BYTES:,} bytes")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnitRefused(f"{SIGNAL} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UnitRefused(f"{SIGNAL} holds no object")
    if problems := [*_unknown(found), *_names(found, unit), *_data(found), *_target(found), *_stall(found)]:
        raise UnitRefused(f"{SIGNAL}: {'; '.join(problems)}")
    return found


def check_files(wanted: list[str], sizes: Mapping[str, int]) -> None:
    """Raise UnitRefused when a file of the data is missing or empty, or when they are too big together.

    ``sizes``: by name, of the files that lie in the bucket.
    """
    problems = [f"{name} is not there: upload the data before {SIGNAL}" for name in wanted if name not in sizes]
    problems += [f"{name} is empty" for name in wanted if sizes.get(name) == 0]
    if sum(sizes.get(name, 0) for name in wanted) > MAX_DATA:
        problems.append(f"the data have more than {MAX_DATA:,} bytes")
    if problems:
        raise UnitRefused("; ".join(problems))


def _unknown(found: dict[str, Any]) -> list[str]:
    unknown = sorted(set(found) - {*REQUIRED, *OPTIONAL})
    return [f"unknown fields: {', '.join(name[:40] for name in unknown[:5])}"] if unknown else []


def _names(found: dict[str, Any], unit: Unit) -> list[str]:
    problems = []
    for field, expected in (("device", unit.device), ("unit", unit.name)):
        if field not in found:
            problems.append(f"{field} is missing")
        elif found[field] != expected:
            problems.append(f"{field} is not {expected!r}, as in the key")
    return problems


def _data(found: dict[str, Any]) -> list[str]:
    names = found.get("data")
    if not isinstance(names, list) or not 1 <= len(names) <= MAX_FILES:
        return [f"data is not a list of 1 to {MAX_FILES} file names"]
    wrong = [name for name in names if not isinstance(name, str) or not re.fullmatch(FILE, name) or name == SIGNAL]
    if wrong:
        return [f"data holds {str(wrong[0])[:60]!r}: not the name of a file beside {SIGNAL}"]
    return ["data names a file twice"] if len(set(names)) < len(names) else []


def _target(found: dict[str, Any]) -> list[str]:
    target = found.get("target")
    fits = isinstance(target, str) and 1 <= len(target) <= MAX_TARGET and target.isprintable()
    return [] if fits else ["target is not the name of a column"]


def _stall(found: dict[str, Any]) -> list[str]:
    seconds = found.get("stall_seconds", 0)
    fits = isinstance(seconds, int) and not isinstance(seconds, bool) and 0 <= seconds <= MAX_STALL
    return [] if fits else [f"stall_seconds is not a whole number from 0 to {MAX_STALL:,}"]

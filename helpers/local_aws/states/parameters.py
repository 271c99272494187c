"""The parameters of tasks: Step Functions writes the members of every service in PascalCase.

Names are translated by the shapes of botocore's models: members of structures
are, keys of maps (tags, hyper-parameters, a job's parameters) never.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

Moment = Callable[[dt.datetime], Any]


def pascal(name: str) -> str:
    """Return a member's name as Step Functions writes it."""
    return name[:1].upper() + name[1:]


def to_service(shape: Shape | None, value: Any) -> Any:
    """Return a task's parameters as the service names them. What has no such member keeps its name."""
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        names = _members(shape)
        return {
            names.get(name, name): to_service(shape.members.get(names.get(name, "")), item)
            for name, item in value.items()
        }
    return _inside(shape, value, to_service)


def from_service(shape: Shape | None, value: Any, moment: Moment) -> Any:
    """Return a service's answer as Step Functions writes it, its times by ``moment``."""
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        return {pascal(name): from_service(shape.members.get(name), item, moment) for name, item in value.items()}
    if isinstance(value, dt.datetime):
        return moment(value)
    if shape is not None and shape.type_name == "timestamp" and isinstance(value, (int, float)):
        return moment(dt.datetime.fromtimestamp(value, dt.UTC))
    return _inside(shape, value, lambda inner, item: from_service(inner, item, moment))


def problems(shape: StructureShape | None, value: Any, refused: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield what Step Functions says of parameters that the operation does not take, or lacks.

    ``refused``: members that the operation has and Step Functions does not take, by their names in PascalCase.
    """
    if shape is None or not isinstance(value, dict):
        return
    yield from (problem for problem in _unknown(shape, value, refused))
    given = {_plain(name) for name in value}
    for name in shape.required_members:
        if pascal(name) not in given:
            yield f"The field '{pascal(name)}' is required but was missing"


def _unknown(shape: Shape | None, value: Any, refused: frozenset[str] = frozenset()) -> Iterator[str]:
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        names = _members(shape)
        for name, item in value.items():
            if _plain(name) not in names or _plain(name) in refused:
                yield f'The field "{_plain(name)}" is not supported by Step Functions'
            elif name == _plain(name):  # what a path selects is only known when the task runs
                yield from _unknown(shape.members[names[name]], item)
    elif isinstance(shape, ListShape) and isinstance(value, list):
        for item in value:
            yield from _unknown(shape.member, item)
    elif isinstance(shape, MapShape) and isinstance(value, dict):
        for item in value.values():
            yield from _unknown(shape.value, item)


def _members(shape: StructureShape) -> Mapping[str, str]:
    return {pascal(name): name for name in shape.members}


def _plain(name: str) -> str:
    return name.removesuffix(".$")


def _inside(shape: Shape | None, value: Any, walk: Callable[[Shape | None, Any], Any]) -> Any:
    if isinstance(shape, ListShape) and isinstance(value, (list, tuple)):
        return [walk(shape.member, item) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {name: walk(shape.value, item) for name, item in value.items()}
    if isinstance(value, dict):
        return {name: walk(None, item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [walk(None, item) for item in value]
    return value

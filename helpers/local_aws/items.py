"""The condition keys of DynamoDB that come from the items that a request names."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]

_EXPRESSIONS = (
    "ProjectionExpression", "UpdateExpression", "ConditionExpression", "FilterExpression", "KeyConditionExpression",
)  # fmt: skip
_OLD_CONDITIONS = ("AttributeUpdates", "Expected", "KeyConditions", "QueryFilter", "ScanFilter")
# The first name of a path, and not a value (":v"), a later part of a path or a function ("size(").
_NAME = re.compile(r"(?<![:#\w.])(#?[A-Za-z_]\w*)(?!\w*\s*\()")
_WORDS = {"SET", "REMOVE", "ADD", "DELETE", "AND", "OR", "NOT", "BETWEEN", "IN"}


def condition_keys(operation: str, request: Json, partition_key: Callable[[str, str], str | None]) -> dict[str, Any]:
    """Return dynamodb:LeadingKeys, Attributes, ReturnValues and ReturnConsumedCapacity of a request.

    ``partition_key``: the name of the partition key of a table, or of its index ("" for the table itself).
    """
    leading: list[str] = []
    attributes: dict[str, None] = {}
    for table, part in _parts(request):
        key = partition_key(table, str(part.get("IndexName") or ""))
        leading += [value for value in _leading(part, key)] if key else []
        attributes.update(dict.fromkeys(_attributes(part)))
    found: dict[str, Any] = {}
    if leading:
        found["dynamodb:LeadingKeys"] = leading
    if attributes:
        found["dynamodb:Attributes"] = list(attributes)
    for name in ("ReturnValues", "ReturnConsumedCapacity"):
        if isinstance(request.get(name), str):
            found[f"dynamodb:{name}"] = request[name]
    if operation in ("GetItem", "BatchGetItem", "Query", "Scan"):
        narrow = isinstance(request.get("ProjectionExpression") or request.get("AttributesToGet"), (str, list))
        found["dynamodb:Select"] = request.get("Select") or ("SPECIFIC_ATTRIBUTES" if narrow else "ALL_ATTRIBUTES")
    return found


def _parts(request: Json) -> Iterator[tuple[str, Json]]:
    """Yield each table of a request, with a request of a single item or query for it."""
    table, batches = request.get("TableName"), request.get("RequestItems")
    if isinstance(table, str):
        yield _bare(table), request
    for name, batch in batches.items() if isinstance(batches, dict) else ():
        if isinstance(batch, dict):  # of BatchGetItem
            keys = batch.get("Keys")
            for key in keys if isinstance(keys, list) else []:
                yield _bare(name), {**batch, "Key": key}
        for write in batch if isinstance(batch, list) else []:
            for part in write.values() if isinstance(write, dict) else ():
                yield _bare(name), part if isinstance(part, dict) else {}


def _bare(table: str) -> str:
    return table.rpartition("table/")[2]


def _leading(request: Json, key: str) -> Iterator[str]:
    for member in ("Key", "Item"):
        item = request.get(member)
        if isinstance(item, dict) and key in item:
            yield _text(item[key])
    condition = _mapping(request, "KeyConditions").get(key)
    if isinstance(condition, dict):
        listed = condition.get("AttributeValueList")
        yield from (_text(value) for value in listed) if isinstance(listed, list) else ()
    names, values = _mapping(request, "ExpressionAttributeNames"), _mapping(request, "ExpressionAttributeValues")
    for one, other in re.findall(r"([#:]?\w+)\s*=\s*([#:]?\w+)", str(request.get("KeyConditionExpression") or "")):
        for name, value in ((one, other), (other, one)):
            if names.get(name, name) == key and value in values:
                yield _text(values[value])


def _text(value: Any) -> str:
    """Return the value of a key, a mapping of its type (S, N or B) to it."""
    return str(next(iter(value.values()), "")) if isinstance(value, dict) else ""


def _attributes(request: Json) -> Iterator[str]:
    names = _mapping(request, "ExpressionAttributeNames")
    for member in ("Key", "Item", *_OLD_CONDITIONS):
        yield from _mapping(request, member)
    legacy = request.get("AttributesToGet")
    yield from (name for name in legacy if isinstance(name, str)) if isinstance(legacy, list) else ()
    for member in _EXPRESSIONS:
        for name in _NAME.findall(str(request.get(member) or "")):
            if name.upper() not in _WORDS:
                yield str(names.get(name, name))


def _mapping(request: Json, member: str) -> dict[str, Any]:
    found = request.get(member)
    return found if isinstance(found, dict) else {}

"""A unit of work in the table: what its record holds, and how it may change.

Data of a unit lie in the bucket under ``{device}/{unit}/``; the record's key,
``Unit``, is "{device}/{unit}". Nobody changes a record without saying which
execution he works for and which statuses he expects: of two who change it at
the same time one is refused.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

RECEIVED, STARTING, RUNNING = "Received", "WorkerStarting", "WorkerRunning"
FINISHED, FAILED = "WorkerFinished", "WorkerFailed"
UNDER_WAY, FINAL = (RECEIVED, STARTING, RUNNING), (FINISHED, FAILED)

SIGNAL = "metainfo.json"
RESULTS = "results"  # the first part of the keys of what workers write: no device can have that name
NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
LONGEST_REASON = 1000  # characters

Record = dict[str, Any]


class RecordGone(Exception):
    """The unit's record is not in the table any more."""


class RecordChanged(Exception):
    """The record is not as expected: another execution has it, or its status was set meanwhile."""


@dataclass(frozen=True)
class Unit:
    """A unit by its two names, both safe in keys, tags and messages."""

    device: str
    name: str

    @property
    def id(self) -> str:
        """The record's key."""
        return f"{self.device}/{self.name}"


def unit_of(key: str) -> Unit | None:
    """Return the unit whose signal an object is; None for any other key."""
    found = re.fullmatch(f"({NAME})/({NAME})/{re.escape(SIGNAL)}", key)
    return Unit(found[1], found[2]) if found and found[1] != RESULTS else None


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """Return a time as records hold it: ISO 8601 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age(text: str, moment: datetime) -> timedelta:
    """Return how long before ``moment`` a stamp was."""
    return moment - datetime.fromisoformat(text)


class Table:
    """The records. ``client``: a DynamoDB client; ``clock`` tells the time."""

    def __init__(self, client: Any, name: str, clock: Callable[[], datetime] = now) -> None:
        self.client, self.name, self.clock = client, name, clock

    def find(self, unit: str) -> Record | None:
        """Return a record as it is now, with everything that was written before."""
        answer = self.client.get_item(TableName=self.name, Key={"Unit": {"S": unit}}, ConsistentRead=True)
        return _plain(answer["Item"]) if "Item" in answer else None

    def under_way(self) -> Iterator[Record]:
        """Yield every record that is not final."""
        pages = self.client.get_paginator("scan").paginate(
            TableName=self.name,
            ConsistentRead=True,
            FilterExpression="JobStatus IN (:received, :starting, :running)",
            ExpressionAttributeValues=_values(received=RECEIVED, starting=STARTING, running=RUNNING),
        )
        for page in pages:
            yield from map(_plain, page["Items"])

    def change(
        self,
        unit: str,
        *,
        execution: str,
        expected: Iterable[str],
        status: str = "",
        reason: str = "",
        **attributes: str,
    ) -> None:
        """Change a record that belongs to ``execution`` and has one of the ``expected`` statuses.

        With a ``status`` that one is set and added to the history. Raises RecordChanged.
        """
        moment = stamp(self.clock())
        values: dict[str, Any] = {"execution": execution, "UpdatedAt": moment, **attributes}
        sets = ["UpdatedAt = :UpdatedAt", *(f"{name} = :{name}" for name in attributes)]
        if status:
            reason = reason[:LONGEST_REASON]
            entry = {"status": status, "at": moment, **({"reason": reason} if reason else {})}
            values |= {"JobStatus": status, "entry": [entry]}
            sets += ["JobStatus = :JobStatus", "StatusHistory = list_append(StatusHistory, :entry)"]
            if reason:
                values["Reason"] = reason
                sets.append("Reason = :Reason")
        wanted = {f"expected{number}": one for number, one in enumerate(expected)}
        self._update(
            unit,
            UpdateExpression=f"SET {', '.join(sets)}",
            ConditionExpression=f"Execution = :execution AND JobStatus IN ({', '.join(f':{name}' for name in wanted)})",
            ExpressionAttributeValues=_values(**values, **wanted),
        )

    def put(self, record: Record, *, instead_of: Record | None) -> None:
        """Write a whole record, instead of the one that was found or where there was none. Raises RecordChanged."""
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(#unit)"}
        condition["ExpressionAttributeNames"] = {"#unit": "Unit"}
        if instead_of:
            condition = _still(instead_of)
        item = {name: _serialized(value) for name, value in record.items()}
        self._conditionally(lambda: self.client.put_item(TableName=self.name, Item=item, **condition))

    def note_sequencer(self, record: Record, sequencer: str) -> None:
        """Note that an event was seen and passed over. Raises RecordChanged."""
        condition = _still(record)
        condition["ExpressionAttributeValues"] |= _values(seen=sequencer)
        self._update(record["Unit"], UpdateExpression="SET Sequencer = :seen", **condition)

    def _update(self, unit: str, **parameters: Any) -> None:
        key = {"Unit": {"S": unit}}
        self._conditionally(lambda: self.client.update_item(TableName=self.name, Key=key, **parameters))

    def _conditionally(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            raise RecordChanged("the unit's record was changed meanwhile") from error


def _still(record: Record) -> dict[str, Any]:
    """Return the condition that a record is still the one that was read."""
    return {
        "ConditionExpression": "JobStatus = :status AND Sequencer = :sequencer",
        "ExpressionAttributeValues": _values(status=record["JobStatus"], sequencer=record["Sequencer"]),
    }


def _plain(item: dict[str, Any]) -> Record:
    read = TypeDeserializer().deserialize
    return {name: read(value) for name, value in item.items()}


def _values(**values: Any) -> dict[str, Any]:
    return {f":{name}": _serialized(value) for name, value in values.items()}


def _serialized(value: Any) -> Any:
    return TypeSerializer().serialize(value)

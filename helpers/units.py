"""Units of work in a notebook (system of notebook 07): their records, messages and instances."""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
from boto3.dynamodb.types import TypeDeserializer
from IPython.display import Markdown, display

from helpers import progress

FINAL = ("WorkerFinished", "WorkerFailed")
LIVE = ("pending", "running", "stopping", "stopped")  # states of an instance that exists, and may cost something
EVERY = 0.5  # seconds between two looks
LONGEST_POLL = 20  # seconds: SQS's limit
_MARKS = {"WorkerFinished": "✔", "WorkerFailed": "✘", "WorkerRunning": "▶", "WorkerStarting": "▶", "Received": "▷"}


def read(dynamodb: Any, table: str) -> list[dict[str, Any]]:
    """Return every record of a table, sorted by unit. ``dynamodb``: a client."""
    pages = dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return sorted((_plain(item) for page in pages for item in page["Items"]), key=lambda record: record["Unit"])


def find(dynamodb: Any, table: str, unit: str) -> dict[str, Any] | None:
    """Return one unit's record, None where there is none."""
    answer = dynamodb.get_item(TableName=table, Key={"Unit": {"S": unit}}, ConsistentRead=True)
    return _plain(answer["Item"]) if "Item" in answer else None


def overview(dynamodb: Any, table: str, units: Iterable[str] | None = None) -> pd.DataFrame:
    """Return how the units stand: status, reason of a failure, and metrics, a column each."""
    wanted = set(units) if units is not None else None
    return _overview([record for record in read(dynamodb, table) if wanted is None or record["Unit"] in wanted])


def history(dynamodb: Any, table: str, unit: str, *, times: bool = False) -> pd.DataFrame:
    """Return a unit's statuses in their order, with reasons; with ``times`` also when each was set."""
    record = find(dynamodb, table, unit)
    columns = ["status", *(["at"] if times else []), "reason"]
    rows = [[entry.get(name, "") for name in columns] for entry in (record or {"StatusHistory": ()})["StatusHistory"]]
    return pd.DataFrame(rows, columns=columns, index=pd.RangeIndex(1, len(rows) + 1))


def follow(
    dynamodb: Any,
    table: str,
    units: Iterable[str],
    *,
    seconds: float = 3600,
    sleep: Callable[[float], None] = time.sleep,
) -> pd.DataFrame:
    """Show the units' statuses as they change, until all are final. Returns ``overview`` of them.

    Raises TimeoutError after ``seconds``.
    """
    wanted = sorted(units)
    heading = Markdown("Units:")
    handle = display(heading, display_id=True)
    waited = 0.0
    while True:
        records = {record["Unit"]: record for record in read(dynamodb, table)}
        statuses = {unit: records[unit]["JobStatus"] if unit in records else "" for unit in wanted}
        if all(status in FINAL for status in statuses.values()):
            break
        if waited >= seconds:
            left = ", ".join(f"{unit}: {status or 'no record'}" for unit, status in statuses.items())
            raise TimeoutError(f"not all units were final after {seconds:g} seconds: {left}")
        if handle is not None:
            handle.update(Markdown(_live(statuses, waited)))
        sleep(EVERY)
        waited += EVERY
    if handle is not None:
        handle.update(heading)  # what stays is the same at every run: nbval compares it
    return _overview([records[unit] for unit in wanted])


def wait_for_status(
    dynamodb: Any,
    table: str,
    unit: str,
    status: str,
    *,
    seconds: float = 900,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Return a unit's record once it has a status.

    Raises ValueError, with the reason, when the unit has come to another end, and TimeoutError after ``seconds``.
    """
    waited = 0.0
    while (record := find(dynamodb, table, unit) or {}).get("JobStatus") != status:
        if record.get("JobStatus") in FINAL:
            raise ValueError(f"{unit} is {record['JobStatus']}: {record.get('Reason', '')}")
        if waited >= seconds:
            raise TimeoutError(f"{unit} is not {status} after {seconds:g} seconds")
        sleep(EVERY)
        waited += EVERY
    return record


def wait_for_notification(
    s3: Any,
    bucket: str,
    dynamodb: Any,
    table: str,
    *,
    seconds: float = 900,
    every: float = 30,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Upload a unit that is refused until there is a record of it; then every upload will be heard of.

    S3 may take five minutes to heed a new notification, and tells nobody of what is uploaded
    meanwhile. No instance is launched. ``every``: seconds between two uploads. Raises
    TimeoutError after ``seconds``.
    """
    unit, waited = f"probe/{uuid.uuid4().hex}", 0.0
    while (find(dynamodb, table, unit) or {}).get("JobStatus") not in FINAL:
        if waited >= seconds:
            raise TimeoutError(f"no upload to {bucket} was heard of within {seconds:g} seconds")
        if waited % every == 0:
            s3.put_object(Bucket=bucket, Key=f"{unit}/metainfo.json", Body=b"{}")
        sleep(1)
        waited += 1


def instances_left(ec2: Any, stack: str) -> list[str]:
    """Return the ids of a stack's instances that are not ended. ``ec2``: a client."""
    filters = [{"Name": "tag:stack", "Values": [stack]}, {"Name": "instance-state-name", "Values": list(LIVE)}]
    pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
    return [one["InstanceId"] for page in pages for group in page["Reservations"] for one in group["Instances"]]


def wait_until_none_left(
    ec2: Any, stack: str, *, seconds: float = 300, sleep: Callable[[float], None] = time.sleep
) -> list[str]:
    """Return what ``instances_left`` returns, looking again for up to ``seconds`` while there are some.

    A unit is final a moment before its instance has been ended.
    """
    waited = 0.0
    while (left := instances_left(ec2, stack)) and waited < seconds:
        sleep(EVERY)
        waited += EVERY
    return left


def receive(
    sqs: Any,
    queue_url: str,
    units: Iterable[str],
    *,
    inbox: dict[str, Mapping[str, Any]],
    seconds: float = 120,
    clock: Callable[[], float] = time.monotonic,
) -> pd.DataFrame:
    """Return what the topic told of these units, a row each.

    Messages are taken from a queue that is subscribed to it, and deleted there: ``inbox`` keeps
    them, by unit, with what came earlier. One that arrives twice, which queues allow, counts
    once. Raises TimeoutError after ``seconds``.
    """
    wanted = sorted(units)
    until = clock() + seconds
    while missing := [unit for unit in wanted if unit not in inbox]:
        left = until - clock()
        if left <= 0:
            raise TimeoutError(f"after {seconds:g} seconds there is no message about {', '.join(missing)}")
        answer = sqs.receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=max(1, min(LONGEST_POLL, int(left)))
        )
        for message in answer.get("Messages", ()):
            body = json.loads(json.loads(message["Body"])["Message"])  # SNS puts an envelope around its message
            inbox[body["unit"]] = body
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
    rows = [(unit, *(inbox[unit][name] for name in ("status", "reason", "results"))) for unit in wanted]
    return pd.DataFrame(rows, columns=["unit", "status", "reason", "results"]).set_index("unit")


def _overview(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    rows = [
        {
            "unit": record["Unit"],
            "status": record["JobStatus"],
            "reason": record.get("Reason", ""),
            **{name: float(value) for name, value in sorted(record.get("Metrics", {}).items())},
        }
        for record in records
    ]
    return pd.DataFrame(rows, columns=list(_columns(rows))).set_index("unit")


def _columns(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield each column once, metrics in the order of their names."""
    yield from ("unit", "status", "reason")
    yield from sorted({name for row in rows for name in row} - {"unit", "status", "reason"})


def _live(statuses: Mapping[str, str], waited: float) -> str:
    rows = [f"| {unit} | {_MARKS.get(status, '')} {status or 'no record yet'} |" for unit, status in statuses.items()]
    return "\n".join(["| unit | status |", "| --- | --- |", *rows]) + f"\n\n**waiting** for {progress.clock(waited)}"


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: TypeDeserializer().deserialize(value) for name, value in item.items()}

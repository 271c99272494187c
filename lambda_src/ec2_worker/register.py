"""Record a unit whose metainfo.json was uploaded, and start the state machine for it.

S3 invokes this function, at least once for every upload and not always in
order. What an event does is decided from the record alone, so that the same
event, or an older one, starts nothing:

    no record, or WorkerFailed      start
    WorkerFinished                  start if the content is another (its ETag)
    under way                       nothing
    Received by this very event     start what an earlier attempt may not have started

Environment: TABLE, MACHINE (ARN of the state machine).

IAM actions, and nothing else:
    dynamodb:GetItem, PutItem, UpdateItem   on the table
    states:StartExecution                   on the state machine
    logs                                    of the function itself
"""

import hashlib
import json
import os
import urllib.parse
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
from units import FINISHED, RECEIVED, UNDER_WAY, Record, RecordChanged, Table, Unit, stamp, unit_of

ATTEMPTS = 5  # to change a record that others change at the same time


class UnitsLost(Exception):
    """Some records of an event could not be registered; the message says which. Lambda tries the event again."""


@dataclass(frozen=True)
class Upload:
    """An uploaded metainfo.json, as S3 tells of it."""

    bucket: str
    key: str
    etag: str
    sequencer: str
    version: str = ""

    @property
    def execution(self) -> str:
        """The name of the execution that this upload starts: the same each time that S3 tells of it."""
        text = json.dumps([self.bucket, self.key, self.version or self.etag, self.sequencer])
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Register every upload of an S3 event."""
    states, dynamodb = clients()
    return register(event, Table(dynamodb, os.environ["TABLE"]), states, os.environ["MACHINE"])


@cache
def clients() -> tuple[Any, Any]:
    """Return the Step Functions and DynamoDB clients, made once in the life of the worker."""
    return boto3.client("stepfunctions"), boto3.client("dynamodb")


def uploads(event: dict[str, Any]) -> list[Upload]:
    """Return the uploads of an event; S3's test event, for one, has none."""
    return [_upload(record["s3"]) for record in event.get("Records", ())]


def register(event: dict[str, Any], table: Table, states: Any, machine: str) -> dict[str, Any]:
    """Register each upload, whatever becomes of the others. Raises UnitsLost."""
    decisions, lost = {}, []
    for upload in uploads(event):
        try:
            decisions[upload.key] = _register(upload, table, states, machine)
        except Exception as error:  # noqa: BLE001 - one that fails must not lose the others, and all are named
            lost.append(f"{upload.key}: {error}")
        else:
            print(json.dumps({"key": upload.key, "decision": decisions[upload.key]}))
    if lost:
        raise UnitsLost("; ".join(lost))
    return {"decisions": decisions}


def decide(found: Record | None, upload: Upload, execution: str) -> str:
    """Return what to do about an upload: "start", "start again" (an attempt was cut short), or why nothing."""
    if found is None:
        return "start"
    if found["Execution"] == execution:
        return "start again" if found["JobStatus"] == RECEIVED else "delivered before"
    if not is_later(upload.sequencer, found["Sequencer"]):
        return "older than the upload that was registered"
    if found["JobStatus"] in UNDER_WAY:
        return "the unit is in progress"
    if found["JobStatus"] == FINISHED and found["ETag"] == upload.etag:
        return "finished with the same content"
    return "start"


def is_later(one: str, other: str) -> bool:
    """Tell whether a sequencer is later than another of the same key: hexadecimal, compared from the left."""
    width = max(len(one), len(other))
    return one.ljust(width, "0") > other.ljust(width, "0")


def _register(upload: Upload, table: Table, states: Any, machine: str) -> str:
    unit = unit_of(upload.key)
    if unit is None:
        return "refused: the key is not {device}/{unit}/metainfo.json with names of letters, digits, '.', '_' and '-'"
    execution = f"{machine.replace(':stateMachine:', ':execution:')}:{upload.execution}"
    for _ in range(ATTEMPTS):
        found = table.find(unit.id)
        decision = decide(found, upload, execution)
        try:
            if decision == "start":
                table.put(_record(unit, upload, execution, found, stamp(table.clock())), instead_of=found)
            elif found and is_later(upload.sequencer, found["Sequencer"]):
                table.note_sequencer(found, upload.sequencer)
        except RecordChanged:
            continue
        if decision.startswith("start"):
            _start(states, machine, upload, unit)
        return decision
    raise RecordChanged(f"the record of {unit.id} changed at each of {ATTEMPTS} attempts")


def _record(unit: Unit, upload: Upload, execution: str, found: Record | None, moment: str) -> Record:
    """Return the record of a unit that is about to start; an earlier start's history goes on."""
    earlier = found or {"CreatedAt": moment, "StatusHistory": []}
    return {
        "Unit": unit.id,
        "Bucket": upload.bucket,
        "MetainfoKey": upload.key,
        "ETag": upload.etag,
        "Sequencer": upload.sequencer,
        "CreatedAt": earlier["CreatedAt"],
        "UpdatedAt": moment,
        "JobStatus": RECEIVED,
        "StatusHistory": [*earlier["StatusHistory"], {"status": RECEIVED, "at": moment}],
        "Execution": execution,
    }


def _start(states: Any, machine: str, upload: Upload, unit: Unit) -> None:
    given = {"unit": unit.id, "bucket": upload.bucket, "key": upload.key}
    try:
        # A running execution of the same name and input is answered as if it had been started now.
        states.start_execution(stateMachineArn=machine, name=upload.execution, input=json.dumps(given))
    except states.exceptions.ExecutionAlreadyExists:
        print(json.dumps({"key": upload.key, "note": "its execution has run already"}))


def _upload(part: dict[str, Any]) -> Upload:
    thing = part["object"]
    return Upload(
        part["bucket"]["name"],
        urllib.parse.unquote_plus(thing["key"]),
        thing["eTag"],
        thing["sequencer"],
        thing.get("versionId", ""),
    )

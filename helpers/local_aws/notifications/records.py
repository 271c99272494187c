"""The records of S3's events."""

import base64
import datetime as dt
import hashlib
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

VERSION = "2.6"  # one for all events since 2.4; before, objects that were created came as 2.1
EMPTY_ETAG = hashlib.md5(b"", usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Happened:
    """Something that happened to an object. ``event`` is such as s3:ObjectCreated:Put; ``key`` is the object's own."""

    bucket: str
    key: str
    event: str
    size: int = 0
    etag: str = ""
    version_id: str | None = None  # of a bucket with versions
    more: dict[str, Any] = field(default_factory=dict)  # further members of ``object``


@dataclass(frozen=True)
class Request:
    """The request that made it happen. ``ids``: what its answer says in x-amz-request-id and x-amz-id-2."""

    principal_id: str
    address: str
    ids: tuple[str, str]


class Sequencer:
    """Numbers that grow with every event: the clock's, or the last one and 1. So a restart does not begin anew."""

    def __init__(self) -> None:
        self._lock, self._last = threading.Lock(), 0

    def next(self) -> str:
        """Return the next one: 18 hexadecimal digits, so that they compare as text."""
        with self._lock:
            self._last = max(self._last + 1, time.time_ns())
            return f"{self._last:018X}"


def event(
    happened: Happened, request: Request, *, sequencer: str, region: str, owner_id: str, configuration_id: str = ""
) -> dict[str, Any]:
    """Return the event that S3 sends: one record. The key is written as in a form: a space is ``+``, ``/`` stays."""
    record = {
        "eventVersion": VERSION,
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "eventName": happened.event.removeprefix("s3:"),
        "userIdentity": {"principalId": request.principal_id},
        "requestParameters": {"sourceIPAddress": request.address},
        "responseElements": {"x-amz-request-id": request.ids[0], "x-amz-id-2": request.ids[1]},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration_id,
            "bucket": {
                "name": happened.bucket,
                "ownerIdentity": {"principalId": owner_id},
                "arn": f"arn:aws:s3:::{happened.bucket}",
            },
            "object": {**_object(happened), "sequencer": sequencer},
        },
    }
    return {"Records": [record]}


def owner_id(account_id: str) -> str:
    """Return an account's customer id as events name it: always the same 14 letters and digits."""
    digest = base64.b32encode(hashlib.sha256(account_id.encode()).digest()).decode()
    return f"A{digest[:13]}"


def _object(happened: Happened) -> dict[str, Any]:
    told: dict[str, Any] = {"key": quote_plus(happened.key, safe="/")}
    if happened.event.startswith("s3:ObjectCreated:"):
        told.update(size=happened.size, eTag=happened.etag.strip('"'), **happened.more)
    elif happened.event.endswith(":DeleteMarkerCreated"):
        told["eTag"] = EMPTY_ETAG
    if happened.version_id:
        told["versionId"] = happened.version_id
    return told

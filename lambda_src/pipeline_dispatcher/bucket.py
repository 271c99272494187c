"""What the dispatcher asks of the bucket: is it there, what is the data, which jobs are complete, keep this."""

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from planning.experiment import Experiment, closest
from planning.plan import Data, DataObject
from planning.yaml_nodes import quote
from repository import error_code

MAX_OBJECTS = 10_000  # of a data set stored as parts
ASK_EACH = 64  # markers of a step that are looked for one by one; of more, the folders are listed first


def exists(s3: Any, bucket: str, key: str) -> bool:
    """Tell whether an object is there."""
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error_code(error) not in ("404", "NoSuchKey", "NotFound"):
            raise
        return False
    return True


def read_data(experiment: Experiment, s3: Any, bucket: str) -> tuple[Data, list[str]]:
    """Return the data set of ``experiment``, or a problem, with a suggestion, when it is not in the bucket.

    A job downloads every key that begins with the URI, so all of them are the data set.
    """
    uri = (experiment.values.get("pipeline") or {}).get("input_data_uri")
    if not uri:
        return Data("", ()), []  # the file's own problem, already noted
    place, key = "pipeline.input_data_uri", uri.removeprefix(f"s3://{bucket}/")
    found: list[DataObject] = []
    for page in _pages(s3, Bucket=bucket, Prefix=key):
        for entry in page.get("Contents", ()):
            if not entry["Key"].endswith("/"):  # what consoles make for an empty folder
                found.append(DataObject(entry["Key"], entry["ETag"].strip('"'), entry["Size"]))
        if len(found) > MAX_OBJECTS:
            return Data(uri, ()), [experiment.problem(place, f"holds more than {MAX_OBJECTS:,} objects: join some")]
    # Of the keys with a prefix, the prefix itself sorts first
    if found and (key.endswith("/") or found[0].key == key):
        return Data(uri, tuple(found)), []
    what = "there are no objects below" if key.endswith("/") else "there is no object"
    return Data(uri, ()), [experiment.problem(place, f"{what} {quote(uri, 300)}.{_near(s3, bucket, key)}")]


def complete(s3: Any, bucket: str, markers: Mapping[str, list[str]], pool: Executor) -> set[str]:
    """Return which of the ``markers``, listed by step, are there.

    A key is looked for by listing it: that needs s3:ListBucket alone.
    """
    asked: list[str] = []
    for step, keys in markers.items():
        if len(keys) > ASK_EACH:
            pages = _pages(s3, Bucket=bucket, Prefix=f"steps/{step}/", Delimiter="/")
            folders = {entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", ())}
            keys = [key for key in keys if f"{key.rpartition('/')[0]}/" in folders]
        asked += keys
    there = pool.map(partial(_is_listed, s3, bucket), asked)
    return {key for key, found in zip(asked, there, strict=True) if found}


def keep(s3: Any, bucket: str, objects: Iterable[tuple[str, bytes | Path]], pool: Executor) -> None:
    """Write objects, given as key and content, or a file that has it."""
    for _ in pool.map(lambda item: put(s3, bucket, *item), objects):
        pass  # a failed upload raises here


def put(s3: Any, bucket: str, key: str, content: bytes | Path) -> None:
    """Write one object."""
    s3.put_object(Bucket=bucket, Key=key, Body=content.read_bytes() if isinstance(content, Path) else content)


def keep_first(s3: Any, bucket: str, key: str, document: dict[str, Any]) -> dict[str, Any]:
    """Write ``document`` unless the key has one already; return the one that the key has."""
    body = to_json(document)
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", IfNoneMatch="*")
    except ClientError as error:
        if error_code(error) != "PreconditionFailed":
            raise
        return json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    return document


def to_json(value: Any) -> bytes:
    """Return ``value`` as JSON without blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _is_listed(s3: Any, bucket: str, key: str) -> bool:
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", ())
    return any(entry["Key"] == key for entry in listed)


def _pages(s3: Any, **query: Any) -> Iterable[dict[str, Any]]:
    while True:
        page = s3.list_objects_v2(**query)
        yield page
        if not page.get("IsTruncated"):
            return
        query["ContinuationToken"] = page["NextContinuationToken"]


def _near(s3: Any, bucket: str, key: str) -> str:
    """Return a suggestion for a key that is not there."""
    folder = key.rstrip("/").rpartition("/")[0]
    while True:  # a folder that does not exist has no neighbours: look one level higher
        near = s3.list_objects_v2(Bucket=bucket, Prefix=f"{folder}/" if folder else "").get("Contents", ())
        if near or not folder:
            break
        folder = folder.rpartition("/")[0]
    names = [entry["Key"] for entry in near]
    if key.endswith("/"):
        names = sorted({name.rpartition("/")[0] + "/" for name in names if "/" in name})
    match = closest(key, names)
    return f" Did you mean {quote(f's3://{bucket}/{match}', 300)}?" if match else ""

"""What runs leave in the bucket, found and read: below ``runs/{repository}/{commit}/``, and their manifests."""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar

READERS = 16

Item = TypeVar("Item")
Found = TypeVar("Found")


def commits(s3: Any, bucket: str, repository: str) -> list[str]:
    """Return the commits of ``repository`` of which the bucket holds something: one request for 1,000 of them."""
    return _folders(s3, bucket, f"runs/{repository}/", "")


def full_commit(s3: Any, bucket: str, repository: str, commit: str) -> str:
    """Return the commit whose id begins with ``commit``. Raises LookupError when there is none, or more than one."""
    if len(commit) == 40:
        return commit
    found = _folders(s3, bucket, f"runs/{repository}/", commit)
    if len(found) != 1:
        raise LookupError(f"{len(found)} runs of {repository} have a commit that begins with {commit!r}")
    return found[0]


def of_run(s3: Any, bucket: str, repository: str, commit: str) -> dict[str, Any] | None:
    """Return a run's manifest; None where there is none: an unfinished run, or one of the simple state machine."""
    return read_json(s3, bucket, f"runs/{repository}/{commit}/manifest.json")


def plan_of_run(s3: Any, bucket: str, repository: str, commit: str) -> dict[str, Any] | None:
    """Return the plan that the dispatcher made for a run; None for one of the simple state machine."""
    return read_json(s3, bucket, f"runs/{repository}/{commit}/plan.json")


def read(s3: Any, bucket: str, key: str) -> bytes | None:
    """Return an object's content; None where there is none."""
    try:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except s3.exceptions.NoSuchKey:
        return None


def read_json(s3: Any, bucket: str, key: str) -> Any:
    """Return what a JSON object holds; None where there is none."""
    body = read(s3, bucket, key)
    return None if body is None else json.loads(body)


def modified(s3: Any, bucket: str, key: str) -> datetime:
    """Return when an object was written."""
    return s3.head_object(Bucket=bucket, Key=key)["LastModified"]


def at_once(s3: Any, work: Callable[[Item], Found], items: Iterable[Item]) -> list[Found]:
    """Return ``work`` of each item, in order, by as many threads as the client keeps connections (10 by default)."""
    with ThreadPoolExecutor(min(READERS, s3.meta.config.max_pool_connections)) as readers:
        return list(readers.map(work, items))


def _folders(s3: Any, bucket: str, prefix: str, start: str) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + start, Delimiter="/")
    found = (item["Prefix"] for page in pages for item in page.get("CommonPrefixes", ()))
    return [folder.removeprefix(prefix).rstrip("/") for folder in found]

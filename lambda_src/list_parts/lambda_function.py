"""List the parts of a table that are to be worked on: the map side of map and reduce.

IAM actions, and nothing else:
    s3:ListBucket       on the bucket, below the prefix
    logs                of the function itself
"""

import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import boto3

MOST_PARTS = 40  # as many as an inline Map works on at once; more are the business of a Distributed Map


class NoParts(Exception):
    """There is nothing to work on."""


class TooManyParts(Exception):
    """There are more parts than an inline Map works on at once."""


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Return the parts in ``event["bucket"]`` below ``event["prefix"]``."""
    return dispatch(event, client())


def dispatch(event: Mapping[str, Any], s3: Any) -> dict[str, Any]:
    """Ask S3, and return ``{"parts": [{"key", "index"}]}``. ``s3``: an S3 client. Raises NoParts and TooManyParts."""
    bucket, prefix = event["bucket"], event["prefix"]
    # Not what lies in folders below: two parts of one name would write one summary.
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    parts = plan(item["Key"] for page in pages for item in page.get("Contents", ()))
    if not parts:
        raise NoParts(f"there is no .csv file below {prefix} in the bucket {bucket}")
    if len(parts) > MOST_PARTS:
        raise TooManyParts(f"there are {len(parts)} parts below {prefix} in the bucket {bucket}: {MOST_PARTS} at most")
    return {"parts": parts}


def plan(keys: Iterable[str]) -> list[dict[str, Any]]:
    """Return the parts among some keys, with their place: part-10 comes after part-9."""
    found = sorted((key for key in keys if key.endswith(".csv")), key=_in_order)
    return [{"key": key, "index": index} for index, key in enumerate(found)]


def _in_order(key: str) -> list[tuple[int, str]]:
    return [(int(piece) if piece.isdecimal() else 0, piece) for piece in re.split(r"(\d+)", key)]


@cache
def client() -> Any:
    """Return the S3 client, made once in the life of the worker."""
    return boto3.client("s3")


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    client()  # while the worker starts: later it would keep the first event waiting

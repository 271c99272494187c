"""Combine the summaries of all parts to the statistics of the whole table: the reduce side of map and reduce.

Reads summaries/<run>/<part>.json of each part, writes results/<run>/statistics.json.

IAM actions, and nothing else:
    s3:GetObject        on the summaries
    s3:ListBucket       on the bucket, below summaries/: else S3 says "denied" of what is missing
    s3:PutObject        on the results
    logs                of the function itself
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import cache
from pathlib import PurePosixPath
from typing import Any

import boto3

AT_ONCE = 8  # summaries that are read at once

Summary = Mapping[str, Any]


class MissingSummaries(Exception):
    """Parts have no summary; the message names them."""


class DifferentParts(Exception):
    """The parts are not of one table; the message names part and column."""


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Combine the summaries of ``event["parts"]`` that the run ``event["run"]`` wrote to ``event["bucket"]``."""
    return dispatch(event, client())


def dispatch(event: Mapping[str, Any], s3: Any) -> dict[str, Any]:
    """Read the summaries, write the statistics, and return ``{"statistics", "parts", "rows"}``, the first a key.

    ``s3``: an S3 client. Raises MissingSummaries and DifferentParts.
    """
    bucket, run = event["bucket"], event["run"]
    keys = {part["key"]: f"summaries/{run}/{PurePosixPath(part['key']).stem}.json" for part in event["parts"]}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = dict(zip(keys, pool.map(lambda key: _read(s3, bucket, key), keys.values()), strict=True))
    statistics = plan(found)
    target = f"results/{run}/statistics.json"
    s3.put_object(Bucket=bucket, Key=target, Body=json.dumps(statistics).encode(), ContentType="application/json")
    return {"statistics": target, "parts": len(found), "rows": statistics["rows"]}


def plan(summaries: Mapping[str, Summary | None]) -> dict[str, Any]:
    """Return ``{"rows", "columns": {name: {count, missing, mean, std, min, max}}}`` of the summaries, by part.

    None stands for a part without a summary. The standard deviation is that of a population. A column
    without any value has no mean, deviation, minimum and maximum: None.
    """
    if missing := [part for part, summary in summaries.items() if summary is None]:
        raise MissingSummaries(f"{len(missing)} of {len(summaries)} parts have no summary: {', '.join(missing)}")
    found = {part: summary for part, summary in summaries.items() if summary is not None}
    names = dict.fromkeys(name for summary in found.values() for name in summary["columns"])
    columns = {}
    for name in names:
        of_parts = [summary["columns"][name] for summary in found.values() if name in summary["columns"]]
        if not any(column["count"] for column in of_parts) and len(of_parts) < len(found):
            continue  # a column of text that has no values at all in some parts
        for part, summary in found.items():
            if name not in summary["columns"]:
                raise DifferentParts(f"{part} has no numbers in the column {name!r}, other parts have")
        columns[name] = _statistics(of_parts)
    return {"rows": sum(summary["rows"] for summary in found.values()), "columns": columns}


def _statistics(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    count = sum(part["count"] for part in parts)
    missing = sum(part["missing"] for part in parts)
    if not count:
        return {"count": 0, "missing": missing, "mean": None, "std": None, "min": None, "max": None}
    # The variance within the parts and between them. The mean of the squares less the square of the mean would be the
    # same, but for the digits that the difference of two large numbers loses. Fractions lose none.
    mean = sum(Fraction(part["sum"]) for part in parts) / count
    within = sum(Fraction(part["squared_deviations"]) for part in parts)
    between = sum(
        part["count"] * (Fraction(part["sum"]) / part["count"] - mean) ** 2 for part in parts if part["count"]
    )
    return {
        "count": count,
        "missing": missing,
        "mean": float(mean),
        "std": math.sqrt((within + between) / count),
        "min": min(part["min"] for part in parts if part["count"]),
        "max": max(part["max"] for part in parts if part["count"]),
    }


def _read(s3: Any, bucket: str, key: str) -> Summary | None:
    try:
        return json.load(s3.get_object(Bucket=bucket, Key=key)["Body"])
    except s3.exceptions.NoSuchKey:
        return None


@cache
def client() -> Any:
    """Return the S3 client, made once in the life of the worker."""
    return boto3.client("s3")


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    client()  # while the worker starts: later it would keep the first event waiting

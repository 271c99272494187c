"""Write a run's manifest: how each of its jobs and variants ended, with metrics, times and costs.

The sweep's state machine calls this function last. Everything is read from the
bucket, and the manifest is written when all of it is known: to be called again
with the same event writes the same manifest. Tables of runs read only manifests.

IAM actions, and nothing else:
    s3:GetObject        on BUCKET/runs/*, BUCKET/steps/*/done.json, BUCKET/steps/evaluate/*/output/metrics.json
    s3:PutObject        on BUCKET/runs/*/manifest.json
    s3:ListBucket       on BUCKET: makes a missing key a 404, and lists a run's failures
    logs                of the function itself
"""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from manifest import Finish, Recorded, manifest, summary

THREADS = 32
MAX_METRICS = 100_000  # bytes of a metrics.json that a manifest takes in


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Record the run of ``event``: bucket, run, execution, started, ended."""
    return record(event, client())


@cache
def client() -> Any:
    """Return the S3 client, made once in the life of the worker."""
    return boto3.client("s3", config=Config(max_pool_connections=THREADS))


def record(event: dict[str, Any], s3: Any) -> dict[str, Any]:
    """Write ``{run}/manifest.json``. Returns how many variants finished, failed and were skipped, and a cause."""
    bucket, run = event["bucket"], event["run"]
    plan = json.loads(_read(s3, bucket, f"{run}/plan.json"))
    made = manifest(
        plan, _recorded(s3, bucket, run, plan), Finish(event["execution"], event["started"], event["ended"])
    )
    body = json.dumps(made, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    s3.put_object(Bucket=bucket, Key=f"{run}/manifest.json", Body=body, ContentType="application/json")
    return summary(made)


def _recorded(s3: Any, bucket: str, run: str, plan: dict[str, Any]) -> Recorded:
    """Read what the plan's jobs left, many objects at a time."""
    items = {(item["step"], item["key"]): item for items in plan["steps"].values() for item in items}
    failed = set(_keys(s3, bucket, f"{run}/failures/"))
    metrics_of = {key: f"steps/evaluate/{key}/output/metrics.json" for step, key in items if step == "evaluate"}
    with ThreadPoolExecutor(THREADS) as pool:

        def read_all(keys: Iterable[str]) -> Callable[[str], bytes | None]:
            wanted = list(keys)
            return dict(zip(wanted, pool.map(lambda key: _read_if_there(s3, bucket, key), wanted), strict=True)).get

        markers = read_all(item["marker"] for item in items.values())
        failures = read_all(item["failure"] for item in items.values() if item["failure"] in failed)
        metrics = read_all(metrics_of[key] for key in metrics_of if markers(items["evaluate", key]["marker"]))
    return Recorded(
        {place: json.loads(found) for place, item in items.items() if (found := markers(item["marker"]))},
        {place: json.loads(found) for place, item in items.items() if (found := failures(item["failure"]))},
        {key: _metrics(metrics(name)) for key, name in metrics_of.items() if markers(items["evaluate", key]["marker"])},
    )


def _metrics(body: bytes | None) -> dict[str, Any] | str:
    """Return the metrics in ``body``, or why there are none. JSON has no NaN, as Python writes it: it becomes null."""
    if body is None:
        return "evaluate wrote no metrics.json"
    if len(body) > MAX_METRICS:
        return f"metrics.json has {len(body):,} bytes: a manifest takes {MAX_METRICS:,}"
    try:
        found = json.loads(body, parse_constant=lambda _: None)
    except ValueError as error:
        return f"metrics.json is not JSON: {error}"
    return found if isinstance(found, dict) else "metrics.json holds no object of metrics"


def _keys(s3: Any, bucket: str, prefix: str) -> Iterator[str]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", ()):
            yield entry["Key"]


def _read(s3: Any, bucket: str, key: str) -> bytes:
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def _read_if_there(s3: Any, bucket: str, key: str) -> bytes | None:
    try:
        return _read(s3, bucket, key)
    except s3.exceptions.NoSuchKey:
        return None

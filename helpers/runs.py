"""The table of runs, rebuilt from the bucket alone."""

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import boto3
import pandas as pd
import yaml

from helpers.connection import connect
from helpers.pipeline import STEPS
from helpers.prices import usd_per_hour

READERS = 16


def wait_for_answer(
    s3: Any,
    bucket: str,
    repository: str,
    commit: str,
    *,
    seconds: float = 180,
    every: float = 0.25,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Return what the dispatcher answered to a pushed commit, once it has.

    The answer's ``status`` is "started" (with ``executionArn``) or "refused" (with
    ``problems``). Raises TimeoutError, naming where to look.
    """
    waited = 0.0
    while waited < seconds:
        answer = _read(s3, bucket, f"runs/{repository}/{commit}/dispatch.json")
        if answer is not None:
            return json.loads(answer)
        sleep(every)
        waited += every
    raise TimeoutError(f"no answer to {commit} after {seconds:g} seconds: look at the log of the dispatcher's function")


def read_metrics(s3: Any, bucket: str, repository: str, commit: str) -> dict[str, Any]:
    """Return the metrics of a run. Raises KeyError when the run has none (yet)."""
    body = _read(s3, bucket, f"runs/{repository}/{commit}/evaluate/metrics.json")
    if body is None:
        raise KeyError(f"the run of {commit} has no metrics")
    return json.loads(body)


def table(s3: Any, bucket: str, repository: str, *, region: str) -> pd.DataFrame:
    """Return a row for each run of ``repository``, oldest first.

    Columns: experiment (the yml's comment), commit, author, status, changed (what
    differs from the first run), the metrics, seconds (from the push's answer to the
    metrics) and usd (what these seconds cost on AWS, start-up not counted).
    Refused and unfinished runs are rows too, with empty metrics; a run that failed
    or was stopped has "no metrics", as one that still runs.
    """
    commits = _commits(s3, bucket, repository)
    with ThreadPoolExecutor(READERS) as readers:
        found = list(readers.map(lambda commit: _run(s3, bucket, f"runs/{repository}/{commit}/", region), commits))
    runs = sorted((run for run in found if run), key=lambda run: run["started"])
    first: dict[str, Any] = next((run["experiment"] for run in runs if run["status"] != "refused"), {})
    return pd.DataFrame([_row(run, first) for run in runs])


def _run(s3: Any, bucket: str, prefix: str, region: str) -> dict[str, Any] | None:
    objects = {
        item["Key"].removeprefix(prefix): item["LastModified"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for item in page.get("Contents", ())
    }
    if "dispatch.json" not in objects:
        return None
    answer = json.loads(_read(s3, bucket, f"{prefix}dispatch.json") or b"{}")
    text = _read(s3, bucket, f"{prefix}experiment.yml") or b""
    metrics = _read(s3, bucket, f"{prefix}evaluate/metrics.json") if "evaluate/metrics.json" in objects else None
    experiment = _parse(text) if answer["status"] == "started" else {}
    return {
        "commit": answer["commit"],
        "author": answer.get("author", ""),
        "status": "finished" if metrics else "refused" if answer["status"] == "refused" else "no metrics",
        "started": objects["dispatch.json"],
        "experiment": experiment,
        "metrics": json.loads(metrics) if metrics else {},
        **_time_and_cost(objects, experiment, region),
    }


def _time_and_cost(
    objects: Mapping[str, datetime], experiment: Mapping[str, Any], region: str
) -> dict[str, float | None]:
    """Return the seconds from the dispatcher's answer to the metrics, and what the steps cost in between.

    A step lasts from the last object of the step before it to its own last object.
    """
    before, usd = objects["dispatch.json"], 0.0
    for step in STEPS:
        written = [when for key, when in objects.items() if key.startswith(f"{step}/")]
        if not written or step not in experiment:
            return {"seconds": None, "usd": None}
        hours = (max(written) - before).total_seconds() / 3600
        usd += hours * experiment[step]["InstanceCount"] * usd_per_hour(region, experiment[step]["InstanceType"])
        before = max(written)
    return {"seconds": (before - objects["dispatch.json"]).total_seconds(), "usd": usd}


def _row(run: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {name: value for name, value in run["metrics"].items() if isinstance(value, float)}
    return {
        "experiment": run["experiment"].get("comment", ""),
        "commit": run["commit"][:8],
        "author": run["author"],
        "status": run["status"],
        "changed": ", ".join(_changes(first, run["experiment"])),
        **numbers,
        "seconds": run["seconds"],
        "usd": run["usd"],
    }


def _changes(first: Mapping[str, Any], this: Mapping[str, Any]) -> list[str]:
    """Return "step key: value" for each setting in which an experiment differs from the first one."""
    changes = []
    for section in STEPS:
        before, now = first.get(section) or {}, this.get(section) or {}
        for key in {**before, **now}:
            if before and now and now.get(key) != before.get(key):
                value = now.get(key, "default")
                text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
                changes.append(f"{section} {key}: {text}")
    return changes


def _commits(s3: Any, bucket: str, repository: str) -> list[str]:
    prefix = f"runs/{repository}/"
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    return [
        item["Prefix"].removeprefix(prefix).rstrip("/") for page in pages for item in page.get("CommonPrefixes", ())
    ]


def _parse(text: bytes) -> dict[str, Any]:
    parsed = yaml.safe_load(text)
    return parsed if isinstance(parsed, dict) else {}


def _read(s3: Any, bucket: str, key: str) -> bytes | None:
    try:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except s3.exceptions.NoSuchKey:
        return None


def main() -> None:
    """Print the table of the workshop's runs (the last lines of ``make run``)."""
    workshop = connect()
    repository = workshop.name(workshop.project)
    runs = table(boto3.client("s3"), workshop.bucket, repository, region=workshop.region)
    columns = ["experiment", "commit", "author", "status", "changed", "roc_auc", "accuracy", "seconds", "usd"]
    print(f"\nruns of {repository} (usd: what the seconds would cost on AWS, without starting instances)")
    shown = runs[[name for name in columns if name in runs]].round({"usd": 6} | dict.fromkeys(columns[5:8], 3))
    print(shown.to_string(index=False, na_rep=""))


if __name__ == "__main__":
    main()

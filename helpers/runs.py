"""The table of runs, rebuilt from the bucket alone."""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import boto3
import pandas as pd
import yaml

from helpers import manifests, settings
from helpers.connection import connect
from helpers.pipeline import STEPS
from helpers.planning.costs import usd_per_hour

Row = dict[str, Any]


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
        answer = manifests.read_json(s3, bucket, f"runs/{repository}/{commit}/dispatch.json")
        if answer is not None:
            return answer
        sleep(every)
        waited += every
    raise TimeoutError(f"no answer to {commit} after {seconds:g} seconds: look at the log of the dispatcher's function")


def read_metrics(s3: Any, bucket: str, repository: str, commit: str, *, variant: int = 1) -> dict[str, Any]:
    """Return the metrics of a run, of a sweep those of one variant. Raises KeyError when there are none (yet)."""
    manifest = manifests.of_run(s3, bucket, repository, commit)
    if manifest is None:
        found = manifests.read_json(s3, bucket, f"runs/{repository}/{commit}/evaluate/metrics.json")
    else:
        variants = manifest["variants"]
        found = variants[variant - 1]["metrics"] if 1 <= variant <= len(variants) else None
    if not found:
        raise KeyError(f"the run of {commit} has no metrics")
    return found


def table(s3: Any, bucket: str, repository: str, *, region: str) -> pd.DataFrame:
    """Return a row for each variant of each run of ``repository``, oldest run first.

    Columns: experiment (the yml's comment), commit, author, status, changed (what the
    variant sweeps, and what differs from the first run), the metrics, a column for each
    argument that is not the same in all rows ("train --C", a number where it is one),
    seconds and usd (of the variant's jobs on AWS, start-up not counted), cached (how
    many of its jobs another run had done), variant (1 for a run without a sweep) and
    predictions (their key in the bucket). Of a simple run, seconds are from the
    dispatcher's answer to the metrics.

    Refused and unfinished runs are rows too, with empty metrics; "no metrics" has a
    run that has not recorded its end: it still runs, was stopped, or is a failed one
    of the simple state machine.
    """
    commits = manifests.commits(s3, bucket, repository)
    found = manifests.at_once(s3, lambda commit: _rows(s3, bucket, repository, commit, region), commits)
    rows = sorted((row for rows in found for row in rows), key=lambda row: row["started"])
    first = next((row for row in rows if row["settings"]), None)
    options = _varied(rows)
    return pd.DataFrame([_public(row, first, options) for row in rows])


def _rows(s3: Any, bucket: str, repository: str, commit: str, region: str) -> list[Row]:
    """Return the rows of a run: one request when it has a manifest."""
    manifest = manifests.of_run(s3, bucket, repository, commit)
    if manifest is not None:
        return list(_rows_of_manifest(manifest))
    row = _row_without_manifest(s3, bucket, f"runs/{repository}/{commit}/", region)
    return [row] if row else []


def _rows_of_manifest(manifest: Mapping[str, Any]) -> Iterable[Row]:
    for number, variant in enumerate(manifest["variants"], 1):
        jobs = [manifest["jobs"][step][key] for step, key in variant["jobs"].items()]
        cached = sum(job["status"] == "cached" for job in jobs)
        finished = variant["status"] == "finished"
        yield {
            "experiment": manifest["comment"],
            "commit": manifest["commit"],
            "author": manifest["author"],
            "status": variant["status"],
            "started": datetime.fromisoformat(manifest["started"]),
            "manifest": True,
            "settings": settings.of_variant(manifest, variant),
            "swept": variant["changed"],
            "metrics": variant["metrics"],
            "seconds": variant["seconds"],
            "usd": variant["usd"],
            "cached": f"{cached} of {len(jobs)}",
            "variant": number,
            "predictions": f"steps/predict/{variant['jobs']['predict']}/output/predictions.csv" if finished else "",
        }


def _row_without_manifest(s3: Any, bucket: str, prefix: str, region: str) -> Row | None:
    """Return the row of a run of the simple state machine, or of one that has not ended; None without an answer."""
    objects = {
        item["Key"].removeprefix(prefix): item["LastModified"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for item in page.get("Contents", ())
    }
    if "dispatch.json" not in objects:
        return None
    answer = manifests.read_json(s3, bucket, f"{prefix}dispatch.json")
    started = answer["status"] == "started"
    text = manifests.read(s3, bucket, f"{prefix}experiment.yml") if started else None
    parsed = yaml.safe_load(text or b"")
    experiment = parsed if isinstance(parsed, dict) else {}
    metrics = (
        manifests.read_json(s3, bucket, f"{prefix}evaluate/metrics.json")
        if "evaluate/metrics.json" in objects
        else None
    )
    return {
        "experiment": experiment.get("comment", ""),
        "commit": answer["commit"],
        "author": answer.get("author", ""),
        "status": "finished" if metrics else "no metrics" if started else "refused",
        "started": objects["dispatch.json"],
        "manifest": False,
        "settings": settings.of_experiment(experiment),
        "swept": {},
        "metrics": metrics or {},
        **_time_and_cost(objects, experiment, region),
        "cached": f"0 of {len(STEPS)}" if metrics else "",
        "variant": 1,
        "predictions": f"{prefix}predict/predictions.csv" if "predict/predictions.csv" in objects else "",
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


def _varied(rows: Iterable[Row]) -> dict[str, bool]:
    """Return the arguments that are not the same in all rows, and whether all their values are numbers."""
    known = [settings.arguments(row["settings"]) for row in rows if row["settings"]]
    names = dict.fromkeys(name for options in known for name in options)
    values = {name: {options.get(name) for options in known} for name in names}
    return {name: all(map(_is_number, found - {None})) for name, found in values.items() if len(found) > 1}


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def _public(row: Row, first: Row | None, options: Mapping[str, bool]) -> Row:
    changed: list[str] = []
    if first and row["settings"]:
        both = not (row["manifest"] or first["manifest"])
        changed = settings.changes(first["settings"], row["settings"], row["swept"], manifests_only=not both)
    given = {
        name: float(value) if number else value
        for name, number in options.items()
        if (value := row["settings"].get(name)) is not None
    }
    return {
        "experiment": row["experiment"],
        "commit": row["commit"][:8],
        "author": row["author"],
        "status": row["status"],
        "changed": ", ".join(changed),
        **{name: value for name, value in row["metrics"].items() if isinstance(value, float)},
        **given,
        **{name: row[name] for name in ("seconds", "usd", "cached", "variant", "predictions")},
    }


def main() -> None:
    """Print the table of the workshop's runs (the last lines of ``make run``)."""
    workshop = connect()
    repository = workshop.name(workshop.project)
    runs = table(boto3.client("s3"), workshop.bucket, repository, region=workshop.region)
    columns = ["experiment", "commit", "author", "status", "changed", "roc_auc", "accuracy", "seconds", "cached", "usd"]
    print(f"\nruns of {repository} (usd: what the seconds would cost on AWS, without starting instances)")
    shown = runs[[name for name in columns if name in runs]].round({"usd": 6} | dict.fromkeys(columns[5:8], 3))
    print(shown.to_string(index=False, na_rep=""))


if __name__ == "__main__":
    main()

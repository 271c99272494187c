"""Choose the best of several sets of hyper-parameters, each of which trained a model.

Reads <output>/metrics.json of each set, writes results/<run>/best.json.

IAM actions, and nothing else:
    s3:GetObject        on the models' metrics
    s3:ListBucket       on the bucket, below models/: else S3 says "denied" of what is missing
    s3:PutObject        on the results
    logs                of the function itself
"""

import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import boto3

METRIC = "roc_auc"


class NoneTrained(Exception):
    """No set has a model; the message says why."""


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Choose the best of ``event["sets"]``, of the run ``event["run"]`` in ``event["bucket"]``."""
    return dispatch(event, client())


def dispatch(event: Mapping[str, Any], s3: Any) -> dict[str, Any]:
    """Read the metrics, write what came out, and return it, as ``plan`` does. ``s3``: an S3 client.

    Each of the sets has ``number``, ``set`` and either ``output``, where its model lies, or ``error``.
    Raises NoneTrained.
    """
    bucket = event["bucket"]
    trained = []
    for one in event["sets"]:
        if "error" in one:
            trained.append({**one, "metrics": None})
            continue
        metrics = _read(s3, bucket, f"{one['output']}/metrics.json")
        trained.append({**one, "metrics": metrics, **({} if metrics else {"error": "it wrote no metrics"})})
    chosen = plan(trained)
    body = json.dumps(chosen).encode()
    key = f"results/{event['run']}/best.json"
    s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")
    return chosen


def plan(trained: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return ``{"best", "ranking", "failed"}``: sets by their roc_auc, the highest first; equal ones in their order.

    Of each set in the ranking: number, set, roc_auc, accuracy and model, a key; of each that failed number, set
    and error. Raises NoneTrained when all have failed.
    """
    sets = list(trained)
    ranking = [
        {
            "number": one["number"],
            "set": one["set"],
            METRIC: one["metrics"][METRIC],
            "accuracy": one["metrics"]["accuracy"],
            "model": f"{one['output']}/model.joblib",
        }
        for one in sets
        if one["metrics"]
    ]
    failed = [{name: one[name] for name in ("number", "set", "error")} for one in sets if not one["metrics"]]
    if not ranking:
        reasons = "; ".join(f"set {one['number']}: {one['error']}" for one in failed)
        raise NoneTrained(f"none of {len(failed)} sets has a model: {reasons}" if failed else "there are no sets")
    ranking.sort(key=lambda one: (-one[METRIC], one["number"]))
    return {"best": ranking[0], "ranking": ranking, "failed": failed}


def _read(s3: Any, bucket: str, key: str) -> dict[str, Any] | None:
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

"""Runs as the sweep's state machine leaves them: manifests, made small for tests."""

from collections.abc import Mapping, Sequence
from typing import Any

from helpers.pipeline import STEPS

BUCKET, REPOSITORY = "bucket", "demo-exp-project1"
DATA = {
    "uri": f"s3://{BUCKET}/dataset/census.csv",
    "version": "0123456789ab",
    "objects": [{"key": "dataset/census.csv", "etag": '"e1"', "size": 1000}],
}
METRICS = {"roc_auc": 0.843, "accuracy": 0.753, "test_rows": 13657, "confusion_matrix": {"true_negative": 1}}


def job(step: str, key: str, *, status: str = "run", run: str = "this-run", args: Sequence[str] = ()) -> dict[str, Any]:
    """Return a job as a manifest describes it."""
    return {
        "status": status, "reason": "exit code 2" if status == "failed" else "", "name": f"demo-exp-{step}-{key}",
        "run": run, "started": "2026-01-01T00:00:00.000Z", "seconds": 1.5, "instances": 1, "type": "ml.t3.medium",
        "usd": 0.00002, "image": "1.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2", "args": list(args),
        "environment": {}, "script": f"{step}.py", "code": [f"{step}.py", "features.py"],
        "inputs": {source: f"{source}-0" for source in STEPS[step] if source != "data"},
    }  # fmt: skip


def manifest(
    commit: str,
    *args: Sequence[str],
    at: str = "2026-01-01T00:00:00.000Z",
    swept: Sequence[Mapping[str, str]] = (),
    statuses: Mapping[int, str] | None = None,
    data: Mapping[str, Any] = DATA,
    comment: str = "a sweep",
) -> dict[str, Any]:
    """Return a manifest with a variant for each of ``args``, its train arguments; preprocess is shared, and cached.

    ``statuses``: of the variants, by number from 1, that did not finish.
    """
    jobs: dict[str, dict[str, Any]] = {step: {} for step in STEPS}
    jobs["preprocess"]["preprocess-0"] = job("preprocess", "preprocess-0", status="cached", run="earlier-run")
    variants = []
    for number, given in enumerate(args, 1):
        status = (statuses or {}).get(number, "finished")
        keys = {step: f"{step}-{number}" for step in STEPS} | {"preprocess": "preprocess-0"}
        for step in list(STEPS)[1:]:
            ended = {"finished": "run", "failed": "failed" if step == "train" else "skipped"}[status]
            jobs[step][keys[step]] = job(step, keys[step], status=ended, args=given if step == "train" else ())
        metrics = {**METRICS, "roc_auc": 0.8 + number / 100} if status == "finished" else {}
        variants.append(
            {
                "changed": dict(swept[number - 1]) if swept else {},
                "status": status,
                "reason": "" if status == "finished" else "train failed: exit code 2",
                "metrics": metrics,
                "jobs": keys,
                "seconds": 6.0,
                "usd": 0.00008,
            }
        )
    return {
        "version": 1, "id": f"run-{commit[:12]}", "comment": comment, "repository": REPOSITORY, "commit": commit,
        "ref": "refs/heads/main", "author": "Dana", "pusher": "dana", "executionArn": "arn", "started": at, "ended": at,
        "seconds": 7.0, "region": "us-east-1", "data": dict(data), "jobs": jobs, "variants": variants,
        "cost": {"usd": 0.0001, "transitions_usd": 0.0002, "saved_usd": 0.00002},
    }  # fmt: skip

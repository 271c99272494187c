"""Lineage both ways: from a metric to all that it comes from, and from data to the runs that used it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd
import yaml

from helpers import manifests
from helpers.pipeline import STEPS

NOT_RECORDED = "not recorded"  # of the simple state machine, which keeps no manifest


@dataclass(frozen=True)
class Job:
    """A job that a metric comes from. ``run`` is the execution that computed it, ``cached`` when that was another."""

    step: str
    status: str
    name: str
    run: str
    key: str
    script: str
    code: tuple[str, ...]
    image: str
    args: tuple[str, ...]
    environment: Mapping[str, str]
    instances: int
    type: str
    inputs: Mapping[str, str]


@dataclass(frozen=True)
class Lineage:
    """What the metrics of one variant of a run come from.

    ``data`` holds uri, version (a digest of the objects) and objects (key, etag, size).
    """

    repository: str
    commit: str
    ref: str
    author: str
    experiment: str
    variant: int
    changed: Mapping[str, str]
    status: str
    metrics: Mapping[str, Any] = field(repr=False)
    data: Mapping[str, Any] = field(repr=False)
    jobs: tuple[Job, ...] = field(repr=False)

    def steps(self) -> pd.DataFrame:
        """Return a row for each step: its code, image and arguments, and the job that computed its output."""
        columns = ["step", "script", "modules", "arguments", "inputs", "image", "machines", "status", "job", "run"]
        rows = [
            [
                job.step,
                job.script,
                ", ".join(path for path in job.code if path != job.script),
                " ".join(job.args),
                ", ".join([*job.inputs, *(["data"] if not job.inputs else [])]),
                job.image.rpartition("/")[2],
                f"{job.instances} x {job.type}",
                job.status,
                job.name,
                job.run,
            ]
            for job in self.jobs
        ]
        return pd.DataFrame(rows, columns=columns)

    def origin(self) -> pd.DataFrame:
        """Return what all steps have in common: commit, author, data and what the variant changes, a row each."""
        rows = {
            "repository": self.repository,
            "commit": self.commit,
            "ref": self.ref,
            "author": self.author,
            "experiment": self.experiment,
            "variant": f"{self.variant}: {_words(self.changed) or 'as in experiment.yml'}",
            "status": self.status,
            "data": self.data["uri"],
            "data version": self.data["version"],
            **{
                f"object {item['key']}": f"ETag {item['etag']}, {item['size']:,} bytes" for item in self.data["objects"]
            },
        }
        return pd.DataFrame(rows.items(), columns=["what", "value"])


def of_metrics(s3: Any, bucket: str, repository: str, commit: str, *, variant: int = 1) -> Lineage:
    """Return what the metrics of a run's variant come from.

    ``commit`` may be cut short, as in the table of runs. Of the simple state machine's
    runs less is known: it does not record the version of the data, nor the modules
    that a script imports. Raises LookupError when there is no such run or variant, or
    when it has not recorded its end.
    """
    commit = manifests.full_commit(s3, bucket, repository, commit)
    manifest = manifests.of_run(s3, bucket, repository, commit)
    if manifest is None:
        if manifests.plan_of_run(s3, bucket, repository, commit) is not None:
            raise LookupError(f"the run of {commit} has not recorded its end: it still runs, or was stopped")
        return _of_simple_run(s3, bucket, repository, commit, variant)
    if not 1 <= variant <= len(manifest["variants"]):
        raise LookupError(f"the run of {commit} has variants 1 to {len(manifest['variants'])}, not {variant}")
    found = manifest["variants"][variant - 1]
    return Lineage(
        manifest["repository"],
        manifest["commit"],
        manifest["ref"],
        manifest["author"],
        manifest["comment"],
        variant,
        found["changed"],
        found["status"],
        found["metrics"],
        manifest["data"],
        tuple(_job(step, key, manifest["jobs"][step][key]) for step, key in found["jobs"].items()),
    )


def runs_of_data(s3: Any, bucket: str, repository: str, data: str, *, version: str | None = None) -> pd.DataFrame:
    """Return a row for each variant of each run that used ``data``, oldest first.

    ``data``: the URI of a data set or of one of its objects, or that object's key.
    ``version``: only runs that used this version: a data set's, or an object's ETag.
    Columns: experiment, commit, author, variant, changed, status, data, version, etag.
    The simple state machine records no version: its runs have "not recorded", and
    are left out when a version is asked for.
    """
    commits = manifests.commits(s3, bucket, repository)
    found = manifests.at_once(s3, lambda commit: _uses(s3, bucket, repository, commit, data), commits)
    uses = sorted((use for uses in found for use in uses), key=lambda use: (use["started"], use["variant"]))
    rows = [use for use in uses if version is None or version.strip('"') in (use["version"], use["etag"])]
    columns = ["experiment", "commit", "author", "variant", "changed", "status", "data", "version", "etag"]
    return pd.DataFrame(rows, columns=columns)


def _uses(s3: Any, bucket: str, repository: str, commit: str, data: str) -> list[dict[str, Any]]:
    """Return how a run used ``data``, a row for each variant; a run that has not ended is known by its plan."""
    record = manifests.of_run(s3, bucket, repository, commit) or manifests.plan_of_run(s3, bucket, repository, commit)
    if record is None:
        return _use_of_simple_run(s3, bucket, repository, commit, data)
    used = record["data"]
    matching = _matching(used, data)
    if matching is None:
        return []
    started = (
        datetime.fromisoformat(record["started"])
        if "started" in record
        else manifests.modified(s3, bucket, f"runs/{repository}/{commit}/plan.json")
    )
    return [
        {
            "started": started,
            "experiment": record["comment"],
            "commit": commit[:8],
            "author": record["author"],
            "variant": number,
            "changed": _words(variant["changed"]),
            "status": variant.get("status", "no metrics"),
            "data": used["uri"],
            "version": used["version"],
            "etag": matching,
        }
        for number, variant in enumerate(record["variants"], 1)
    ]


def _matching(used: Mapping[str, Any], data: str) -> str | None:
    """Return the ETag of the object that ``data`` means, "" for a data set of several; None when it was not used."""
    etags = {item["key"]: item["etag"].strip('"') for item in used["objects"]}
    is_uri = data.startswith("s3://")
    if is_uri and data.split("/")[2] != used["uri"].split("/")[2]:
        return None  # of another bucket
    key = _key(data) if is_uri else data
    if key in etags:
        return etags[key]
    return "" if key == _key(used["uri"]) else None


def _of_simple_run(s3: Any, bucket: str, repository: str, commit: str, variant: int) -> Lineage:
    answer, experiment = _simple_run(s3, bucket, repository, commit)
    if variant != 1:
        raise LookupError(f"the run of {commit} has one variant, not {variant}")
    metrics = manifests.read_json(s3, bucket, f"runs/{repository}/{commit}/evaluate/metrics.json")
    return Lineage(
        repository,
        commit,
        answer.get("ref", ""),
        answer.get("author", ""),
        experiment.get("comment", ""),
        1,
        {},
        "finished" if metrics else "no metrics",
        metrics or {},
        {"uri": experiment["pipeline"]["input_data_uri"], "version": NOT_RECORDED, "objects": []},
        tuple(_simple_job(step, experiment[step], answer["execution"], bool(metrics)) for step in STEPS),
    )


def _simple_job(step: str, section: Mapping[str, Any], execution: str, finished: bool) -> Job:
    return Job(
        step,
        "run" if finished else NOT_RECORDED,
        f"{execution}-{step}-*",  # ends in how often it was tried again
        execution,
        NOT_RECORDED,
        section["code"],
        (section["code"],),
        section["ImageUri"],
        tuple(map(str, section.get("args") or ())),
        {},
        section["InstanceCount"],
        section["InstanceType"],
        {source: NOT_RECORDED for source in STEPS[step] if source != "data"},
    )


def _use_of_simple_run(s3: Any, bucket: str, repository: str, commit: str, data: str) -> list[dict[str, Any]]:
    try:
        answer, experiment = _simple_run(s3, bucket, repository, commit)
    except LookupError:
        return []  # refused, or not answered yet: it used nothing
    uri = experiment["pipeline"]["input_data_uri"]
    if data not in (uri, _key(uri)):
        return []
    run = f"runs/{repository}/{commit}"
    metrics = manifests.read_json(s3, bucket, f"{run}/evaluate/metrics.json")
    return [
        {
            "started": manifests.modified(s3, bucket, f"{run}/dispatch.json"),
            "experiment": experiment.get("comment", ""),
            "commit": commit[:8],
            "author": answer.get("author", ""),
            "variant": 1,
            "changed": "",
            "status": "finished" if metrics else "no metrics",
            "data": uri,
            "version": NOT_RECORDED,
            "etag": NOT_RECORDED,
        }
    ]


def _simple_run(s3: Any, bucket: str, repository: str, commit: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the dispatcher answered to a commit, and its experiment.yml. Raises LookupError if none started."""
    answer = manifests.read_json(s3, bucket, f"runs/{repository}/{commit}/dispatch.json")
    if answer is None or answer["status"] != "started":
        raise LookupError(f"no run of {commit} was started")
    text = manifests.read(s3, bucket, f"runs/{repository}/{commit}/experiment.yml")
    return answer, yaml.safe_load(text or b"")


def _job(step: str, key: str, job: Mapping[str, Any]) -> Job:
    return Job(
        step,
        job["status"],
        job["name"],
        job["run"],
        key,
        job["script"],
        tuple(job["code"]),
        job["image"],
        tuple(job["args"]),
        job["environment"],
        job["instances"],
        job["type"],
        job["inputs"],
    )


def _words(changed: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in changed.items())


def _key(uri: str) -> str:
    """Return the key, or the beginning of keys, of an S3 URI."""
    return uri.removeprefix("s3://").partition("/")[2]

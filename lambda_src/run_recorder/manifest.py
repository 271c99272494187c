"""The record of a run, from what its jobs left in the bucket: pure, the same for the same objects.

A job's marker says that its output is complete and which run computed it; a
failure says why there is none. What has neither was skipped, because an earlier
job that it needs failed.
"""

import datetime as dt
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from planning import costs

VERSION = 1
CODE_ROOT = "/opt/ml/processing/input/code/"
MAX_REASON = 1000  # characters
IDENTITY = ("id", "comment", "repository", "commit", "ref", "author", "pusher")

Json = dict[str, Any]
JobKey = tuple[str, str]  # step, key


@dataclass(frozen=True)
class Recorded:
    """What a run's jobs left: markers and failures of jobs, and the metrics of evaluate's jobs by key.

    ``metrics`` holds a message in place of metrics that cannot be read.
    """

    markers: Mapping[JobKey, Json]
    failures: Mapping[JobKey, Json]
    metrics: Mapping[str, Json | str]


@dataclass(frozen=True)
class Finish:
    """The execution that ran the plan: its ARN, and when it began and ended (ISO 8601)."""

    arn: str
    started: str
    ended: str


def manifest(plan: Json, recorded: Recorded, finish: Finish) -> Json:
    """Return the run's manifest. ``plan`` is its plan.json."""
    region = finish.arn.split(":")[3]
    jobs = {
        step: {item["key"]: _job(item, plan["id"], recorded, region) for item in items}
        for step, items in plan["steps"].items()
    }
    for step, items in plan["steps"].items():
        for item in items:
            if jobs[step][item["key"]]["status"] == "skipped":
                jobs[step][item["key"]]["reason"] = _why_skipped(item, jobs, plan["variants"])
    started, ended = _time(finish.started), _time(finish.ended)
    return {
        "version": VERSION,
        **{name: plan[name] for name in IDENTITY},
        "executionArn": finish.arn,
        "started": iso(started),
        "ended": iso(ended),
        "seconds": round((ended - started).total_seconds(), 3),
        "region": region,
        "data": plan["data"],
        "jobs": jobs,
        "variants": [_variant(one, jobs, recorded.metrics) for one in plan["variants"]],
        "cost": _cost(plan, jobs, region),
    }


def summary(made: Json) -> Json:
    """Return how many variants ended how, and why the first one that did not finish came to nothing."""
    statuses = [variant["status"] for variant in made["variants"]]
    counts: Json = {name: statuses.count(name) for name in ("finished", "failed", "skipped")}
    return counts | {"cause": next((one["reason"] for one in made["variants"] if one["status"] != "finished"), "")}


def moment(value: Any) -> dt.datetime | None:
    """Return a time that Step Functions gave: epoch seconds or milliseconds, or ISO 8601; None for anything else."""
    try:
        return _time(value)
    except (TypeError, ValueError):
        return None


def iso(time: dt.datetime | None) -> str | None:
    """Return a time as ISO 8601 in UTC, to the millisecond."""
    return None if time is None else time.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time(value: Any) -> dt.datetime:
    if isinstance(value, str):
        time = dt.datetime.fromisoformat(value)
        return time if time.tzinfo else time.replace(tzinfo=dt.UTC)
    # Seconds need twelve digits only in the year 5138; milliseconds have had them since 1973.
    return dt.datetime.fromtimestamp(value / 1000 if value >= 1e11 else value, dt.UTC)


def _job(item: Json, run: str, recorded: Recorded, region: str) -> Json:
    place = item["step"], item["key"]
    marker, failure = recorded.markers.get(place), recorded.failures.get(place)
    found: Json
    if failure is not None:  # of this run, so it says more than a marker that another run wrote meanwhile
        status, found = "failed", _described(failure)
    elif marker is not None:
        status, found = "run" if marker["run"] == run else "cached", marker
    else:
        status, found = "skipped", {}
    planned = {"job": item["job"], "run": run, "instances": item["InstanceCount"], "type": item["InstanceType"]}
    job = {**planned, "reason": "", **found}
    started, ended = moment(job.get("started")), moment(job.get("ended"))
    seconds = round((ended - started).total_seconds(), 3) if started and ended else None
    usd = math.nan if seconds is None else costs.job_usd(region, job["type"], job["instances"], seconds)
    return {
        "status": status,
        "reason": job["reason"],
        "name": job["job"],
        "run": job["run"],
        "started": iso(started),
        "seconds": seconds,
        "instances": job["instances"],
        "type": job["type"],
        "usd": costs.known(usd),
        "image": item["ImageUri"],
        "args": item["ContainerArguments"],
        "environment": item["Environment"],
        "script": item["ContainerEntrypoint"][-1].removeprefix(CODE_ROOT),
        "code": item["code"],
        "inputs": item["inputs"],
    }


def _described(failure: Json) -> Json:
    """Return a failure's reason, and its job's name and times where the cause is a job's description."""
    try:
        job = json.loads(failure["cause"])
    except ValueError:
        job = None
    if not isinstance(job, dict) or "ProcessingJobName" not in job:
        reason = ": ".join(filter(None, (failure["error"], failure["cause"])))
        return {"job": failure["job"], "reason": reason[:MAX_REASON]}
    status = f"the job {job['ProcessingJobName']} ended as {job.get('ProcessingJobStatus', failure['error'])}"
    # The last lines that a script printed say more than the fact that it failed.
    reason = " ".join(filter(None, (job.get("FailureReason"), job.get("ExitMessage")))) or status
    return {
        "job": job["ProcessingJobName"],
        "started": job.get("ProcessingStartTime"),
        "ended": job.get("ProcessingEndTime"),
        "reason": reason[:MAX_REASON],
    }


def _why_skipped(item: Json, jobs: Json, variants: Iterable[Json]) -> str:
    """Return which earlier job failed, with which changes, and why."""
    order = list(jobs)
    for step in order[: order.index(item["step"])]:
        job = jobs[step].get(item["inputs"].get(step))
        if job and job["status"] == "failed":
            changed = next(one["changed"] for one in variants if one["jobs"][step] == item["inputs"][step])
            upto = order[: order.index(step) + 1]
            with_ = _changes({name: value for name, value in changed.items() if name.split()[0] in upto})
            return f"{step}{with_} failed: {job['reason']}"[:MAX_REASON]
    for step in order:  # what it needs was skipped itself
        job = jobs[step].get(item["inputs"].get(step))
        if job and job["status"] == "skipped":
            return job["reason"]
    return "it has no marker and no failure: it was not run, could not write them, or its output has been deleted"


def _changes(changed: Mapping[str, str]) -> str:
    """Return ``{"train --C": "0.1"}`` as " with --C 0.1"."""
    words = ", ".join(f"{name.partition(' ')[2]} {value}" for name, value in changed.items())
    return f" with {words}" if words else ""


def _variant(variant: Json, jobs: Json, metrics: Mapping[str, Json | str]) -> Json:
    """Return how a variant ended. Its seconds and dollars are of all jobs that it needs, whoever ran them."""
    mine = {step: jobs[step][key] for step, key in variant["jobs"].items()}
    seconds = math.fsum(job["seconds"] or 0 for job in mine.values())
    # A job that never ran cost nothing; one that ran at an unknown price makes the sum unknown.
    prices = [job["usd"] for job in mine.values() if job["seconds"] is not None]
    measured = metrics.get(variant["jobs"]["evaluate"], {})
    reason = measured if isinstance(measured, str) else ""
    status = "finished"
    for step, job in mine.items():
        if job["status"] == "failed":
            status, reason = "failed", f"{step} failed: {job['reason']}"[:MAX_REASON]
            break
        if job["status"] == "skipped":
            status, reason = "skipped", job["reason"]
            break
    return {
        "changed": variant["changed"],
        "status": status,
        "reason": reason,
        "metrics": {} if isinstance(measured, str) or status != "finished" else measured,
        "jobs": variant["jobs"],
        "seconds": round(seconds, 3),
        "usd": None if None in prices else costs.known(math.fsum(prices)),
    }


def _cost(plan: Json, jobs: Json, region: str) -> Json:
    """Return what this run's own jobs cost, its transitions, and what the cached jobs would have cost."""
    every = [job for step in jobs.values() for job in step.values()]
    items = [item for step in plan["steps"].values() for item in step]
    given = [jobs[item["step"]][item["key"]]["status"] for item in items if not item["cached"]]
    return {
        "usd": _total(job for job in every if job["status"] in ("run", "failed")),
        "transitions_usd": costs.known(costs.transitions_usd(region, costs.run_transitions(given))),
        "saved_usd": _total(job for job in every if job["status"] == "cached"),
    }


def _total(jobs: Iterable[Json]) -> float | None:
    prices = [job["usd"] for job in jobs if job["seconds"] is not None]
    return None if None in prices else costs.known(math.fsum(prices))

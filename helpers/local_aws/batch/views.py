"""Jobs as the API describes them."""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

from helpers.local_aws.batch.records import STATUSES, Job
from helpers.local_aws.wire import Params


def job_detail(job: Job, arn: str, children: Sequence[Job]) -> Params:
    """Return a job as DescribeJobs does. ``children``: those of an array."""
    order = job.order
    detail: dict[str, Any] = {
        "jobArn": arn,
        "jobName": job.name,
        "jobId": job.job_id,
        "jobQueue": job.queue,
        "status": job.status,
        "attempts": job.attempts,
        "statusReason": job.reason or None,
        "createdAt": job.created,
        "retryStrategy": order["retryStrategy"],
        "startedAt": job.started or None,
        "stoppedAt": job.stopped or None,
        "dependsOn": order["dependsOn"],
        "jobDefinition": job.definition,
        "parameters": order["parameters"],
        "container": {**order["container"], "networkInterfaces": [], **_ran(job)},
        "timeout": order["timeout"] or None,
        "tags": job.tags,
        "propagateTags": order["propagateTags"],
        "platformCapabilities": order["platformCapabilities"],
        "arrayProperties": _array(job, children),
        **_wishes(job),
    }
    return copy.deepcopy({name: value for name, value in detail.items() if value is not None})


def job_summary(job: Job, arn: str, children: Sequence[Job]) -> Params:
    """Return a job as ListJobs does."""
    ran = {name: value for name, value in _ran(job).items() if name in ("exitCode", "reason")}
    summary: dict[str, Any] = {
        "jobArn": arn,
        "jobId": job.job_id,
        "jobName": job.name,
        "createdAt": job.created,
        "status": job.status,
        "statusReason": job.reason or None,
        "startedAt": job.started or None,
        "stoppedAt": job.stopped or None,
        "container": ran or None,
        "arrayProperties": _array(job, children),
        "jobDefinition": job.definition,
        **_wishes(job),
    }
    return {name: value for name, value in summary.items() if value is not None}


def _ran(job: Job) -> dict[str, Any]:
    """Return what is known of the last container: of the one that runs, its log."""
    if job.task or not job.attempts:
        return {"logStreamName": job.stream} if job.stream else {}
    return {name: value for name, value in job.attempts[-1]["container"].items() if name != "networkInterfaces"}


def _array(job: Job, children: Sequence[Job]) -> dict[str, Any] | None:
    if job.index >= 0:
        return {"index": job.index}
    if not job.size:
        return None
    counted = Counter(each.status for each in children)
    return {"statusSummary": {status: counted[status] for status in STATUSES}, "size": job.size}


def _wishes(job: Job) -> dict[str, Any]:
    return {"isCancelled": job.cancelled or None, "isTerminated": job.terminated or None}

"""How SageMaker answers: states and times of jobs, filtered lists, pages, tags."""

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any

from helpers.local_aws import pages
from helpers.local_aws.sagemaker import training
from helpers.local_aws.sagemaker.records import Job
from helpers.local_aws.wire import AwsError, Params

MOST_TAGS = 50
_PAGE = 10

Entry = tuple[str, str, float, float]  # name, status, time of creation, time of modification


def processing_summary(job: Job) -> Params:
    """Return a processing job as lists have it."""
    return {
        "ProcessingJobName": job["request"]["ProcessingJobName"],
        **_processing_state(job),
        **_times(job, "Processing"),
    }


def processing_description(job: Job) -> Params:
    """Return everything about a processing job, as it was asked for and as it went."""
    started = {"ProcessingStartTime": moment(job["started"])} if "started" in job else {}
    return {**job["request"], **_processing_state(job), **_times(job, "Processing"), **started}


def training_summary(job: Job) -> Params:
    """Return a training job as lists have it."""
    return {"TrainingJobName": job["request"]["TrainingJobName"], **_training_state(job), **_times(job, "Training")}


def training_description(job: Job) -> Params:
    """Return everything about a training job, as it was asked for and as it went.

    No spot instance is ever taken away here: all of the training time is billable.
    """
    answer = {**job["request"], **_training_state(job), **_times(job, "Training")}
    answer["SecondaryStatusTransitions"] = [
        {"Status": entry["status"], "StartTime": moment(entry["start"])}
        | ({"EndTime": moment(entry["end"])} if "end" in entry else {})
        | {"StatusMessage": entry["message"]}
        for entry in job["transitions"]
    ]
    if "started" in job:
        answer["TrainingStartTime"] = moment(job["started"])
        if "ended" in job:
            seconds = max(1, round(job["ended"] - job["started"]))
            answer |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
        if job["status"] in ("Completed", "Stopped"):
            answer["ModelArtifacts"] = {"S3ModelArtifacts": training.model_uri(job["request"])}
    if job.get("failure"):
        answer["FailureReason"] = job["failure"]
    if job.get("metrics"):
        answer["FinalMetricDataList"] = [
            {"MetricName": name, "Value": value, "Timestamp": moment(when)}
            for name, (value, when) in job["metrics"].items()
        ]
    return answer


def moment(seconds: float) -> dt.datetime:
    """Return a time in epoch seconds as the wire wants it."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _processing_state(job: Job) -> Params:
    members = {"ProcessingJobArn": job["arn"], "ProcessingJobStatus": job["status"]}
    optional = {"FailureReason": job.get("failure"), "ExitMessage": job.get("message")}
    return members | {name: value for name, value in optional.items() if value}


def _training_state(job: Job) -> Params:
    secondary = "Stopping" if job["status"] == "Stopping" else job["transitions"][-1]["status"]
    return {"TrainingJobArn": job["arn"], "TrainingJobStatus": job["status"], "SecondaryStatus": secondary}


def _times(job: Job, kind: str) -> Params:
    members = {"created": "CreationTime", "modified": "LastModifiedTime", "ended": f"{kind}EndTime"}
    return {member: moment(job[key]) for key, member in members.items() if key in job}


def listed(entries: Sequence[Entry], params: Params) -> list[str]:
    """Return the names of the jobs that a list asks for, newest first unless asked otherwise."""
    found = [entry for entry in entries if _matches(entry, params)]
    keys: dict[str, Callable[[Entry], Any]] = {
        "Name": lambda entry: entry[0],
        "Status": lambda entry: (entry[1], entry[2]),
        "CreationTime": lambda entry: entry[2],
    }
    descending = params.get("SortOrder", "Descending") == "Descending"
    found.sort(key=keys[params.get("SortBy", "CreationTime")], reverse=descending)
    return [entry[0] for entry in found]


def page(member: str, items: list[Any], params: Params, size: int = _PAGE) -> Params:
    """Return one page of ``items``; the token says where the next one begins."""
    try:
        found, token = pages.cut(items, params.get("NextToken"), params.get("MaxResults", size))
    except ValueError:
        raise AwsError("ValidationException", "The pagination token is not valid.") from None
    return {member: found, **({"NextToken": token} if token else {})}


def merged(tags: list[dict[str, str]], new: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return tags with others added, or put in their place. Raises ValidationException for too many."""
    values = {tag["Key"]: tag["Value"] for tag in (*tags, *new)}
    if len(values) > MOST_TAGS:
        raise AwsError("ValidationException", f"A resource can have at most {MOST_TAGS} tags.")
    return [{"Key": key, "Value": value} for key, value in values.items()]


def _matches(entry: Entry, params: Params) -> bool:
    name, status, created, modified = entry
    if params.get("NameContains", "").lower() not in name.lower():
        return False
    if params.get("StatusEquals", status) != status:
        return False
    for member, when in (("CreationTime", created), ("LastModifiedTime", modified)):
        after, before = params.get(f"{member}After"), params.get(f"{member}Before")
        if (after is not None and when <= _epoch(after)) or (before is not None and when >= _epoch(before)):
            return False
    return True


def _epoch(value: Any) -> float:
    """Read a time as the wire (a number), Step Functions (text) or Python gives it."""
    try:
        if isinstance(value, (int, float)):
            return float(value)
        found = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(value)
    except ValueError:
        raise AwsError("ValidationException", f"'{value}' is not a time") from None
    return found.timestamp()

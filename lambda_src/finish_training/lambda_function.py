"""Look at a training job that has ended: its metrics, and whether its model is there.

IAM actions, and nothing else:
    sagemaker:DescribeTrainingJob   on the jobs
    s3:GetObject                    on the models
    s3:ListBucket                   on the bucket, below models/: else S3 says "denied" of what is missing
    logs                            of the function itself
"""

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import ClientError

METRIC = "roc_auc"
DIGITS = 6  # SageMaker keeps metrics as 32-bit floats


class NotTrained(Exception):
    """The job has not come to its end; the message says how it stands."""


class NoMetrics(Exception):
    """The job has no metric that counts: its script printed none, or its MetricDefinitions do not find it."""


class NoModel(Exception):
    """The job wrote no model."""


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Return what came of the training job ``event["job_name"]``."""
    return dispatch(event["job_name"], client("sagemaker"), client("s3"))


def dispatch(name: str, sagemaker: Any, s3: Any) -> dict[str, Any]:
    """Ask for the job and its model. Returns what ``plan`` does, and ``model_bytes``.

    ``sagemaker``, ``s3``: clients. Raises NotTrained, NoMetrics and NoModel.
    """
    found = plan(sagemaker.describe_training_job(TrainingJobName=name))
    bucket, _, key = found["model"].removeprefix("s3://").partition("/")
    try:
        size = s3.head_object(Bucket=bucket, Key=key)["ContentLength"]
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchKey"):
            raise
        raise NoModel(f"{name} wrote no model: there is no {found['model']}") from error
    return {**found, "model_bytes": size}


def plan(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{"job_name", "model", "metrics", "seconds", "billable_seconds"}`` of a training job's description.

    ``model`` is the URI of its model.tar.gz. Raises NotTrained and NoMetrics.
    """
    name, status = job["TrainingJobName"], job["TrainingJobStatus"]
    if status != "Completed":
        raise NotTrained(f"{name} is {status}: {job.get('FailureReason', 'there is no reason given')}")
    metrics = {
        metric["MetricName"]: round(float(metric["Value"]), DIGITS) for metric in job.get("FinalMetricDataList", ())
    }
    if METRIC not in metrics:
        found = ", ".join(sorted(metrics)) or "none"
        raise NoMetrics(f"{name} has no metric {METRIC}, only {found}: does a MetricDefinition find it in the log?")
    return {
        "job_name": name,
        "model": job["ModelArtifacts"]["S3ModelArtifacts"],
        "metrics": metrics,
        "seconds": job["TrainingTimeInSeconds"],
        "billable_seconds": job["BillableTimeInSeconds"],
    }


@cache
def client(service: str) -> Any:
    """Return a client, made once in the life of the worker."""
    return boto3.client(service)


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    client("sagemaker")  # while the worker starts: later it would keep the first event waiting

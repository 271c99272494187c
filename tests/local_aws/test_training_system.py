"""Notebook 08d's system: a machine of the Data Science SDK that trains a model, and what breaks it."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
from clients import eventually
from processing_workshop import SAMPLE, ProcessingWorkshop

from helpers import comparison


@pytest.fixture(scope="module")
def system(embedded: Any, tmp_path_factory: pytest.TempPathFactory) -> ProcessingWorkshop:
    """Build the system once."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in embedded.environment().items():
            if name.startswith("AWS_"):
                patch.setenv(name, value)
        # The SDK would report to its makers what it is used for; nothing leaves this machine.
        config = tmp_path_factory.mktemp("sdk") / "config.yaml"
        quiet = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
        config.write_text(json.dumps(quiet))
        patch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", str(config))
        patch.setenv("SAGEMAKER_SUPPRESS_V2_WARNING", "1")
        return ProcessingWorkshop(embedded, "training-system").build_training()


def test_a_model_is_trained_with_the_hyper_parameters_of_the_execution(
    system: ProcessingWorkshop, tmp_path: Path
) -> None:
    run = system.run("training", {"hyper_parameters": {"C": 0.5, "class-weight": "balanced"}})
    assert run["status"] == "SUCCEEDED", run
    found = json.loads(run["output"])
    assert found["metrics"]["rows"] == 1338  # different ones of the sample
    assert 0.8 < found["metrics"]["roc_auc"] < 0.95
    job = system.client("sagemaker").describe_training_job(TrainingJobName=found["job_name"])
    assert job["EnableManagedSpotTraining"] is True
    assert {name: job["HyperParameters"][name] for name in ("C", "class-weight", "seed")} == {
        "C": "0.5", "class-weight": "balanced", "seed": "0",
    }  # fmt: skip
    assert found["model"] == f"s3://{system.bucket}/models/{found['job_name']}/output/model.tar.gz"
    key = found["model"].split("/", 3)[3]
    packed = system.s3.get_object(Bucket=system.bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(tmp_path, filter="data")
    rows = pd.read_csv(SAMPLE, skipinitialspace=True).dropna()
    predicted = joblib.load(tmp_path / "model.joblib").predict(rows)
    assert 0 < predicted.mean() < 0.5
    assert comparison.measured(system.states, {"t": [run["executionArn"]]}).loc["t", "pieces"] == 1


def test_a_wrong_hyper_parameter_starts_no_job(system: ProcessingWorkshop) -> None:
    run = system.run("training", {"hyper_parameters": {"C": 0, "depth": 3}})
    assert (run["status"], run["error"]) == ("FAILED", "BadHyperParameters")
    assert "C is 0: it has to be a number above 0" in run["cause"]
    assert "TrainingStateEntered" not in system.events(run["executionArn"])


def test_a_script_that_fails_says_why(system: ProcessingWorkshop) -> None:
    key = "parts/broken.csv"
    system.s3.put_object(Bucket=system.bucket, Key=key, Body=b"age,income\n1,2\n")
    try:
        run = system.run("training")
    finally:
        system.s3.delete_object(Bucket=system.bucket, Key=key)
    assert run["status"] == "FAILED"
    job = json.loads(run["cause"])
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: ")
    group, name = "/aws/sagemaker/TrainingJobs", job["TrainingJobName"]

    def log() -> str:
        pages = system.logs.get_paginator("filter_log_events").paginate(logGroupName=group, logStreamNamePrefix=name)
        return "".join(event["message"] for page in pages for event in page["events"])

    assert "failed: broken.csv has no column" in eventually(lambda: (found := log()) and "failed" in found and found)


@pytest.mark.parametrize(("suffix", "kind", "service", "action"), [
    ("training-machine", "training-machine", "states", "sagemaker:CreateTrainingJob"),
    ("training-machine", "training-machine", "states", "sagemaker:AddTags"),
    ("training-machine", "training-machine", "states", "iam:PassRole"),
    ("training-job", "training-job", "sagemaker", "s3:GetObject"),
    ("training-job", "training-job", "sagemaker", "s3:PutObject"),
    ("training-job", "training-job", "sagemaker", "s3:ListBucket"),
    ("training-job", "training-job", "sagemaker", "ecr:BatchGetImage"),
    ("finish-training", "finish-training", "lambda", "sagemaker:DescribeTrainingJob"),
    ("finish-training", "finish-training", "lambda", "s3:GetObject"),
])  # fmt: skip
def test_each_permission_is_needed(
    system: ProcessingWorkshop, suffix: str, kind: str, service: str, action: str
) -> None:
    with system.without(suffix, kind, service, action):
        run = system.run("training")
    assert run["status"] == "FAILED"
    # S3 answers a HEAD without words.
    words = "HeadObject operation: Forbidden" if (kind, action) == ("finish-training", "s3:GetObject") else action
    assert words in run["cause"]

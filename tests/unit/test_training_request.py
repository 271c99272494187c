"""What CreateTrainingJob accepts, fills in, and refuses by name."""

from typing import Any

import pytest
from changing import changed
from training_room import channel, request

from helpers.local_aws.sagemaker import training_request as requests
from helpers.local_aws.wire import AwsError

REQUEST = request(
    "job",
    InputDataConfig=[channel("train", "s3://bucket/parts/")],
    metrics=[{"Name": "auc", "Regex": "auc=([0-9.]+)"}],
)


def test_defaults_are_filled_in() -> None:
    completed = requests.complete(changed(REQUEST, "StoppingCondition", None))
    assert completed["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}
    data = completed["InputDataConfig"][0]
    assert (data["CompressionType"], data["RecordWrapperType"]) == ("None", "None")
    assert data["DataSource"]["S3DataSource"]["S3DataDistributionType"] == "FullyReplicated"
    assert (completed["EnableManagedSpotTraining"], completed["EnableNetworkIsolation"]) == (False, False)
    assert "EnableNetworkIsolation" not in REQUEST, "the caller's request stays as it was"


def test_what_the_sdk_sends_by_default_is_taken() -> None:
    sent = {
        **REQUEST,
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 900},
        "DebugHookConfig": {"S3OutputPath": "s3://bucket/models/", "CollectionConfigurations": []},
        "ProfilerConfig": {"S3OutputPath": "s3://bucket/models/", "DisableProfiler": False},
    }
    assert requests.complete(sent)["ProfilerConfig"] == sent["ProfilerConfig"]


def test_the_default_folder_of_checkpoints() -> None:
    completed = requests.complete(changed(REQUEST, "CheckpointConfig", {"S3Uri": "s3://bucket/checkpoints"}))
    assert completed["CheckpointConfig"]["LocalPath"] == "/opt/ml/checkpoints"


SOURCE = "InputDataConfig.0.DataSource.S3DataSource"


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("VpcConfig", {"Subnets": ["s"], "SecurityGroupIds": ["g"]}, "VpcConfig"),
        ("EnableInterContainerTrafficEncryption", True, "EnableInterContainerTrafficEncryption"),
        ("RetryStrategy", {"MaximumRetryAttempts": 1}, "RetryStrategy"),
        ("ExperimentConfig", {"TrialName": "t"}, "ExperimentConfig"),
        ("DebugHookConfig.CollectionConfigurations", [{"CollectionName": "c"}], "CollectionConfigurations"),
        ("ProfilerConfig.ProfilingParameters", {"a": "b"}, "ProfilerConfig.ProfilingParameters"),
        ("AlgorithmSpecification.AlgorithmName", "mine", "AlgorithmName"),
        ("AlgorithmSpecification.TrainingInputMode", "FastFile", "TrainingInputMode FastFile"),
        ("InputDataConfig.0.InputMode", "Pipe", "InputDataConfig.train.InputMode Pipe"),
        ("InputDataConfig.0.ShuffleConfig", {"Seed": 1}, "train.ShuffleConfig"),
        ("InputDataConfig.0.DataSource.FileSystemDataSource", {}, "FileSystemDataSource"),
        (f"{SOURCE}.AttributeNames", ["a"], "AttributeNames"),
        ("OutputDataConfig.KmsKeyId", "key", "OutputDataConfig.KmsKeyId"),
        ("OutputDataConfig.CompressionType", "NONE", "CompressionType NONE"),
        ("ResourceConfig.KeepAlivePeriodInSeconds", 60, "KeepAlivePeriodInSeconds"),
        ("ResourceConfig.InstanceGroups", [{}], "InstanceGroups"),
        ("StoppingCondition.MaxPendingTimeInSeconds", 1800, "MaxPendingTimeInSeconds"),
        ("CheckpointConfig", {"S3Uri": "s3://b/c", "LocalPath": "/tmp/c"}, "CheckpointConfig.LocalPath /tmp/c"),
        ("CheckpointConfig", {"S3Uri": "s3://b/c", "LocalPath": "/opt/ml/../../etc"}, "CheckpointConfig.LocalPath"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(path: str, value: Any, named: str) -> None:
    with pytest.raises(AwsError) as refused:
        requests.complete(changed(REQUEST, path, value))
    assert (refused.value.code, refused.value.status) == ("NotImplemented", 501)
    assert named in refused.value.message


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("AlgorithmSpecification.TrainingImage", None, "TrainingImage"),
        ("AlgorithmSpecification.MetricDefinitions", [{"Name": "auc", "Regex": "auc=("}], "regex of the metric auc"),
        ("AlgorithmSpecification.MetricDefinitions", [{"Name": "a", "Regex": "a"}] * 2, "must be unique"),
        ("ResourceConfig", None, "InstanceType is required"),
        ("ResourceConfig.InstanceCount", 0, "InstanceCount must be at least 1"),
        ("ResourceConfig.VolumeSizeInGB", None, "VolumeSizeInGB must be at least 1"),
        ("StoppingCondition.MaxRuntimeInSeconds", 2419201, "at most 2419200"),
        ("StoppingCondition.MaxWaitTimeInSeconds", 100, "only supported when EnableManagedSpotTraining"),
        ("EnableManagedSpotTraining", True, "Invalid MaxWaitTimeInSeconds"),
        ("OutputDataConfig.S3OutputPath", "https://bucket/x", "must begin with s3://"),
        (f"{SOURCE}.S3Uri", "https://bucket/x", "S3Uri of the channel train"),
        (f"{SOURCE}.S3DataType", "AugmentedManifestFile", "only be used with input mode Pipe"),
        ("InputDataConfig.0.CompressionType", "Gzip", "only be used with input mode Pipe"),
        ("InputDataConfig.0.RecordWrapperType", "RecordIO", "only be used with input mode Pipe"),
        ("InputDataConfig.0.ChannelName", "..", "cannot be called"),
        (SOURCE, None, "has no S3DataSource"),
        ("InputDataConfig", REQUEST["InputDataConfig"] * 2, "must be unique"),
        ("CheckpointConfig", {"S3Uri": "s3://b/c", "LocalPath": "/opt/ml/model/c"}, "of the training job itself"),
    ],
)
def test_what_sagemaker_documents_as_invalid_is_a_validation_error(path: str, value: Any, said: str) -> None:
    with pytest.raises(AwsError) as refused:
        requests.complete(changed(REQUEST, path, value))
    assert refused.value.code == "ValidationException"
    assert said in refused.value.message


def test_a_spot_job_may_not_wait_shorter_than_it_runs() -> None:
    spot = changed(REQUEST, "EnableManagedSpotTraining", True)
    spot["StoppingCondition"] = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 59}
    with pytest.raises(AwsError, match="greater than or equal to MaxRuntimeInSeconds"):
        requests.complete(spot)

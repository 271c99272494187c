"""What CreateProcessingJob accepts, fills in, and refuses by name."""

from typing import Any

import pytest
from changing import changed

from helpers.local_aws.sagemaker import request as requests
from helpers.local_aws.wire import AwsError

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"
REQUEST: dict[str, Any] = {
    "ProcessingJobName": "job",
    "RoleArn": "arn:aws:iam::123456789012:role/demo-exp-jobs",
    "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["python3", "x.py"]},
    "ProcessingResources": {"ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.t3.medium", "VolumeSizeInGB": 1}},
    "ProcessingInputs": [
        {
            "InputName": "data",
            "S3Input": {
                "S3Uri": "s3://bucket/data",
                "LocalPath": "/opt/ml/processing/input",
                "S3DataType": "S3Prefix",
                "S3InputMode": "File",
            },
        }
    ],
    "ProcessingOutputConfig": {
        "Outputs": [
            {
                "OutputName": "out",
                "S3Output": {
                    "S3Uri": "s3://bucket/out",
                    "LocalPath": "/opt/ml/processing/output",
                    "S3UploadMode": "EndOfJob",
                },
            }
        ]
    },
}


def test_defaults_are_filled_in_as_sagemaker_describes_them() -> None:
    completed = requests.complete(REQUEST)
    source = completed["ProcessingInputs"][0]["S3Input"]
    assert completed["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}
    assert (source["S3DataDistributionType"], source["S3CompressionType"]) == ("FullyReplicated", "None")
    assert "StoppingCondition" not in REQUEST, "the caller's request stays as it was"


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("ExperimentConfig", {"TrialName": "t"}, "ExperimentConfig"),
        ("AppSpecification.ContainerEntrypoint", None, "ContainerEntrypoint"),
        ("NetworkConfig.VpcConfig", {"Subnets": ["s"], "SecurityGroupIds": ["g"]}, "VpcConfig"),
        ("NetworkConfig.EnableInterContainerTrafficEncryption", True, "EnableInterContainerTrafficEncryption"),
        ("ProcessingResources.ClusterConfig.VolumeKmsKeyId", "key", "VolumeKmsKeyId"),
        ("ProcessingResources.ClusterConfig.InstancePreferences", [{"InstanceType": "ml.t3.medium"}], "Preferences"),
        ("ProcessingOutputConfig.KmsKeyId", "key", "KmsKeyId"),
        ("ProcessingOutputConfig.Outputs.0.FeatureStoreOutput", {"FeatureGroupName": "g"}, "out.FeatureStoreOutput"),
        ("ProcessingOutputConfig.Outputs.0.AppManaged", True, "out.AppManaged"),
        ("ProcessingInputs.0.AppManaged", True, "data.AppManaged"),
        ("ProcessingInputs.0.DatasetDefinition", {}, "data.DatasetDefinition"),
        ("ProcessingInputs.0.S3Input.S3InputMode", "Pipe", "S3InputMode Pipe"),
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
        ("AppSpecification.ImageUri", "python:3.11", "cannot run the image python:3.11"),
        ("AppSpecification.ImageUri", IMAGE.replace("scikit-learn", "xgboost"), "sagemaker-scikit-learn only"),
        ("ProcessingInputs.0.S3Input.LocalPath", "/opt/ml/processing/../../etc", "LocalPath of data"),
        ("ProcessingInputs.0.S3Input.LocalPath", None, "LocalPath of data"),
        ("ProcessingOutputConfig.Outputs.0.S3Output.LocalPath", "/opt/ml/model", "LocalPath of out"),
        ("ProcessingInputs.0.S3Input.S3Uri", "https://bucket/x", "S3Uri of data"),
        ("ProcessingInputs.0.S3Input.S3CompressionType", "Gzip", "only be used with S3InputMode Pipe"),
        ("ProcessingInputs.0.S3Input.S3InputMode", None, "S3InputMode is required"),
        ("ProcessingInputs.0.S3Input", None, "neither an S3Input nor"),
        ("ProcessingResources.ClusterConfig.InstanceType", None, "InstanceType is required"),
        ("ProcessingInputs", REQUEST["ProcessingInputs"] * 2, "InputName must be unique"),
    ],
)
def test_what_sagemaker_documents_as_invalid_is_a_validation_error(path: str, value: Any, said: str) -> None:
    with pytest.raises(AwsError) as refused:
        requests.complete(changed(REQUEST, path, value))
    assert refused.value.code == "ValidationException"
    assert said in refused.value.message


def test_the_container_config_has_the_documented_members() -> None:
    config = requests.container_config(requests.complete(REQUEST), "arn:job")
    assert set(config) == {
        "ProcessingJobArn",
        "ProcessingJobName",
        "Environment",
        "AppSpecification",
        "ProcessingInputs",
        "ProcessingOutputConfig",
        "ProcessingResources",
        "RoleArn",
        "StoppingCondition",
    }
    assert config["AppSpecification"]["ContainerArguments"] is None
    assert config["ProcessingOutputConfig"]["KmsKeyId"] is None

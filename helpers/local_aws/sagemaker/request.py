"""Hold a CreateProcessingJob request against what SageMaker documents and what can be run here."""

import copy
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from helpers.local_aws.sagemaker import images
from helpers.local_aws.wire import AwsError, Params

_BASE = PurePosixPath("/opt/ml/processing")
_DAY = 86_400


def complete(params: Params) -> Params:
    """Return the request with SageMaker's defaults filled in; raise AwsError for what cannot run."""
    request = copy.deepcopy(params)
    for member in _unsupported(request):
        raise AwsError("NotImplemented", f"the embedded AWS does not support CreateProcessingJob with {member}", 501)
    cluster = request["ProcessingResources"]["ClusterConfig"]
    for member in ("InstanceCount", "InstanceType"):
        if cluster.get(member) is None:
            raise _invalid(f"ProcessingResources.ClusterConfig.{member} is required.")
    images.require_known(request["AppSpecification"]["ImageUri"])
    request.setdefault("StoppingCondition", {"MaxRuntimeInSeconds": _DAY})
    inputs, outputs = request.get("ProcessingInputs", []), _outputs(request)
    for kind, items in (("InputName", inputs), ("OutputName", outputs)):
        names = [item[kind] for item in items]
        if len(set(names)) < len(names):
            raise _invalid(f"{kind} must be unique within a processing job: {', '.join(sorted(names))}")
    for item in inputs:
        source = item.get("S3Input")
        if source is None:
            raise _invalid(f"ProcessingInput {item['InputName']} has neither an S3Input nor a DatasetDefinition.")
        source.setdefault("S3DataDistributionType", "FullyReplicated")
        source.setdefault("S3CompressionType", "None")
        _require_input(item["InputName"], source)
    for item in outputs:
        if item.get("S3Output") is None:
            raise _invalid(f"ProcessingOutput {item['OutputName']} has no S3Output.")
        _require_place(item["OutputName"], item["S3Output"])
    return request


def container_config(request: Params, arn: str) -> dict[str, Any]:
    """Return ``/opt/ml/config/processingjobconfig.json`` as SageMaker documents it."""
    application = request["AppSpecification"]
    cluster = request["ProcessingResources"]["ClusterConfig"]
    return {
        "ProcessingJobArn": arn,
        "ProcessingJobName": request["ProcessingJobName"],
        "Environment": request.get("Environment", {}),
        "AppSpecification": {
            "ImageUri": application["ImageUri"],
            "ContainerEntrypoint": application["ContainerEntrypoint"],
            "ContainerArguments": application.get("ContainerArguments"),
        },
        "ProcessingInputs": request.get("ProcessingInputs", []),
        "ProcessingOutputConfig": {"Outputs": _outputs(request), "KmsKeyId": None},
        "ProcessingResources": {"ClusterConfig": {**cluster, "VolumeKmsKeyId": None}},
        "RoleArn": request["RoleArn"],
        "StoppingCondition": request["StoppingCondition"],
    }


def _unsupported(request: Params) -> Iterator[str]:
    """Name every member that would have to be ignored."""
    if "ContainerEntrypoint" not in request["AppSpecification"]:
        yield "the image's own entrypoint: AppSpecification.ContainerEntrypoint is needed"
    if "ExperimentConfig" in request:
        yield "ExperimentConfig"
    cluster = request["ProcessingResources"]["ClusterConfig"]
    for member in ("VolumeKmsKeyId", "InstancePreferences", "SelectedInstanceType", "SelectedInstanceCount"):
        if member in cluster:
            yield f"ProcessingResources.ClusterConfig.{member}"
    network = request.get("NetworkConfig", {})
    for member in ("VpcConfig", "EnableInterContainerTrafficEncryption"):
        if network.get(member):
            yield f"NetworkConfig.{member}"
    for item in request.get("ProcessingInputs", []):
        yield from _unsupported_members(f"ProcessingInputs.{item['InputName']}", item, "DatasetDefinition")
        if item.get("S3Input", {}).get("S3InputMode") == "Pipe":
            yield f"ProcessingInputs.{item['InputName']}.S3Input.S3InputMode Pipe"
    if "KmsKeyId" in request.get("ProcessingOutputConfig", {}):
        yield "ProcessingOutputConfig.KmsKeyId"
    for item in _outputs(request):
        yield from _unsupported_members(f"ProcessingOutputs.{item['OutputName']}", item, "FeatureStoreOutput")


def _unsupported_members(path: str, item: Params, member: str) -> Iterator[str]:
    if member in item:
        yield f"{path}.{member}"
    if item.get("AppManaged"):
        yield f"{path}.AppManaged"


def _outputs(request: Params) -> list[Params]:
    return request.get("ProcessingOutputConfig", {}).get("Outputs", [])


def _require_input(name: str, source: Params) -> None:
    _require_place(name, source)
    if source.get("S3InputMode") is None:
        raise _invalid(f"S3InputMode is required for ProcessingInput {name}.")
    if source["S3CompressionType"] == "Gzip":
        raise _invalid(f"S3CompressionType Gzip of ProcessingInput {name} can only be used with S3InputMode Pipe.")


def _require_place(name: str, place: Params) -> None:
    path = PurePosixPath(place.get("LocalPath") or "")
    if ".." in path.parts or not path.is_relative_to(_BASE):
        raise _invalid(f"LocalPath of {name} must be an absolute path that begins with {_BASE}/, not '{path}'.")
    if not place["S3Uri"].startswith("s3://"):
        raise _invalid(f"S3Uri of {name} must begin with s3://, not '{place['S3Uri']}'.")


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationException", message)

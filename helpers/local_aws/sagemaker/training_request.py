"""Hold a CreateTrainingJob request against what SageMaker documents and what can be run here."""

import copy
from collections.abc import Iterator
from pathlib import PurePosixPath

import regex

from helpers.local_aws.wire import AwsError, Params

CHECKPOINTS = "/opt/ml/checkpoints"
_ML = PurePosixPath("/opt/ml")
_DAY, _LONGEST = 86_400, 28 * 86_400
# Members that would change what a job does, or what there is to read afterwards.
_REFUSED = (
    "VpcConfig",
    "EnableInterContainerTrafficEncryption",
    "DebugRuleConfigurations",
    "TensorBoardOutputConfig",
    "ExperimentConfig",
    "ProfilerRuleConfigurations",
    "RetryStrategy",
    "SessionChainingConfig",
    "ServerlessJobConfig",
    "MlflowConfig",
    "ModelPackageConfig",
)
_REFUSED_BELOW = {
    "AlgorithmSpecification": ("AlgorithmName", "TrainingImageConfig"),
    "OutputDataConfig": ("KmsKeyId",),
    "ResourceConfig": (
        "VolumeKmsKeyId",
        "KeepAlivePeriodInSeconds",
        "InstanceGroups",
        "TrainingPlanArn",
        "InstancePlacementConfig",
        "InstancePreferences",
    ),
    "StoppingCondition": ("MaxPendingTimeInSeconds",),
    # The SDK sends both with every framework estimator. Without collections or parameters there is
    # nothing that the debugger would do in the images that run here, and no system metrics are taken.
    "DebugHookConfig": ("CollectionConfigurations", "HookParameters"),
    "ProfilerConfig": ("ProfilingParameters",),
    "RemoteDebugConfig": ("EnableRemoteDebug",),
    "InfraCheckConfig": ("EnableInfraCheck",),
}
_REFUSED_OF_S3 = ("AttributeNames", "InstanceGroupNames", "ModelAccessConfig", "HubAccessConfig")


def complete(params: Params) -> Params:
    """Return the request with SageMaker's defaults filled in; raise AwsError for what cannot run.

    Whether the image exists is not looked at.
    """
    request = copy.deepcopy(params)
    for member in _unsupported(request):
        raise AwsError("NotImplemented", f"the embedded AWS does not support CreateTrainingJob with {member}", 501)
    _complete_algorithm(request)
    _require_resources(request)
    _complete_stopping(request)
    _require_s3(request["OutputDataConfig"]["S3OutputPath"], "OutputDataConfig.S3OutputPath")
    channels = request.get("InputDataConfig", [])
    names = [channel["ChannelName"] for channel in channels]
    if len(set(names)) < len(names):
        raise _invalid(f"Channel names must be unique within a training job: {', '.join(sorted(names))}")
    for channel in channels:
        _complete_channel(channel)
    if "CheckpointConfig" in request:
        _complete_checkpoints(request["CheckpointConfig"], names)
    for member in ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining"):
        request.setdefault(member, False)
    return request


def channels_config(request: Params) -> dict[str, dict[str, str]]:
    """Return ``/opt/ml/input/config/inputdataconfig.json``."""
    return {
        channel["ChannelName"]: {
            **({"ContentType": channel["ContentType"]} if "ContentType" in channel else {}),
            "TrainingInputMode": "File",
            "S3DistributionType": channel["DataSource"]["S3DataSource"]["S3DataDistributionType"],
            "RecordWrapperType": "None",
        }
        for channel in request.get("InputDataConfig", [])
    }


def resources_config(request: Params, host: str, hosts: list[str]) -> Params:
    """Return ``/opt/ml/input/config/resourceconfig.json`` as ``host`` sees it."""
    group, kind = "homogeneousCluster", request["ResourceConfig"]["InstanceType"]
    return {
        "current_host": host,
        "current_instance_type": kind,
        "current_group_name": group,
        "hosts": hosts,
        "instance_groups": [{"instance_group_name": group, "instance_type": kind, "hosts": hosts}],
        "network_interface_name": "eth0",
    }


def _unsupported(request: Params) -> Iterator[str]:
    """Name every member that would have to be ignored."""
    yield from (member for member in _REFUSED if request.get(member))
    for parent, members in _REFUSED_BELOW.items():
        yield from (f"{parent}.{member}" for member in members if request.get(parent, {}).get(member))
    if request["OutputDataConfig"].get("CompressionType") == "NONE":
        yield "OutputDataConfig.CompressionType NONE"
    mode = request.get("AlgorithmSpecification", {}).get("TrainingInputMode", "File")
    if mode != "File":
        yield f"AlgorithmSpecification.TrainingInputMode {mode}"
    for channel in request.get("InputDataConfig", []):
        yield from _unsupported_of(channel, f"InputDataConfig.{channel['ChannelName']}")


def _unsupported_of(channel: Params, path: str) -> Iterator[str]:
    if channel.get("InputMode", "File") != "File":
        yield f"{path}.InputMode {channel['InputMode']}"
    if "ShuffleConfig" in channel:
        yield f"{path}.ShuffleConfig"
    for member in ("FileSystemDataSource", "DatasetSource"):
        if member in channel["DataSource"]:
            yield f"{path}.DataSource.{member}"
    source = channel["DataSource"].get("S3DataSource", {})
    yield from (f"{path}.DataSource.S3DataSource.{member}" for member in _REFUSED_OF_S3 if source.get(member))
    if source.get("S3DataType") == "Converse":
        yield f"{path}.DataSource.S3DataSource.S3DataType Converse"


def _complete_algorithm(request: Params) -> None:
    algorithm = request.get("AlgorithmSpecification", {})
    if not algorithm.get("TrainingImage"):
        raise _invalid("AlgorithmSpecification needs a TrainingImage.")
    names = [definition["Name"] for definition in algorithm.get("MetricDefinitions", [])]
    if len(set(names)) < len(names):
        raise _invalid(f"Metric names must be unique within a training job: {', '.join(sorted(names))}")
    for definition in algorithm.get("MetricDefinitions", []):
        try:
            regex.compile(definition["Regex"])
        except regex.error as error:
            raise _invalid(f"Invalid regex of the metric {definition['Name']}: {error}") from None
    algorithm.setdefault("EnableSageMakerMetricsTimeSeries", bool(names))


def _require_resources(request: Params) -> None:
    resources = request.get("ResourceConfig", {})
    if not resources.get("InstanceType"):
        raise _invalid("ResourceConfig.InstanceType is required.")
    for member in ("InstanceCount", "VolumeSizeInGB"):
        if resources.get(member, 0) < 1:
            raise _invalid(f"ResourceConfig.{member} must be at least 1.")


def _complete_stopping(request: Params) -> None:
    condition = request.setdefault("StoppingCondition", {})
    runtime, wait = condition.setdefault("MaxRuntimeInSeconds", _DAY), condition.get("MaxWaitTimeInSeconds")
    if runtime > _LONGEST:
        raise _invalid(f"MaxRuntimeInSeconds must be at most {_LONGEST}, not {runtime}.")
    if request.get("EnableManagedSpotTraining"):
        if wait is None or wait < runtime:
            raise _invalid(
                "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds"
            )
    elif wait is not None:
        raise _invalid(
            "Invalid MaxWaitTimeInSeconds. It is only supported when EnableManagedSpotTraining is set to true"
        )


def _complete_channel(channel: Params) -> None:
    name, source = channel["ChannelName"], channel["DataSource"].get("S3DataSource")
    if source is None:
        raise _invalid(f"The DataSource of the channel {name} has no S3DataSource.")
    if name in (".", ".."):
        raise _invalid(f"A channel cannot be called {name}.")
    source.setdefault("S3DataDistributionType", "FullyReplicated")
    channel.setdefault("CompressionType", "None")
    channel.setdefault("RecordWrapperType", "None")
    _require_s3(source["S3Uri"], f"S3Uri of the channel {name}")
    if source["S3DataType"] == "AugmentedManifestFile":
        raise _invalid(f"S3DataType AugmentedManifestFile of the channel {name} can only be used with input mode Pipe.")
    if channel["CompressionType"] == "Gzip":
        raise _invalid(f"CompressionType Gzip of the channel {name} can only be used with input mode Pipe.")
    if channel["RecordWrapperType"] == "RecordIO":
        raise _invalid(f"RecordWrapperType RecordIO of the channel {name} can only be used with input mode Pipe.")


def _complete_checkpoints(config: Params, channels: list[str]) -> None:
    path = PurePosixPath(config.setdefault("LocalPath", CHECKPOINTS))
    _require_s3(config["S3Uri"], "CheckpointConfig.S3Uri")
    if ".." in path.parts or not path.is_relative_to(_ML) or path == _ML:
        raise AwsError(
            "NotImplemented", f"the embedded AWS keeps checkpoints below {_ML} only, not in CheckpointConfig.LocalPath"
            f" {path}", 501,
        )  # fmt: skip
    if any(_overlap(path, _ML / used) for used in ("input", "model", "output", "code", "tmp")):
        raise _invalid(f"CheckpointConfig.LocalPath {path} is a folder of the training job itself.")


def _overlap(one: PurePosixPath, other: PurePosixPath) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _require_s3(uri: str, what: str) -> None:
    if not uri.startswith("s3://"):
        raise _invalid(f"{what} must begin with s3://, not '{uri}'.")


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationException", message)

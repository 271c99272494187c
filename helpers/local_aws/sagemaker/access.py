"""What SageMaker's page of the Service Authorization Reference demands for its operations."""

from collections.abc import Callable, Sequence
from typing import Any

from helpers.local_aws import tag_keys
from helpers.local_aws.wire import Params, Permission

_SERVICE = {"iam:PassedToService": "sagemaker.amazonaws.com"}


def needed(operation: str, params: Params, arn: Callable[[str, str], str]) -> Sequence[Permission]:
    """Return the permissions of an operation; ``arn`` makes that of a job from the type of resource and its name."""
    action = f"sagemaker:{operation}"
    resource = _resource(params, arn)
    if not operation.startswith("Create"):
        return [Permission(action, resource)]
    context = {"CreateProcessingJob": _processing, "CreateTrainingJob": _training}[operation](params)
    tags = params.get("Tags") or []
    tagging = tag_keys.of_request({tag["Key"]: tag["Value"] for tag in tags})
    return [
        Permission(action, resource, tagging | context),
        *([Permission("sagemaker:AddTags", resource, tagging)] if tags else []),
        Permission("iam:PassRole", params["RoleArn"], _SERVICE),
    ]


def _resource(params: Params, arn: Callable[[str, str], str]) -> str:
    if "ResourceArn" in params:
        return params["ResourceArn"]
    for member, kind in (("ProcessingJobName", "processing-job"), ("TrainingJobName", "training-job")):
        if member in params:
            return arn(kind, params[member])
    return "*"


def _processing(params: Params) -> dict[str, Any]:
    cluster = params["ProcessingResources"]["ClusterConfig"]
    return {"sagemaker:InstanceTypes": [cluster["InstanceType"]]} if "InstanceType" in cluster else {}


def _training(params: Params) -> dict[str, Any]:
    """Return the condition keys of a request that can be carried out: those of what is refused stay out."""
    context: dict[str, Any] = {}
    if "InstanceType" in params.get("ResourceConfig", {}):
        context["sagemaker:InstanceTypes"] = [params["ResourceConfig"]["InstanceType"]]
    if "MaxRuntimeInSeconds" in params.get("StoppingCondition", {}):
        context["sagemaker:MaxRuntimeInSeconds"] = str(params["StoppingCondition"]["MaxRuntimeInSeconds"])
    for member, key in (
        ("EnableNetworkIsolation", "NetworkIsolation"),
        ("EnableInterContainerTrafficEncryption", "InterContainerTrafficEncryption"),
    ):
        if member in params:
            context[f"sagemaker:{key}"] = str(params[member]).lower()
    return context

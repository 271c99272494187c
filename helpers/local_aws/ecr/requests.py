"""What calls to ECR need of IAM, and which of them ask for what is not here."""

from collections.abc import Sequence
from typing import Any

from helpers.local_aws import tag_keys
from helpers.local_aws.ecr.store import Store
from helpers.local_aws.wire import AwsError, Params, Permission, Site

_MOST_TAGS = 50


def host(site: Site) -> str:
    """Return the name of the account's registry, with which the URIs of its images begin."""
    return f"{site.account_id}.dkr.ecr.{site.region}.amazonaws.com"


def permissions(site: Site, store: Store, operation: str, params: Params) -> Sequence[Permission]:
    """Return what ECR's authorization reference demands for an operation."""
    action = f"ecr:{operation}"
    if operation == "GetAuthorizationToken":
        return [Permission(action)]
    if operation == "CreateRepository":
        return _creation(site, params)
    names = [params["repositoryName"]] if "repositoryName" in params else params.get("repositoryNames")
    if "resourceArn" in params:
        names = [params["resourceArn"].partition(":repository/")[2]]
    request = _of_request(params.get("tags", []), params.get("tagKeys", []))
    return [
        Permission(action, site.arn("ecr", f"repository/{name}"), {**_of_resource(store, name), **request})
        for name in names or ["*"]
    ]


def _creation(site: Site, params: Params) -> Sequence[Permission]:
    arn, context = site.arn("ecr", f"repository/{params['repositoryName']}"), _of_request(params.get("tags", []), [])
    tagging = [Permission("ecr:TagResource", arn, context)] if params.get("tags") else []
    return [Permission("ecr:CreateRepository", arn, context), *tagging]


def _of_request(tags: list[Params], keys: list[str]) -> dict[str, Any]:
    return tag_keys.of_request({tag["Key"]: tag["Value"] for tag in tags}, keys)


def _of_resource(store: Store, name: str) -> dict[str, Any]:
    repository = store.find(name)
    return tag_keys.of_resource(repository.labels if repository else {}, "ecr")


def check_registry(site: Site, params: Params) -> None:
    """Raise AwsError for a registry that is not the account's."""
    registry = params.get("registryId", site.account_id)
    if registry != site.account_id:
        raise AwsError("NotImplemented", f"the embedded AWS does not have the registry {registry}", 501)


def check_creation(site: Site, params: Params) -> None:
    """Raise AwsError where a repository is to have what is not here."""
    check_registry(site, params)
    kind = params.get("encryptionConfiguration", {}).get("encryptionType", "AES256")
    asked = {
        f"encryptionConfiguration of type {kind}": kind != "AES256",
        "imageScanningConfiguration.scanOnPush": params.get("imageScanningConfiguration", {}).get("scanOnPush"),
        "imageTagMutabilityExclusionFilters": params.get("imageTagMutabilityExclusionFilters"),
        f"imageTagMutability {params.get('imageTagMutability')}": "EXCLUSION" in params.get("imageTagMutability", ""),
    }
    for what, is_asked in asked.items():
        if is_asked:
            raise AwsError("NotImplemented", f"the embedded AWS does not support ECR repositories with {what}", 501)


def labels(before: dict[str, str], tags: list[Params]) -> dict[str, str]:
    """Return a repository's tags after more were added. Raises AwsError."""
    for tag in tags:
        if tag["Key"].lower().startswith("aws:"):
            raise AwsError("InvalidTagParameterException", "Tag keys cannot begin with aws:, which is reserved")
    merged = before | {tag["Key"]: tag["Value"] for tag in tags}
    if len(merged) > _MOST_TAGS:
        raise AwsError("TooManyTagsException", f"A repository can have at most {_MOST_TAGS} tags")
    return merged

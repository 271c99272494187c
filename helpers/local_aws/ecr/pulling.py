"""How Fargate pulls an image for a task of ECS or a job of Batch, and how ECS words it when that does not work."""

import uuid
from collections.abc import Callable, Sequence
from typing import Protocol

from helpers.local_aws.containers import Image
from helpers.local_aws.ecr.images import ImageProblem
from helpers.local_aws.wire import AwsError, Permission

Require = Callable[[str, Sequence[Permission]], None]  # role, permissions. Raises AwsError unless the role has them
_AUTHORIZE = "ecr:GetAuthorizationToken"


class Source(Protocol):
    """Where images come from, see ``ecr.Images``."""

    def resolve(self, uri: str, /) -> Image:
        """Return an image. Raises ImageProblem."""

    def pull_permissions(self, uri: str, /) -> list[Permission]:
        """Return what it takes to pull an image."""


class CannotPull(Exception):
    """Why an image is not there to be run: ``ResourceInitializationError: …`` or ``CannotPullContainerError: …``."""


def pull(images: Source, require: Require, uri: str, role: str, *, public: bool) -> Image:
    """Return an image as an execution role gets it; ``public``: with a public address. Raises CannotPull."""
    if not public:
        raise CannotPull(_unreachable(uri))
    try:
        for permission in images.pull_permissions(uri):
            try:
                require(role, [permission])
            except AwsError as denied:
                raise CannotPull(_denied(uri, permission, denied)) from denied
        return images.resolve(uri)
    except ImageProblem as problem:
        raise CannotPull(str(problem)) from problem


def _unreachable(uri: str) -> str:
    """Return what is said where nothing leaves the network.

    The subnets of the default VPC are public ones: without an address of its
    own nothing in them reaches a registry, on AWS neither, where it takes
    minutes to find out.
    """
    host = uri.partition("/")[0] if "." in uri.partition("/")[0] else "registry-1.docker.io"
    if ".dkr.ecr." in host:
        return (
            "ResourceInitializationError: unable to pull secrets or registry auth: The task cannot pull registry auth "
            "from Amazon ECR: There is a connection issue between the task and Amazon ECR. Check your task network "
            "configuration. operation error ECR: GetAuthorizationToken, exceeded maximum number of attempts, 3, https "
            "response error StatusCode: 0, RequestID: , request send failed, Post "
            f'"https://api.ecr.{host.split(".")[3]}.amazonaws.com/": dial tcp: i/o timeout'
        )
    return (
        f"CannotPullContainerError: The task cannot pull {uri} from the registry {host}. There is a connection issue "
        "between the task and the registry. Check your task network configuration. : failed to do request: "
        f'Head "https://{host}/v2/": dial tcp: i/o timeout'
    )


def _denied(uri: str, permission: Permission, denied: AwsError) -> str:
    if permission.action == _AUTHORIZE:
        return (
            "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval "
            "failed: unable to retrieve ecr registry auth: service call has been retried 1 time(s): operation error "
            "ECR: GetAuthorizationToken, https response error StatusCode: 400, RequestID: "
            f"{uuid.uuid4()}, api error {denied.code}: {denied.message}"
        )
    reference = uri.rpartition("@")[2] if "@" in uri else uri.rpartition("/")[2].partition(":")[2] or "latest"
    return (
        f"CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref {uri}: "
        f"pulling from host {uri.partition('/')[0]} failed with status code [manifests {reference}]: 403 Forbidden"
    )

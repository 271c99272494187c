"""What Batch needs of the rest of the embedded AWS."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from helpers.local_aws.containers import Container, End
from helpers.local_aws.ecr import Source
from helpers.local_aws.wire import Permission


class Containers(Protocol):
    """What runs the attempts of jobs."""

    def start(self, container: Container, *, started: Callable[[], None], ended: Callable[[End], None]) -> None:
        """Run a container; returns at once."""

    def stop(self, run_id: str) -> None:
        """End a container, gently at first."""


class Networks(Protocol):
    """The subnets and security groups of EC2."""

    def zone(self, subnet_id: str) -> str:
        """Return the availability zone of a subnet. Raises AwsError."""

    def require_group(self, group_id: str) -> None:
        """Raise AwsError unless there is this security group."""


class LinkedRoles(Protocol):
    """The service-linked roles of the account."""

    def arn(self, service: str) -> str:
        """Return the ARN of a service's role."""

    def exists(self, service: str) -> bool:
        """Tell whether the account has it."""

    def create(self, service: str) -> None:
        """Make it."""


@dataclass(frozen=True)
class Around:
    """The neighbours of Batch, each as narrow as it is needed.

    ``assume(role_arn, session_name)`` returns AWS_* credentials of ecs-tasks.amazonaws.com in a role, and raises
    AwsError; ``require(role_arn, permissions)`` raises AwsError unless ecs-tasks.amazonaws.com has them in it.
    ``try_service_role(role_arn)`` raises AwsError unless batch.amazonaws.com can act in it.
    ``make_log_group(name)`` makes a log group that may be there already.
    """

    containers: Containers
    images: Source
    networks: Networks
    linked_roles: LinkedRoles
    assume: Callable[[str, str], dict[str, str]]
    require: Callable[[str, Sequence[Permission]], None]
    try_service_role: Callable[[str], object]
    make_log_group: Callable[[str], None]

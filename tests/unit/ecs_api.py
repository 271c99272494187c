"""How the unit tests call ECS: without a server, as one caller, with containers that the test itself ends."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.local_aws.containers import Container, End, Image
from helpers.local_aws.ecr import ImageProblem
from helpers.local_aws.ecs import Ecs
from helpers.local_aws.wire import AwsError, Caller, Permission, Site

REGION, ACCOUNT = "us-east-1", "123456789012"
USER = f"arn:aws:sts::{ACCOUNT}:assumed-role/notebook/session"
TASK_ROLE, EXECUTION_ROLE = f"arn:aws:iam::{ACCOUNT}:role/task", f"arn:aws:iam::{ACCOUNT}:role/service/execution"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/processing:1"
PUBLIC = "public.ecr.aws/docker/library/python:3.12"
DIGEST = "sha256:" + "0" * 64
LOGS = {
    "logDriver": "awslogs",
    "options": {"awslogs-group": "/ecs/x", "awslogs-region": REGION, "awslogs-stream-prefix": "work"},
}
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "assignPublicIp": "ENABLED"}}


class Running:
    """Containers without processes. ``begin`` and ``end`` do what the processes would."""

    def __init__(self) -> None:
        self.started: list[tuple[Container, Callable[[], None], Callable[[End], None]]] = []
        self.stopped: list[str] = []
        self._came = threading.Condition()

    def start(self, container: Container, *, started: Callable[[], None], ended: Callable[[End], None]) -> None:
        with self._came:
            self.started.append((container, started, ended))
            self._came.notify_all()

    def stop(self, run_id: str) -> None:
        self.stopped.append(run_id)

    def container(self, number: int = 0) -> Container:
        """Return the container that was started as ``number``, once it is."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.started) > number, 180)
        return self.started[number][0]

    def begin(self, number: int = 0) -> None:
        """Let a container's process run."""
        self.container(number)
        self.started[number][1]()

    def end(self, end: End, number: int = 0) -> None:
        """Let a container end."""
        self.container(number)
        self.started[number][2](end)


class Images:
    """Images that are there, unless ``missing`` says why not."""

    def __init__(self) -> None:
        self.missing = ""
        self.image = Image(IMAGE, DIGEST, None, ("python",), ("main.py",), {"A": "image"}, "/app")

    def resolve(self, uri: str) -> Image:
        if self.missing:
            raise ImageProblem(self.missing)
        return self.image

    def pull_permissions(self, uri: str) -> list[Permission]:
        if ".dkr.ecr." not in uri:
            return []
        repository = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/processing"
        return [Permission("ecr:GetAuthorizationToken"), Permission("ecr:BatchGetImage", repository)]


class Networks:
    """One subnet and one security group."""

    def zone(self, subnet_id: str) -> str:
        if subnet_id != "subnet-1":
            raise AwsError("InvalidSubnetID.NotFound", f"The subnet ID '{subnet_id}' does not exist")
        return f"{REGION}a"

    def require_group(self, group_id: str) -> None:
        if group_id != "sg-1":
            raise AwsError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")


class LinkedRoles:
    """An account that has a service-linked role once somebody made it."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def arn(self, service: str) -> str:
        return f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/{service}/Linked"

    def exists(self, service: str) -> bool:
        return service in self.made

    def create(self, service: str) -> None:
        self.made.append(service)


class Api:
    """ECS as one caller sees it. Actions in ``denied`` are not allowed, neither to it nor to the execution role."""

    def __init__(self, state_dir: Path) -> None:
        self.site = Site(state_dir, "http://127.0.0.1:1", REGION, ACCOUNT)
        self.denied: set[str] = set()
        self.asked: list[Permission] = []
        self.unassumable: set[str] = set()
        self.images, self.linked = Images(), LinkedRoles()
        self.open()

    def open(self) -> None:
        """Start the service, anew with the same state."""
        self.running = Running()
        self.ecs = Ecs(
            self.site,
            self._assume,
            self._require,
            containers=self.running,
            images=self.images,
            networks=Networks(),
            linked_roles=self.linked,
        )

    def __call__(self, operation: str, **params: Any) -> dict[str, Any]:
        """Call an operation."""
        self.asked.clear()
        return self.ecs.call(operation, params, Caller(USER, self._decide))

    def refused(self, operation: str, **params: Any) -> tuple[str, str]:
        """Return the code and the message with which a call is refused."""
        with pytest.raises(AwsError) as caught:
            self(operation, **params)
        return caught.value.code, caught.value.message

    def register(self, family: str = "work", container: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """Register a task definition, of a public image unless the container says otherwise."""
        wanted = {
            "family": family,
            "networkMode": "awsvpc",
            "requiresCompatibilities": ["FARGATE"],
            "cpu": "256",
            "memory": "512",
            "containerDefinitions": [{"name": "main", "image": PUBLIC, **(container or {})}],
        }
        return self("RegisterTaskDefinition", **{**wanted, **more})["taskDefinition"]

    def run(self, definition: str = "work", **more: Any) -> dict[str, Any]:
        """Run one task in the default cluster, which is made if need be."""
        self("CreateCluster")
        wanted = {"taskDefinition": definition, "launchType": "FARGATE", "networkConfiguration": NETWORK}
        return self("RunTask", **{**wanted, **more})["tasks"][0]

    def task(self, arn: str, **more: Any) -> dict[str, Any]:
        """Describe a task."""
        return self("DescribeTasks", tasks=[arn], **more)["tasks"][0]

    def ended(self, arn: str) -> dict[str, Any]:
        """Describe a task once it has stopped."""
        assert self.ecs.wait(arn, 180)
        return self.task(arn)

    def _decide(self, permission: Permission) -> None:
        self.asked.append(permission)
        self._require("", [permission])

    def _require(self, role: str, needed: Sequence[Permission]) -> None:
        for permission in needed:
            self._refuse(permission)

    def _refuse(self, permission: Permission) -> None:
        if permission.action in self.denied:
            raise AwsError("AccessDeniedException", f"not authorized to perform: {permission.action}")

    def _assume(self, role: str, session: str) -> dict[str, str]:
        if role in self.unassumable:
            raise AwsError("AccessDenied", f"not authorized to perform: sts:AssumeRole on {role}")
        return {"AWS_ACCESS_KEY_ID": f"{role.rpartition('/')[2]} {session}"}

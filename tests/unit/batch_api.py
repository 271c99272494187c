"""How the unit tests call Batch: through boto3, without a server, with containers that only do what a test says."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError

from helpers.local_aws.batch import Around, Batch
from helpers.local_aws.containers import Container, End, Image
from helpers.local_aws.ecr import ImageProblem
from helpers.local_aws.wire import AwsError, Caller, Permission, Site

ACCOUNT = "123456789012"
SESSION = boto3.Session("AKIAEXAMPLE", "secret", region_name="us-east-1")  # reads the model once
USER = f"arn:aws:sts::{ACCOUNT}:assumed-role/notebook/session"
IMAGE = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/demo:latest"
SUBNET, GROUP = "subnet-1", "sg-1"


def role(name: str) -> str:
    """Return the ARN of a role."""
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def arn(resource: str) -> str:
    """Return an ARN of Batch."""
    return f"arn:aws:batch:us-east-1:{ACCOUNT}:{resource}"


class Containers:
    """Containers without processes. Each runs until a test ends it; ``code`` lets all end at once with it."""

    def __init__(self) -> None:
        self.running: dict[str, tuple[Container, Callable[[End], None]]] = {}
        self.started: list[Container] = []
        self.stopped: list[str] = []
        self.most = 0
        self.code: int | None = None

    def start(self, container: Container, *, started: Callable[[], None], ended: Callable[[End], None]) -> None:
        self.started.append(container)
        self.running[container.run_id] = container, ended
        self.most = max(self.most, len(self.running))
        started()
        if self.code is not None:
            threading.Thread(target=self.end, args=(container.run_id, End("exited", self.code))).start()

    def stop(self, run_id: str) -> None:
        self.stopped.append(run_id)
        self.end(run_id, End("stopped", 143))

    def end(self, run_id: str, end: End) -> None:
        found = self.running.pop(run_id, None)
        if found:
            found[1](end)

    def lose(self) -> None:
        """Lose everything that runs, as a stop of the embedded AWS does."""
        for run_id in list(self.running):
            self.end(run_id, End("lost", None))


class Networks:
    """One subnet and one security group."""

    def zone(self, subnet_id: str) -> str:
        if subnet_id != SUBNET:
            raise AwsError("InvalidSubnetID.NotFound", f"The subnet ID '{subnet_id}' does not exist")
        return "us-east-1a"

    def require_group(self, group_id: str) -> None:
        if group_id != GROUP:
            raise AwsError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")


class LinkedRoles:
    """The service-linked roles of an account that has none at first."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def arn(self, service: str) -> str:
        return f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/{service}/AWSServiceRoleForBatch"

    def exists(self, service: str) -> bool:
        return service in self.made

    def create(self, service: str) -> None:
        self.made.append(service)


class Images:
    """Images of which all but ``missing`` are there."""

    def resolve(self, uri: str) -> Image:
        if "missing" in uri:
            raise ImageProblem(f"CannotPullContainerError: {uri} not found")
        return Image(uri, "sha256:1", None, entrypoint=("entry",), command=("default",))

    def pull_permissions(self, uri: str) -> list[Permission]:
        return [Permission("ecr:GetAuthorizationToken"), Permission("ecr:BatchGetImage", "repository")]


class Body:
    """The body of an answer, as botocore reads it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> list[bytes]:
        return [self._content]


class Api:
    """A boto3 client whose requests a Batch of this process answers. Use operations as its attributes."""

    def __init__(self, state_dir: Path) -> None:
        self.asked: list[Permission] = []
        self.denied: set[str] = set()  # actions of the caller
        self.missing: set[str] = set()  # actions of the execution role
        self.untrusting: set[str] = set()  # roles
        self.linked_roles = LinkedRoles()
        self.groups: list[str] = []  # log groups that Batch has made
        self.containers = Containers()
        self.site = Site(state_dir, "http://127.0.0.1:4566", "us-east-1", ACCOUNT)
        self.open()
        self.client = SESSION.client("batch", endpoint_url=self.site.endpoint_url)
        self.client.meta.events.register("before-send.batch", self._send)

    def open(self) -> None:
        """Start the service, as a start of the embedded AWS does."""
        self.service = Batch(
            self.site,
            Around(
                containers=self.containers,
                images=Images(),
                assume=self._assume,
                require=self._require,
                try_service_role=lambda name: self._assume(name, "batch"),
                networks=Networks(),
                linked_roles=self.linked_roles,
                make_log_group=self.groups.append,
            ),
        )
        self.service.resume()

    def reopen(self, *, lose: bool = True) -> None:
        """Stop the service and start it again."""
        self.service.close()
        if lose:
            self.containers.lose()
        self.containers.running.clear()
        self.open()

    def __getattr__(self, operation: str) -> Any:
        return getattr(self.client, operation)

    # -- short ways

    def environment(self, name: str = "spot", vcpus: int = 2, **more: Any) -> str:
        """Make a compute environment and return its ARN once it is VALID."""
        compute = {"type": "FARGATE_SPOT", "maxvCpus": vcpus, "subnets": [SUBNET], "securityGroupIds": [GROUP]}
        made = self.create_compute_environment(
            computeEnvironmentName=name, type="MANAGED", computeResources=compute | more.pop("compute", {}), **more
        )
        eventually(lambda: self.described(name)["status"] not in ("CREATING", "UPDATING"))
        return made["computeEnvironmentArn"]

    def described(self, name: str) -> dict[str, Any]:
        return self.describe_compute_environments(computeEnvironments=[name])["computeEnvironments"][0]

    def queue(self, name: str = "normal", priority: int = 1, environments: Sequence[str] = ("spot",)) -> str:
        """Make a job queue and return its ARN once it is VALID."""
        order = [{"order": number, "computeEnvironment": each} for number, each in enumerate(environments)]
        made = self.create_job_queue(jobQueueName=name, priority=priority, computeEnvironmentOrder=order)
        eventually(lambda: self.queue_of(name)["status"] == "VALID")
        return made["jobQueueArn"]

    def queue_of(self, name: str) -> dict[str, Any]:
        return self.describe_job_queues(jobQueues=[name])["jobQueues"][0]

    def definition(self, name: str = "work", container: dict[str, Any] | None = None, **more: Any) -> str:
        """Register a job definition and return its ARN."""
        properties = properties_of(**(container or {}))
        made = self.register_job_definition(
            jobDefinitionName=name,
            type="container",
            platformCapabilities=["FARGATE"],
            containerProperties={name: value for name, value in properties.items() if value is not None},
            **more,
        )
        return made["jobDefinitionArn"]

    def ready(self, vcpus: int = 2, **container: Any) -> "Api":
        """Make a compute environment, a queue and a job definition."""
        self.environment(vcpus=vcpus)
        self.queue()
        self.definition(container=container)
        return self

    def submit(self, name: str = "job", queue: str = "normal", definition: str = "work", **more: Any) -> str:
        return self.submit_job(jobName=name, jobQueue=queue, jobDefinition=definition, **more)["jobId"]

    def job(self, job_id: str) -> dict[str, Any]:
        return self.describe_jobs(jobs=[job_id])["jobs"][0]

    def status(self, job_id: str) -> str:
        """Return the status of a job, or "" of one that is not there (yet)."""
        return next((job["status"] for job in self.describe_jobs(jobs=[job_id])["jobs"]), "")

    def becomes(self, job_id: str, status: str) -> dict[str, Any]:
        """Return the job once it has ``status``."""
        eventually(lambda: self.status(job_id) == status, lambda: self.describe_jobs(jobs=[job_id])["jobs"])
        return self.job(job_id)

    def container(self, job_id: str) -> Container:
        """Return the container that a job runs in, as soon as it does."""

        def find() -> list[Container]:
            found = [each for each, _ in list(self.containers.running.values())]
            return [each for each in found if each.environment["AWS_BATCH_JOB_ID"] == job_id]

        return eventually(find, lambda: self.describe_jobs(jobs=[job_id])["jobs"])[0]

    def end(self, job_id: str, code: int = 0, reason: Any = "exited", message: str = "") -> None:
        """End the container of a job."""
        self.containers.end(self.container(job_id).run_id, End(reason, code, message))

    def permissions(self) -> list[tuple[str, str]]:
        """Return action and resource of what IAM was asked since the last time."""
        asked, self.asked = self.asked, []
        return [(each.action, each.resource) for each in asked]

    def _assume(self, name: str, session: str) -> dict[str, str]:
        if name in self.untrusting:
            raise AwsError("AccessDenied", f"not authorized to perform: sts:AssumeRole on {name}", 403)
        return {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": session, "AWS_SESSION_TOKEN": "t"}

    def _require(self, name: str, permissions: Sequence[Permission]) -> None:
        for each in permissions:
            if each.action in self.missing:
                raise AwsError("AccessDeniedException", f"{name} is not authorized to perform: {each.action}")

    def _decide(self, permission: Permission) -> None:
        self.asked.append(permission)
        if permission.action in self.denied:
            said = f"User: {USER} is not authorized to perform: {permission.action} on resource: {permission.resource}"
            raise AwsError("AccessDeniedException", said)

    def _send(self, request: Any, **more: Any) -> AWSResponse:
        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        path, _, query = request.url.removeprefix(self.site.endpoint_url).partition("?")
        headers = {}
        try:
            status, content = self.service.answer_rest(request.method, path, query, body, Caller(USER, self._decide))
        except AwsError as error:
            status, headers = error.status, {"x-amzn-errortype": error.code}
            content = json.dumps({"message": error.message}).encode()
        return AWSResponse(request.url, status, headers, Body(content))


def properties_of(**container: Any) -> dict[str, Any]:
    """Return containerProperties of a job with 1 vCPU."""
    return {
        "image": IMAGE,
        "command": ["run"],
        "executionRoleArn": role("execution"),
        "jobRoleArn": role("job"),
        "resourceRequirements": sized("1", "2048"),
        "networkConfiguration": {"assignPublicIp": "ENABLED"},
        **container,
    }


def sized(vcpus: str, memory: str) -> list[dict[str, str]]:
    """Return resourceRequirements."""
    return [{"type": "VCPU", "value": vcpus}, {"type": "MEMORY", "value": memory}]


def eventually(check: Callable[[], Any], tell: Callable[[], Any] = lambda: "it did not happen") -> Any:
    """Wait until ``check`` is true, and return what it gives."""
    deadline = time.monotonic() + 180
    while not (found := check()):
        assert time.monotonic() < deadline, tell()
        time.sleep(0.002)
    return found


def refused(call: Callable[..., Any], **params: Any) -> tuple[str, str]:
    """Return the code and the message with which Batch refuses a call."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]

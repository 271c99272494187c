"""How the unit tests call EC2: through boto3, without a server, as one caller, with machines that only note things."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError

from helpers.local_aws.ec2 import Ec2
from helpers.local_aws.ec2.launching import Profile
from helpers.local_aws.ec2.machines import Launch
from helpers.local_aws.wire import AwsError, Caller, Permission, Site

REGION, ACCOUNT = "us-east-1", "123456789012"
AL2023, AL2 = "ami-0c2023a1b2c3d4e5f", "ami-0abcdef1234567890"
SESSION = boto3.Session("AKIAEXAMPLE", "secret")  # reads the model once
USER = f"arn:aws:sts::{ACCOUNT}:assumed-role/notebook/session"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/worker"
PROFILES = {
    "worker": Profile(f"arn:aws:iam::{ACCOUNT}:instance-profile/worker", "AIPA1", ROLE),
    "empty": Profile(f"arn:aws:iam::{ACCOUNT}:instance-profile/empty", "AIPA2", ""),
}


class Machines:
    """Machines without processes. ``hold`` keeps launches waiting; ``broken`` lets them fail."""

    def __init__(self, ended: Callable[[str, str], None]) -> None:
        self.ended = ended
        self.launched: list[Launch] = []
        self.terminated: list[str] = []
        self.closed = False
        self.broken = ""
        self.free = threading.Event()
        self.free.set()

    def launch(self, launch: Launch) -> None:
        self.launched.append(launch)
        assert self.free.wait(180)
        if self.broken:
            raise OSError(self.broken)

    def terminate(self, instance_id: str) -> None:
        self.terminated.append(instance_id)

    def console(self, instance_id: str) -> bytes:
        return f"hello from {instance_id}\n".encode() if instance_id != "" else b""

    def close(self) -> None:
        self.closed = True


class Body:
    """The body of an answer, as botocore reads it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> list[bytes]:
        return [self._content]


class Api:
    """A boto3 client whose requests an Ec2 of this process answers. Use operations as its attributes."""

    def __init__(self, state_dir: Path, region: str = REGION) -> None:
        self.asked: list[Permission] = []
        self.denied: Callable[[Permission], bool] = lambda permission: False
        self.site = Site(state_dir, "http://127.0.0.1:4566", region, ACCOUNT)
        self.open()
        self.client = SESSION.client("ec2", region_name=region, endpoint_url=self.site.endpoint_url)
        self.client.meta.events.register("before-send.ec2", self._send)

    def open(self) -> None:
        """Start the service, as a start of the embedded AWS does."""
        self.machines: Machines
        self.service = Ec2(self.site, self._start, self._profile)

    def __getattr__(self, operation: str) -> Any:
        return getattr(self.client, operation)

    def run(self, **params: Any) -> list[str]:
        """Launch instances, one unless ``params`` say otherwise, and return their ids."""
        answer = self.run_instances(
            **{"ImageId": AL2023, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1} | params
        )
        return [each["InstanceId"] for each in answer["Instances"]]

    def instance(self, instance_id: str) -> dict[str, Any]:
        return self.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

    def state(self, instance_id: str) -> str:
        return self.instance(instance_id)["State"]["Name"]

    def becomes(self, instance_id: str, state: str) -> dict[str, Any]:
        """Return the instance once it is in ``state``."""
        deadline = time.monotonic() + 180
        while self.state(instance_id) != state:
            assert time.monotonic() < deadline, f"{instance_id} is {self.state(instance_id)}, not {state}"
            time.sleep(0.005)
        return self.instance(instance_id)

    def started(self, **params: Any) -> str:
        """Launch an instance and return its id once it runs."""
        instance_id = self.run(**params)[0]
        self.becomes(instance_id, "running")
        return instance_id

    def permissions(self) -> list[tuple[str, str]]:
        """Return action and resource of what IAM was asked since the last time."""
        asked, self.asked = self.asked, []
        return [(each.action, each.resource) for each in asked]

    def _start(self, ended: Callable[[str, str], None]) -> Machines:
        self.machines = Machines(ended)
        return self.machines

    def _profile(self, name: str, arn: str) -> Profile | None:
        by_arn = {profile.arn: profile for profile in PROFILES.values()}
        return PROFILES.get(name) if name else by_arn.get(arn)

    def _decide(self, permission: Permission) -> None:
        self.asked.append(permission)
        if self.denied(permission):
            said = f"User: {USER} is not authorized to perform: {permission.action} on resource: {permission.resource}"
            raise AwsError("AccessDeniedException", said)

    def _send(self, request: Any, **more: Any) -> AWSResponse:
        body = request.body.encode() if isinstance(request.body, str) else request.body
        try:
            status, content = 200, self.service.answer(body, Caller(USER, self._decide))
        except AwsError as error:
            told = f"<Error><Code>{error.code}</Code><Message>{error.message}</Message></Error>"
            status, content = error.status, f"<Response><Errors>{told}</Errors></Response>".encode()
        return AWSResponse(request.url, status, {}, Body(content))


def refused(call: Callable[..., Any], **params: Any) -> tuple[str, str]:
    """Return the code and the message with which EC2 refuses a call."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def tagged(kind: str, **tags: str) -> dict[str, Any]:
    """Return a TagSpecification."""
    return {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

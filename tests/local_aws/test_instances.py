"""EC2 instances that really run: user data, credentials, tags and policies, and an end that leaves nothing."""

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clients import allow, arn, eventually, refused
from embedded_aws import Embedded

from helpers.local_aws import control

AMI = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
UPLOAD = """#!/bin/bash
token=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
export AWS_DEFAULT_REGION=$(curl -sf -H "X-aws-ec2-metadata-token: $token" \
  http://169.254.169.254/latest/meta-data/placement/region)
python3 - <<'EOF'
import boto3
caller = boto3.client("sts").get_caller_identity()["Arn"]
for key in ("allowed/caller", "elsewhere"):
    try:
        boto3.client("s3").put_object(Bucket="BUCKET", Key=key, Body=caller.encode())
    except Exception as error:
        print(error)
EOF
"""


def processes(marker: str) -> set[int]:
    """Return the processes of this machine with ``marker`` in their command line."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.add(int(entry.name))
            except OSError:
                continue
    return found - {os.getpid()}


PATIENT = {"Delay": 1, "MaxAttempts": 180}


def marker() -> str:
    """Return a number of seconds that no other sleep of this machine sleeps."""
    return str(uuid.uuid4().int % 10**9 + 10**9)


class Site:
    """An image, a client, and what tests launch with them."""

    def __init__(self, embedded: Embedded, variables: dict[str, str] | None = None) -> None:
        self.embedded = embedded
        self.ec2 = embedded.client("ec2", variables)
        self.image = embedded.client("ssm").get_parameter(Name=AMI)["Parameter"]["Value"]
        self.ids: list[str] = []

    def run(self, user_data: str = "", **more: Any) -> str:
        """Launch an instance and return its id."""
        params = {"ImageId": self.image, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1} | more
        made = self.ec2.run_instances(**params, UserData=user_data)["Instances"]
        self.ids += [each["InstanceId"] for each in made]
        return made[0]["InstanceId"]

    def describe(self, instance: str) -> dict[str, Any]:
        return self.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]

    def state(self, instance: str) -> str:
        return self.describe(instance)["State"]["Name"]

    def becomes(self, instance: str, state: str) -> dict[str, Any]:
        eventually(lambda: self.state(instance) == state)
        return self.describe(instance)

    def console(self, instance: str, words: str) -> str:
        """Return what an instance has printed once ``words`` are in it."""
        return eventually(lambda: (text := self._console(instance)) if words in self._console(instance) else "")

    def _console(self, instance: str) -> str:
        return self.ec2.get_console_output(InstanceId=instance).get("Output", "")


@pytest.fixture
def site(embedded: Embedded) -> Iterator[Site]:
    site = Site(embedded)
    yield site
    if site.ids:
        site.ec2.terminate_instances(InstanceIds=site.ids)
        for each in site.ids:
            site.becomes(each, "terminated")


@pytest.fixture
def bucket(embedded: Embedded) -> str:
    name = f"instances-{uuid.uuid4().hex[:8]}"
    embedded.client("s3").create_bucket(Bucket=name)
    return name


def make_profile(embedded: Embedded, statements: list[dict[str, Any]]) -> tuple[str, str]:
    """Make an instance profile whose role may do what ``statements`` say. Returns its name and the role's ARN."""
    role, name = embedded.make_role(statements, service="ec2.amazonaws.com"), f"profile-{uuid.uuid4().hex[:8]}"
    iam = embedded.client("iam")
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=role.rpartition("/")[2])
    return name, role


def test_the_public_parameters_name_images_that_can_be_launched(embedded: Embedded, site: Site):
    names = [AMI, "/aws/service/ami-amazon-linux-latest/amzn2-ami-hvm-x86_64-gp2"]
    found = embedded.client("ssm").get_parameters(Names=names)["Parameters"]
    ids = [each["Value"] for each in found]
    assert len(ids) == 2
    images = site.ec2.describe_images(ImageIds=ids)["Images"]
    assert {each["RootDeviceName"] for each in images} == {"/dev/xvda"}
    assert sorted(each["Name"].partition("-")[0] for each in images) == ["al2023", "amzn2"]


def test_user_data_works_in_the_role_of_the_profile_and_can_do_no_more(embedded: Embedded, site: Site, bucket: str):
    profile, role = make_profile(embedded, [allow("s3:PutObject", f"arn:aws:s3:::{bucket}/allowed/*")])
    instance = site.run(UPLOAD.replace("BUCKET", bucket), IamInstanceProfile={"Name": profile})
    printed = site.console(instance, f"{bucket}/elsewhere")
    assert "AccessDenied" in printed
    assert "s3:PutObject" in printed
    caller = embedded.client("s3").get_object(Bucket=bucket, Key="allowed/caller")["Body"].read().decode()
    assert caller == f"{role.replace(':iam:', ':sts:').replace(':role/', ':assumed-role/')}/{instance}"
    site.becomes(instance, "running")


def test_terminating_ends_what_the_script_left_running(site: Site):
    seconds = marker()
    instance = site.run(f"#!/bin/bash\nsetsid nohup sleep {seconds} &\nsleep {seconds} &\necho started\n")
    site.console(instance, "started")
    eventually(lambda: len(processes(seconds)) >= 2)
    site.ec2.terminate_instances(InstanceIds=[instance])
    site.ec2.get_waiter("instance_terminated").wait(InstanceIds=[instance], WaiterConfig=PATIENT)
    assert processes(seconds) == set()
    assert site.describe(instance)["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert "started" in site.console(instance, "started")


def test_an_instance_whose_processes_are_killed_is_terminated_with_a_reason(site: Site):
    seconds = marker()
    instance = site.run(f"#!/bin/bash\nsleep {seconds}\n")
    sleep = eventually(lambda: processes(f"sleep\0{seconds}"))
    above = int(Path(f"/proc/{min(sleep)}/status").read_text().partition("PPid:\t")[2].split()[0])
    init = int(Path(f"/proc/{above}/status").read_text().partition("PPid:\t")[2].split()[0])
    os.kill(init, signal.SIGKILL)
    gone = site.becomes(instance, "terminated")
    assert gone["StateReason"]["Code"] == "Server.InternalError"
    assert processes(seconds) == set()


def test_twenty_instances_run_at_once(site: Site):
    seconds = marker()
    site.run(f"#!/bin/sh\nexec sleep {seconds}\n", MinCount=20, MaxCount=20, InstanceType="t2.micro")
    site.ec2.get_waiter("instance_running").wait(InstanceIds=site.ids, WaiterConfig=PATIENT)
    eventually(lambda: len(processes(f"sleep\0{seconds}")) == 20)
    site.ec2.terminate_instances(InstanceIds=site.ids)
    site.ec2.get_waiter("instance_terminated").wait(InstanceIds=site.ids, WaiterConfig=PATIENT)
    assert processes(seconds) == set()


LAUNCH = {
    "run": allow("ec2:RunInstances", "*"),
    "tag": allow(
        "ec2:CreateTags", arn("ec2", "instance/*"), condition={"StringEquals": {"ec2:CreateAction": "RunInstances"}}
    ),
}


def launch_with(embedded: Embedded, role: str, **changed: dict[str, Any] | None) -> Site:
    """Return a site whose caller may launch instances in ``role``, with some statements changed or without them."""
    passing = allow("iam:PassRole", role, condition={"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}})
    statements = {**LAUNCH, "pass": passing, **changed}
    variables = embedded.variables_of([each for each in statements.values() if each])
    return Site(embedded, variables)


@pytest.mark.parametrize(
    ("without", "action", "resource"),
    [("run", "ec2:RunInstances", "instance/*"), ("tag", "ec2:CreateTags", "instance/*"), ("pass", "iam:PassRole", "")],
)
def test_each_permission_of_a_launch_is_asked_and_named(embedded: Embedded, without: str, action: str, resource: str):
    profile, role = make_profile(embedded, [])
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "stack", "Value": "s"}]}]
    params = {"IamInstanceProfile": {"Name": profile}, "TagSpecifications": tags}
    site = launch_with(embedded, role, **{without: None})
    code, message = refused(lambda: site.run(**params))
    assert code == "UnauthorizedOperation"
    assert f"is not authorized to perform: {action} on resource: " in message
    assert (arn("ec2", resource) if resource else role) in message
    allowed = launch_with(embedded, role)
    instance = allowed.run(**params)
    administrator = Site(embedded)
    administrator.ec2.terminate_instances(InstanceIds=[instance])
    administrator.becomes(instance, "terminated")


def test_a_launch_can_be_bound_to_a_type_and_a_subnet(embedded: Embedded, site: Site):
    subnets = [each["SubnetId"] for each in site.ec2.describe_subnets()["Subnets"]]
    kind = {"StringEquals": {"ec2:InstanceType": ["t3.micro"]}}
    others = [arn("ec2", f"{name}/*") for name in ("network-interface", "volume", "security-group")]
    rest = [f"arn:aws:ec2:us-east-1::image/{site.image}", *others]
    statements = [
        allow("ec2:RunInstances", arn("ec2", "instance/*"), condition=kind),
        allow("ec2:RunInstances", arn("ec2", f"subnet/{subnets[0]}"), *rest),
    ]
    bound = Site(embedded, embedded.variables_of(statements))
    site.ids.append(bound.run(SubnetId=subnets[0]))
    assert refused(lambda: bound.run(SubnetId=subnets[0], InstanceType="t3.small"))[0] == "UnauthorizedOperation"
    code, message = refused(lambda: bound.run(SubnetId=subnets[1]))
    assert (code, arn("ec2", f"subnet/{subnets[1]}") in message) == ("UnauthorizedOperation", True)


@pytest.mark.parametrize("key", ["aws:ResourceTag/stack", "ec2:ResourceTag/stack"])
def test_a_termination_can_be_bound_to_a_tag(embedded: Embedded, site: Site, key: str):
    tag = [{"ResourceType": "instance", "Tags": [{"Key": "stack", "Value": "mine"}]}]
    mine, other = site.run(TagSpecifications=tag), site.run()
    statement = allow("ec2:TerminateInstances", arn("ec2", "instance/*"), condition={"StringEquals": {key: "mine"}})
    bound = embedded.client("ec2", embedded.variables_of([statement]))
    code, message = refused(lambda: bound.terminate_instances(InstanceIds=[other]))
    assert code == "UnauthorizedOperation"
    assert arn("ec2", f"instance/{other}") in message
    bound.terminate_instances(InstanceIds=[mine])
    site.becomes(mine, "terminated")
    assert refused(lambda: bound.describe_instances())[0] == "UnauthorizedOperation"


def test_a_tag_that_came_later_does_not_pass_for_one_of_the_launch(embedded: Embedded, site: Site):
    instance = site.run()
    bound = embedded.client("ec2", embedded.variables_of([LAUNCH["tag"]]))
    wanted = {"Resources": [instance], "Tags": [{"Key": "stack", "Value": "mine"}]}
    assert refused(lambda: bound.create_tags(**wanted))[0] == "UnauthorizedOperation"


def test_a_caller_that_is_not_known_is_refused_in_ec2s_words(embedded: Embedded):
    stranger = embedded.client("ec2", {"AWS_ACCESS_KEY_ID": "AKIAUNKNOWN", "AWS_SECRET_ACCESS_KEY": "x"})
    code, message = refused(stranger.describe_instances)
    assert (code, "validate the provided access credentials" in message) == ("AuthFailure", True)


def test_an_operation_that_is_not_here_is_refused_by_name(site: Site):
    code, message = refused(lambda: site.ec2.stop_instances(InstanceIds=["i-0123456789abcdef0"]))
    assert (code, "ec2:StopInstances" in message) == ("NotImplemented", True)


@pytest.mark.parametrize("kill", [False, True])
def test_nothing_outlives_the_embedded_aws_and_the_records_tell_it(tmp_path: Path, kill: bool):
    server, _ = control.start(tmp_path)
    try:
        seconds = marker()
        site = Site(Embedded(server))
        instance = site.run(f"#!/bin/sh\nsetsid sleep {seconds} &\nexec sleep {seconds}\n")
        eventually(lambda: len(processes(seconds)) == 2)
        site.becomes(instance, "running")
        if kill:
            os.kill(server.pid, signal.SIGKILL)
        else:
            control.stop(tmp_path)
        eventually(lambda: not processes(seconds))
        server, _ = control.start(tmp_path)
        found = Site(Embedded(server)).describe(instance)
        assert (found["State"]["Name"], found["StateReason"]["Code"]) == ("terminated", "Server.InternalError")
        assert "was stopped" in found["StateReason"]["Message"]
    finally:
        control.stop(tmp_path)

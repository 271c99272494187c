"""The life of instances, with machines that only note what is asked of them."""

import json
import time
from pathlib import Path

import pytest
from ec2_api import AL2, AL2023, PROFILES, REGION, ROLE, Api, refused, tagged

from helpers.local_aws.ec2.machines import SHUTDOWN


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


def test_an_instance_is_pending_until_its_process_runs(api: Api):
    api.machines.free.clear()
    (instance,) = api.run(UserData="#!/bin/sh\necho hi")
    assert api.state(instance) == "pending"
    assert api.instance(instance)["StateReason"] == {"Code": "pending", "Message": "pending"}
    api.machines.free.set()
    running = api.becomes(instance, "running")
    assert "StateReason" not in running
    (launch,) = api.machines.launched
    assert (launch.instance_id, launch.user_data) == (instance, b"#!/bin/sh\necho hi")


def test_an_instance_is_told_about_itself(api: Api):
    tags = [tagged("instance", Name="Worker Instance")]
    instance = api.started(
        IamInstanceProfile={"Arn": PROFILES["worker"].arn},
        TagSpecifications=tags,
        MetadataOptions={"InstanceMetadataTags": "enabled"},
    )
    (launch,) = api.machines.launched
    shown = api.instance(instance)
    assert (launch.profile_arn, launch.role_arn, launch.tokens_required) == (PROFILES["worker"].arn, ROLE, True)
    told = {
        "instance-id": instance,
        "ami-id": AL2023,
        "instance-type": "t3.micro",
        "local-ipv4": shown["PrivateIpAddress"],
        "public-ipv4": shown["PublicIpAddress"],
        "placement/region": REGION,
        "placement/availability-zone": shown["Placement"]["AvailabilityZone"],
        "security-groups": "default",
        "tags/instance/Name": "Worker Instance",
    }
    assert told.items() <= launch.metadata.items()
    assert launch.identity["instanceId"] == instance
    assert launch.identity["region"] == REGION
    assert json.dumps(launch.identity)


def test_tags_are_in_the_metadata_only_when_asked_for_and_only_with_keys_that_can_be_a_path(api: Api):
    api.started(TagSpecifications=[tagged("instance", a="b")])
    assert not [path for path in api.machines.launched[0].metadata if path.startswith("tags")]
    wanted = {"MetadataOptions": {"InstanceMetadataTags": "enabled"}}
    for key in ("with space", "a/b", ".."):
        tags = [{"ResourceType": "instance", "Tags": [{"Key": key, "Value": "v"}]}]
        assert refused(api.run, TagSpecifications=tags, **wanted)[0] == "InvalidParameterValue"


def test_tokens_are_required_as_the_image_or_the_request_says(api: Api):
    for params, required in (
        ({}, True),
        ({"ImageId": AL2}, False),
        ({"MetadataOptions": {"HttpTokens": "optional"}}, False),
        ({"ImageId": AL2, "MetadataOptions": {"HttpTokens": "required"}}, True),
    ):
        instance = api.started(**params)
        assert api.machines.launched[-1].tokens_required is required
        assert api.instance(instance)["MetadataOptions"]["HttpTokens"] == ("required" if required else "optional")


def test_a_termination_ends_the_machine_and_stays_visible(api: Api):
    instance = api.started()
    (answer,) = api.terminate_instances(InstanceIds=[instance, instance])["TerminatingInstances"]
    assert answer["PreviousState"]["Name"] == "running"
    assert answer["CurrentState"]["Name"] == "shutting-down"
    gone = api.becomes(instance, "terminated")
    assert api.machines.terminated == [instance]
    assert gone["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert gone["StateTransitionReason"].startswith("User initiated (2")
    assert gone.get("PrivateIpAddress") is None
    assert gone["BlockDeviceMappings"] == gone["NetworkInterfaces"] == []
    (answer,) = api.terminate_instances(InstanceIds=[instance])["TerminatingInstances"]
    assert answer["PreviousState"]["Name"] == answer["CurrentState"]["Name"] == "terminated"
    assert api.machines.terminated == [instance]


def test_one_that_is_terminated_while_it_starts_does_not_stay(api: Api):
    api.machines.free.clear()
    (instance,) = api.run()
    while not api.machines.launched:
        time.sleep(0.005)
    api.terminate_instances(InstanceIds=[instance])
    assert api.state(instance) == "shutting-down"
    assert api.machines.terminated == []
    api.machines.free.set()
    api.becomes(instance, "terminated")
    assert api.machines.terminated == [instance]


def test_one_that_cannot_start_is_terminated_with_the_reason(api: Api):
    api.machines.broken = "no process left"
    gone = api.becomes(api.run()[0], "terminated")
    assert gone["StateReason"]["Code"] == "Server.InternalError"
    assert "no process left" in gone["StateReason"]["Message"]


@pytest.mark.parametrize(
    ("reason", "behavior", "code"),
    [
        ("the processes were killed", "terminate", "Server.InternalError"),
        (SHUTDOWN, "terminate", "Client.InstanceInitiatedShutdown"),
        (SHUTDOWN, "stop", "Server.InternalError"),
    ],
)
def test_one_whose_processes_died_is_terminated_with_the_reason(api: Api, reason: str, behavior: str, code: str):
    instance = api.started(InstanceInitiatedShutdownBehavior=behavior)
    api.machines.ended(instance, reason)
    found = api.instance(instance)
    assert (found["State"]["Name"], found["StateReason"]["Code"]) == ("terminated", code)
    assert reason in found["StateReason"]["Message"]


def test_instances_end_with_the_embedded_aws_and_their_records_stay(api: Api):
    running, done = api.started(TagSpecifications=[tagged("instance", a="b")]), api.started()
    api.terminate_instances(InstanceIds=[done])
    api.becomes(done, "terminated")
    group = api.create_security_group(GroupName="g", Description="d")["GroupId"]
    api.service.close()
    assert api.machines.closed
    api.open()
    found = api.instance(running)
    assert found["State"]["Name"] == "terminated"
    assert found["StateReason"]["Code"] == "Server.InternalError"
    assert "stopped" in found["StateReason"]["Message"]
    assert found["Tags"] == [{"Key": "a", "Value": "b"}]
    assert api.instance(done)["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert api.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["GroupName"] == "g"


def test_instances_that_ran_at_a_kill_are_terminated_at_the_next_start(api: Api):
    running = api.started()
    api.machines.free.clear()
    (pending,) = api.run()
    api.open()
    assert [api.state(each) for each in (running, pending)] == ["terminated", "terminated"]
    assert api.machines.launched == []


def test_nothing_is_launched_once_it_is_closing(api: Api):
    api.service.close()
    assert refused(api.run)[0] == "Unavailable"


def test_a_terminated_instance_is_forgotten_after_an_hour(api: Api):
    instance = api.started(TagSpecifications=[tagged("instance", a="b")])
    api.terminate_instances(InstanceIds=[instance])
    api.becomes(instance, "terminated")
    api.service._store.instances[instance].ended -= 3601
    assert api.describe_instances()["Reservations"] == []
    assert refused(api.terminate_instances, InstanceIds=[instance]) == (
        "InvalidInstanceID.NotFound",
        f"The instance ID '{instance}' does not exist",
    )
    assert api.describe_tags()["Tags"] == []


def test_the_same_token_starts_nothing_new(api: Api):
    first = api.run(ClientToken="t", UserData="#!/bin/sh")
    assert api.run(ClientToken="t", UserData="#!/bin/sh") == first
    api.becomes(first[0], "running")
    assert len(api.machines.launched) == 1
    assert refused(api.run, ClientToken="t", UserData="#!/bin/bash")[0] == "IdempotentParameterMismatch"
    assert api.run(ClientToken="u", UserData="#!/bin/sh") != first


def test_a_dry_run_starts_nothing(api: Api):
    assert refused(api.run, DryRun=True)[0] == "DryRunOperation"
    assert api.describe_instances()["Reservations"] == []
    instance = api.started()
    assert refused(api.terminate_instances, InstanceIds=[instance], DryRun=True)[0] == "DryRunOperation"
    assert api.state(instance) == "running"


def test_instances_of_one_call_are_one_reservation_with_addresses_of_their_own(api: Api):
    ids = api.run(MinCount=3, MaxCount=3)
    (reservation,) = api.describe_instances()["Reservations"]
    found = reservation["Instances"]
    assert [each["InstanceId"] for each in found] == ids
    assert [each["AmiLaunchIndex"] for each in found] == [0, 1, 2]
    for name in ("PrivateIpAddress", "PublicIpAddress"):
        assert len({each[name] for each in found}) == 3


def test_the_quota_of_vcpus_bounds_what_runs(api: Api):
    assert len(api.run(MinCount=1, MaxCount=100)) == 32
    assert refused(api.run)[0] == "VcpuLimitExceeded"
    assert len(api.describe_instances()["Reservations"][0]["Instances"]) == 32
    some = [each["InstanceId"] for each in api.describe_instances()["Reservations"][0]["Instances"][:2]]
    api.terminate_instances(InstanceIds=some)
    assert len(api.run(MinCount=2, MaxCount=2)) == 2


def test_status_is_of_running_instances_unless_all_are_wanted(api: Api):
    running, gone = api.started(), api.started()
    api.terminate_instances(InstanceIds=[gone])
    api.becomes(gone, "terminated")
    (status,) = api.describe_instance_status()["InstanceStatuses"]
    assert (status["InstanceId"], status["InstanceStatus"]["Status"]) == (running, "ok")
    every = api.describe_instance_status(IncludeAllInstances=True)["InstanceStatuses"]
    assert {each["InstanceId"]: each["SystemStatus"]["Status"] for each in every} == {
        running: "ok",
        gone: "not-applicable",
    }
    api.get_waiter("instance_status_ok").wait(InstanceIds=[running])


def test_the_waiters_of_boto3_see_the_states(api: Api):
    (instance,) = api.run()
    api.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig={"Delay": 0.01, "MaxAttempts": 18_000})
    api.terminate_instances(InstanceIds=[instance])
    api.get_waiter("instance_terminated").wait(
        InstanceIds=[instance], WaiterConfig={"Delay": 0.01, "MaxAttempts": 18_000}
    )


def test_the_console_can_be_read(api: Api):
    instance = api.started()
    assert api.get_console_output(InstanceId=instance)["Output"] == f"hello from {instance}\n"
    small = api.started(InstanceType="t2.micro")
    assert refused(api.get_console_output, InstanceId=small, Latest=True)[0] == "UnsupportedOperation"


def test_volumes_and_profiles_are_there_as_long_as_the_instance(api: Api):
    volume = {"VolumeSize": 20, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    instance = api.started(
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": volume}],
        IamInstanceProfile={"Name": "worker"},
        TagSpecifications=[tagged("volume", a="b")],
    )
    mine = [{"Name": "attachment.instance-id", "Values": [instance]}]
    (found,) = api.describe_volumes(Filters=mine)["Volumes"]
    assert (found["Size"], found["VolumeType"], found["Encrypted"]) == (20, "gp3", True)
    assert found["Tags"] == [{"Key": "a", "Value": "b"}]
    assert found["Attachments"][0]["DeleteOnTermination"] is True
    (association,) = api.describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"]
    assert association["IamInstanceProfile"]["Arn"] == PROFILES["worker"].arn
    api.terminate_instances(InstanceIds=[instance])
    api.becomes(instance, "terminated")
    assert api.describe_volumes(Filters=mine)["Volumes"] == []
    assert refused(api.describe_volumes, VolumeIds=[found["VolumeId"]])[0] == "InvalidVolume.NotFound"
    assert api.describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"] == []

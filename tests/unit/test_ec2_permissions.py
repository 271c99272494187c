"""What IAM is asked before EC2 does something: actions, resources and condition keys as AWS documents them."""

from pathlib import Path
from typing import Any

import pytest
from ec2_api import ACCOUNT, AL2023, PROFILES, REGION, ROLE, USER, Api, refused, tagged

EC2 = f"arn:aws:ec2:{REGION}:{ACCOUNT}"


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


@pytest.fixture
def launch(api: Api) -> dict[str, Any]:
    """Return what the worker of notebook 07 is launched with."""
    return {
        "SubnetId": api.describe_subnets()["Subnets"][0]["SubnetId"],
        "SecurityGroupIds": [api.create_security_group(GroupName="g", Description="d")["GroupId"]],
        "IamInstanceProfile": {"Name": "worker"},
        "TagSpecifications": [tagged("instance", stack="s", unit="d/1"), tagged("volume", stack="s")],
        "MetadataOptions": {"HttpTokens": "required"},
    }


def test_a_launch_is_decided_on_everything_that_it_takes_or_makes(api: Api, launch: dict[str, Any]):
    api.asked.clear()
    api.run(**launch)
    assert set(api.permissions()) == {
        ("ec2:RunInstances", f"{EC2}:instance/*"),
        ("ec2:RunInstances", f"arn:aws:ec2:{REGION}::image/{AL2023}"),
        ("ec2:RunInstances", f"{EC2}:subnet/{launch['SubnetId']}"),
        ("ec2:RunInstances", f"{EC2}:security-group/{launch['SecurityGroupIds'][0]}"),
        ("ec2:RunInstances", f"{EC2}:network-interface/*"),
        ("ec2:RunInstances", f"{EC2}:volume/*"),
        ("ec2:CreateTags", f"{EC2}:instance/*"),
        ("ec2:CreateTags", f"{EC2}:volume/*"),
        ("iam:PassRole", ROLE),
    }


def test_policies_can_look_at_what_is_launched(api: Api, launch: dict[str, Any]):
    api.asked.clear()
    api.run(**launch)
    asked = {(each.action, each.resource): each.context for each in api.asked}
    instance = asked["ec2:RunInstances", f"{EC2}:instance/*"]
    assert {
        "ec2:InstanceType": "t3.micro",
        "ec2:InstanceProfile": PROFILES["worker"].arn,
        "ec2:MetadataHttpTokens": "required",
        "aws:RequestTag/stack": "s",
        "aws:RequestTag/unit": "d/1",
        "aws:TagKeys": ["stack", "unit"],
        "ec2:Region": REGION,
    }.items() <= instance.items()
    volume = asked["ec2:RunInstances", f"{EC2}:volume/*"]
    assert (volume["ec2:VolumeType"], volume["ec2:Encrypted"], volume["ec2:VolumeSize"]) == ("gp3", "false", "8")
    vpc = api.describe_vpcs()["Vpcs"][0]["VpcId"]
    assert asked["ec2:RunInstances", f"{EC2}:network-interface/*"]["ec2:Vpc"] == f"{EC2}:vpc/{vpc}"
    assert asked["ec2:RunInstances", f"{EC2}:subnet/{launch['SubnetId']}"]["ec2:SubnetID"] == launch["SubnetId"]
    tagging = asked["ec2:CreateTags", f"{EC2}:instance/*"]
    assert (tagging["ec2:CreateAction"], tagging["aws:RequestTag/stack"]) == ("RunInstances", "s")
    assert asked["iam:PassRole", ROLE] == {"iam:PassedToService": "ec2.amazonaws.com"}


def test_a_launch_without_tags_or_profile_asks_neither_tagging_nor_passing(api: Api):
    api.run()
    assert {action for action, _ in api.permissions()} == {"ec2:RunInstances"}


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("ec2:RunInstances", "instance"),
        ("ec2:RunInstances", "image"),
        ("ec2:RunInstances", "subnet"),
        ("ec2:RunInstances", "security-group"),
        ("ec2:RunInstances", "network-interface"),
        ("ec2:RunInstances", "volume"),
        ("ec2:CreateTags", "instance"),
        ("ec2:CreateTags", "volume"),
        ("iam:PassRole", "role"),
    ],
)
def test_a_launch_that_lacks_one_permission_is_refused_by_name_and_starts_nothing(
    api: Api, launch: dict[str, Any], action: str, kind: str
):
    def denied(permission: Any) -> bool:
        return permission.action == action and f":{kind}/" in permission.resource

    api.denied = denied
    code, message = refused(api.run, **launch)
    assert code == "UnauthorizedOperation"
    assert message.startswith("You are not authorized to perform this operation.")
    assert f"{USER} is not authorized to perform: {action} on resource: " in message
    assert f":{kind}/" in message
    api.denied = lambda permission: False
    assert api.describe_instances()["Reservations"] == []
    assert refused(api.run, **launch, DryRun=True)[0] == "DryRunOperation"


def test_an_instance_is_decided_on_by_its_tags(api: Api):
    instance = api.started(TagSpecifications=[tagged("instance", stack="s")])
    for call in (
        lambda: api.get_console_output(InstanceId=instance),
        lambda: api.create_tags(Resources=[instance], Tags=[{"Key": "k", "Value": "v"}]),
        lambda: api.delete_tags(Resources=[instance], Tags=[{"Key": "k"}]),
        lambda: api.terminate_instances(InstanceIds=[instance]),
    ):
        api.asked.clear()
        call()
        (asked,) = api.asked
        assert asked.resource == f"{EC2}:instance/{instance}"
        assert asked.context["aws:ResourceTag/stack"] == asked.context["ec2:ResourceTag/stack"] == "s"
        assert asked.context["ec2:InstanceType"] == "t3.micro"
    assert asked.action == "ec2:TerminateInstances"


def test_a_tag_is_decided_on_by_what_it_is_and_what_is_there(api: Api):
    instance = api.started(TagSpecifications=[tagged("instance", stack="s")])
    api.asked.clear()
    api.create_tags(Resources=[instance], Tags=[{"Key": "k", "Value": "v"}])
    (asked,) = api.asked
    assert (asked.action, asked.context["aws:RequestTag/k"], asked.context["aws:TagKeys"]) == (
        "ec2:CreateTags",
        "v",
        ["k"],
    )
    assert "ec2:CreateAction" not in asked.context


def test_one_denied_instance_of_several_ends_none(api: Api):
    mine, other = api.started(), api.started()
    api.denied = lambda permission: other in permission.resource
    assert refused(api.terminate_instances, InstanceIds=[mine, other])[0] == "UnauthorizedOperation"
    assert [api.state(each) for each in (mine, other)] == ["running", "running"]


def test_groups_are_decided_on_by_their_arn_and_their_vpc(api: Api):
    group = api.create_security_group(
        GroupName="g", Description="d", TagSpecifications=[tagged("security-group", stack="s")]
    )["GroupId"]
    vpc = api.site.arn("ec2", f"vpc/{api.describe_vpcs()['Vpcs'][0]['VpcId']}")
    assert set(api.permissions()) == {
        ("ec2:CreateSecurityGroup", f"{EC2}:security-group/*"),
        ("ec2:CreateSecurityGroup", vpc),
        ("ec2:CreateTags", f"{EC2}:security-group/*"),
        ("ec2:DescribeVpcs", "*"),
    }
    api.delete_security_group(GroupName="g")
    (asked,) = api.asked
    assert (asked.action, asked.resource) == ("ec2:DeleteSecurityGroup", f"{EC2}:security-group/{group}")
    assert asked.context["aws:ResourceTag/stack"] == "s"


def test_descriptions_know_no_resources(api: Api):
    api.describe_instances()
    api.describe_subnets()
    assert api.permissions() == [("ec2:DescribeInstances", "*"), ("ec2:DescribeSubnets", "*")]

"""What RunInstances takes, and how it refuses what it does not."""

from pathlib import Path
from typing import Any

import pytest
from ec2_api import AL2, AL2023, PROFILES, Api, refused, tagged

from helpers.local_aws.ec2 import catalog


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


def root(**ebs: Any) -> dict[str, Any]:
    return {"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": ebs}]}


def interface(**more: Any) -> dict[str, Any]:
    return {"NetworkInterfaces": [{"DeviceIndex": 0, **more}]}


@pytest.mark.parametrize(
    ("params", "code", "words"),
    [
        (
            {"ImageId": "ami-0123456789abcdef0"},
            "InvalidAMIID.NotFound",
            "The image id '[ami-0123456789abcdef0]' does not",
        ),
        ({"ImageId": "al2023"}, "InvalidAMIID.Malformed", 'Invalid id: "al2023"'),
        ({"ImageId": "resolve:ssm:/aws/service/x"}, "NotImplemented", "resolve:ssm:/aws/service/x"),
        ({"InstanceType": "t3.tiny"}, "InvalidParameterValue", "Invalid value 't3.tiny' for InstanceType"),
        ({"InstanceType": "p5.48xlarge"}, "NotImplemented", "p5.48xlarge"),
        ({"SubnetId": "subnet-1"}, "InvalidSubnetID.NotFound", "The subnet ID 'subnet-1' does not exist"),
        ({"SecurityGroupIds": ["sg-1"]}, "InvalidGroup.NotFound", "The security group 'sg-1' does not exist"),
        ({"SecurityGroupIds": ["default"]}, "InvalidGroupId.Malformed", 'Invalid id: "default"'),
        ({"UserData": "#!" + "x" * 16_383}, "InvalidParameterValue", "limited to 16384 bytes"),
        ({"UserData": "#cloud-config\npackages: [git]"}, "NotImplemented", "user data of the kind #cloud-config"),
        ({"IamInstanceProfile": {"Name": "none"}}, "InvalidParameterValue", "Invalid IAM Instance Profile name"),
        ({"IamInstanceProfile": {"Arn": "none"}}, "InvalidParameterValue", "Invalid IAM Instance Profile ARN"),
        ({"IamInstanceProfile": {"Name": "empty"}}, "InvalidParameterValue", "has no associated IAM Roles"),
        (
            {"IamInstanceProfile": {"Name": "worker", "Arn": PROFILES["worker"].arn}},
            "InvalidParameterCombination",
            "may not be used",
        ),
        ({"MinCount": 2}, "InvalidParameterValue", "minCount"),
        ({"MinCount": 0}, "InvalidParameterValue", "minCount"),
        ({"ClientToken": "t" * 65}, "InvalidParameterValue", "64"),
        ({"KeyName": "k"}, "NotImplemented", "RunInstances with KeyName"),
        ({"SecurityGroups": ["default"]}, "NotImplemented", "SecurityGroup"),
        ({"InstanceMarketOptions": {"MarketType": "spot"}}, "NotImplemented", "InstanceMarketOptions"),
        ({"LaunchTemplate": {"LaunchTemplateName": "t"}}, "NotImplemented", "LaunchTemplate"),
        ({"MetadataOptions": {"HttpEndpoint": "disabled"}}, "NotImplemented", "HttpEndpoint"),
        ({"MetadataOptions": {"HttpPutResponseHopLimit": 65}}, "InvalidParameterValue", "HttpPutResponseHopLimit"),
        ({"Placement": {"AvailabilityZone": "eu-west-1a"}}, "InvalidParameterValue", "eu-west-1a"),
        (root(VolumeSize=7), "InvalidBlockDeviceMapping", "smaller than snapshot"),
        (root(DeleteOnTermination=False), "NotImplemented", "DeleteOnTermination"),
        (root(KmsKeyId="k"), "NotImplemented", "KmsKeyId"),
        (root(VolumeType="gp2", Iops=3000), "InvalidParameterCombination", "gp2"),
        (root(VolumeType="io2"), "InvalidParameterValue", "gp2, gp3"),
        (root(Iops=100), "InvalidParameterValue", "Iops"),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/sdf"}]}, "NotImplemented", "/dev/sdf"),
        (interface(SubnetId="subnet-1"), "InvalidSubnetID.NotFound", "subnet-1"),
        (interface(NetworkInterfaceId="eni-1"), "NotImplemented", "NetworkInterfaceId"),
        (interface(DeleteOnTermination=False), "NotImplemented", "DeleteOnTermination"),
        ({**interface(), "SubnetId": "subnet-1"}, "InvalidParameterCombination", "instance-level subnet ID"),
        ({"NetworkInterfaces": [{"DeviceIndex": 1}]}, "NotImplemented", "DeviceIndex 0"),
        ({"TagSpecifications": [tagged("network-interface", a="b")]}, "InvalidParameterValue", "network-interface"),
        ({"TagSpecifications": [tagged("instance", **{"aws:x": "b"})]}, "InvalidParameterValue", "reserved"),
        ({"TagSpecifications": [tagged("instance", **{f"k{n}": "" for n in range(51)})]}, "TagLimitExceeded", "50"),
    ],
)
def test_what_cannot_be_launched_is_refused(api: Api, params: dict[str, Any], code: str, words: str):
    found = refused(api.run, **params)
    assert found[0] == code
    assert words in found[1]
    assert api.describe_instances()["Reservations"] == []
    assert api.machines.launched == []


def test_16384_bytes_of_user_data_are_taken(api: Api):
    api.started(UserData="x" * 16_384)
    assert len(api.machines.launched[0].user_data) == 16_384


def test_a_subnet_is_chosen_where_the_type_is_offered(api: Api):
    subnets = api.describe_subnets()["Subnets"]
    old = next(each["SubnetId"] for each in subnets if each["AvailabilityZone"] == "us-east-1e")
    code, message = refused(api.run, SubnetId=old, InstanceType="t3.micro")
    assert code == "Unsupported"
    assert "us-east-1e" in message
    assert api.instance(api.run(SubnetId=old, InstanceType="t2.micro")[0])["SubnetId"] == old
    here = [{"Name": "location", "Values": ["us-east-1e"]}]
    offered = api.describe_instance_type_offerings(LocationType="availability-zone", Filters=here)
    kinds = {each["InstanceType"] for each in offered["InstanceTypeOfferings"]}
    assert "t2.micro" in kinds
    assert "t3.micro" not in kinds
    zone = api.instance(api.run(Placement={"AvailabilityZone": "us-east-1c"})[0])["Placement"]["AvailabilityZone"]
    assert zone == "us-east-1c"


def test_a_network_interface_can_say_where_and_without_a_public_address(api: Api):
    subnet = api.describe_subnets()["Subnets"][1]["SubnetId"]
    group = api.create_security_group(GroupName="g", Description="d")["GroupId"]
    params = interface(SubnetId=subnet, Groups=[group], AssociatePublicIpAddress=False)
    found = api.instance(api.run(**params)[0])
    assert (found["SubnetId"], found["SecurityGroups"][0]["GroupId"]) == (subnet, group)
    assert "PublicIpAddress" not in found


@pytest.mark.parametrize(("image", "kind"), [(AL2023, "gp3"), (AL2, "gp2")])
def test_the_root_volume_is_what_the_image_says(api: Api, image: str, kind: str):
    api.started(ImageId=image)
    (volume,) = api.describe_volumes()["Volumes"]
    assert (volume["Size"], volume["VolumeType"], volume["Encrypted"]) == (8, kind, False)


def test_images_can_be_found_by_name_and_owner(api: Api):
    wanted = [{"Name": "name", "Values": ["al2023-ami-2023*"]}, {"Name": "architecture", "Values": ["x86_64"]}]
    (image,) = api.describe_images(Owners=["amazon"], Filters=wanted)["Images"]
    assert (image["ImageId"], image["RootDeviceName"]) == (AL2023, "/dev/xvda")
    assert api.describe_images(Owners=["self"])["Images"] == []


def test_every_type_tells_its_size(api: Api):
    (found,) = api.describe_instance_types(InstanceTypes=["t3.micro"])["InstanceTypes"]
    assert (found["VCpuInfo"]["DefaultVCpus"], found["MemoryInfo"]["SizeInMiB"]) == (2, 1024)
    every = api.get_paginator("describe_instance_types").paginate(PaginationConfig={"PageSize": 5})
    assert [each["InstanceType"] for page in every for each in page["InstanceTypes"]] == list(catalog.TYPES)

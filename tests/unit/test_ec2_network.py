"""The default network, security groups, tags, filters and pages."""

from pathlib import Path
from typing import Any

import pytest
from ec2_api import ACCOUNT, Api, refused, tagged

from helpers.local_aws.ec2.network import Network
from helpers.local_aws.wire import Site

ANYWHERE = [{"CidrIp": "0.0.0.0/0"}]


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


def https(**source: Any) -> list[dict[str, Any]]:
    return [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, **(source or {"IpRanges": ANYWHERE})}]


def test_the_default_network_is_there_and_the_same_after_a_restart(api: Api):
    (vpc,) = api.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    subnets = api.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["Subnets"]
    zones = api.describe_availability_zones()["AvailabilityZones"]
    assert [each["AvailabilityZoneId"] for each in subnets] == [each["ZoneId"] for each in zones]
    assert zones[0]["ZoneId"] == "use1-az1"
    api.open()
    assert api.describe_subnets()["Subnets"] == subnets


@pytest.mark.parametrize(
    ("region", "zone"),
    [
        ("us-east-1", "use1-az1"),
        ("eu-central-1", "euc1-az1"),
        ("ap-southeast-2", "apse2-az1"),
        ("us-gov-west-1", "usgw1-az1"),
    ],
)
def test_zones_have_the_ids_of_their_region(tmp_path: Path, region: str, zone: str):
    network = Network(Site(tmp_path, "http://127.0.0.1:1", region, ACCOUNT))
    assert network.zones[0].zone_id == zone
    assert len(network.subnets) == len(network.zones) >= 2


def test_a_group_begins_with_all_traffic_out_and_none_in(api: Api):
    made = api.create_security_group(
        GroupName="g", Description="d", TagSpecifications=[tagged("security-group", a="b")]
    )
    (group,) = api.describe_security_groups(GroupIds=[made["GroupId"]])["SecurityGroups"]
    assert group["IpPermissions"] == []
    (egress,) = group["IpPermissionsEgress"]
    assert (egress["IpProtocol"], egress["IpRanges"]) == ("-1", ANYWHERE)
    assert group["Tags"] == [{"Key": "a", "Value": "b"}]
    assert refused(api.create_security_group, GroupName="g", Description="d")[0] == "InvalidGroup.Duplicate"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"GroupName": "sg-x"}, "InvalidParameterValue"),
        ({"GroupName": "ä"}, "InvalidParameterValue"),
        ({"GroupName": "x" * 256}, "InvalidParameterValue"),
        ({"Description": "ä"}, "InvalidParameterValue"),
        ({"Description": ""}, "MissingParameter"),
        ({"VpcId": "vpc-1"}, "InvalidVpcID.NotFound"),
    ],
)
def test_a_group_that_cannot_be_is_refused(api: Api, params: dict[str, str], code: str):
    assert refused(api.create_security_group, **{"GroupName": "g", "Description": "d"} | params)[0] == code


def test_rules_are_added_shown_and_removed(api: Api):
    group = api.create_security_group(GroupName="g", Description="d")["GroupId"]
    other = api.create_security_group(GroupName="h", Description="d")["GroupId"]
    wanted = https(IpRanges=[{"CidrIp": "10.1.2.3/8"}], UserIdGroupPairs=[{"GroupId": other}])
    made = api.authorize_security_group_ingress(GroupId=group, IpPermissions=wanted)["SecurityGroupRules"]
    assert {each.get("CidrIpv4") for each in made} == {"10.0.0.0/8", None}
    assert refused(api.authorize_security_group_ingress, GroupId=group, IpPermissions=wanted)[0] == (
        "InvalidPermission.Duplicate"
    )
    (shown,) = api.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]
    assert shown["UserIdGroupPairs"] == [{"UserId": ACCOUNT, "GroupId": other}]
    mine = [{"Name": "group-id", "Values": [group]}]
    assert len(api.describe_security_group_rules(Filters=mine)["SecurityGroupRules"]) == 3
    assert refused(api.delete_security_group, GroupId=other)[0] == "DependencyViolation"
    api.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=[made[0]["SecurityGroupRuleId"]])
    api.revoke_security_group_ingress(GroupId=group, IpPermissions=https(UserIdGroupPairs=[{"GroupId": other}]))
    assert api.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"] == []
    assert refused(api.revoke_security_group_ingress, GroupId=group, IpPermissions=https())[0] == (
        "InvalidPermission.NotFound"
    )
    api.delete_security_group(GroupName="h")
    everything = [{"IpProtocol": "-1", "IpRanges": ANYWHERE}]
    api.revoke_security_group_egress(GroupId=group, IpPermissions=everything)
    api.authorize_security_group_egress(GroupId=group, IpPermissions=https())
    (egress,) = api.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissionsEgress"]
    assert (egress["FromPort"], egress["ToPort"]) == (443, 443)


@pytest.mark.parametrize(
    "permission",
    [
        {"IpProtocol": "tcp", "FromPort": 2, "ToPort": 1, "IpRanges": ANYWHERE},
        {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 65536, "IpRanges": ANYWHERE},
        {"IpProtocol": "tcp", "IpRanges": ANYWHERE},
        {"IpProtocol": "sctp", "FromPort": 1, "ToPort": 1, "IpRanges": ANYWHERE},
        {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "IpRanges": [{"CidrIp": "10.0.0.1"}]},
        {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "IpRanges": [{"CidrIp": "::/0"}]},
        {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1},
    ],
)
def test_a_rule_that_cannot_be_is_refused_and_none_of_its_call_is_made(api: Api, permission: dict[str, Any]):
    group = api.create_security_group(GroupName="g", Description="d")["GroupId"]
    good = https()[0]
    code, _ = refused(api.authorize_security_group_ingress, GroupId=group, IpPermissions=[good, permission])
    assert code == "InvalidParameterValue"
    assert api.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"] == []


def test_a_group_in_use_cannot_be_deleted_until_the_instance_is_gone(api: Api):
    group = api.create_security_group(GroupName="g", Description="d")["GroupId"]
    instance = api.started(SecurityGroupIds=[group])
    assert refused(api.delete_security_group, GroupId=group)[0] == "DependencyViolation"
    api.terminate_instances(InstanceIds=[instance])
    api.becomes(instance, "terminated")
    api.delete_security_group(GroupId=group)
    assert refused(api.delete_security_group, GroupId=group)[0] == "InvalidGroup.NotFound"
    assert refused(api.delete_security_group, GroupName="default")[0] == "CannotDelete"
    assert "SecurityGroups" in api.instance(instance)


def test_tags_are_put_on_changed_listed_and_taken_off(api: Api):
    instance = api.started(TagSpecifications=[tagged("instance", Name="a")])
    subnet = api.describe_subnets()["Subnets"][0]["SubnetId"]
    api.create_tags(Resources=[instance, subnet], Tags=[{"Key": "Name", "Value": "b"}, {"Key": "x", "Value": ""}])
    api.open()  # they are written down
    listed = api.describe_tags(Filters=[{"Name": "resource-id", "Values": [instance]}])["Tags"]
    assert {(each["Key"], each["Value"], each["ResourceType"]) for each in listed} == {
        ("Name", "b", "instance"),
        ("x", "", "instance"),
    }
    api.delete_tags(Resources=[instance], Tags=[{"Key": "Name", "Value": "other"}, {"Key": "x"}])
    assert api.instance(instance)["Tags"] == [{"Key": "Name", "Value": "b"}]
    api.delete_tags(Resources=[instance])
    assert "Tags" not in api.instance(instance)


@pytest.mark.parametrize(
    ("resource", "code"),
    [
        ("i-0123456789abcdef0", "InvalidInstanceID.NotFound"),
        ("vol-1", "InvalidVolume.NotFound"),
        ("sg-1", "InvalidGroup.NotFound"),
        ("subnet-1", "InvalidSubnetID.NotFound"),
        ("vpc-1", "InvalidVpcID.NotFound"),
        ("ami-0c2023a1b2c3d4e5f", "AuthFailure"),
        ("something", "InvalidID"),
    ],
)
def test_what_is_not_there_gets_no_tags(api: Api, resource: str, code: str):
    instance = api.started()
    assert refused(api.create_tags, Resources=[instance, resource], Tags=[{"Key": "a", "Value": "b"}])[0] == code
    assert "Tags" not in api.instance(instance)


def test_filters_are_any_of_their_values_and_all_of_them_together(api: Api):
    first = api.started(TagSpecifications=[tagged("instance", stack="s1", unit="d/1")])
    second = api.started(TagSpecifications=[tagged("instance", stack="s1", unit="d/2")])
    third = api.started(TagSpecifications=[tagged("instance", stack="s[2]")], InstanceType="t2.micro")

    def found(**filters: list[str]) -> set[str]:
        wanted = [{"Name": name.replace("__", ":").replace("_", "-"), "Values": v} for name, v in filters.items()]
        pages = api.get_paginator("describe_instances").paginate(Filters=wanted)
        return {each["InstanceId"] for page in pages for r in page["Reservations"] for each in r["Instances"]}

    assert found(tag__stack=["s1"]) == {first, second}
    assert found(tag__stack=["s1"], tag__unit=["d/2", "d/3"]) == {second}
    assert found(tag__stack=["s*"]) == {first, second, third}
    assert found(tag__stack=["s[2]"]) == {third}
    assert found(tag__stack=["s\\*"]) == set()
    assert found(tag__unit=["d/?"]) == {first, second}
    assert found(tag_key=["unit"]) == {first, second}
    assert found(instance_type=["t2.micro"], instance_state_name=["running", "pending"]) == {third}
    assert found(instance_state_name=["terminated"]) == set()
    (reservation,) = api.describe_instances(InstanceIds=[third])["Reservations"]
    assert found(reservation_id=[reservation["ReservationId"]]) == {third}


def test_a_filter_that_is_not_there_is_refused_even_when_nothing_is(api: Api):
    wanted = [{"Name": "instance-state", "Values": ["running"]}]
    code, message = refused(api.describe_instances, Filters=wanted)
    assert code == "InvalidParameterValue"
    assert "The filter 'instance-state' is invalid" in message
    for operation in ("vpcs", "subnets", "security_groups", "images", "volumes", "tags", "availability_zones"):
        assert refused(getattr(api, f"describe_{operation}"), Filters=wanted)[0] == "InvalidParameterValue"


def test_pages_follow_one_another(api: Api):
    ids = api.run(MinCount=12, MaxCount=12)
    pages = api.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5})
    found = [[each["InstanceId"] for r in page["Reservations"] for each in r["Instances"]] for page in pages]
    assert found == [ids[:5], ids[5:10], ids[10:]]
    assert refused(api.describe_instances, MaxResults=4)[0] == "InvalidParameterValue"
    assert refused(api.describe_instances, MaxResults=5, InstanceIds=ids)[0] == "InvalidParameterCombination"
    assert refused(api.describe_instances, MaxResults=5, NextToken="x")[0] == "InvalidNextToken"


@pytest.mark.parametrize(
    ("instance", "code"),
    [
        ("i-0123456789abcdef0", "InvalidInstanceID.NotFound"),
        ("i-xyz", "InvalidInstanceID.Malformed"),
        ("vol-0123456789abcdef0", "InvalidInstanceID.Malformed"),
    ],
)
def test_an_instance_that_is_not_there_is_named(api: Api, instance: str, code: str):
    for call in (api.describe_instances, api.terminate_instances, api.describe_instance_status):
        found = refused(call, InstanceIds=[instance])
        assert found[0] == code
        assert instance in found[1]
    assert refused(api.get_console_output, InstanceId=instance)[0] == code

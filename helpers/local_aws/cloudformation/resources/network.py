"""EC2 security groups."""

from collections.abc import Mapping
from typing import Any, ClassVar

from helpers.local_aws.cloudformation.resources.base import (
    Calls,
    Made,
    Properties,
    ResourceType,
    listed,
    pairs,
    tag_changes,
)
from helpers.local_aws.cloudformation.schema import TAGS, TEXT, WHOLE

_GONE = ("InvalidGroup.NotFound",)
_SOURCES = {"CidrIp": TEXT, "CidrIpv6": TEXT, "Description": TEXT, "FromPort": WHOLE, "ToPort": WHOLE,
            "IpProtocol": TEXT}  # fmt: skip
# What a group lets out when its template says nothing of it.
_EVERYTHING = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]


class SecurityGroup(ResourceType):
    """AWS::EC2::SecurityGroup."""

    type = "AWS::EC2::SecurityGroup"
    properties: ClassVar = {
        "GroupDescription": TEXT,
        "GroupName": TEXT,
        "VpcId": TEXT,
        "SecurityGroupIngress": [{**_SOURCES, "SourceSecurityGroupId": TEXT}],
        "SecurityGroupEgress": [{**_SOURCES, "DestinationSecurityGroupId": TEXT}],
        "Tags": TAGS,
    }
    required = ("GroupDescription",)
    replaced = frozenset({"GroupDescription", "GroupName", "VpcId"})
    attributes = frozenset({"GroupId", "Id", "VpcId"})
    name, name_limit, tags = "GroupName", 255, "list"

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Make the group and its rules; the physical id is the group's id."""
        request: dict[str, Any] = {"VpcId": wanted["VpcId"]} if "VpcId" in wanted else {}
        if pairs(wanted):
            request["TagSpecifications"] = [{"ResourceType": "security-group", "Tags": listed(pairs(wanted))}]
        made = call("ec2", "create_security_group", GroupName=name, Description=wanted["GroupDescription"], **request)
        group = made["GroupId"]
        call.exists(group)
        self._rules(call, group, {}, wanted)
        found = call("ec2", "describe_security_groups", GroupIds=[group])["SecurityGroups"][0]
        return Made(group, {"GroupId": group, "Id": group, "VpcId": found.get("VpcId", "")})

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Change rules and tags."""
        self._rules(call, physical, old, new)
        tags, removed = tag_changes(old, new)
        if tags:
            call("ec2", "create_tags", Resources=[physical], Tags=listed(tags))
        if removed:
            call("ec2", "delete_tags", Resources=[physical], Tags=[{"Key": key} for key in removed])
        return {}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Delete the group, which nothing may use any more."""
        call.tolerant(_GONE, "ec2", "delete_security_group", GroupId=physical)

    def _rules(self, call: Calls, group: str, old: Properties, new: Properties) -> None:
        for direction in ("ingress", "egress"):
            name = f"SecurityGroup{direction.capitalize()}"
            otherwise = _EVERYTHING if direction == "egress" else []
            before = [_permission(rule) for rule in old.get(name, [])] or otherwise
            after = [_permission(rule) for rule in new.get(name, [])] or otherwise
            added = [rule for rule in after if rule not in before]
            gone = [rule for rule in before if rule not in after]
            # Two rules that differ in their description only are one to EC2: the old one has to go first.
            twins = [rule for rule in gone if _undescribed(rule) in map(_undescribed, added)]
            for action, rules in (
                ("revoke", twins),
                ("authorize", added),
                ("revoke", [rule for rule in gone if rule not in twins]),
            ):
                if rules:
                    call("ec2", f"{action}_security_group_{direction}", GroupId=group, IpPermissions=rules)


def _permission(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return EC2's form of a rule."""
    about = {"Description": rule["Description"]} if "Description" in rule else {}
    found: dict[str, Any] = {"IpProtocol": rule["IpProtocol"]}
    found |= {name: rule[name] for name in ("FromPort", "ToPort") if name in rule}
    if "CidrIp" in rule:
        found["IpRanges"] = [{"CidrIp": rule["CidrIp"], **about}]
    if "CidrIpv6" in rule:
        found["Ipv6Ranges"] = [{"CidrIpv6": rule["CidrIpv6"], **about}]
    other = rule.get("SourceSecurityGroupId") or rule.get("DestinationSecurityGroupId")
    if other:
        found["UserIdGroupPairs"] = [{"GroupId": other, **about}]
    return found


def _undescribed(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return EC2's form of a rule without its description."""
    return {
        name: [{key: text for key, text in each.items() if key != "Description"} for each in value]
        if isinstance(value, list)
        else value
        for name, value in rule.items()
    }


TYPES = (SecurityGroup(),)

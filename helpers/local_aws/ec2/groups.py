"""Security groups and their rules.

They are records: an instance reaches nothing but the embedded AWS and nothing
reaches it, whatever the rules say.
"""

import ipaddress
import re
from collections.abc import Sequence
from typing import Any

from helpers.local_aws.ec2.query import invalid
from helpers.local_aws.ec2.store import Group, Rule, Store, new_id, open_egress
from helpers.local_aws.wire import AwsError, Params

_NAME = re.compile(r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}")
_PROTOCOLS = {"6": "tcp", "17": "udp", "1": "icmp", "58": "icmpv6"}
_MOST_RULES = 60


def find(store: Store, params: Params) -> Group:
    """Return the group that GroupId, or GroupName in the default VPC, names. Raises AwsError."""
    if params.get("GroupId"):
        return store.group(params["GroupId"])
    if not params.get("GroupName"):
        raise AwsError("MissingParameter", "The request must contain the parameter groupName or groupId")
    return named(store, [params["GroupName"]])[0]


def named(store: Store, names: Sequence[str]) -> list[Group]:
    """Return groups by name. Raises InvalidGroup.NotFound."""
    known = {group.name: group for group in store.groups.values()}
    for name in names:
        if name not in known:
            raise AwsError("InvalidGroup.NotFound", f"The security group '{name}' does not exist in default VPC")
    return [known[name] for name in names]


def create(store: Store, params: Params) -> Group:
    """Make a group with the rule that every group has. Raises InvalidGroup.Duplicate and others."""
    name, description = params["GroupName"], params["GroupDescription"]
    store.network.require_vpc(params.get("VpcId") or store.network.vpc_id)
    if not _NAME.fullmatch(name):
        raise invalid(
            f"Value ({name:.300}) for parameter GroupName is invalid. Character sets beyond ASCII are not supported."
        )
    if name.startswith("sg-"):
        raise invalid(f"Value ({name}) for parameter GroupName is invalid. Group names may not begin with 'sg-'.")
    if not _NAME.fullmatch(description):
        raise invalid(
            f"Value ({description:.300}) for parameter GroupDescription is invalid. "
            "Character sets beyond ASCII are not supported."
        )
    if any(group.name == name for group in store.groups.values()):
        raise AwsError(
            "InvalidGroup.Duplicate", f"The security group '{name}' already exists for VPC '{store.network.vpc_id}'"
        )
    group = Group(new_id("sg"), name, description, [open_egress()])
    store.groups[group.group_id] = group
    return group


def delete(store: Store, group: Group) -> None:
    """Remove a group. Raises CannotDelete for the default one, DependencyViolation for one in use."""
    group_id = group.group_id
    if group_id == store.network.default_group_id:
        raise AwsError("CannotDelete", f'the specified group: "{group_id}" name: "default" cannot be deleted by a user')
    used = any(group_id in instance.groups and instance.holds for instance in store.instances.values())
    others = [other for other in store.groups.values() if other is not group]
    if used or any(rule.kind == "group" and rule.source == group_id for other in others for rule in other.rules):
        raise AwsError("DependencyViolation", f"resource {group_id} has a dependent object")
    del store.groups[group_id]
    store.tags.pop(group_id, None)


def authorize(store: Store, group: Group, params: Params, *, egress: bool) -> list[Rule]:
    """Add rules: all, or none. Raises InvalidPermission.Duplicate and others."""
    rules = read_rules(store, params, egress=egress)
    known = {rule.same() for rule in group.rules}
    for rule in rules:
        if rule.same() in known:
            raise AwsError(
                "InvalidPermission.Duplicate",
                f'the specified rule "peer: {rule.source}, {_shown(rule)}" already exists',
            )
        known.add(rule.same())
    if len(group.rules) + len(rules) > _MOST_RULES:
        raise AwsError("RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group is 60.")
    group.rules += rules
    return rules


def revoke(store: Store, group: Group, params: Params, *, egress: bool) -> list[Rule]:
    """Remove rules: all, or none. Raises InvalidPermission.NotFound and InvalidSecurityGroupRuleId.NotFound."""
    gone: list[Rule] = []
    for rule_id in params.get("SecurityGroupRuleId", []):
        found = [rule for rule in group.rules if rule.rule_id == rule_id and rule.egress == egress]
        if not found:
            raise AwsError(
                "InvalidSecurityGroupRuleId.NotFound", f"The security group rule ID '{rule_id}' does not exist"
            )
        gone += found
    by_value = {rule.same(): rule for rule in group.rules}
    if not gone:
        for wanted in read_rules(store, params, egress=egress):
            if wanted.same() not in by_value:
                raise AwsError(
                    "InvalidPermission.NotFound", "The specified rule does not exist in this security group."
                )
            gone.append(by_value[wanted.same()])
    group.rules = [rule for rule in group.rules if rule not in gone]
    return gone


def read_rules(store: Store, params: Params, *, egress: bool) -> list[Rule]:
    """Return the rules that a request names. Raises AwsError."""
    permissions: list[dict[str, Any]] = list(params.get("IpPermissions", []))
    if params.get("CidrIp"):
        simple: dict[str, Any] = {key: params[key] for key in ("IpProtocol", "FromPort", "ToPort") if key in params}
        permissions.append({**simple, "IpRanges": [{"CidrIp": params["CidrIp"]}]})
    rules: list[Rule] = []
    for permission in permissions:
        protocol, first, last = _ports(permission)
        sources = [
            *(("cidr", _block(each.get("CidrIp", ""), 4), each) for each in permission.get("IpRanges", [])),
            *(("cidr6", _block(each.get("CidrIpv6", ""), 6), each) for each in permission.get("Ipv6Ranges", [])),
            *(("group", store.group(each.get("GroupId", "")).group_id, each) for each in permission.get("Groups", [])),
        ]
        if not sources:
            raise invalid("Invalid value 'null' for the source or destination of a rule.")
        rules += [
            Rule(new_id("sgr"), egress, protocol, first, last, kind, source, each.get("Description", ""))
            for kind, source, each in sources
        ]
    if not rules:
        raise AwsError("MissingParameter", "The request must contain the parameter ipPermissions")
    return rules


def _ports(permission: Params) -> tuple[str, int, int]:
    asked = str(permission.get("IpProtocol", ""))
    protocol = _PROTOCOLS.get(asked, asked)
    if protocol == "-1":
        return protocol, -1, -1
    if protocol not in _PROTOCOLS.values():
        raise invalid(f"Invalid value '{protocol:.50}' for IP protocol. Unknown protocol.")
    first, last = permission.get("FromPort"), permission.get("ToPort")
    if first is None or last is None:
        raise invalid(f"Invalid value 'Must specify both from and to ports with {protocol.upper()}.' for portRange.")
    lowest, highest = (-1, 255) if protocol.startswith("icmp") else (0, 65535)
    if not (lowest <= first <= highest and lowest <= last <= highest):
        raise invalid(f"Invalid value '{first}-{last}' for portRange.")
    if first > last and lowest == 0:
        raise invalid(f"Invalid TCP/UDP port range ({first}:{last})")
    return protocol, first, last


def _block(value: str, version: int) -> str:
    try:
        block = ipaddress.ip_network(value, strict=False)
    except ValueError:
        block = None
    if block is None or block.version != version or "/" not in value:
        raise invalid(f"CIDR block {value:.100} is malformed")
    return str(block)


def _shown(rule: Rule) -> str:
    ports = (
        "ALL" if rule.protocol == "-1" else f"{rule.protocol.upper()}, from port: {rule.first}, to port: {rule.last}"
    )
    return f"{ports}, ALLOW"

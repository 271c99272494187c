"""How EC2 shows what it remembers: the members of its answers, as they are named on the wire."""

from collections.abc import Mapping, Sequence
from typing import Any

from helpers.local_aws.ec2 import catalog
from helpers.local_aws.ec2.documents import private_name
from helpers.local_aws.ec2.network import VPC_BLOCK, Subnet, Zone
from helpers.local_aws.ec2.query import moment
from helpers.local_aws.ec2.store import STATES, Group, Instance, Rule, Store
from helpers.local_aws.wire import Site

View = dict[str, Any]


def tag_set(tags: Mapping[str, str]) -> list[View]:
    """Show tags."""
    return [{"key": key, "value": value} for key, value in tags.items()]


def state(name: str) -> View:
    """Show the state of an instance."""
    return {"code": STATES[name], "name": name}


class Views:
    """The resources of one site."""

    def __init__(self, site: Site, store: Store) -> None:
        self._site, self._store = site, store

    def reservation(self, instances: Sequence[Instance]) -> View:
        """Show instances that were launched together."""
        return {
            "reservationId": instances[0].reservation_id,
            "ownerId": self._site.account_id,
            "groupSet": [],
            "instancesSet": [self.instance(each) for each in instances],
        }

    def instance(self, each: Instance) -> View:
        """Show an instance. One that is terminated has no network and no volume."""
        image, held = catalog.IMAGES[each.image_id], each.holds
        place = {"availabilityZone": each.zone, "groupName": "", "tenancy": "default"}
        options = each.options
        name = private_name(self._site, each) if held else ""
        return {
            "instanceId": each.instance_id,
            "imageId": each.image_id,
            "instanceState": state(each.state),
            "privateDnsName": name,
            "dnsName": self._public_name(each) if held else "",
            "reason": each.transition,
            "amiLaunchIndex": each.number,
            "productCodes": [],
            "instanceType": each.instance_type,
            "launchTime": moment(each.launched),
            "placement": place,
            "monitoring": {"state": "disabled"},
            "subnetId": each.subnet_id if held else None,
            "vpcId": self._store.network.vpc_id if held else None,
            "privateIpAddress": each.private_ip if held else None,
            "ipAddress": (each.public_ip or None) if held else None,
            "sourceDestCheck": True if held else None,
            "groupSet": self._groups(each) if held else [],
            "stateReason": {"code": each.reason[0], "message": each.reason[1]} if each.reason[0] else None,
            "architecture": "x86_64",
            "rootDeviceType": "ebs",
            "rootDeviceName": catalog.ROOT_DEVICE,
            "blockDeviceMapping": [self._mapping(each)] if held else [],
            "virtualizationType": "hvm",
            "clientToken": each.token,
            "tagSet": tag_set(self._store.tags_of(each.instance_id)) or None,
            "hypervisor": "xen",
            "networkInterfaceSet": [self._interface(each)] if held else [],
            "iamInstanceProfile": {"arn": each.profile_arn, "id": each.profile_id} if each.profile_arn else None,
            "ebsOptimized": False,
            "enaSupport": True,
            "metadataOptions": {
                "state": "pending" if each.state == "pending" else "applied",
                "httpTokens": options["HttpTokens"],
                "httpPutResponseHopLimit": options["HttpPutResponseHopLimit"],
                "httpEndpoint": "enabled",
                "httpProtocolIpv6": "disabled",
                "instanceMetadataTags": options["InstanceMetadataTags"],
            },
            "platformDetails": "Linux/UNIX",
            "usageOperation": "RunInstances",
            "bootMode": "uefi-preferred" if image.tokens == "required" else None,
        }

    def status(self, each: Instance) -> View:
        """Show whether an instance is well. One that runs is: nothing is behind it that could be ill."""
        running = each.state == "running"
        passed = {"name": "reachability", "status": "passed"}
        health = {"status": "ok", "details": [passed]} if running else {"status": "not-applicable"}
        return {
            "instanceId": each.instance_id,
            "availabilityZone": each.zone,
            "instanceState": state(each.state),
            "systemStatus": health,
            "instanceStatus": health,
        }

    def volume(self, each: Instance) -> View:
        """Show the root volume of an instance."""
        volume = each.volume
        return {
            "volumeId": volume.volume_id,
            "size": volume.size,
            "snapshotId": catalog.IMAGES[each.image_id].snapshot_id,
            "availabilityZone": each.zone,
            "status": "in-use",
            "createTime": moment(each.launched),
            "attachmentSet": [
                {
                    "volumeId": volume.volume_id,
                    "instanceId": each.instance_id,
                    "device": catalog.ROOT_DEVICE,
                    "status": "attached",
                    "attachTime": moment(each.launched),
                    "deleteOnTermination": True,
                }
            ],
            "tagSet": tag_set(self._store.tags_of(volume.volume_id)) or None,
            "volumeType": volume.kind,
            "iops": volume.iops,
            "throughput": volume.throughput or None,
            "encrypted": volume.encrypted,
            "multiAttachEnabled": False,
        }

    def vpc(self) -> View:
        """Show the default VPC."""
        network = self._store.network
        association = {
            "associationId": network.vpc_id.replace("vpc-", "vpc-cidr-assoc-"),
            "cidrBlock": VPC_BLOCK,
            "cidrBlockState": {"state": "associated"},
        }
        return {
            "vpcId": network.vpc_id,
            "ownerId": self._site.account_id,
            "state": "available",
            "cidrBlock": VPC_BLOCK,
            "cidrBlockAssociationSet": [association],
            "dhcpOptionsId": network.dhcp_options_id,
            "tagSet": tag_set(self._store.tags_of(network.vpc_id)) or None,
            "instanceTenancy": "default",
            "isDefault": True,
        }

    def subnet(self, subnet: Subnet) -> View:
        """Show a default subnet."""
        used = sum(each.holds and each.subnet_id == subnet.subnet_id for each in self._store.instances.values())
        return {
            "subnetId": subnet.subnet_id,
            "subnetArn": self._site.arn("ec2", f"subnet/{subnet.subnet_id}"),
            "state": "available",
            "ownerId": self._site.account_id,
            "vpcId": self._store.network.vpc_id,
            "cidrBlock": str(subnet.block),
            "availableIpAddressCount": len(subnet.addresses()) - used,
            "availabilityZone": subnet.zone.name,
            "availabilityZoneId": subnet.zone.zone_id,
            "defaultForAz": True,
            "mapPublicIpOnLaunch": True,
            "assignIpv6AddressOnCreation": False,
            "ipv6CidrBlockAssociationSet": [],
            "tagSet": tag_set(self._store.tags_of(subnet.subnet_id)) or None,
        }

    def zone(self, zone: Zone) -> View:
        """Show an availability zone."""
        return {
            "zoneName": zone.name,
            "zoneId": zone.zone_id,
            "zoneState": "available",
            "zoneType": "availability-zone",
            "regionName": self._site.region,
            "groupName": f"{self._site.region}-zg-1",
            "networkBorderGroup": self._site.region,
            "optInStatus": "opt-in-not-required",
            "messageSet": [],
        }

    def group(self, group: Group) -> View:
        """Show a security group."""
        return {
            "ownerId": self._site.account_id,
            "groupId": group.group_id,
            "groupName": group.name,
            "groupDescription": group.description,
            "vpcId": self._store.network.vpc_id,
            "securityGroupArn": self._site.arn("ec2", f"security-group/{group.group_id}"),
            "ipPermissions": self._permissions([rule for rule in group.rules if not rule.egress]),
            "ipPermissionsEgress": self._permissions([rule for rule in group.rules if rule.egress]),
            "tagSet": tag_set(self._store.tags_of(group.group_id)) or None,
        }

    def rule(self, group: Group, rule: Rule) -> View:
        """Show one rule of a group."""
        referenced = {"groupId": rule.source, "userId": self._site.account_id} if rule.kind == "group" else None
        return {
            "securityGroupRuleId": rule.rule_id,
            "securityGroupRuleArn": self._site.arn("ec2", f"security-group-rule/{rule.rule_id}"),
            "groupId": group.group_id,
            "groupOwnerId": self._site.account_id,
            "isEgress": rule.egress,
            "ipProtocol": rule.protocol,
            "fromPort": rule.first,
            "toPort": rule.last,
            "cidrIpv4": rule.source if rule.kind == "cidr" else None,
            "cidrIpv6": rule.source if rule.kind == "cidr6" else None,
            "referencedGroupInfo": referenced,
            "description": rule.description or None,
        }

    def revoked(self, group: Group, rule: Rule) -> View:
        """Show a rule that was removed."""
        shown = self.rule(group, rule)
        for name in ("securityGroupRuleArn", "groupOwnerId", "referencedGroupInfo"):
            del shown[name]
        return shown | {"referencedGroupId": rule.source if rule.kind == "group" else None}

    def image(self, image: catalog.Image) -> View:
        """Show an image."""
        return {
            "imageId": image.image_id,
            "imageLocation": f"amazon/{image.name}",
            "imageState": "available",
            "imageOwnerId": catalog.AMAZON,
            "imageOwnerAlias": "amazon",
            "creationDate": image.created,
            "isPublic": True,
            "architecture": "x86_64",
            "imageType": "machine",
            "name": image.name,
            "description": image.description,
            "rootDeviceType": "ebs",
            "rootDeviceName": catalog.ROOT_DEVICE,
            "virtualizationType": "hvm",
            "hypervisor": "xen",
            "enaSupport": True,
            "platformDetails": "Linux/UNIX",
            "usageOperation": "RunInstances",
            "imdsSupport": "v2.0" if image.tokens == "required" else None,
            "blockDeviceMapping": [
                {
                    "deviceName": catalog.ROOT_DEVICE,
                    "ebs": {
                        "snapshotId": image.snapshot_id,
                        "volumeSize": catalog.SMALLEST_VOLUME,
                        "volumeType": image.volume_type,
                        "deleteOnTermination": True,
                        "encrypted": False,
                    },
                }
            ],
        }

    def instance_type(self, kind: catalog.InstanceType) -> View:
        """Show an instance type."""
        return {
            "instanceType": kind.name,
            "currentGeneration": True,
            "freeTierEligible": kind.name in ("t2.micro", "t3.micro"),
            "supportedUsageClasses": ["on-demand"],
            "supportedRootDeviceTypes": ["ebs"],
            "bareMetal": False,
            "hypervisor": "xen" if kind.family == "t2" else "nitro",
            "processorInfo": {"supportedArchitectures": ["x86_64"]},
            "vCpuInfo": {"defaultVCpus": kind.vcpus},
            "memoryInfo": {"sizeInMiB": kind.memory},
            "burstablePerformanceSupported": kind.family.startswith("t"),
        }

    def _public_name(self, each: Instance) -> str:
        zone = "compute-1" if self._site.region == "us-east-1" else f"{self._site.region}.compute"
        return f"ec2-{each.public_ip.replace('.', '-')}.{zone}.amazonaws.com" if each.public_ip else ""

    def _groups(self, each: Instance) -> list[View]:
        return [{"groupId": group, "groupName": self._store.groups[group].name} for group in each.groups]

    def _mapping(self, each: Instance) -> View:
        volume = {
            "volumeId": each.volume.volume_id,
            "status": "attached",
            "attachTime": moment(each.launched),
            "deleteOnTermination": True,
        }
        return {"deviceName": catalog.ROOT_DEVICE, "ebs": volume}

    def _interface(self, each: Instance) -> View:
        name = private_name(self._site, each)
        association = {
            "publicIp": each.public_ip,
            "publicDnsName": self._public_name(each),
            "ipOwnerId": "amazon",
        }
        public = association if each.public_ip else None
        return {
            "networkInterfaceId": each.interface_id,
            "subnetId": each.subnet_id,
            "vpcId": self._store.network.vpc_id,
            "description": "",
            "ownerId": self._site.account_id,
            "status": "in-use",
            "macAddress": each.mac,
            "privateIpAddress": each.private_ip,
            "privateDnsName": name,
            "sourceDestCheck": True,
            "groupSet": self._groups(each),
            "attachment": {
                "attachmentId": each.interface_id.replace("eni-", "eni-attach-"),
                "deviceIndex": 0,
                "status": "attached",
                "attachTime": moment(each.launched),
                "deleteOnTermination": True,
            },
            "association": public,
            "privateIpAddressesSet": [
                {
                    "privateIpAddress": each.private_ip,
                    "privateDnsName": name,
                    "primary": True,
                    "association": public,
                }
            ],
            "interfaceType": "interface",
        }

    def _permissions(self, rules: Sequence[Rule]) -> list[View]:
        """Show rules as permissions: one for each protocol and range of ports."""
        found: dict[tuple[str, int, int], View] = {}
        for rule in rules:
            every = rule.protocol == "-1"
            permission = found.setdefault(
                (rule.protocol, rule.first, rule.last),
                {
                    "ipProtocol": rule.protocol,
                    "fromPort": None if every else rule.first,
                    "toPort": None if every else rule.last,
                    "groups": [],
                    "ipRanges": [],
                    "ipv6Ranges": [],
                    "prefixListIds": [],
                },
            )
            description = rule.description or None
            if rule.kind == "cidr":
                permission["ipRanges"].append({"cidrIp": rule.source, "description": description})
            elif rule.kind == "cidr6":
                permission["ipv6Ranges"].append({"cidrIpv6": rule.source, "description": description})
            else:
                source = {"userId": self._site.account_id, "groupId": rule.source, "description": description}
                permission["groups"].append(source)
        return list(found.values())

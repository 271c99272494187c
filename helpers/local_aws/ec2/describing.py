"""EC2's Describe operations: by id, by filter, in pages."""

from collections.abc import Mapping, Sequence
from typing import Any

from helpers.local_aws.ec2 import catalog, groups, tags
from helpers.local_aws.ec2.filters import Known, page, select
from helpers.local_aws.ec2.instances import association_id
from helpers.local_aws.ec2.query import moment
from helpers.local_aws.ec2.store import STATES, Group, Instance, Rule, Store
from helpers.local_aws.ec2.views import Views
from helpers.local_aws.wire import AwsError, Params, Site

_INSTANCE: Known = {
    "availability-zone": lambda each: each.zone,
    "client-token": lambda each: each.token,
    "iam-instance-profile.arn": lambda each: each.profile_arn,
    "image-id": lambda each: each.image_id,
    "instance-id": lambda each: each.instance_id,
    "instance-state-code": lambda each: str(STATES[each.state]),
    "instance-state-name": lambda each: each.state,
    "instance-type": lambda each: each.instance_type,
    "instance.group-id": lambda each: each.groups if each.holds else [],
    "private-ip-address": lambda each: each.private_ip if each.holds else [],
    "reservation-id": lambda each: each.reservation_id,
    "subnet-id": lambda each: each.subnet_id if each.holds else [],
}
_VOLUME: Known = {
    "attachment.device": lambda each: catalog.ROOT_DEVICE,
    "attachment.instance-id": lambda each: each.instance_id,
    "attachment.status": lambda each: "attached",
    "availability-zone": lambda each: each.zone,
    "encrypted": lambda each: str(each.volume.encrypted).lower(),
    "size": lambda each: str(each.volume.size),
    "status": lambda each: "in-use",
    "volume-id": lambda each: each.volume.volume_id,
    "volume-type": lambda each: each.volume.kind,
}
_ASSOCIATION: Known = {"instance-id": lambda each: each.instance_id, "state": lambda each: "associated"}
_TAG: Known = {
    "key": lambda each: each["key"],
    "resource-id": lambda each: each["resourceId"],
    "resource-type": lambda each: each["resourceType"],
    "value": lambda each: each["value"],
}
_IMAGE: Known = {
    "architecture": lambda each: "x86_64",
    "image-id": lambda each: each.image_id,
    "image-type": lambda each: "machine",
    "is-public": lambda each: "true",
    "name": lambda each: each.name,
    "owner-alias": lambda each: "amazon",
    "owner-id": lambda each: catalog.AMAZON,
    "root-device-name": lambda each: catalog.ROOT_DEVICE,
    "root-device-type": lambda each: "ebs",
    "state": lambda each: "available",
    "virtualization-type": lambda each: "hvm",
}
_TYPE: Known = {
    "instance-type": lambda each: each.name,
    "memory-info.size-in-mib": lambda each: str(each.memory),
    "processor-info.supported-architecture": lambda each: "x86_64",
    "vcpu-info.default-vcpus": lambda each: str(each.vcpus),
}
_OFFERING: Known = {"instance-type": lambda each: each["instanceType"], "location": lambda each: each["location"]}
_ZONE: Known = {
    "state": lambda each: "available",
    "zone-id": lambda each: each.zone_id,
    "zone-name": lambda each: each.name,
    "zone-type": lambda each: "availability-zone",
}
_RULE: Known = {
    "group-id": lambda each: each[0].group_id,
    "security-group-rule-id": lambda each: each[1].rule_id,
}


def _no_tags(item: object) -> Mapping[str, str]:
    return {}


class Descriptions:
    """Answer what asks and changes nothing. Call under the store's lock."""

    def __init__(self, site: Site, store: Store) -> None:
        self._site, self._store = site, store
        self.views = Views(site, store)

    def describe_instances(self, params: Params) -> Params:
        """List instances, those terminated in the last hour too."""
        known = {**_INSTANCE, "vpc-id": lambda each: self._store.network.vpc_id if each.holds else []}
        found, token = page(self._instances(params, known), params, "InstanceId")
        reservations: dict[str, list[Instance]] = {}
        for each in found:
            reservations.setdefault(each.reservation_id, []).append(each)
        shown = [self.views.reservation(each) for each in reservations.values()]
        return {"reservationSet": shown, "nextToken": token}

    def describe_instance_status(self, params: Params) -> Params:
        """List the health of running instances, or of all."""
        wanted = self._instances(params, _INSTANCE)
        if not params.get("IncludeAllInstances"):
            wanted = [each for each in wanted if each.state == "running"]
        found, token = page(wanted, params, "InstanceId")
        return {"instanceStatusSet": [self.views.status(each) for each in found], "nextToken": token}

    def describe_volumes(self, params: Params) -> Params:
        """List the root volumes of the instances that are there."""
        held = {each.volume.volume_id: each for each in self._store.instances.values() if each.holds}
        wanted = _by_id(held, params.get("VolumeId"), "InvalidVolume.NotFound", "The volume '{}' does not exist.")
        tagged = select(wanted, params, _VOLUME, lambda each: self._store.tags_of(each.volume.volume_id))
        found, token = page(tagged, params, "VolumeId")
        return {"volumeSet": [self.views.volume(each) for each in found], "nextToken": token}

    def describe_iam_instance_profile_associations(self, params: Params) -> Params:
        """List which instance has which profile."""
        held = [each for each in self._store.instances.values() if each.alive and each.profile_arn]
        known = {association_id(each): each for each in held}
        code, said = "InvalidAssociationID.NotFound", "The association '{}' does not exist"
        wanted = select(_by_id(known, params.get("AssociationId"), code, said), params, _ASSOCIATION, _no_tags)
        found, token = page(wanted, params, "AssociationId")
        shown = [
            {
                "associationId": association_id(each),
                "instanceId": each.instance_id,
                "iamInstanceProfile": {"arn": each.profile_arn, "id": each.profile_id},
                "state": "associated",
                "timestamp": moment(each.launched),
            }
            for each in found
        ]
        return {"iamInstanceProfileAssociationSet": shown, "nextToken": token}

    def describe_tags(self, params: Params) -> Params:
        """List tags, one an item."""
        self._store.forget_old()
        every = [
            {"resourceId": resource, "resourceType": tags.resource_type(resource), "key": key, "value": value}
            for resource, pairs in self._store.tags.items()
            for key, value in pairs.items()
        ]
        chosen = select(every, params, _TAG, lambda each: {each["key"]: each["value"]})
        found, token = page(chosen, params)
        return {"tagSet": list(found), "nextToken": token}

    def describe_images(self, params: Params) -> Params:
        """List the images that can be launched."""
        wanted = [catalog.image(each) for each in params.get("ImageId", [])] or list(catalog.IMAGES.values())
        if owners := set(params.get("Owner", [])):
            wanted = wanted if owners & {"amazon", catalog.AMAZON} else []
        found, token = page(select(wanted, params, _IMAGE, _no_tags), params, "ImageId")
        return {"imagesSet": [self.views.image(each) for each in found], "nextToken": token}

    def describe_instance_types(self, params: Params) -> Params:
        """List the instance types that can be launched."""
        wanted = [catalog.instance_type(each) for each in params.get("InstanceType", [])]
        chosen = select(wanted or catalog.TYPES.values(), params, _TYPE, _no_tags)
        found, token = page(chosen, params, "InstanceType", high=100)
        return {"instanceTypeSet": [self.views.instance_type(each) for each in found], "nextToken": token}

    def describe_instance_type_offerings(self, params: Params) -> Params:
        """List which instance type can be launched where."""
        where = params.get("LocationType", "region")
        zones = [each.name for each in self._store.network.zones]
        every = [
            {"instanceType": kind.name, "locationType": where, "location": location}
            for kind in catalog.TYPES.values()
            for location in ([self._site.region] if where == "region" else zones)
            if where == "region" or catalog.offered(kind, location)
        ]
        found, token = page(select(every, params, _OFFERING, _no_tags), params)
        return {"instanceTypeOfferingSet": list(found), "nextToken": token}

    def describe_availability_zones(self, params: Params) -> Params:
        """List the zones of the region."""
        wanted = list(self._store.network.zones)
        for parameter, read in (("ZoneName", lambda each: each.name), ("ZoneId", lambda each: each.zone_id)):
            if asked := params.get(parameter):
                known = {read(each): each for each in wanted}
                wanted = _by_id(known, asked, "InvalidParameterValue", "Invalid availability zone: [{}]")
        region = {"region-name": lambda each: self._site.region}
        found = select(wanted, params, {**_ZONE, **region}, _no_tags)
        return {"availabilityZoneInfo": [self.views.zone(each) for each in found]}

    def describe_vpcs(self, params: Params) -> Params:
        """List the default VPC."""
        network = self._store.network
        for each in params.get("VpcId", []):
            network.require_vpc(each)
        known: Known = {
            "cidr": lambda each: each["cidrBlock"],
            "is-default": lambda each: "true",
            "isDefault": lambda each: "true",
            "owner-id": lambda each: self._site.account_id,
            "state": lambda each: "available",
            "vpc-id": lambda each: each["vpcId"],
        }
        chosen = select([self.views.vpc()], params, known, lambda each: self._store.tags_of(each["vpcId"]))
        found, token = page(chosen, params, "VpcId")
        return {"vpcSet": list(found), "nextToken": token}

    def describe_subnets(self, params: Params) -> Params:
        """List the default subnets."""
        network = self._store.network
        wanted = [network.subnet(each) for each in params.get("SubnetId", [])] or list(network.subnets.values())
        known: Known = {
            "availability-zone": lambda each: each.zone.name,
            "availability-zone-id": lambda each: each.zone.zone_id,
            "cidr-block": lambda each: str(each.block),
            "default-for-az": lambda each: "true",
            "defaultForAz": lambda each: "true",
            "map-public-ip-on-launch": lambda each: "true",
            "owner-id": lambda each: self._site.account_id,
            "state": lambda each: "available",
            "subnet-id": lambda each: each.subnet_id,
            "vpc-id": lambda each: network.vpc_id,
        }
        chosen = select(wanted, params, known, lambda each: self._store.tags_of(each.subnet_id))
        found, token = page(chosen, params, "SubnetId")
        return {"subnetSet": [self.views.subnet(each) for each in found], "nextToken": token}

    def describe_security_groups(self, params: Params) -> Params:
        """List security groups."""
        by_id = [self._store.group(each) for each in params.get("GroupId", [])]
        by_name = groups.named(self._store, params.get("GroupName", []))
        known: Known = {
            "description": lambda each: each.description,
            "group-id": lambda each: each.group_id,
            "group-name": lambda each: each.name,
            "owner-id": lambda each: self._site.account_id,
            "vpc-id": lambda each: self._store.network.vpc_id,
        }
        wanted = [*by_id, *by_name] or list(self._store.groups.values())
        chosen = select(wanted, params, known, lambda each: self._store.tags_of(each.group_id))
        found, token = page(chosen, params, "GroupId")
        return {"securityGroupInfo": [self.views.group(each) for each in found], "nextToken": token}

    def describe_security_group_rules(self, params: Params) -> Params:
        """List the rules of security groups."""
        every: dict[str, tuple[Group, Rule]] = {
            rule.rule_id: (group, rule) for group in self._store.groups.values() for rule in group.rules
        }
        code, said = "InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '{}' does not exist"
        wanted = _by_id(every, params.get("SecurityGroupRuleId"), code, said)
        found, token = page(select(wanted, params, _RULE, _no_tags), params, "SecurityGroupRuleId")
        return {"securityGroupRuleSet": [self.views.rule(*each) for each in found], "nextToken": token}

    def _instances(self, params: Params, known: Known) -> list[Instance]:
        self._store.forget_old()
        asked = params.get("InstanceId", [])
        wanted = self._store.find_instances(asked) if asked else list(self._store.instances.values())
        return select(wanted, params, known, lambda each: self._store.tags_of(each.instance_id))


def _by_id(known: Mapping[str, Any], asked: Sequence[str] | None, code: str, said: str) -> list[Any]:
    """Return what was asked for by id, or all. Raises AwsError with ``code`` for an id that is not known."""
    for each in asked or []:
        if each not in known:
            raise AwsError(code, said.format(each))
    return [known[each] for each in dict.fromkeys(asked)] if asked else list(known.values())

"""What IAM has to allow for EC2's operations, as AWS's Service Authorization Reference says.

RunInstances is decided once for each resource that it takes or makes: the
image, the subnet and each security group by their ARNs, and, since these have
no ids yet, instance/*, network-interface/* and volume/*. Tags that it puts on
ask ec2:CreateTags with ec2:CreateAction, and an instance profile asks
iam:PassRole on its role. Describe operations know no resources.
"""

from collections.abc import Mapping
from typing import Any

from helpers.local_aws import tag_keys
from helpers.local_aws.ec2 import tags
from helpers.local_aws.ec2.launching import Order
from helpers.local_aws.ec2.store import Instance, Store
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Site

Context = dict[str, Any]


def require(caller: Caller, *permissions: Permission) -> None:
    """Ask IAM. Raises UnauthorizedOperation, EC2's word for a denial, naming action and resource."""
    try:
        caller.require(*permissions)
    except AwsError as denied:
        if denied.code != "AccessDeniedException":
            raise
        said = f"You are not authorized to perform this operation. {denied.message}"
        raise AwsError("UnauthorizedOperation", said, 403) from denied


class Permissions:
    """The permissions of a site's EC2 operations."""

    def __init__(self, site: Site, store: Store) -> None:
        self._site, self._store = site, store

    def arn(self, resource_id: str) -> str:
        """Return the ARN of a resource that has tags."""
        return self._site.arn("ec2", f"{tags.resource_type(resource_id)}/{resource_id}")

    def on(self, action: str, resource_id: str, request_tags: Mapping[str, str] | None = None) -> Permission:
        """Return the permission for an action on one resource, with what policies may ask of it."""
        context = self._about(resource_id) | tag_keys.of_request(request_tags or {})
        return Permission(f"ec2:{action}", self.arn(resource_id), context)

    def of(self, operation: str, params: Params) -> list[Permission]:
        """Return the permissions of an operation other than RunInstances. Raises AwsError for a resource not there."""
        action = f"ec2:{operation}"
        if operation == "TerminateInstances":
            return [self.on(operation, each.instance_id) for each in self._store.find_instances(params["InstanceId"])]
        if operation == "GetConsoleOutput":
            return [self.on(operation, self._store.instance(params["InstanceId"]).instance_id)]
        if operation in ("CreateTags", "DeleteTags"):
            asked = {tag["Key"]: tag.get("Value", "") for tag in params.get("Tag", [])}
            return [self.on(operation, each, asked) for each in params["ResourceId"]]
        if operation == "CreateSecurityGroup":
            return self._create_group(params)
        return [Permission(action)]

    def run(self, order: Order) -> list[Permission]:
        """Return the permissions of RunInstances."""
        zone = {"ec2:AvailabilityZone": order.subnet.zone.name}
        vpc = {"ec2:Vpc": self.arn(self._store.network.vpc_id)}
        image = self._region() | {
            "ec2:ImageID": order.image.image_id,
            "ec2:ImageType": "machine",
            "ec2:Owner": "amazon",
            "ec2:Public": "true",
            "ec2:RootDeviceType": "ebs",
        }
        instance = self._region() | zone | {
            "ec2:InstanceType": order.kind.name,
            "ec2:InstanceMarketType": "on-demand",
            "ec2:Tenancy": "default",
            "ec2:RootDeviceType": "ebs",
            "ec2:EbsOptimized": "false",
            "ec2:MetadataHttpEndpoint": "enabled",
            "ec2:MetadataHttpTokens": order.options["HttpTokens"],
            "ec2:MetadataHttpPutResponseHopLimit": str(order.options["HttpPutResponseHopLimit"]),
        }  # fmt: skip
        if order.profile:
            instance["ec2:InstanceProfile"] = order.profile.arn
        subnet = f"ec2:{self._site.region}:{self._site.account_id}:subnet/{order.subnet.subnet_id}"
        interface = self._region() | zone | vpc | {"ec2:Subnet": f"arn:aws:{subnet}"}
        volume = self._region() | zone | {
            "ec2:Encrypted": str(order.volume["encrypted"]).lower(),
            "ec2:VolumeSize": str(order.volume["size"]),
            "ec2:VolumeType": order.volume["kind"],
            "ec2:VolumeIops": str(order.volume["iops"]),
        }  # fmt: skip
        action = "ec2:RunInstances"
        needed = [
            Permission(action, self._new("instance"), instance | tag_keys.of_request(order.tags["instance"])),
            Permission(action, f"arn:aws:ec2:{self._site.region}::image/{order.image.image_id}", image),
            self.on("RunInstances", order.subnet.subnet_id),
            *(self.on("RunInstances", each) for each in order.groups),
            Permission(action, self._new("network-interface"), interface),
            Permission(action, self._new("volume"), volume | tag_keys.of_request(order.tags["volume"])),
        ]
        for kind, wanted in order.tags.items():
            needed += self._tag_new(kind, "RunInstances", wanted)
        if order.profile:
            passed = {"iam:PassedToService": "ec2.amazonaws.com"}
            needed.append(Permission("iam:PassRole", order.profile.role_arn, passed))
        return needed

    def _create_group(self, params: Params) -> list[Permission]:
        self._store.network.require_vpc(params.get("VpcId") or self._store.network.vpc_id)
        wanted = tags.of_specification(params.get("TagSpecification", []), "security-group")
        context = self._region() | tag_keys.of_request(wanted) | {"ec2:Vpc": self.arn(self._store.network.vpc_id)}
        return [
            Permission("ec2:CreateSecurityGroup", self._new("security-group"), context),
            self.on("CreateSecurityGroup", self._store.network.vpc_id),
            *self._tag_new("security-group", "CreateSecurityGroup", wanted),
        ]

    def _tag_new(self, kind: str, creating: str, wanted: Mapping[str, str]) -> list[Permission]:
        context = self._region() | tag_keys.of_request(wanted) | {"ec2:CreateAction": creating}
        return [Permission("ec2:CreateTags", self._new(kind), context)] if wanted else []

    def _new(self, kind: str) -> str:
        return self._site.arn("ec2", f"{kind}/*")

    def _region(self) -> Context:
        return {"ec2:Region": self._site.region}

    def _about(self, resource_id: str) -> Context:
        """Return the condition keys of a resource that exists: its tags, and some of its properties."""
        context = self._region() | tag_keys.of_resource(self._store.tags_of(resource_id), "ec2")
        network = self._store.network
        if resource_id in self._store.instances:
            return context | self._instance(self._store.instances[resource_id])
        if resource_id in self._store.groups:
            return context | {"ec2:Vpc": self.arn(network.vpc_id), "ec2:SecurityGroupID": resource_id}
        if resource_id in network.subnets:
            zone = network.subnets[resource_id].zone.name
            found = {"ec2:Vpc": self.arn(network.vpc_id), "ec2:SubnetID": resource_id, "ec2:AvailabilityZone": zone}
            return context | found
        return context | ({"ec2:VpcID": resource_id} if resource_id == network.vpc_id else {})

    def _instance(self, instance: Instance) -> Context:
        found = {
            "ec2:InstanceID": instance.instance_id,
            "ec2:InstanceType": instance.instance_type,
            "ec2:AvailabilityZone": instance.zone,
            "ec2:Tenancy": "default",
            "ec2:RootDeviceType": "ebs",
            "ec2:EbsOptimized": "false",
            "ec2:MetadataHttpEndpoint": "enabled",
            "ec2:MetadataHttpTokens": instance.options["HttpTokens"],
            "ec2:MetadataHttpPutResponseHopLimit": str(instance.options["HttpPutResponseHopLimit"]),
        }
        return found | ({"ec2:InstanceProfile": instance.profile_arn} if instance.profile_arn else {})

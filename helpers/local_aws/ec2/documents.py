"""What an instance can read about itself: the metadata and the identity document that its process is given."""

from collections.abc import Mapping
from typing import Any

from helpers.local_aws.ec2.machines import Launch
from helpers.local_aws.ec2.query import moment
from helpers.local_aws.ec2.store import Instance, Store
from helpers.local_aws.wire import Site


def launch(site: Site, store: Store, instance: Instance, user_data: bytes) -> Launch:
    """Return what the processes of an instance are started with."""
    return Launch(
        instance_id=instance.instance_id,
        user_data=user_data,
        metadata=_metadata(site, store, instance),
        identity=_identity(site, instance),
        profile_arn=instance.profile_arn,
        role_arn=instance.role_arn,
        tokens_required=instance.options["HttpTokens"] == "required",
        profile_id=instance.profile_id,
    )


def private_name(site: Site, instance: Instance) -> str:
    """Return an instance's private DNS name."""
    domain = "ec2.internal" if site.region == "us-east-1" else f"{site.region}.compute.internal"
    return f"ip-{instance.private_ip.replace('.', '-')}.{domain}"


def _metadata(site: Site, store: Store, instance: Instance) -> Mapping[str, str]:
    """Return text by path below /latest/meta-data/. Tags are as they were at the launch."""
    subnet = store.network.subnets[instance.subnet_id]
    name = private_name(site, instance)
    interface = f"network/interfaces/macs/{instance.mac}"
    group_names = "\n".join(store.groups[each].name for each in instance.groups)
    found = {
        "ami-id": instance.image_id,
        "ami-launch-index": str(instance.number),
        "hostname": name,
        "instance-action": "none",
        "instance-id": instance.instance_id,
        "instance-life-cycle": "on-demand",
        "instance-type": instance.instance_type,
        "local-hostname": name,
        "local-ipv4": instance.private_ip,
        "mac": instance.mac,
        "placement/availability-zone": instance.zone,
        "placement/availability-zone-id": subnet.zone.zone_id,
        "placement/region": site.region,
        "reservation-id": instance.reservation_id,
        "security-groups": group_names,
        "services/domain": "amazonaws.com",
        "services/partition": "aws",
        f"{interface}/device-number": "0",
        f"{interface}/interface-id": instance.interface_id,
        f"{interface}/local-ipv4s": instance.private_ip,
        f"{interface}/mac": instance.mac,
        f"{interface}/owner-id": site.account_id,
        f"{interface}/security-group-ids": "\n".join(instance.groups),
        f"{interface}/security-groups": group_names,
        f"{interface}/subnet-id": instance.subnet_id,
        f"{interface}/vpc-id": store.network.vpc_id,
    }
    if instance.public_ip:
        found |= {"public-ipv4": instance.public_ip, f"{interface}/public-ipv4s": instance.public_ip}
    if instance.options["InstanceMetadataTags"] == "enabled":
        found |= {f"tags/instance/{key}": value for key, value in store.tags_of(instance.instance_id).items()}
    return found


def _identity(site: Site, instance: Instance) -> Mapping[str, Any]:
    return {
        "accountId": site.account_id,
        "architecture": "x86_64",
        "availabilityZone": instance.zone,
        "billingProducts": None,
        "devpayProductCodes": None,
        "marketplaceProductCodes": None,
        "imageId": instance.image_id,
        "instanceId": instance.instance_id,
        "instanceType": instance.instance_type,
        "kernelId": None,
        "pendingTime": moment(instance.launched).replace(".000Z", "Z"),
        "privateIp": instance.private_ip,
        "ramdiskId": None,
        "region": site.region,
        "version": "2017-09-30",
    }

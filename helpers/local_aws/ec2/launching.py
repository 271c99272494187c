"""What RunInstances asks for, held against what EC2 documents and what can be run here."""

import hashlib
import ipaddress
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.local_aws.ec2 import catalog, tags
from helpers.local_aws.ec2.network import Subnet
from helpers.local_aws.ec2.query import invalid
from helpers.local_aws.ec2.store import Instance, Store, Volume, new_id
from helpers.local_aws.wire import AwsError, Params
from helpers.local_aws.workers import userdata

MOST_USER_DATA = 16_384  # bytes
_PUBLIC = ipaddress.ip_network("203.0.113.0/24")  # the addresses of documentation: they lead nowhere
_IN_METADATA = re.compile(r"[0-9a-zA-Z\-_+=,.@:]{1,255}")


@dataclass(frozen=True)
class Profile:
    """An instance profile of IAM. ``role_arn`` is "" while it has no role."""

    arn: str
    profile_id: str
    role_arn: str


FindProfile = Callable[[str, str], Profile | None]  # by name or, where that is "", by ARN


@dataclass(frozen=True)
class Order:
    """A checked request: what each of its instances is to be."""

    image: catalog.Image
    kind: catalog.InstanceType
    least: int
    most: int
    subnet: Subnet
    public: bool
    groups: Sequence[str]
    volume: Params
    user_data: bytes
    profile: Profile | None
    options: Params
    shutdown: str
    tags: dict[str, dict[str, str]]
    token: str
    digest: str


def read(store: Store, params: Params, find_profile: FindProfile) -> Order:
    """Check a request. Raises AwsError. Changes nothing."""
    least, most = params["MinCount"], params["MaxCount"]
    if least < 1 or most < least:
        raise invalid(f"Value ({least}) for parameter minCount is invalid: 1 or more, and at most maxCount ({most})")
    image = catalog.image(params["ImageId"])
    kind = catalog.instance_type(params.get("InstanceType") or "m1.small")
    user_data = params.get("UserData", b"")
    if len(user_data) > MOST_USER_DATA:
        raise invalid(f"User data is limited to {MOST_USER_DATA} bytes")
    _require_script(user_data)
    token = params.get("ClientToken", "")
    if len(token) > 64:
        raise invalid("ClientToken exceeds maximum length of 64 characters")
    place = _place(params)
    wanted_tags = {
        name: tags.of_specification(params.get("TagSpecification", []), name) for name in ("instance", "volume")
    }
    return Order(
        image,
        kind,
        least,
        most,
        _subnet(store, place, kind, params.get("Placement", {}).get("AvailabilityZone", "")),
        place.get("AssociatePublicIpAddress", True),
        _groups(store, place.get("SecurityGroupId", [])),
        _volume(params.get("BlockDeviceMapping", []), image),
        user_data,
        _profile(params.get("IamInstanceProfile", {}), find_profile),
        _options(params.get("MetadataOptions", {}), image, wanted_tags["instance"]),
        params.get("InstanceInitiatedShutdownBehavior", "stop"),
        wanted_tags,
        token,
        digest(params),
    )


def _require_script(user_data: bytes) -> None:
    """Raise AwsError for user data that Amazon Linux carries out and this does not. What is broken, it ignores too."""
    try:
        other = userdata.unsupported(user_data)
    except ValueError:
        return
    if other:
        raise _unsupported(f"user data of the kind {other}")


def digest(params: Params) -> str:
    """Return what tells one request from another that has the same ClientToken."""
    kept = {name: value for name, value in params.items() if name not in ("ClientToken", "DryRun")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=repr).encode()).hexdigest()


def count(store: Store, order: Order) -> int:
    """Return how many instances the quota lets start. Raises VcpuLimitExceeded where those are too few."""
    alive = [each for each in store.instances.values() if each.alive]
    free = catalog.VCPU_QUOTA - sum(catalog.TYPES[each.instance_type].vcpus for each in alive)
    fit = max(0, free) // order.kind.vcpus
    if fit < order.least:
        raise AwsError(
            "VcpuLimitExceeded",
            f"You have requested more vCPU capacity than your current vCPU limit of {catalog.VCPU_QUOTA} allows for "
            "the instance bucket that the specified instance type belongs to.",
        )
    return min(order.most, fit)


def make(store: Store, order: Order, number: int, reservation_id: str) -> Instance:
    """Return a new instance as ``order`` wants it, with addresses that no other has."""
    held = [each for each in store.instances.values() if each.holds]
    private = _free(order.subnet.addresses(), {each.private_ip for each in held})
    if not private:
        raise AwsError(
            "InsufficientFreeAddressesInSubnet",
            f"There are not enough free addresses in subnet '{order.subnet.subnet_id}'",
        )
    public = range(int(_PUBLIC.network_address) + 1, int(_PUBLIC.broadcast_address))
    profile = order.profile or Profile("", "", "")
    packed = int(ipaddress.ip_address(private)).to_bytes(4, "big")
    return Instance(
        instance_id=new_id("i"),
        reservation_id=reservation_id,
        number=number,
        image_id=order.image.image_id,
        instance_type=order.kind.name,
        subnet_id=order.subnet.subnet_id,
        zone=order.subnet.zone.name,
        private_ip=private,
        public_ip=_free(public, {each.public_ip for each in held}) if order.public else "",
        interface_id=new_id("eni"),
        mac=":".join(f"{byte:02x}" for byte in (0x02, 0x00, *packed)),
        groups=list(order.groups),
        profile_arn=profile.arn,
        profile_id=profile.profile_id,
        role_arn=profile.role_arn,
        volume=Volume(volume_id=new_id("vol"), **order.volume),
        options=order.options,
        shutdown=order.shutdown,
        token=order.token,
        request=order.digest,
        launched=float(int(time.time())),
    )


def _free(addresses: range, taken: set[str]) -> str:
    return next((text for text in (str(ipaddress.ip_address(each)) for each in addresses) if text not in taken), "")


def _place(params: Params) -> Params:
    """Return subnet, groups and public address, from the network interface where one is described."""
    interfaces = params.get("NetworkInterface", [])
    if not interfaces:
        return {name: params[name] for name in ("SubnetId", "SecurityGroupId") if name in params}
    for name, noun in (("SubnetId", "subnet ID"), ("SecurityGroupId", "security groups")):
        if params.get(name):
            raise AwsError(
                "InvalidParameterCombination",
                f"Network interfaces and an instance-level {noun} may not be specified on the same request",
            )
    if len(interfaces) > 1 or interfaces[0].get("DeviceIndex") != 0:
        raise _unsupported("a network interface other than that of DeviceIndex 0")
    if interfaces[0].get("DeleteOnTermination") is False:
        raise _unsupported("NetworkInterface.1.DeleteOnTermination false")
    return interfaces[0]


def _subnet(store: Store, place: Params, kind: catalog.InstanceType, zone: str) -> Subnet:
    network = store.network
    if place.get("SubnetId"):
        subnet = network.subnet(place["SubnetId"])
        if zone and zone != subnet.zone.name:
            raise invalid(f"The availability zone '{zone}' does not match the subnet '{subnet.subnet_id}'.")
    else:
        found = [
            each
            for each in network.subnets.values()
            if (not zone and catalog.offered(kind, each.zone.name)) or each.zone.name == zone
        ]
        if not found:
            raise invalid(f"Invalid availability zone: [{zone}]")
        subnet = found[0]
    if not catalog.offered(kind, subnet.zone.name):
        others = [each.name for each in network.zones if catalog.offered(kind, each.name)]
        raise AwsError(
            "Unsupported",
            f"Your requested instance type ({kind.name}) is not supported in your requested Availability Zone "
            f"({subnet.zone.name}). Please retry your request by not specifying an Availability Zone or choosing "
            f"{', '.join(others)}.",
        )
    return subnet


def _groups(store: Store, ids: Sequence[str]) -> Sequence[str]:
    for each in ids:
        if not each.startswith("sg-"):
            raise AwsError("InvalidGroupId.Malformed", f'Invalid id: "{each}" (expecting "sg-...")')
    return [store.group(each).group_id for each in dict.fromkeys(ids)] or [store.network.default_group_id]


def _volume(mappings: Sequence[Params], image: catalog.Image) -> Params:
    """Return the root volume. Only what a record can say truly is taken: no other disk, none that stays."""
    for mapping in mappings:
        if mapping.get("DeviceName") != catalog.ROOT_DEVICE:
            raise _unsupported(f"a BlockDeviceMapping of {mapping.get('DeviceName')}, only of {catalog.ROOT_DEVICE}")
    ebs = mappings[0].get("Ebs", {}) if mappings else {}
    if len(mappings) > 1:
        raise AwsError("InvalidBlockDeviceMapping", f"{catalog.ROOT_DEVICE} is mapped twice")
    if ebs.get("DeleteOnTermination") is False:
        raise _unsupported("a volume that is kept (DeleteOnTermination false)")
    size, kind = ebs.get("VolumeSize", catalog.SMALLEST_VOLUME), ebs.get("VolumeType", image.volume_type)
    if size < catalog.SMALLEST_VOLUME:
        raise AwsError(
            "InvalidBlockDeviceMapping",
            f"Volume of size {size}GB is smaller than snapshot, expect size>= {catalog.SMALLEST_VOLUME}GB",
        )
    if size > 16_384:
        raise invalid(f"Volume of {size}GiB is too large for volume type {kind}; maximum is 16384GiB")
    iops, throughput = ebs.get("Iops", 3000), ebs.get("Throughput", 125)
    if kind == "gp2":
        if "Iops" in ebs or "Throughput" in ebs:
            raise AwsError("InvalidParameterCombination", "Iops and Throughput are not supported for gp2 volumes.")
        iops, throughput = min(16_000, max(100, 3 * size)), 0
    elif not (3000 <= iops <= 16_000 and 125 <= throughput <= 1000):
        raise invalid("Iops of a gp3 volume is from 3000 to 16000, Throughput from 125 to 1000.")
    return {
        "size": size,
        "kind": kind,
        "iops": iops,
        "throughput": throughput,
        "encrypted": ebs.get("Encrypted", False),
    }


def _profile(wanted: Params, find_profile: FindProfile) -> Profile | None:
    name, arn = wanted.get("Name", ""), wanted.get("Arn", "")
    if not name and not arn:
        return None
    if name and arn:
        raise AwsError(
            "InvalidParameterCombination", "The parameter 'iamInstanceProfile.name' may not be used with its ARN"
        )
    profile = find_profile(name, arn)
    parameter, noun = ("name", "name") if name else ("arn", "ARN")
    said = f"Value ({name or arn}) for parameter iamInstanceProfile.{parameter} is invalid."
    if profile is None:
        raise invalid(f"{said} Invalid IAM Instance Profile {noun}")
    if not profile.role_arn:
        raise invalid(f'{said} IAM Instance Profile "{profile.arn}" has no associated IAM Roles')
    return profile


def _options(wanted: Params, image: catalog.Image, instance_tags: dict[str, str]) -> Params:
    if wanted.get("HttpEndpoint") == "disabled":
        raise _unsupported("MetadataOptions.HttpEndpoint disabled")
    hops = wanted.get("HttpPutResponseHopLimit", 2 if image.tokens == "required" else 1)
    if not 1 <= hops <= 64:
        raise invalid(f"Invalid value '{hops}' for HttpPutResponseHopLimit. Valid values: 1 to 64")
    shown: dict[str, Any] = {"HttpTokens": wanted.get("HttpTokens", image.tokens), "HttpPutResponseHopLimit": hops}
    shown["InstanceMetadataTags"] = wanted.get("InstanceMetadataTags", "disabled")
    if shown["InstanceMetadataTags"] == "enabled":
        for key in instance_tags:
            if not _IN_METADATA.fullmatch(key) or key in (".", "..", "_index"):
                raise invalid(
                    f"'{key}' is not a valid tag key. Tag keys must match pattern ({_IN_METADATA.pattern}), "
                    "and must not be a reserved name ('.', '..', '_index')"
                )
    return shown


def _unsupported(what: str) -> AwsError:
    return AwsError("NotImplemented", f"the embedded AWS does not support RunInstances with {what}", 501)

"""The default VPC and its subnets, which every account has. Nothing can be added to them or taken away.

Their ids follow from the account and the region, so nothing of them is stored.
"""

import hashlib
import ipaddress
import re
from dataclasses import dataclass

from helpers.local_aws.wire import AwsError, Site

VPC_BLOCK = "172.31.0.0/16"
_RESERVED = 4  # addresses at the start of a subnet that AWS keeps, and one at its end
_ZONES = {"us-east-1": "abcdef", "us-west-2": "abcd", "ap-northeast-1": "acd", "us-west-1": "ac", "ca-central-1": "abd"}


@dataclass(frozen=True)
class Zone:
    """An availability zone: its name, and the id that is the same in every account."""

    name: str
    zone_id: str


@dataclass(frozen=True)
class Subnet:
    """A default subnet: one in each zone."""

    subnet_id: str
    zone: Zone
    block: ipaddress.IPv4Network

    def addresses(self) -> range:
        """Return the addresses that an instance can get, as numbers."""
        first, last = int(self.block.network_address), int(self.block.broadcast_address)
        return range(first + _RESERVED, last)


class Network:
    """The default VPC of an account and region."""

    def __init__(self, site: Site) -> None:
        seed = f"{site.account_id} {site.region}"
        self.vpc_id = f"vpc-{_digest(seed, 'vpc')}"
        self.default_group_id = f"sg-{_digest(seed, 'default group')}"
        self.dhcp_options_id = f"dopt-{_digest(seed, 'dhcp options')}"
        letters = _ZONES.get(site.region, "abc")
        self.zones = [
            Zone(site.region + letter, f"{_short(site.region)}-az{number}") for number, letter in enumerate(letters, 1)
        ]
        blocks = ipaddress.ip_network(VPC_BLOCK).subnets(new_prefix=20)
        self.subnets = {
            subnet.subnet_id: subnet
            for zone, block in zip(self.zones, blocks, strict=False)
            for subnet in [Subnet(f"subnet-{_digest(seed, zone.name)}", zone, ipaddress.IPv4Network(block))]
        }

    def subnet(self, subnet_id: str) -> Subnet:
        """Return a subnet. Raises InvalidSubnetID.NotFound."""
        if subnet_id not in self.subnets:
            raise AwsError("InvalidSubnetID.NotFound", f"The subnet ID '{subnet_id}' does not exist")
        return self.subnets[subnet_id]

    def require_vpc(self, vpc_id: str) -> None:
        """Raise InvalidVpcID.NotFound unless there is this VPC."""
        if vpc_id != self.vpc_id:
            raise AwsError("InvalidVpcID.NotFound", f"The vpc ID '{vpc_id}' does not exist")


def _digest(seed: str, what: str) -> str:
    return hashlib.sha256(f"{seed} {what}".encode()).hexdigest()[:17]


def _short(region: str) -> str:
    """Return how zone ids begin: use1 for us-east-1, apse2 for ap-southeast-2."""
    area, *middle, number = region.split("-")
    words = re.findall("north|south|east|west|central|gov", "".join(middle))
    return area + "".join(word[0] for word in words) + number

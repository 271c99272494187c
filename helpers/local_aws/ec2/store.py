"""What EC2 remembers: instances, security groups and tags, in one file that is replaced at each change."""

import json
import secrets
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from helpers.local_aws import json_files
from helpers.local_aws.ec2.network import Network
from helpers.local_aws.wire import AwsError

STATES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48}
_SEEN = 3600.0  # seconds that a terminated instance can be described


@dataclass
class Volume:
    """The root volume of an instance: a record, for an instance has no disk of its own here. ``size`` in GiB."""

    volume_id: str
    size: int
    kind: str
    iops: int
    throughput: int
    encrypted: bool


@dataclass
class Instance:
    """One instance. Times in epoch seconds; "" where there is nothing."""

    instance_id: str
    reservation_id: str
    number: int  # of the instance in its reservation
    image_id: str
    instance_type: str
    subnet_id: str
    zone: str
    private_ip: str
    public_ip: str
    interface_id: str
    mac: str
    groups: list[str]
    profile_arn: str
    profile_id: str
    role_arn: str
    volume: Volume
    options: dict[str, Any]  # MetadataOptions
    shutdown: str  # InstanceInitiatedShutdownBehavior
    token: str  # ClientToken
    request: str  # digest of the request
    launched: float
    state: str = "pending"
    reason: tuple[str, str] = ("pending", "pending")  # StateReason
    transition: str = ""
    ended: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether it is, or will be, up."""
        return self.state in ("pending", "running")

    @property
    def holds(self) -> bool:
        """Whether it still has its address, its volume and its groups."""
        return self.state != "terminated"


@dataclass
class Rule:
    """One rule of a security group; ``kind``: cidr, cidr6 or group, and ``source`` what that is."""

    rule_id: str
    egress: bool
    protocol: str
    first: int
    last: int
    kind: str
    source: str
    description: str = ""

    def same(self) -> tuple[Any, ...]:
        """Return what makes two rules the same rule."""
        return self.egress, self.protocol, self.first, self.last, self.kind, self.source


@dataclass
class Group:
    """A security group."""

    group_id: str
    name: str
    description: str
    rules: list[Rule] = field(default_factory=list)


class Store:
    """The records. Read and change them under ``lock``, then ``save``."""

    def __init__(self, file: Path, network: Network) -> None:
        """Read ``file``, or begin with what a new account has."""
        self._file, self.network = file, network
        self.lock = threading.RLock()
        self.instances: dict[str, Instance] = {}
        self.groups: dict[str, Group] = {}
        self.tags: dict[str, dict[str, str]] = {}
        if file.exists():
            self._read(json.loads(file.read_text()))
        if network.default_group_id not in self.groups:
            group_id = network.default_group_id
            inside = Rule(new_id("sgr"), False, "-1", -1, -1, "group", group_id)
            self.groups[group_id] = Group(group_id, "default", "default VPC security group", [inside, open_egress()])

    def save(self) -> None:
        """Write everything down, without what is no longer seen."""
        self.forget_old()
        content = {
            "instances": [asdict(each) for each in self.instances.values()],
            "groups": [asdict(each) for each in self.groups.values()],
            "tags": self.tags,
        }
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        json_files.write(self._file, content)

    def forget_old(self) -> None:
        """Drop instances that were terminated an hour ago."""
        latest = time.time() - _SEEN
        gone = [each for each in self.instances.values() if not each.holds and each.ended < latest]
        for instance in gone:
            del self.instances[instance.instance_id]
            self.tags.pop(instance.instance_id, None)

    def instance(self, instance_id: str) -> Instance:
        """Return an instance. Raises InvalidInstanceID.NotFound."""
        return self.find_instances([instance_id])[0]

    def find_instances(self, ids: list[str]) -> list[Instance]:
        """Return instances, each once. Raises InvalidInstanceID.NotFound naming those that are not there."""
        self.forget_old()
        missing = [each for each in ids if each not in self.instances]
        if missing:
            one = len(missing) == 1
            what = f"ID '{missing[0]}' does" if one else f"IDs '{', '.join(missing)}' do"
            raise AwsError("InvalidInstanceID.NotFound", f"The instance {what} not exist")
        return [self.instances[each] for each in dict.fromkeys(ids)]

    def group(self, group_id: str) -> Group:
        """Return a security group. Raises InvalidGroup.NotFound."""
        if group_id not in self.groups:
            raise AwsError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")
        return self.groups[group_id]

    def tags_of(self, resource_id: str) -> dict[str, str]:
        """Return the tags of a resource."""
        return self.tags.get(resource_id, {})

    def _read(self, content: dict[str, Any]) -> None:
        for each in content["instances"]:
            volume = Volume(**each.pop("volume"))
            instance = Instance(volume=volume, **{**each, "reason": tuple(each["reason"])})
            self.instances[instance.instance_id] = instance
        for each in content["groups"]:
            rules = [Rule(**rule) for rule in each.pop("rules")]
            self.groups[each["group_id"]] = Group(rules=rules, **each)
        self.tags = content["tags"]


def new_id(kind: str) -> str:
    """Return an id for a new resource, such as i-0123456789abcdef0."""
    return f"{kind}-{secrets.token_hex(9)[:17]}"


def open_egress() -> Rule:
    """Return the rule that every new group has: all traffic out."""
    return Rule(new_id("sgr"), True, "-1", -1, -1, "cidr", "0.0.0.0/0")

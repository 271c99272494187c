"""What can be launched: images and instance types, and where they are offered.

The images are those that the public SSM parameters name. All of them are this
machine's Python environment: an instance is a process, and its type decides
what is counted against the quota, not what the process gets.
"""

import re
from dataclasses import dataclass

from helpers.local_aws.wire import AwsError

AMAZON = "137112412989"  # the account that owns Amazon Linux
VCPU_QUOTA = 64  # vCPUs of running standard instances
ROOT_DEVICE = "/dev/xvda"


@dataclass(frozen=True)
class Image:
    """An Amazon Machine Image.

    ``tokens`` and ``volume_type``: HttpTokens and VolumeType of its instances unless they are told otherwise.
    """

    image_id: str
    name: str
    description: str
    created: str
    snapshot_id: str
    tokens: str
    volume_type: str


@dataclass(frozen=True)
class InstanceType:
    """An instance type. ``memory`` in MiB."""

    name: str
    vcpus: int
    memory: int

    @property
    def family(self) -> str:
        """What stands before the dot."""
        return self.name.partition(".")[0]


IMAGES = {
    image.image_id: image
    for image in (
        Image(
            "ami-0c2023a1b2c3d4e5f",
            "al2023-ami-2023.6.20241010.0-kernel-6.1-x86_64",
            "Amazon Linux 2023 AMI 2023.6.20241010.0 x86_64 HVM kernel-6.1",
            "2024-10-10T00:00:00.000Z",
            "snap-0c2023a1b2c3d4e5f",
            "required",
            "gp3",
        ),
        Image(
            "ami-0abcdef1234567890",
            "amzn2-ami-hvm-2.0.20231116.0-x86_64-gp2",
            "Amazon Linux 2 AMI 2.0.20231116.0 x86_64 HVM gp2",
            "2023-11-16T00:00:00.000Z",
            "snap-0abcdef1234567890",
            "optional",
            "gp2",
        ),
    )
}
SMALLEST_VOLUME = 8  # GiB: the images' snapshots

_BURSTABLE = {"nano": (2, 512), "micro": (2, 1024), "small": (2, 2048), "medium": (2, 4096), "large": (2, 8192)}
_SIZES: dict[str, dict[str, tuple[int, int]]] = {
    "t2": _BURSTABLE | {"nano": (1, 512), "micro": (1, 1024), "small": (1, 2048), "xlarge": (4, 16384)},
    "t3": _BURSTABLE | {"xlarge": (4, 16384), "2xlarge": (8, 32768)},
    "t3a": _BURSTABLE | {"xlarge": (4, 16384), "2xlarge": (8, 32768)},
    "c5": {"large": (2, 4096), "xlarge": (4, 8192), "2xlarge": (8, 16384)},
    "m5": {"large": (2, 8192), "xlarge": (4, 16384), "2xlarge": (8, 32768), "4xlarge": (16, 65536)},
    "m6i": {"large": (2, 8192), "xlarge": (4, 16384), "2xlarge": (8, 32768), "4xlarge": (16, 65536)},
}
TYPES = {
    f"{family}.{size}": InstanceType(f"{family}.{size}", *shape)
    for family, sizes in _SIZES.items()
    for size, shape in sizes.items()
}
_NO_NITRO = {"us-east-1e"}  # a zone of old machines, where a cell that takes just any subnet fails on AWS


def image(image_id: str) -> Image:
    """Return an image. Raises InvalidAMIID.Malformed, InvalidAMIID.NotFound or NotImplemented."""
    if image_id.startswith("resolve:ssm:"):
        raise AwsError("NotImplemented", f"the embedded AWS does not support the ImageId {image_id:.200}", 501)
    if not re.fullmatch("ami-([0-9a-f]{8}|[0-9a-f]{17})", image_id):
        raise AwsError("InvalidAMIID.Malformed", f'Invalid id: "{image_id}" (expecting "ami-...")')
    if image_id not in IMAGES:
        raise AwsError("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
    return IMAGES[image_id]


def instance_type(name: str) -> InstanceType:
    """Return an instance type. Raises AwsError for one that nobody has, or that is not here."""
    if name in TYPES:
        return TYPES[name]
    if re.fullmatch(r"[a-z][a-z0-9-]*\.(nano|micro|small|medium|large|[0-9]*xlarge|metal(-[0-9a-z]+)?)", name):
        raise AwsError("NotImplemented", f"the embedded AWS does not support the instance type {name}", 501)
    raise AwsError("InvalidParameterValue", f"Invalid value '{name}' for InstanceType.")


def offered(kind: InstanceType, zone: str) -> bool:
    """Tell whether an availability zone has an instance type."""
    return kind.family == "t2" or zone not in _NO_NITRO

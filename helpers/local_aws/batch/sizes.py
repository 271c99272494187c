"""The size of a job, as requests name it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from helpers.local_aws.batch.errors import executing
from helpers.local_aws.containers import fargate

# vCPUs to MiB of memory: the sizes of a task of ECS, and one more that ResourceRequirement documents.
_SIZES = {
    **{Fraction(units, fargate.VCPU): memory for units, memory in fargate.MEMORY.items()},
    Fraction(32): (60 * fargate.GIB, 120 * fargate.GIB, 244 * fargate.GIB),
}


@dataclass(frozen=True)
class Size:
    """What a job takes of its compute environment. ``memory`` in MiB."""

    vcpus: Fraction
    memory: int


def size_of(requirements: Sequence[Mapping[str, str]]) -> Size:
    """Return the size that ``resourceRequirements`` name. Raises ClientException where Fargate has none such."""
    given = {each["type"]: each["value"] for each in requirements}
    if "GPU" in given:
        raise executing("GPU is not applicable for Fargate.")
    if "VCPU" not in given:
        raise executing("vCPU is required.")
    if "MEMORY" not in given:
        raise executing("Memory is not provided.")
    vcpus, memory = _number(given["VCPU"], "VCPU"), _number(given["MEMORY"], "MEMORY")
    if memory not in _SIZES.get(vcpus, ()):
        raise executing(f"Fargate resource requirements ({float(vcpus):.2f} vCPU, {float(memory):.0f} MiB) not valid.")
    return Size(vcpus, int(memory))


def _number(text: str, kind: str) -> Fraction:
    digits = text.strip().replace(".", "", 1)
    if not digits.isascii() or not digits.isdigit() or len(digits) > 12:
        raise executing(f"the value {text:.50} of {kind} is not a number.")
    return Fraction(text.strip())

"""The sizes that Fargate has for a job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from helpers.local_aws.batch.errors import executing

_GIB = 1024
# vCPUs -> MiB of memory, as ResourceRequirement documents them.
_SIZES: dict[Fraction, frozenset[int]] = {
    Fraction(1, 4): frozenset({512, 1 * _GIB, 2 * _GIB}),
    Fraction(1, 2): frozenset(range(1 * _GIB, 4 * _GIB + 1, _GIB)),
    Fraction(1): frozenset(range(2 * _GIB, 8 * _GIB + 1, _GIB)),
    Fraction(2): frozenset(range(4 * _GIB, 16 * _GIB + 1, _GIB)),
    Fraction(4): frozenset(range(8 * _GIB, 30 * _GIB + 1, _GIB)),
    Fraction(8): frozenset(range(16 * _GIB, 60 * _GIB + 1, 4 * _GIB)),
    Fraction(16): frozenset(range(32 * _GIB, 120 * _GIB + 1, 8 * _GIB)),
    Fraction(32): frozenset({60 * _GIB, 120 * _GIB, 244 * _GIB}),
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
        raise executing("vCPU is not provided.")
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

"""The sizes in which Fargate runs a container, whether ECS or Batch asks for it."""

from collections.abc import Mapping, Sequence

VCPU = 1024  # CPU units
GIB = 1024  # MiB

# CPU units to MiB of memory, as ECS documents them for tasks of Linux.
MEMORY: Mapping[int, Sequence[int]] = {
    VCPU // 4: (GIB // 2, GIB, 2 * GIB),
    VCPU // 2: range(GIB, 4 * GIB + 1, GIB),
    VCPU: range(2 * GIB, 8 * GIB + 1, GIB),
    2 * VCPU: range(4 * GIB, 16 * GIB + 1, GIB),
    4 * VCPU: range(8 * GIB, 30 * GIB + 1, GIB),
    8 * VCPU: range(16 * GIB, 60 * GIB + 1, 4 * GIB),
    16 * VCPU: range(32 * GIB, 120 * GIB + 1, 8 * GIB),
}

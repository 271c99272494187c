"""The size of a task, as requests name it."""

import re
from decimal import Decimal

from helpers.local_aws.containers import fargate
from helpers.local_aws.ecs.errors import client

_UNITS = re.compile(r"(\d+|\d*\.\d+)\s*([a-z]*)", re.A | re.I)


def size(cpu: str | None, memory: str | None) -> tuple[str, str]:
    """Return CPU units and MiB as ECS stores them. Raises ClientException unless Fargate has such a task.

    CPU may be given as "256" or ".25 vCPU", memory as "512" or "0.5 GB".
    """
    for name, given in (("cpu", cpu), ("memory", memory)):
        if given is None:
            raise client(f"Fargate requires that '{name}' be defined at the task level.")
    units, mebibytes = _number("cpu", cpu or "", "vcpu"), _number("memory", memory or "", "gb")
    if mebibytes not in fargate.MEMORY.get(units, ()):
        raise client(
            f"No Fargate configuration exists for given values: {units} CPU, {mebibytes} memory. "
            "See the Amazon ECS documentation for the valid values."
        )
    return str(units), str(mebibytes)


def _number(name: str, text: str, unit: str) -> int:
    match = _UNITS.fullmatch(text.strip())
    if match is None or len(text) > 20 or match[2].lower() not in ("", unit) or (not match[2] and "." in match[1]):
        raise client(f"Invalid '{name}' setting for task.")
    return int(Decimal(match[1]) * 1024) if match[2] else int(match[1])

"""Names that CloudFormation makes up."""

import secrets

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_RANDOM = 12


def physical_name(stack: str, logical: str, limit: int, *, lower: bool = False) -> str:
    """Return ``{stack}-{logical}-{random}`` of at most ``limit`` characters, the longer part cut first."""
    room = limit - _RANDOM - 2
    if len(stack) + len(logical) > room:
        kept = max(room // 2, room - len(logical))
        stack = stack[:kept]
        logical = logical[: room - len(stack)]
    name = f"{stack}-{logical}-{''.join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))}"
    return name.lower() if lower else name

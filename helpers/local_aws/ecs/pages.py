"""Pages of ECS's lists."""

import base64
import binascii
from typing import Any

from helpers.local_aws.ecs.errors import invalid
from helpers.local_aws.wire import Params

_MOST = 100


def page(member: str, items: list[Any], params: Params) -> Params:
    """Return one page of ``items`` under ``member``; the token says where the next one begins."""
    size = params.get("maxResults", _MOST)
    if not 1 <= size <= _MOST:
        raise invalid(f"maxResults must be between 1 and {_MOST}.")
    try:
        start = int(base64.urlsafe_b64decode(params.get("nextToken", "MA==")))
    except (binascii.Error, ValueError):
        raise invalid("Invalid token.") from None
    if start < 0:
        raise invalid("Invalid token.")
    end = start + size
    more = {"nextToken": base64.urlsafe_b64encode(str(end).encode()).decode()} if end < len(items) else {}
    return {member: items[start:end], **more}

"""Pages of ECS's lists."""

from typing import Any

from helpers.local_aws import pages
from helpers.local_aws.ecs.errors import invalid
from helpers.local_aws.wire import Params

_MOST = 100


def page(member: str, items: list[Any], params: Params) -> Params:
    """Return one page of ``items`` under ``member``; the token says where the next one begins."""
    size = params.get("maxResults", _MOST)
    if not 1 <= size <= _MOST:
        raise invalid(f"maxResults must be between 1 and {_MOST}.")
    try:
        found, token = pages.cut(items, params.get("nextToken"), size)
    except ValueError:
        raise invalid("Invalid token.") from None
    return {member: found, **({"nextToken": token} if token else {})}

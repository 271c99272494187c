"""Pages of a list."""

from typing import Any

from helpers.local_aws import pages
from helpers.local_aws.wire import AwsError, Params


def page(member: str, items: list[Any], params: Params, size: int = 100) -> Params:
    """Return one page of ``items``; the token says where the next one begins."""
    try:
        found, token = pages.cut(items, params.get("nextToken"), params.get("maxResults", size))
    except ValueError:
        raise AwsError("InvalidParameterException", "Invalid parameter at 'nextToken'") from None
    return {member: found, **({"nextToken": token} if token else {})}

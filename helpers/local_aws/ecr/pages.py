"""Pages of a list."""

import base64
import binascii
from typing import Any

from helpers.local_aws.wire import AwsError, Params


def page(member: str, items: list[Any], params: Params, size: int = 100) -> Params:
    """Return one page of ``items``; the token says where the next one begins."""
    try:
        start = int(base64.urlsafe_b64decode(params.get("nextToken", "MA==")))
    except (binascii.Error, ValueError):
        raise AwsError("InvalidParameterException", "Invalid parameter at 'nextToken'") from None
    end = start + params.get("maxResults", size)
    more = {"nextToken": base64.urlsafe_b64encode(str(end).encode()).decode()} if end < len(items) else {}
    return {member: items[start:end], **more}

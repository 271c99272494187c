"""Pages of a list, and the tokens that say where the next one begins."""

import base64
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def cut(items: Sequence[Item], token: str | None, size: int | None) -> tuple[list[Item], str]:
    """Return the ``size`` items (None: all) from where ``token`` says, and the token of the next page, "" for none.

    Raises ValueError for what is no token.
    """
    start = int(base64.b64decode(token or "MA==", altchars=b"-_", validate=True))
    if start < 0:
        raise ValueError("a page begins in the list")
    end = len(items) if size is None else start + size
    following = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(items) else ""
    return list(items[start:end]), following

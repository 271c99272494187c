"""What the notebooks import. Start with ``connect()``."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helpers.connection import Connection, connect

__all__ = ["Connection", "connect"]


def __getattr__(name: str) -> Any:
    """Import the two names when they are asked for: the embedded AWS must start without boto3."""
    if name in __all__:
        from helpers import connection

        return getattr(connection, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

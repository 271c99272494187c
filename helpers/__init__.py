"""What the notebooks import. Start with ``connect()``."""

from helpers.connection import Connection, connect

__all__ = ["Connection", "connect"]

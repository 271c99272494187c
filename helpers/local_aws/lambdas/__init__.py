"""Lambda functions: Python handlers that really run, in warm workers forked from one process."""

from .functions import Functions, Outcome

__all__ = ["Functions", "Outcome"]

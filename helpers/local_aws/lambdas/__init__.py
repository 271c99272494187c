"""Lambda functions: Python handlers that really run, in warm workers forked from one process, and their events."""

from .functions import Functions, Outcome
from .invocations import Invocation, Invocations, Verdict

__all__ = ["Functions", "Invocation", "Invocations", "Outcome", "Verdict"]

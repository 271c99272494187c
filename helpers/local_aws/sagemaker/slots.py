"""How many jobs run at the same time on this machine."""

import os
import threading
import time
from collections.abc import Callable

LONGEST = 2.0  # seconds that a job waits for a slot


class Slots:
    """Let as many jobs run at once as there are processors, but let none wait for long.

    More at once take longer together than one after another: they share the
    caches and switch. But a job may itself wait for another one, or for hours of
    sleep to pass, so after ``LONGEST`` seconds it runs in any case.
    """

    def __init__(self, count: int | None = None, longest: float = LONGEST) -> None:
        self._free = count or _processors()
        self._longest = longest
        self._changed = threading.Condition()

    def take(self, given_up: Callable[[], bool]) -> None:
        """Wait for a slot, or until ``given_up`` or the longest time; ``give`` it back in any case."""
        deadline = time.monotonic() + self._longest
        with self._changed:
            while self._free <= 0 and not given_up():
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            self._free -= 1

    def give(self) -> None:
        """Give a slot back."""
        with self._changed:
            self._free += 1
            self._changed.notify_all()

    def look(self) -> None:
        """Let those who wait see whether they have given up."""
        with self._changed:
            self._changed.notify_all()


def _processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

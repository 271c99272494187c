"""How many jobs run at the same time on this machine."""

import os
import threading
import time
from collections.abc import Callable

LONGEST = 2.0  # seconds that jobs wait while none of those that run ends


class Slots:
    """Let as many jobs run at once as there are processors, as long as some of them end.

    More at once take longer together than one after another: they share the
    caches and switch. But a job may itself wait for another one, or for hours of
    sleep to pass, so when for ``LONGEST`` seconds none has ended or been let in, one more is.
    """

    def __init__(self, count: int | None = None, longest: float = LONGEST) -> None:
        self._free = count or _processors()
        self._longest = longest
        self._moved = 0.0  # when a job was let in or ended last
        self._changed = threading.Condition()

    def take(self, given_up: Callable[[], bool]) -> None:
        """Wait for a slot, or until ``given_up`` or nothing moves any more; ``give`` it back in any case."""
        came = time.monotonic()
        with self._changed:
            while self._free <= 0 and not given_up():
                left = max(came, self._moved) + self._longest - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            self._free -= 1
            self._moved = time.monotonic()

    def give(self) -> None:
        """Give a slot back."""
        with self._changed:
            self._free += 1
            self._moved = time.monotonic()
            self._changed.notify_all()

    def look(self) -> None:
        """Let those who wait see whether they have given up."""
        with self._changed:
            self._changed.notify_all()


def _processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

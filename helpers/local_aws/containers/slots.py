"""How many jobs and containers run at the same time on this machine."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable

LONGEST = 2.0  # seconds that jobs wait while none of those that run ends


class Slots:
    """Let as many jobs run at once as there are processors, as long as some of them end; who came first goes first.

    More at once take longer together than one after another: they share the
    caches and switch. But a job may itself wait for another one, or for hours of
    sleep to pass, so when for ``LONGEST`` seconds none has ended or been let in, one more is.
    """

    def __init__(self, count: int | None = None, longest: float = LONGEST) -> None:
        self._free = count or _processors()
        self._longest = longest
        self._moved = 0.0  # when a job was let in or ended last
        self._lock = threading.Lock()
        self._line: deque[threading.Condition] = deque()

    def queue(self) -> threading.Condition:
        """Return a place in the line, for ``take``, which must follow."""
        with self._lock:
            return self._queue()

    def take(self, given_up: Callable[[], bool], place: threading.Condition | None = None) -> None:
        """Wait for a slot, or until ``given_up`` or nothing moves any more; ``give`` it back in any case."""
        came = time.monotonic()
        with self._lock:
            place = place or self._queue()
            while not given_up():
                first = self._line[0] is place
                left = max(came, self._moved) + self._longest - time.monotonic()
                if first and (self._free > 0 or left <= 0):
                    break
                place.wait(left if first else None)
            self._line.remove(place)
            self._free -= 1
            self._moved = time.monotonic()
            self._wake_first()

    def give(self) -> None:
        """Give a slot back."""
        with self._lock:
            self._free += 1
            self._moved = time.monotonic()
            self._wake_first()

    def look(self) -> None:
        """Let those who wait see whether they have given up."""
        with self._lock:
            for place in self._line:
                place.notify()

    def _queue(self) -> threading.Condition:
        place = threading.Condition(self._lock)
        self._line.append(place)
        return place

    def _wake_first(self) -> None:
        if self._line:
            self._line[0].notify()


def _processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

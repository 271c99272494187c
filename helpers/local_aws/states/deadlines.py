"""Calls at a later time, all from one thread: a timer thread for each execution would be a thread too many."""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Deadline:
    """A call that is due at ``when`` (monotonic seconds), until it is cancelled."""

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback: Callable[[], object] | None = callback


class Deadlines:
    """Call what is due, in a thread that starts with the first deadline."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Deadline]] = []
        self._numbers = itertools.count()
        self._cancelled = 0
        self._started = False

    def after(self, seconds: float, callback: Callable[[], object]) -> Deadline:
        """Call ``callback`` after ``seconds``."""
        deadline = Deadline(time.monotonic() + seconds, callback)
        with self._changed:
            heapq.heappush(self._heap, (deadline.when, next(self._numbers), deadline))
            if not self._started:
                self._started = True
                threading.Thread(target=self._run, name="deadlines", daemon=True).start()
            if self._heap[0][2] is deadline:
                self._changed.notify()
        return deadline

    def cancel(self, deadline: Deadline) -> None:
        """Do not call it any more, and hold nothing of it."""
        with self._changed:
            if deadline.callback is None:
                return
            deadline.callback = None
            self._cancelled += 1
            if self._cancelled * 2 > len(self._heap):  # most are of executions that ended long before
                self._heap = [entry for entry in self._heap if entry[2].callback is not None]
                heapq.heapify(self._heap)
                self._cancelled = 0

    def __len__(self) -> int:
        """Return how many are held, cancelled ones included."""
        return len(self._heap)

    def _run(self) -> None:
        while True:
            callback = self._next()
            try:
                callback()
            except Exception:  # noqa: BLE001 - one failing call must not be the end of all others
                _log.exception("a deadline")

    def _next(self) -> Callable[[], object]:
        """Return the next callback once it is due."""
        with self._changed:
            while True:
                wait = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                deadline = heapq.heappop(self._heap)[2]
                if deadline.callback is None:
                    self._cancelled = max(0, self._cancelled - 1)
                    continue
                callback, deadline.callback = deadline.callback, None
                return callback

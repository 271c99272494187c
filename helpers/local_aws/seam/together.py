"""Pieces of work that run at once and end together."""

import contextvars
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from helpers.local_aws.states.scopes import Cancelled, Scope

Piece = Callable[[int, Scope, int], tuple[Any, int]]


class Together:
    """Pieces that run at once, ``width`` at most; the first to fail ends all others, and nobody waits for those.

    ``piece(index, scope, last)`` runs one of ``count`` after the event ``last`` and returns
    its result and the event that the next piece of its thread follows on.
    """

    def __init__(
        self, outer: Scope, count: int, width: int, piece: Callable[[int, Scope, int], tuple[Any, int]]
    ) -> None:
        self._outer, self._scope = outer, outer.child()
        self._count, self._width, self._piece = count, min(width, count), piece
        self._changed = threading.Condition()
        self._next, self._left = 0, count
        self._failure: Exception | None = None
        self._running: set[int] = set()
        self._results: list[Any] = [None] * count

    @property
    def cut_off(self) -> list[int]:
        """Which pieces were running when another failed."""
        with self._changed:
            return sorted(self._running)

    def run(self, last: int) -> list[Any]:
        """Return the results in order, beginning after the event ``last``. Raises what the first to fail raised."""
        undo = self._outer.on_cancel(self._wake)
        for _ in range(self._width):
            context = contextvars.copy_context()  # a thread needs one of its own
            self._scope.start(partial(context.run, self._work, last), "strand")
        with self._changed:
            self._changed.wait_for(lambda: not self._left or self._failure or self._outer.cancelled)
        undo()
        self._scope.close()
        self._outer.require()
        if self._failure:
            raise self._failure
        return self._results

    def end(self) -> None:
        """End all pieces, as a failure would."""
        self._scope.cancel()

    def _work(self, last: int) -> None:
        first = last
        while (index := self._take()) is not None:
            try:
                result, last = self._piece(index, self._scope, first if index < self._width else last)
            except Cancelled:
                return
            except Exception as failure:  # noqa: BLE001 - raised again in the thread that waits
                self._fail(index, failure)
                return
            with self._changed:
                self._results[index] = result
                self._running.discard(index)
                self._left -= 1
                if not self._left:
                    self._changed.notify_all()

    def _fail(self, index: int, failure: Exception) -> None:
        # First the others are told, so that none writes an event after the state's own last.
        self._scope.cancel()
        with self._changed:
            self._running.discard(index)
            self._failure = self._failure or failure
            self._changed.notify_all()

    def _take(self) -> int | None:
        with self._changed:
            if self._next == self._count or self._scope.cancelled:
                return None
            self._running.add(self._next)
            self._next += 1
            return self._next - 1

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

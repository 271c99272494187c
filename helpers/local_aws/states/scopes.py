"""What can be stopped together: an execution, a branch of it, an item of a Map, with everything below it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Cancelled(Exception):
    """Ends what runs in a scope that was cancelled. No Retry and no Catch sees it."""


class Scope:
    """A part of an execution that ends as one.

    Cancelling it cancels the scopes below it at once, so that nothing more starts in them;
    what takes time, such as stopping a job, is then done in threads of its own.
    """

    def __init__(self, parent: "Scope | None" = None, *, idle: Callable[[], object] = lambda: None) -> None:
        """Make a scope below ``parent``; without one, ``idle`` is called when the last thread has left."""
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._children: set[Scope] = set()
        self._callbacks: dict[object, Callable[[], object]] = {}
        self._parent = parent
        self._root: Scope = parent._root if parent is not None else self
        self._busy, self._idle = 0, idle  # of a root: how many threads work in here
        if parent is not None:
            parent._adopt(self)

    @property
    def cancelled(self) -> bool:
        """Whether it has ended before its time."""
        return self._cancelled.is_set()

    def child(self) -> "Scope":
        """Return a scope that ends with this one, or before it."""
        return Scope(self)

    def close(self) -> None:
        """Leave the parent: what ran in here is over."""
        if self._parent is not None:
            with self._parent._lock:
                self._parent._children.discard(self)

    def cancel(self) -> None:
        """End everything in here; a second time changes nothing."""
        with self._lock:
            if self._cancelled.is_set():
                return
            self._cancelled.set()
            children, callbacks = list(self._children), list(self._callbacks.values())
            self._children.clear()
            self._callbacks.clear()
        for child in children:
            child.cancel()
        for callback in callbacks:
            self.start(callback, "cancel")

    def on_cancel(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call ``callback`` in a thread of its own when this is cancelled, at once if it was.

        Returns what undoes it.
        """
        token = object()
        with self._lock:
            if not self._cancelled.is_set():
                self._callbacks[token] = callback
                return lambda: self._forget(token)
        self.start(callback, "cancel")
        return lambda: None

    def require(self) -> None:
        """Raise Cancelled when it was cancelled."""
        if self._cancelled.is_set():
            raise Cancelled

    def sleep(self, seconds: float) -> None:
        """Wait; raise Cancelled as soon as it is cancelled."""
        if self._cancelled.wait(max(0.0, seconds)):
            raise Cancelled

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count as a thread that works in here."""
        self._enter()
        try:
            yield
        finally:
            self._exit()

    def start(self, target: Callable[[], object], name: str) -> None:
        """Run ``target`` in a thread that works in here, from now on."""

        def work() -> None:
            try:
                target()
            finally:
                self._exit()

        self._enter()
        threading.Thread(target=work, name=name, daemon=True).start()

    def _enter(self) -> None:
        root = self._root
        with root._lock:
            root._busy += 1

    def _exit(self) -> None:
        root = self._root
        with root._lock:
            root._busy -= 1
            idle = root._busy == 0
        if idle:
            root._idle()

    def _forget(self, token: object) -> None:
        with self._lock:
            self._callbacks.pop(token, None)

    def _adopt(self, child: "Scope") -> None:
        with self._lock:
            if not self._cancelled.is_set():
                self._children.add(child)
                return
        child.cancel()

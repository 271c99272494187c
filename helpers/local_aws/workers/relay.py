"""Carry TCP connections from one network to another, both ways, without a thread.

A process that has made a process namespace can start no threads; hence one
selector for everything. What is registered there has a function as its data,
which takes the events.
"""

import selectors
import socket
from collections.abc import Callable

from helpers.local_aws.workers.isolation import Address

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_BLOCK = 1 << 18  # bytes of one read, and about the most that waits to be written


class Relay:
    """Connect whoever connects to ``listener`` with ``target``, for as long as either side has something to say."""

    def __init__(self, selector: selectors.BaseSelector, listener: socket.socket, target: Address) -> None:
        self._selector, self._listener, self._target = selector, listener, target
        self._accepts = True
        listener.setblocking(False)
        selector.register(listener, READ, self._accept)

    def _accept(self, _events: int) -> None:
        try:
            far = socket.socket()
        except OSError:
            return self._pause()
        try:
            near, _ = self._listener.accept()
        except OSError as error:
            far.close()
            # Whoever came may have gone again; else no descriptor is left until a connection has ended.
            return None if isinstance(error, (BlockingIOError, ConnectionAbortedError)) else self._pause()
        far.setblocking(False)
        far.connect_ex(self._target)  # a refusal shows when it is read from
        _connect(self._selector, near, far, self._resume)
        return None

    def _pause(self) -> None:
        self._accepts = False
        self._selector.unregister(self._listener)

    def _resume(self) -> None:
        if not self._accepts:
            self._accepts = True
            self._selector.register(self._listener, READ, self._accept)


def _connect(
    selector: selectors.BaseSelector, near: socket.socket, far: socket.socket, over: Callable[[], None]
) -> None:
    """Pass on what comes on either of two sockets, and close both in the end."""
    ends = _End(selector, near), _End(selector, far)

    def check() -> None:
        for end, other in (ends, ends[::-1]):
            if (end.finished() and other.finished()) or (end.dead() and not other.waiting):
                for each in ends:
                    each.close()
                return over()
        for end in ends:
            end.update()
        return None

    for end, other in (ends, ends[::-1]):
        end.peer, end.check = other, check
    check()


class _End:
    """One socket of a connection: what waits to be written to it, and which directions are over."""

    peer: "_End"
    check: Callable[[], None]

    def __init__(self, selector: selectors.BaseSelector, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector, self._connection = selector, connection
        self._events = 0
        self.waiting = bytearray()
        self._read_all = self._told = self._broken = False

    def finished(self) -> bool:
        """Tell whether its last byte has been read and the last one for it written."""
        return self._read_all and not self.waiting

    def dead(self) -> bool:
        """Tell whether it neither gives nor takes any more."""
        return self._read_all and self._broken

    def update(self) -> None:
        """Tell it when nothing more will come, and wait for what can happen next."""
        if self.peer._read_all and not self.waiting and not self._told:
            self._told = True
            try:
                self._connection.shutdown(socket.SHUT_WR)
            except OSError:
                self._broken = True
        wanted = 0 if self._read_all or len(self.peer.waiting) >= _BLOCK else READ
        wanted |= WRITE if self.waiting else 0
        if wanted != self._events:
            if self._events:
                self._selector.unregister(self._connection)
            if wanted:
                self._selector.register(self._connection, wanted, self._handle)
            self._events = wanted

    def close(self) -> None:
        if self._events:
            self._selector.unregister(self._connection)
        self._events, self._read_all = 0, True
        self._connection.close()

    def _handle(self, events: int) -> None:
        if not self._events:
            return  # an event before this one closed the connection
        if events & WRITE:
            self._write()
        if events & READ:
            self._read()
        self.check()

    def _read(self) -> None:
        try:
            data = self._connection.recv(_BLOCK)
        except BlockingIOError:
            return
        except OSError:
            data, self._broken = b"", True
        if not data:
            self._read_all = True
        elif not self.peer._broken:
            self.peer.waiting += data
            self.peer._write()

    def _write(self) -> None:
        try:
            del self.waiting[: self._connection.send(self.waiting)]
        except BlockingIOError:
            return
        except OSError:  # it takes nothing more; what it has sent is still to be read
            self._broken = True
            self.waiting.clear()

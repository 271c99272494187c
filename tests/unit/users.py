"""Forks that act as another user, and whether that user can isolate processes on this machine."""

import ctypes
import encodings.idna  # noqa: F401 - sockets load it late, when an ordinary user may not read root's Python
import os
from collections.abc import Callable

from helpers.local_aws.workers import isolation

NOBODY = 65534


def become(user: int) -> None:
    """Act as ``user`` from now on."""
    if user != os.getuid():
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: without it /proc/self belongs to root


def forked(user: int, function: Callable[[], str]) -> str:
    """Run ``function`` in a fork as ``user`` and return its text; an OSError comes back as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        text = "the attempt ended early"
        try:
            become(user)
            text = function()
        except OSError as error:
            text = f"OSError: {error}"
        finally:
            os.write(writer, text.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    os.waitpid(child, 0)
    return text


def why_not(user: int) -> str:
    """Return why processes cannot be isolated for ``user`` here, or ""."""

    def attempt() -> str:
        isolation.own_users()
        isolation.make_place()
        return isolation.probe()

    return forked(user, attempt)

"""What a process sees where in the file system: mounts of its own mount namespace (Linux).

The C library is asked itself: Python 3.11 has no ``os.unshare``, no ``os.setns``, and no version has ``mount``.
"""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

_RDONLY, _NOSUID, _NODEV, _NOEXEC, _BIND, _REC = 1, 2, 4, 8, 4096, 16384
_UNBINDABLE, _PRIVATE = 1 << 17, 1 << 18
_REMOUNT = 32
_DETACH = 2
# What the machine is told through files, as Docker protects them: some of it names programs that the kernel then runs.
_SETTINGS = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/sys")

_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """Call a function of the C library that returns 0. Raises OSError when it does not."""
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def make_private() -> None:
    """Let nothing that is mounted here from now on be seen in another mount namespace."""
    _mount(None, "/", None, _REC | _PRIVATE)


def bind(source: str, target: str) -> None:
    """Let ``target`` be what ``source`` is."""
    _mount(source, target, None, _BIND)


def cover(path: str | Path) -> None:
    """Hide what is in a folder or a file; nothing to do when it is not there."""
    if os.path.isdir(path):
        _mount("tmpfs", str(path), "tmpfs", _RDONLY | _NOSUID | _NODEV | _NOEXEC)
    elif os.path.exists(path):  # a socket, say
        bind(os.devnull, str(path))


def mount_proc() -> None:
    """Show the processes of the own process namespace in /proc; root cannot change the machine's settings there.

    Raises OSError.
    """
    _mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    if os.getuid() == 0:  # nobody else may write there: root needs no capability for most of it
        for path in filter(os.path.exists, _SETTINGS):
            _mount(path, path, None, _BIND | _REC)
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in dict.fromkeys(points):
            if any(Path(point).is_relative_to(path) for path in _SETTINGS):
                with suppress(FileNotFoundError):  # covered by another
                    _mount(None, point, None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV | _NOEXEC)


def make_room(place: Path, kept: Path) -> None:
    """Create the folder ``place`` in a folder that is replaced by an empty one which still shows its entries.

    A Python may live beside it, and an ordinary user may not write there; this
    leaves no trace on the machine. ``kept`` is a path to use meanwhile.
    """
    folder = place.parent
    kept.mkdir()
    _mount(str(folder), str(kept), None, _BIND | _REC)
    _mount("tmpfs", str(folder), "tmpfs", _NOSUID | _NODEV)
    folder.chmod(0o755)
    for entry in kept.iterdir():
        _show(entry, folder / entry.name)
    call("umount2", str(kept).encode(), _DETACH)
    kept.rmdir()
    place.mkdir()


def change_root(folder: int, name: str) -> None:
    """Make ``name`` in the open ``folder`` this process's /, with the machine's own folders beside what is in it.

    What is in it wins, except where this Python lives, and in /opt: there the
    entries of both are seen. Raises OSError.
    """
    os.fchdir(folder)  # by its path it may be covered
    bind(name, name)
    os.chdir(name)
    _mount(None, ".", None, _UNBINDABLE)  # else the folder that holds this one would be shown with all of it again
    _show_beside(Path())
    call("pivot_root", b".", b".")
    call("umount2", b".", _DETACH)
    os.chdir("/")


def _show_beside(path: Path) -> None:
    """Show the machine's entries of the folder /``path`` in ``path``, which is relative to the new root."""
    homes = python_homes()
    for name in os.listdir(Path("/", path)):
        theirs, ours = Path("/", path, name), path / name
        if not os.path.lexists(ours):
            with suppress(OSError):  # somebody's odd mount, or gone again
                _show(theirs, ours)
        elif any(home.is_relative_to(theirs) for home in homes):
            if theirs in homes or ours.is_symlink() or not ours.is_dir():
                raise FileExistsError(f"{theirs} of the image would cover the Python of the embedded AWS")
            _show_beside(ours)
        elif theirs == Path("/opt") and ours.is_dir() and not ours.is_symlink():
            _show_beside(ours)


def _show(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    target.mkdir() if source.is_dir() else target.touch()
    _mount(str(source), str(target), None, _BIND | _REC)


def python_homes() -> set[Path]:
    """Return the folders that this Python is made of."""
    homes = {Path(path) for path in (*sys.path, sys.prefix, sys.base_prefix) if os.path.isabs(path)}
    return homes | {home.resolve() for home in homes}


def _mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    encoded = [item.encode() if item is not None else None for item in (source, target, kind)]
    call("mount", *encoded, ctypes.c_ulong(flags), None)

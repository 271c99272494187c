"""Give a process its own view of the machine, with Linux namespaces.

A job sees its own folder at ``/opt/ml``, its own processes only, and nothing of
the folders that hold credentials; nothing that it starts outlives it. An
ordinary user gets the same inside a user namespace that maps the user to
itself. Python 3.11 has no ``os.unshare``, hence ctypes.
"""

import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

ML = Path("/opt/ml")
TMP = Path("/tmp")  # noqa: S108 - the path inside the job

_NEWNS, _NEWUSER, _NEWPID, _NEWNET = 0x00020000, 0x10000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
_SET_PDEATHSIG, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 1, 24, 38
# What Docker leaves to root in a container, less mknod: chown, dac_override, fowner, fsetid, kill, setgid,
# setuid, setpcap, net_bind_service, net_raw, sys_chroot, audit_write, setfcap.
_CAPABILITIES = sum(1 << bit for bit in (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 29, 31))

_libc = ctypes.CDLL(None, use_errno=True)


def enter(folder: Path, hidden: Sequence[Path]) -> None:
    """Move this process to namespaces of its own, with ``folder/ml`` at /opt/ml and ``hidden`` folders empty.

    The next fork is process 1 of a new process namespace. ``folder/tmp`` becomes
    /tmp, except where this Python itself lives in /tmp. Raises OSError where the
    platform or its settings forbid it.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "this platform has no namespaces")
    user, group = os.getuid(), os.getgid()
    try:
        _unshare(_NEWNS | _NEWPID)
    except PermissionError:
        _unshare(_NEWUSER | _NEWNS | _NEWPID)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _mount(None, "/", None, _REC | _PRIVATE)
    source = os.open(folder, os.O_PATH)  # the folder may itself lie below something that is hidden next
    scratch = os.open(folder / "tmp", os.O_PATH)
    if not ML.is_dir():
        _make_room(ML.parent, Path(f"/proc/self/fd/{source}/room"))
    _mount(f"/proc/self/fd/{source}/ml", str(ML), None, _BIND)
    if private_tmp():
        _mount(f"/proc/self/fd/{scratch}", str(TMP), None, _BIND)
    for path in hidden:
        if path.is_dir():
            _mount("tmpfs", str(path), "tmpfs", _RDONLY | _NOSUID | _NODEV | _NOEXEC)
    os.close(source)
    os.close(scratch)


def private_tmp() -> bool:
    """Tell whether a job can have a /tmp of its own: not where this Python lives in /tmp."""
    return not any(Path(path).is_relative_to(TMP) for path in (*sys.path, sys.prefix, sys.base_prefix) if path)


def start(run: Callable[[], NoReturn], status: int, *, isolated: bool, network: bool) -> int:
    """Fork an init process that runs ``run`` in a child, and return the init's process id.

    SIGTERM to the init reaches that child only. When the child ends, its exit
    code (128 + n for signal n) is written to the descriptor ``status`` as one
    byte and the init ends; the kernel then kills whatever is left beside it.
    """
    # Process 1 ignores a signal that it has no handler for yet, unless it is blocked.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    init = os.fork()
    if init:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        return init
    code = 70
    try:
        die_with_parent()
        os.setsid()
        if isolated:
            _enter_inner(network)
        code = _reap(run, isolated)
    except OSError as error:
        os.write(2, f"cannot isolate the job: {error}\n".encode())
    finally:
        os.write(status, bytes([code]))
        os._exit(0)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends."""
    if sys.platform == "linux":
        _prctl(_SET_PDEATHSIG, signal.SIGKILL)


def probe() -> str:
    """Try the isolation in a child of this process. Return "" or the reason why it does not work here."""
    with tempfile.TemporaryDirectory(prefix="local-aws-") as name:
        folder = Path(name)
        (folder / "ml").mkdir()
        (folder / "tmp").mkdir()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            _probe(folder, writer)
        os.close(writer)
        with os.fdopen(reader) as answer:
            reason = answer.read()
        os.waitpid(child, 0)
    return reason


def _probe(folder: Path, answer: int) -> NoReturn:
    reason = "the probe ended early"
    try:
        enter(folder, [])
        reader, writer = os.pipe()
        init = start(lambda: os._exit(0), writer, isolated=True, network=False)
        os.close(writer)
        reason = "" if os.read(reader, 1) == b"\0" else "a process namespace cannot be set up"
        os.waitpid(init, 0)
    except OSError as error:
        reason = str(error)
    finally:
        os.write(answer, reason.encode())
        os._exit(0)


def _reap(run: Callable[[], NoReturn], isolated: bool) -> int:
    child = os.fork()
    if child == 0:
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        die_with_parent()
        if isolated:
            _drop_privileges()
        run()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _enter_inner(network: bool) -> None:
    _unshare(_NEWNS if network else _NEWNS | _NEWNET)
    if not network:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe_socket:
            interface = struct.pack("16sh14x", b"lo", 0x1 | 0x40)  # up, running
            fcntl.ioctl(probe_socket, 0x8914, interface)  # SIOCSIFFLAGS
    try:
        _mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    except PermissionError:
        return  # inside many containers /proc is partly covered, and the kernel then refuses a fresh one


def _make_room(folder: Path, kept: Path) -> None:
    """Cover ``folder`` with an empty one that still shows its entries, and create /opt/ml there.

    A Python may live in /opt, and an ordinary user may not write there; this
    leaves no trace on the machine.
    """
    kept.mkdir()
    _mount(str(folder), str(kept), None, _BIND | _REC)
    _mount("tmpfs", str(folder), "tmpfs", _NOSUID | _NODEV)
    folder.chmod(0o755)
    for entry in kept.iterdir():
        target = folder / entry.name
        if entry.is_symlink():
            target.symlink_to(entry.readlink())
            continue
        target.mkdir() if entry.is_dir() else target.touch()
        _mount(str(entry), str(target), None, _BIND | _REC)
    _call("umount2", str(kept).encode(), 2)  # MNT_DETACH
    kept.rmdir()
    ML.mkdir()


def _drop_privileges() -> None:
    """Keep what a container's root has; an ordinary user keeps nothing, and nobody can gain anything."""
    kept = _CAPABILITIES if os.getuid() == 0 else 0
    for bit in range(41):
        if not kept >> bit & 1:
            try:
                _prctl(_CAPBSET_DROP, bit)
            except OSError:
                break  # older kernels know fewer capabilities
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    _call("capset", header, struct.pack("=6I", low, low, 0, high, high, 0))
    _prctl(_SET_NO_NEW_PRIVS, 1)


def _unshare(flags: int) -> None:
    _call("unshare", flags)


def _mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    encoded = [item.encode() if item is not None else None for item in (source, target, kind)]
    _call("mount", *encoded, ctypes.c_ulong(flags), None)


def _prctl(option: int, value: int) -> None:
    _call("prctl", option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")

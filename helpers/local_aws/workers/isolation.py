"""Give a process its own view of the machine, with Linux namespaces.

A job sees its own folder at ``/opt/ml``, its own processes only, and nothing of
the folders that hold credentials; nothing that it starts outlives it. An
ordinary user gets the same inside a user namespace that maps the user to
itself. The namespaces belong to a small process (``enter``, ``start_init``); the
large one that has the packages loaded forks just once a job, into them
(``fork_into``).
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
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from helpers.local_aws.workers import mounts
from helpers.local_aws.workers.mounts import call

ML = Path("/opt/ml")
TMP = Path("/tmp")  # noqa: S108 - the path inside the job

# Through these a program inside could ask services of the machine outside to do something, such as to power it off.
DOORS = tuple(
    Path("/run", name) for name in ("systemd", "dbus", "user", "docker.sock", "containerd", "podman", "initctl")
)

Address = tuple[str, int]  # IPv4 address and port

_NEWNS, _NEWUSER, _NEWPID, _NEWNET = 0x00020000, 0x10000000, 0x20000000, 0x40000000
_SET_PDEATHSIG, _CAPBSET_DROP, _SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS = 1, 24, 36, 38
# What Docker leaves to root in a container, less mknod: chown, dac_override, fowner, fsetid, kill, setgid,
# setuid, setpcap, net_bind_service, net_raw, sys_chroot, audit_write, setfcap.
_CAPABILITIES = sum(1 << bit for bit in (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 29, 31))


def own_users() -> None:
    """Enter a user namespace, unless this process may make the other namespaces without one.

    In it an ordinary user may make them; it maps the user to itself. Processes that
    are to meet in one job have to share it: ``users`` and ``join_users``. Raises OSError.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "this platform has no namespaces")
    if _in_child(lambda: _unshare(_NEWNS | _NEWPID)) == "":
        return
    user, group = os.getuid(), os.getgid()
    _unshare(_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def make_place() -> None:
    """Enter a mount namespace that has /opt/ml, so that not every job has to make it."""
    _unshare(_NEWNS)
    mounts.make_private()
    if not ML.is_dir():
        with tempfile.TemporaryDirectory(prefix="local-aws-") as room:
            mounts.make_room(ML, Path(room, "room"))


def users() -> int:
    """Return a descriptor of this process's user namespace."""
    return os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)


def join_users(descriptor: int) -> None:
    """Enter a user namespace, if it is not the own one. Only a process without threads can."""
    own = users()
    if not os.path.sameopenfile(own, descriptor):
        call("setns", descriptor, _NEWUSER)
    os.close(own)


def enter(folder: Path, hidden: Sequence[Path], *, root: str = "") -> None:
    """Move this process to namespaces of its own, with ``folder/ml`` at /opt/ml and what is ``hidden`` empty.

    What lies in ``folder/root`` (if a name is given) is then seen at /, see ``mounts.change_root``.

    ``own_users`` and ``make_place`` ran in it or in a process that it was forked off.
    The next fork is process 1 of a new process namespace. ``folder/tmp`` becomes
    /tmp, except where this Python itself lives in /tmp. Raises OSError where the
    platform or its settings forbid it.
    """
    _unshare(_NEWNS | _NEWPID)
    mounts.make_private()
    source = os.open(folder, os.O_PATH)  # the folder may itself lie below something that is hidden next
    scratch = os.open(folder / "tmp", os.O_PATH)
    mounts.bind(f"/proc/self/fd/{source}/ml", str(ML))
    if private_tmp():
        mounts.bind(f"/proc/self/fd/{scratch}", str(TMP))
    for path in hidden:
        mounts.cover(path)
    if root:
        mounts.change_root(source, root)
    os.close(source)
    os.close(scratch)


def doors(*, names: bool, run: Path = Path("/run")) -> list[Path]:
    """Return what is behind ``DOORS``; ``names``: without the one service that resolves names, which networks need."""
    if not names:
        return [run / door.name for door in DOORS]
    systemd = run / "systemd"
    others = sorted(path for path in systemd.iterdir() if path.name != "resolve") if systemd.is_dir() else []
    return [*(run / door.name for door in DOORS if door.name != "systemd"), *others]


def private_tmp() -> bool:
    """Tell whether a job can have a /tmp of its own: not where this Python lives in /tmp."""
    return not any(home.is_relative_to(TMP) for home in mounts.python_homes())


def start_init(*, network: bool) -> tuple[int, tuple[int, ...]]:
    """Fork the first process of the namespaces that ``enter`` made; ``fork_into`` then puts the entrypoint there.

    Returns its process id, and descriptors of its namespaces. When it ends, the
    kernel kills whatever runs in them. Raises OSError.
    """
    init, namespaces, _ = _start_init(network, ())
    return init, namespaces


def start_machine(addresses: Sequence[Address]) -> tuple[int, tuple[int, ...], list[socket.socket]]:
    """As ``start_init``, with a network of its own, in which nothing but these ``addresses`` answers.

    Returns sockets that listen there, too; the caller stays in its own network. Raises OSError.
    """
    return _start_init(False, addresses)


def _start_init(network: bool, addresses: Sequence[Address]) -> tuple[int, tuple[int, ...], list[socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours:
        init = os.fork()
        if init == 0:
            _be_init(theirs, network, addresses)
        theirs.close()
        text, files, _, _ = socket.recv_fds(ours, 4096, 8)
    if not files:
        os.waitpid(init, 0)
        raise OSError(errno.EPERM, f"cannot isolate the job: {text.decode()}")
    last = len(files) - len(addresses)
    return init, tuple(files[:last]), [socket.socket(fileno=file) for file in files[last:]]


def _be_init(answer: socket.socket, network: bool, addresses: Sequence[Address]) -> NoReturn:
    try:
        os.setsid()
        die_with_parent()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps what the job leaves behind
        if not network:
            _unshare(_NEWNET)
        kinds = ("pid", "mnt") if network else ("pid", "mnt", "net")
        files = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in kinds]
        if not network:
            _raise_loopback()
        files += [_listen(address) for address in addresses]
        with suppress(PermissionError):  # in many containers /proc is partly covered, and a fresh one is refused
            mounts.mount_proc()
        socket.send_fds(answer, [b"."], files)
        answer.close()
        for file in files:
            os.close(file)
        while True:
            signal.pause()
    except BaseException as error:  # noqa: BLE001 - the end of a process
        answer.send(str(error).encode())
    finally:
        os._exit(70)


def own_processes() -> int | None:
    """Return a descriptor of this process's own process namespace, None where it may not return to it.

    An ordinary user may not: it has no rights over the namespace from before ``own_users``.
    """
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        call("setns", own, _NEWPID)
    except PermissionError:
        os.close(own)
        return None
    return own


def fork_into(namespaces: Sequence[int], own: int | None) -> int:
    """Fork a child into the namespaces of ``start_init``, without privileges. Returns 0 in the child.

    The caller needs not be in any of them; ``own`` is its ``own_processes``, to which it returns.
    Where that is None, all later forks of the caller are in the namespaces too.
    """
    call("setns", namespaces[0], _NEWPID)
    child = -1
    try:
        child = os.fork()
    finally:
        if child and own is not None:
            call("setns", own, _NEWPID)
    if child:
        return child
    try:
        die_with_parent()
        for file in namespaces[1:]:
            call("setns", file, 0)
        _drop_privileges()
    except OSError as error:  # nothing of the caller may go on in the child, and that without isolation
        os.write(2, f"a fork cannot be isolated: {error}\n".encode())
        os._exit(70)
    return 0


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends."""
    if sys.platform == "linux":
        _prctl(_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends (Linux).

    A process namespace is gone when all of its processes are reaped, and in many
    containers process 1 reaps late or never.
    """
    if sys.platform == "linux":
        _prctl(_SET_CHILD_SUBREAPER, 1)


def probe() -> str:
    """Try the isolation in a child of this process. Return "" or the reason why it does not work here."""
    with tempfile.TemporaryDirectory(prefix="local-aws-") as name:
        folder = Path(name)
        (folder / "ml").mkdir()
        (folder / "tmp").mkdir()
        return _in_child(lambda: _try(folder))


def _try(folder: Path) -> None:
    own = own_processes()
    enter(folder, [])
    init, namespaces = start_init(network=False)
    if (child := fork_into(namespaces, own)) == 0:
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    os.kill(init, signal.SIGKILL)
    os.waitpid(init, 0)
    if status:
        raise OSError(errno.EPERM, "a process namespace cannot be entered")


def _in_child(attempt: Callable[[], None]) -> str:
    """Make an attempt in a fork; return "" or its error."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        reason = "the attempt ended early"
        try:
            attempt()
            reason = ""
        except OSError as error:
            reason = str(error) or type(error).__name__
        finally:
            os.write(writer, reason.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        reason = answer.read()
    os.waitpid(child, 0)
    return reason


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        interface = struct.pack("16sh14x", b"lo", 0x1 | 0x40)  # up, running
        fcntl.ioctl(any_socket, 0x8914, interface)  # SIOCSIFFLAGS


def _listen(address: Address) -> int:
    """Return a socket that listens at ``address``, which the loopback interface gets if it is not its own."""
    host, _ = address
    if not host.startswith("127."):
        _add_to_loopback(host)
    return socket.create_server(address, backlog=1024).detach()


def _add_to_loopback(host: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for request, value in ((0x8916, host), (0x891C, "255.255.255.255")):  # SIOCSIFADDR, SIOCSIFNETMASK
            address = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(value))
            fcntl.ioctl(any_socket, request, address)


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
    call("capset", header, struct.pack("=6I", low, low, 0, high, high, 0))
    _prctl(_SET_NO_NEW_PRIVS, 1)


def _unshare(flags: int) -> None:
    call("unshare", flags)


def _prctl(option: int, value: int) -> None:
    call("prctl", option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))

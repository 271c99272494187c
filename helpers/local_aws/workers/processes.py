"""Children that a process forks off itself, handled as those of ``subprocess.Popen`` are."""

import ctypes
import os
import resource
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path


class Child:
    """A forked process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        if self.returncode is None:
            with suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def kill(self) -> None:
        """Send SIGKILL."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def ended(process: "Child | subprocess.Popen[bytes]", seconds: float) -> bool:
    """Wait for the end of a process; False when ``seconds`` pass first."""
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def fork(main: Callable[[], None], name: str, kept: Iterable[int]) -> Child:
    """Fork a child that runs ``main`` in a session of its own and ends with it.

    The child keeps standard output, standard error and the descriptors ``kept``.
    This process must not have threads. ``name`` is what ``ps -e`` shows (Linux).
    """
    pid = os.fork()
    if pid:
        return Child(pid)
    status = 1
    try:
        os.setsid()  # Ctrl-C in the terminal is the server's to handle
        keep_only({0, 1, 2, *kept})
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        rename(name)
        main()
        status = 0
    except BaseException:  # noqa: BLE001 - the end of a process: nothing may unwind into the parent's stack
        traceback.print_exc()
    finally:
        os._exit(status)


def is_ending(folder: int, pid: int) -> bool:
    """Tell whether a process is on its way out; ``folder`` is an open /proc that shows it."""
    try:
        with open(os.open(f"{pid}/stat", os.O_RDONLY, dir_fd=folder)) as file:
            flags = int(file.read().rpartition(")")[2].split()[6])
        return bool(flags & 0x4)  # PF_EXITING
    except OSError:
        return True


def exit_code(status: int) -> int:
    """Return what a shell would say of a status of ``waitpid``: 128 + n for signal n."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def keep_only(descriptors: set[int]) -> None:
    """Close every other descriptor of this process. Raises OSError where they cannot be listed."""
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    for number in [int(entry) for entry in os.listdir(folder)]:
        if number not in descriptors:
            with suppress(OSError):  # the one that listed them
                os.close(number)


def speak_on(output: int) -> None:
    """Let standard output and error lead to ``output``, and nothing come from standard input."""
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)


def handles(folder: int, pid: int, number: int) -> bool:
    """Tell whether a process handles, or ignores, a signal; ``folder`` is an open /proc that shows it."""
    try:
        with open(os.open(f"{pid}/status", os.O_RDONLY, dir_fd=folder)) as status:
            masks = dict(line.split(":", 1) for line in status)
        return "Z" in masks["State"] or any(int(masks[name], 16) >> number - 1 & 1 for name in ("SigCgt", "SigIgn"))
    except OSError:  # it has ended meanwhile
        return True


def allow_files() -> None:
    """Let this process, not what it has forked by now, have as many connections as the machine allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 1 << 14)), hard))


def kill_children() -> None:
    """Kill the children of this process, adopted ones too; on another system than Linux, none."""
    file = Path(f"/proc/self/task/{os.getpid()}/children")
    for child in file.read_text().split() if file.exists() else ():
        with suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGKILL)


def group_ended(leader: int, seconds: float) -> bool:
    """Wait for the end of a process group; False when ``seconds`` pass first."""
    deadline = time.monotonic() + seconds
    with suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < deadline:
            os.killpg(leader, 0)
            time.sleep(0.01)
        return False
    return True


def usual_signals() -> None:
    """Stop ignoring what Python ignores, before an exec: the program would go on ignoring it."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def forget_environment(kept: Mapping[str, str]) -> None:
    """Let this process know no variables but ``kept``.

    A fork still has those that its program was started with where /proc shows them to
    whatever it becomes (Linux): they are wiped out, too.
    """
    os.environ.clear()
    os.environ.update(kept)  # copies: nothing refers any more to what is wiped out
    with suppress(OSError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[47]), int(fields[48])  # env_start, env_end: 0 where they are not told
        if 0 < start < end:
            ctypes.memset(start, 0, end - start)


def rename(name: str) -> None:
    """Set the name of this process that ``ps -e`` shows (Linux)."""
    with suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write(name)

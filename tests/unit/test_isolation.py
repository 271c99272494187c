"""A job's own view of the machine, as root and as an ordinary user."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from users import forked

from helpers.local_aws.workers import isolation

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")


@pytest.fixture
def folders(user: int) -> Iterator[list[Path]]:
    """Two hosts' folders that the user may write; not below pytest's, which only its owner may enter."""
    base = Path(tempfile.mkdtemp(prefix="isolation-"))
    hosts = [base / "one", base / "two"]
    for path in (base, *hosts, *(host / part for host in hosts for part in ("ml", "tmp"))):
        path.mkdir(exist_ok=True)
        path.chmod(0o777)
    yield hosts
    shutil.rmtree(base)


def inside(
    user: int,
    folder: Path,
    job: Callable[[], object],
    *,
    hidden: tuple[Path, ...] = (),
    network: bool = True,
    during: Callable[[int, int], None] = lambda child, init: None,
) -> tuple[int, str]:
    """Run ``job`` isolated; return its exit code and what it returned, as text."""

    def host() -> str:
        isolation.own_users()
        isolation.make_place()
        own = isolation.own_processes()
        output, out = os.pipe()
        isolation.enter(folder, hidden)
        init, namespaces = isolation.start_init(network=network)
        child = isolation.fork_into(namespaces, own)
        if child == 0:
            try:
                os.write(out, str(job()).encode())
            except OSError as error:
                os.write(out, repr(error).encode())
            os._exit(7)
        os.close(out)
        during(child, init)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.kill(init, signal.SIGKILL)
        os.waitpid(init, 0)
        with os.fdopen(output) as file:
            return f"{code}|{file.read()}"

    code, _, text = forked(user, host).partition("|")
    return int(code), text


def test_the_folder_is_at_opt_ml_and_the_rest_of_opt_stays(user: int, folders: list[Path]) -> None:
    before = sorted(os.listdir("/opt"))

    def job() -> str:
        Path("/opt/ml/made").write_text("by the job")
        return ",".join(sorted(set(os.listdir("/opt")) - {"ml"}))

    code, seen = inside(user, folders[0], job)
    assert (code, seen) == (7, ",".join(name for name in before if name != "ml"))
    assert (folders[0] / "ml/made").read_text() == "by the job"
    assert sorted(os.listdir("/opt")) == before, "the machine's own /opt must not change"


def test_two_jobs_do_not_see_each_other(user: int, folders: list[Path]) -> None:
    def meet(own: str) -> str:
        Path("/opt/ml", own).touch()
        while not Path("/opt/ml/go").exists():
            time.sleep(0.01)
        return ",".join(sorted(os.listdir("/opt/ml")))

    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, inside(user, folders[0], lambda: meet("first"))[1].encode())
        os._exit(0)
    while not (folders[0] / "ml/first").exists():
        time.sleep(0.01)
    (folders[1] / "ml/go").touch()
    assert inside(user, folders[1], lambda: meet("second"))[1] == "go,second"
    (folders[0] / "ml/go").touch()
    assert os.read(reader, 100) == b"first,go"
    os.wait()
    os.close(reader)
    os.close(writer)


def test_a_job_sees_only_its_own_processes(user: int, folders: list[Path]) -> None:
    _, pids = inside(user, folders[0], lambda: sorted(name for name in os.listdir("/proc") if name.isdigit()))
    assert pids == "['1', '2']"


def test_a_job_cannot_signal_a_process_outside(user: int, folders: list[Path]) -> None:
    outside = os.getpid()
    _, answer = inside(user, folders[0], lambda: os.kill(outside, 0))
    assert answer == "ProcessLookupError(3, 'No such process')"


def test_hidden_folders_are_empty_and_stay_so(user: int, folders: list[Path]) -> None:
    secret = Path(tempfile.mkdtemp(prefix="secret-", dir="/var/tmp"))
    secret.chmod(0o755)
    (secret / "credentials").write_text("secret")

    def job() -> str:
        result = ctypes.CDLL(None).umount2(str(secret).encode(), 2)
        return f"{result} {os.listdir(secret)}"

    try:
        assert inside(user, folders[0], job, hidden=(secret,))[1] == "-1 []"
        assert os.listdir(secret) == ["credentials"]
    finally:
        shutil.rmtree(secret)


def test_a_folder_below_a_hidden_one_still_arrives(user: int, folders: list[Path]) -> None:
    (folders[0] / "ml/input").write_text("here")
    job = lambda: Path("/opt/ml/input").read_text()  # noqa: E731
    assert inside(user, folders[0], job, hidden=(folders[0].parent,))[1] == "here"


def test_nothing_outlives_the_job(user: int, folders: list[Path]) -> None:
    marker = f"{os.getpid()}.125"  # a length of sleep that nobody else uses

    def job() -> str:
        subprocess.Popen(["sleep", marker], start_new_session=True)
        return "left"

    assert inside(user, folders[0], job) == (7, "left")
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(path.read_bytes().split(b"\0"))
        except OSError:
            continue  # it ended meanwhile
    assert not [command for command in commands if marker.encode() in command]


def test_privileges_are_dropped_for_good(user: int, folders: list[Path]) -> None:
    def job() -> str:
        lines = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return f"{lines['CapEff']} {lines['CapBnd']} {lines['NoNewPrivs']}"

    kept = "00000000a00425fb" if user == 0 else "0" * 16
    assert inside(user, folders[0], job)[1] == f"{kept} {kept} 1"


def test_nobody_can_change_the_settings_of_the_machine(user: int, folders: list[Path]) -> None:
    places = [path for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger") if os.path.exists(path)]
    places += [path for path in ("/sys/kernel/uevent_helper", "/sys/power/state") if os.path.exists(path)]

    def opened() -> list[str]:
        found = []
        for path in places:
            try:
                os.close(os.open(path, os.O_WRONLY))  # without a write: it would be the machine's own
            except OSError:
                continue
            found.append(path)
        return found

    assert inside(user, folders[0], lambda: opened())[1] == "[]"


def test_of_the_doors_only_the_one_to_names_is_open_to_who_uses_the_machine_s_network(tmp_path: Path) -> None:
    for name in ("resolve", "private", "journal"):
        (tmp_path / "systemd" / name).mkdir(parents=True)
    assert tmp_path / "systemd" in isolation.doors(names=False, run=tmp_path)
    shut = isolation.doors(names=True, run=tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in shut} >= {"docker.sock", "dbus", "systemd/private"}
    assert not [path for path in shut if (tmp_path / "systemd/resolve").is_relative_to(path)]


def test_network_isolation_leaves_only_an_own_loopback(user: int, folders: list[Path]) -> None:
    def connect() -> str:
        with socket.socket() as own:
            own.bind(("127.0.0.1", 0))
            own.listen()
            socket.create_connection(own.getsockname(), 180).close()
        try:
            socket.create_connection(address, 180).close()
        except OSError as error:
            return type(error).__name__
        return "connected"

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        assert inside(user, folders[0], connect, network=False)[1] == "ConnectionRefusedError"
        assert inside(user, folders[0], connect)[1] == "connected"


def test_sigterm_from_outside_reaches_the_entrypoint(user: int, folders: list[Path]) -> None:
    code, _ = inside(user, folders[0], signal.pause, during=lambda child, init: os.kill(child, signal.SIGTERM))
    assert code == -signal.SIGTERM


def test_killing_the_init_kills_the_job(user: int, folders: list[Path]) -> None:
    code, _ = inside(user, folders[0], signal.pause, during=lambda child, init: os.kill(init, signal.SIGKILL))
    assert code == -signal.SIGKILL


def test_who_forks_into_a_job_stays_outside_of_it(user: int, folders: list[Path]) -> None:
    if user:
        pytest.skip("an ordinary user forks into a job from a process that is made for that")

    def host() -> str:
        isolation.own_users()
        isolation.make_place()
        own = isolation.own_processes()
        before = os.getpid(), os.readlink("/proc/self/ns/mnt")
        small = os.fork()
        if small == 0:
            isolation.enter(folders[0], [])
            _, namespaces = isolation.start_init(network=True)
            socket.send_fds(theirs, [b"."], namespaces)
            signal.pause()
        _, namespaces, _, _ = socket.recv_fds(ours, 1, 8)
        assert own is not None
        for _ in range(2):
            child = isolation.fork_into(namespaces, own)
            if child == 0:
                os._exit(0 if os.getpid() < 10 and os.readlink("/proc/self/ns/mnt") != before[1] else 1)
            assert os.waitpid(child, 0)[1] == 0
        plain = os.fork()
        if plain == 0:
            os._exit(0 if os.getppid() == before[0] and os.readlink("/proc/self/ns/mnt") == before[1] else 1)
        answer = str(os.waitpid(plain, 0)[1])
        os.kill(small, signal.SIGKILL)
        os.waitpid(small, 0)
        return answer

    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert forked(user, host) == "0"

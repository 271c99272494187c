"""Instances that really run their user data: where they run it, what they reach, and that nothing outlives them."""

import gzip
import os
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from machine_room import CREDENTIALS, Inside, Room, agents, enter, family, kill, wait_for, with_words

from helpers.local_aws.ec2.machines import SHUTDOWN

MARK = f"{os.getpid()}.0625"  # a length of sleep that nobody else uses
# The SDK gives the metadata service one second by itself.
PATIENT = "export AWS_METADATA_SERVICE_TIMEOUT=180 AWS_METADATA_SERVICE_NUM_ATTEMPTS=3\n"
TOKEN = """
imds=http://169.254.169.254/latest
token=$(curl -sX PUT $imds/api/token -H 'X-aws-ec2-metadata-token-ttl-seconds: 60')
get() { curl -s -H "X-aws-ec2-metadata-token: $token" $imds/$1; echo; }
"""

# --- user data ---


def test_a_script_runs_in_the_root_folder_with_what_cloud_init_gives(inside: Inside) -> None:
    script = "pwd; id -u; umask; cat; env | cut -d= -f1 | sort | tr '\\n' ' '; yes | head -1; touch ~/x && exit 3"
    console = inside(lambda room: room.run(script).splitlines())
    assert console[1:4] == ["/", console[2], "0022"]
    # TMPDIR: where this Python lives in /tmp, and an instance cannot have one of its own.
    names = set(console[4].split()) - {"_", "OLDPWD", "PWD", "SHLVL", "TMPDIR"} - {"y"}
    assert names == {"AWS_ENDPOINT_URL", "HOME", "LANG", "PATH"}
    assert console[-1] == "user data: the script ended with exit code 3"


def test_a_script_inherits_nothing_of_the_agent(inside: Inside) -> None:
    """With its channel to the server a script could speak as the agent, or take what is meant for it."""
    script = "exec python3 -c \"import os; print('open:', sorted(map(int, os.listdir('/proc/self/fd')))[:-1])\""
    assert "open: [0, 1, 2]" in inside(lambda room: room.run(script)).splitlines()


def test_what_ended_instances_have_printed_is_forgotten_in_the_end(
    at_home: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helpers.local_aws.ec2.machines.ENDED_CONSOLES", 2)

    def act(room: Room) -> list[str]:
        for name in ("i-1", "i-2", "i-3", "i-4"):
            room.run("echo printed", name)
            if name != "i-1":
                room.machines.terminate(name)
        return [name for name in ("i-1", "i-2", "i-3", "i-4") if room.machines.console(name)]

    assert at_home(act) == ["i-1", "i-3", "i-4"]


def test_the_path_begins_with_this_python(inside: Inside) -> None:
    first = os.path.dirname(sys.executable)
    assert f"\n{first}:" in inside(lambda room: room.run("echo $PATH"))


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "user data: none"),
        (b"#cloud-config\npackages: [git]\n", "user data: the embedded AWS does not support #cloud-config"),
        (b"Content-Type: multipart/mixed; boundary=x\n", "user data: the embedded AWS does not support Content-Type"),
        (b"echo hello\n", "user data: it does not begin with #!"),
        (b"\x1f\x8bnonsense", "user data: the user data is not what gzip makes"),
        (gzip.compress(b"#!/bin/sh\necho un$((1))packed\n", mtime=0), "un1packed"),
        (b"#!/bin/no-such-shell\n", "user data: the script cannot be run: No such file or directory"),
    ],
)
def test_what_cannot_be_run_is_said_on_the_console(at_home: Inside, data: bytes, line: str) -> None:
    def act(room: Room) -> list[Any]:
        room.launch(data)
        return [room.console(line), sorted(room.machines.running())]

    console, running = at_home(act)
    assert line in console
    assert running == ["i-1"], "the instance stays up"


def test_lines_appear_while_the_script_runs_and_stay_after_the_end(inside: Inside) -> None:
    def act(room: Room) -> list[Any]:
        room.launch("echo before; sleep 600")
        room.console("before")
        room.machines.terminate("i-1")
        return [room.machines.console("i-1").decode(), room.machines.console("i-2").decode()]

    assert inside(act) == ["user data: running the script (#!/bin/sh)\nbefore\n", ""]


def test_the_console_keeps_the_last_64_kilobytes(at_home: Inside) -> None:
    script = "for i in $(seq 20000); do echo line $i; done; echo last >&2"
    console = at_home(lambda room: room.run(script))
    assert len(console) == 64 * 1024
    assert console.endswith("line 20000\nlast\nuser data: the script ended with exit code 0\n")


# --- what it reaches ---


def test_curl_finds_the_metadata_at_its_address(inside: Inside) -> None:
    script = f"{TOKEN} get meta-data/instance-id; get meta-data/placement/region; curl -s $imds"
    console = inside(lambda room: room.run(script)).splitlines()
    assert console[1:3] == ["i-1", "eu-west-1"]
    assert console[3] == "401 - Unauthorized"


def test_a_role_that_cannot_be_assumed_gives_no_credentials(at_home: Inside) -> None:
    script = f"{TOKEN} get meta-data/iam/security-credentials/other"
    console = at_home(lambda room: room.run(script, role_arn="arn:aws:iam::123456789012:role/other"))
    assert "AssumeRoleUnauthorizedAccess" in console


def test_boto3_and_the_cli_find_the_credentials_and_tell_nobody(at_home: Inside) -> None:
    python = (
        "import boto3; found = boto3.Session().get_credentials(); "
        "print(found.method, found.access_key, len(found.secret_key), len(found.token))"
    )
    script = f'{PATIENT}{TOKEN} export AWS_DEFAULT_REGION=$(get meta-data/placement/region)\npython3 -c "{python}"\n'
    script += "aws configure list | grep -E 'access_key|region'"
    console = at_home(lambda room: room.run(script))
    lengths = [len(CREDENTIALS[name]) for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
    assert f"iam-role ASIAOFTHEWORKER {lengths[0]} {lengths[1]}\n" in console
    assert "iam-role" in console.partition("access_key")[2]
    assert "eu-west-1" in console
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        assert CREDENTIALS[name] not in console


def test_the_embedded_aws_is_reached_with_large_bodies_and_at_once(inside: Inside) -> None:
    size = 50 * 2**20
    script = f"""
    cd ${{TMPDIR:-/tmp}}
    head -c {size} /dev/zero > large
    curl -s --data-binary @large $AWS_ENDPOINT_URL/; echo
    curl -s $AWS_ENDPOINT_URL/{size} | wc -c
    for i in $(seq 20); do curl -s $AWS_ENDPOINT_URL/10000 > part$i & done; wait; cat part* | wc -c
    """
    assert inside(lambda room: room.run(script)).splitlines()[1:4] == [str(size), str(size), "200000"]


def test_nothing_else_is_reached(inside: Inside) -> None:
    other = socket.create_server(("", 0))
    port = other.getsockname()[1]
    own = next(iter({info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}), "")
    addresses = [f"127.0.0.1:{port}", f"127.0.0.2:{port}", "169.254.169.1:80", "169.254.169.254:22", "192.0.2.1:80"]
    addresses += [f"{own}:{port}"] if own else []
    script = "\n".join(f"curl -s -m 60 -o /dev/null http://{address}; echo $?" for address in addresses)
    with other:
        assert inside(lambda room: room.run(script)).splitlines()[1:-1] == ["7"] * len(addresses)


def test_instances_share_neither_tmp_nor_processes_nor_metadata(inside: Inside) -> None:
    script = f"""{TOKEN}
    cd ${{TMPDIR:-/tmp}}
    echo x > here; sleep {MARK} &
    until ps -e | grep -q sleep; do :; done; echo $(ls -A) $(ps -e | grep -c sleep)
    get meta-data/instance-id
    """

    def act(room: Room) -> list[str]:
        return [room.run(script, name).split("\n", 1)[1] for name in ("i-1", "i-2")]

    first, second = inside(act)
    assert first.splitlines()[:2] == ["here 1", "i-1"]
    assert second.splitlines()[:2] == ["here 1", "i-2"]


def test_credentials_and_services_of_the_machine_are_hidden(inside: Inside) -> None:
    def act(room: Room) -> str:
        aws = Path.home() / ".aws"
        aws.mkdir()
        (aws / "credentials").write_text("secret")
        return room.run(f"ls -A {room.site.state_dir} {aws}; ls -A /run/systemd /run/dbus 2> /dev/null")

    lines = [line for line in inside(act).splitlines() if line and not line.endswith(":")]
    assert [line for line in lines if not line.startswith("user data: ")] == []


def test_processes_of_the_machine_cannot_be_signalled(inside: Inside) -> None:
    assert "No such process" in inside(lambda room: room.run(f"kill -0 {os.getpid()}"))


# --- the end ---

HOPPING = f"""
echo 'sleep 0.05; setsid sh /tmp/hop {MARK} &' > /tmp/hop
for i in 1 2 3 4 5 6 7 8; do setsid sh /tmp/hop {MARK} & done
setsid sleep {MARK} &
(trap '' TERM INT HUP; sleep {MARK}) &
echo off
sleep {MARK}
"""


def test_terminate_ends_all_that_was_started_and_waits_for_it(inside: Inside) -> None:
    def act(room: Room) -> list[Any]:
        room.launch(HOPPING)
        room.console("off")
        seen = len(wait_for(lambda: with_words(MARK)))
        room.machines.terminate("i-1")
        return [
            seen > 0,
            with_words(MARK),
            sorted(room.machines.running()),
            room.ends,
            os.listdir(room.site.state_dir / "machines"),
        ]

    assert inside(act) == [True, [], [], {}, []]


def test_terminating_what_is_not_there_is_no_error(at_home: Inside) -> None:
    def act(room: Room) -> None:
        room.run("true")
        for _ in range(2):
            room.machines.terminate("i-1")
        room.machines.terminate("i-nothing")

    at_home(act)


def test_a_script_that_only_prints_can_be_terminated(at_home: Inside) -> None:
    def act(room: Room) -> list[str]:
        room.launch("yes")
        room.console("y\ny\n")
        room.machines.terminate("i-1")
        return sorted(room.machines.running())

    assert at_home(act) == []


@pytest.mark.parametrize("which", ["agent", "first process"])
def test_an_instance_whose_process_is_killed_ends_and_says_so(inside: Inside, which: str) -> None:
    def act(room: Room) -> list[Any]:
        room.launch(HOPPING)
        room.console("off")
        agent, first, *_ = family(agents(os.getpid())[0])
        kill(agent if which == "agent" else first)
        return [room.end_of(), with_words(MARK), sorted(room.machines.running())]

    reason = "the instance's processes were killed" if which == "agent" else "the instance's first process was killed"
    assert inside(act) == [reason, [], []]


def test_nothing_outlives_a_server_that_is_killed(inside: Inside) -> None:
    def act(room: Room) -> None:
        room.launch(HOPPING)
        room.console("off")
        kill(os.getpid())

    with pytest.raises(AssertionError, match="burst"):
        inside(act)
    wait_for(lambda: not with_words(MARK))


def test_close_ends_all_instances_and_launches_no_more(inside: Inside) -> None:
    def act(room: Room) -> list[Any]:
        for number in range(5):
            room.launch(HOPPING, f"i-{number}")
        room.machines.close()
        left = with_words(MARK), sorted(room.machines.running()), room.ends
        try:
            room.launch("true", "i-9")
        except ConnectionAbortedError:
            return [*left, "refused"]
        return [*left, "launched"]

    assert inside(act) == [[], [], {}, "refused"]


@pytest.mark.parametrize("command", ["shutdown -h now", "poweroff", "halt", "shutdown +0 'work is done'"])
def test_an_instance_can_power_itself_off(at_home: Inside, command: str) -> None:
    assert at_home(lambda room: room.launch(f"{command}; sleep {MARK}") or room.end_of()) == SHUTDOWN
    assert with_words(MARK) == []


def test_an_instance_cannot_be_rebooted(at_home: Inside) -> None:
    assert "shutdown: -r is not supported" in at_home(lambda room: room.run("shutdown -r now"))


def test_twenty_instances_at_once(at_home: Inside) -> None:
    names = [f"i-{number}" for number in range(20)]

    def act(room: Room) -> list[Any]:
        for name in names:
            room.launch(f"{TOKEN} get meta-data/instance-id; sleep {MARK}", name)
        seen = [room.console("\ni-", name).splitlines()[1] for name in names]
        idle = len(agents(os.getpid()))
        return [seen, idle]

    assert at_home(act) == [names, 20]
    assert with_words(MARK) == []


def test_an_idle_instance_is_two_processes(at_home: Inside) -> None:
    def act(room: Room) -> int:
        room.run("true")
        return len(family(agents(os.getpid())[0]))

    assert at_home(act) == 2


# --- where namespaces are not to be had ---


def test_without_namespaces_an_environment_variable_leads_to_the_metadata() -> None:
    script = """
    echo $AWS_EC2_METADATA_SERVICE_ENDPOINT; python3 -c "
import boto3; print(boto3.Session().get_credentials().access_key)"
    curl -s $AWS_ENDPOINT_URL/10000 | wc -c; echo $HOME; touch $HOME/x
    """
    lines = enter(os.getuid(), lambda room: room.run(PATIENT + script), isolated=False).splitlines()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[0-9a-f]{32}", lines[1])
    assert lines[2:4] == ["ASIAOFTHEWORKER", "10000"]
    assert lines[-1] == "user data: the script ended with exit code 0"


def test_without_namespaces_linux_gives_orphans_to_the_agent_which_kills_them() -> None:
    if not Path("/proc/self/task").is_dir():
        pytest.skip("there is no /proc here")

    def act(room: Room) -> list[Any]:
        room.launch(HOPPING.replace("/tmp/hop", "$HOME/hop"))
        room.console("off")
        seen = len(with_words(MARK))
        room.machines.terminate("i-1")
        return [seen > 0, with_words(MARK)]

    assert enter(os.getuid(), act, isolated=False) == [True, []]


def test_without_namespaces_the_process_group_ends() -> None:
    def act(room: Room) -> list[Any]:
        room.launch(f"(trap '' TERM; sleep {MARK}) & echo off; sleep {MARK}")
        room.console("off")
        room.machines.terminate("i-1")
        room.launch(f"sleep {MARK} & shutdown now; wait", "i-2")
        return [room.end_of("i-2"), with_words(MARK)]

    assert enter(os.getuid(), act, isolated=False) == [SHUTDOWN, []]

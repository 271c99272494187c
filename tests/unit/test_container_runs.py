"""Containers that really run: how they end, and that nothing outlives them."""

import os
from pathlib import Path
from typing import Any

import pytest
from machine_room import CREDENTIALS, Inside, Room, agents, enter, family, kill, wait_for, with_words

from helpers.local_aws.containers import Log, Slots

MARK = f"{os.getpid()}.09375"  # a length of sleep that nobody else uses
DONE = ["exited", 0, "", ""]

# --- how they end ---


def test_the_exit_code_is_the_program_s(inside: Inside) -> None:
    commands = {
        "zero": ["true"],
        "three": ["sh", "-c", "exit 3"],
        "signal": ["sh", "-c", "kill -9 $$"],
        "shell": ["sh", "-c", "no-such-command"],
    }

    def act(room: Room) -> dict[str, Any]:
        for name, command in commands.items():
            room.start(*command, name=name)
        ends = {name: room.end(name)[:2] for name in commands}
        return {**ends, "started": sorted(room.started) == sorted(commands), "left": room.scratch()}

    assert inside(act) == {
        "zero": ["exited", 0],
        "three": ["exited", 3],
        "signal": ["exited", 137],
        "shell": ["exited", 127],
        "started": True,
        "left": [],
    }


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no-such-command", 'exec: "no-such-command": executable file not found in $PATH'),
        ("/app/no-such-command", 'exec: "/app/no-such-command": stat /app/no-such-command: no such file or directory'),
        ("./plain", 'exec: "./plain": permission denied'),
    ],
)
def test_a_command_that_cannot_be_executed_never_starts(at_home: Inside, command: str, said: str) -> None:
    def act(room: Room) -> list[Any]:
        room.start(command, image=room.image(app__plain=""))
        return [*room.end(), room.started, room.scratch()]

    reason, code, message, *rest = at_home(act)
    assert (reason, code, rest) == ("failed", None, ["", [], []])
    assert said in message


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("trap 'echo ending; exit 5' TERM", 5),
        ("trap '' TERM", 137),  # after its time of grace
        ("true", 137),  # the first process of a container never sees a signal that it does not handle
    ],
)
def test_stop_asks_and_then_kills(at_home: Inside, command: str, code: int) -> None:
    def act(room: Room) -> list[Any]:
        grace = 0.3 if "''" in command else 30.0
        room.start("bash", "-c", f"{command}; echo up; while :; do sleep 0.05; done", grace=grace)
        room.wait_for_line("up")
        room.containers.stop("c-1")
        return [room.end()[:2], "ending" in room.logs.groups["known"]["c-1"]]

    assert at_home(act) == [["stopped", code], code == 5]


def test_time_that_is_over_stops_it(at_home: Inside) -> None:
    def act(room: Room) -> list[Any]:
        room.start("sleep", MARK, timeout=0.5, name="deaf")
        for seconds in (0.5, 5, 60):  # on a busy machine the shell may need longer until it handles the signal
            name = f"polite-{seconds:g}".replace(".", "-")
            loop = "trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done"
            room.start("sh", "-c", loop, timeout=seconds, name=name)
            polite = room.end(name)
            if room.logs.groups["known"][name]:
                break
        return [polite[:2], room.end("deaf")[:2]]

    assert at_home(act) == [["timeout", 4], ["timeout", 137]]


HOPPING = f"""
cd ${{TMPDIR:-/tmp}}; echo 'sleep 0.05; setsid sh ./hop {MARK} &' > hop
for i in 1 2 3 4 5 6 7 8; do setsid sh ./hop {MARK} & done
setsid sleep {MARK} &
(trap '' TERM INT HUP; sleep {MARK}) &
echo up
trap '' TERM
while :; do sleep {MARK}; done
"""


def test_kill_ends_all_that_was_started_at_once(inside: Inside) -> None:
    def act(room: Room) -> list[Any]:
        room.start("sh", "-c", HOPPING)
        room.wait_for_line("up")
        seen = len(wait_for(lambda: with_words(MARK)))
        room.containers.kill("c-1")
        end = room.end()[:2]
        room.containers.kill("c-1")
        room.containers.stop("nothing")
        return [seen > 0, end, with_words(MARK), room.scratch()]

    assert inside(act) == [True, ["killed", 137], [], []]


@pytest.mark.parametrize("which", ["agent", "first process"])
def test_a_container_whose_process_is_killed_says_so(inside: Inside, which: str) -> None:
    def act(room: Room) -> list[Any]:
        room.start("sh", "-c", HOPPING)
        room.wait_for_line("up")
        agent, first, *_ = family(agents(os.getpid())[0])
        kill(agent if which == "agent" else first)
        return [room.end()[:2], with_words(MARK), room.scratch()]

    assert inside(act) == [["killed", 137], [], []]


def test_close_ends_all_containers_and_starts_no_more(inside: Inside) -> None:
    def act(room: Room) -> list[Any]:
        names = [f"c-{number}" for number in range(6)]  # more than there are slots
        for name in names:
            room.start("sh", "-c", HOPPING, name=name)
        for name in names[:4]:
            room.wait_for_line("up", name)
        room.containers.close()
        left = [with_words(MARK), room.scratch()]
        room.start("true", name="late")
        return [*left, sorted({room.end(name)[0] for name in names}), room.end("late"), len(room.started)]

    assert inside(act) == [[], [], ["lost"], ["lost", None, "", ""], 4]


def test_nothing_outlives_a_server_that_is_killed(inside: Inside) -> None:
    def act(room: Room) -> None:
        room.start("sh", "-c", HOPPING)
        room.wait_for_line("up")
        kill(os.getpid())

    with pytest.raises(AssertionError, match="burst"):
        inside(act)
    wait_for(lambda: not with_words(MARK))


def test_a_listener_that_fails_ends_its_container(at_home: Inside) -> None:
    def act(room: Room) -> list[Any]:
        room.started = None  # what notes the start then raises
        room.start("sleep", MARK)
        reason, code, message, _ = room.end()
        return [reason, code, "append" in message, wait_for(lambda: not with_words(MARK))]

    assert at_home(act) == ["failed", None, True, True]


# --- waiting ---


def test_containers_wait_for_a_slot_in_their_order(at_home: Inside) -> None:
    def act(room: Room) -> list[Any]:
        room.containers._slots = Slots(1, longest=600)
        room.start("sh", "-c", "echo up; sleep 600", name="first")
        room.wait_for_line("up", "first")
        later = [f"later-{number}" for number in range(5)]
        for name in ("second", *later):
            room.start("true", name=name)
        room.containers.stop("second")
        stopped, waiting = room.end("second"), list(room.started)
        room.containers.kill("first")
        return [stopped, waiting, [room.end(name) for name in later], room.started[1:] == later]

    assert at_home(act) == [["stopped", None, "", ""], ["first"], [DONE] * 5, True]


def test_one_more_is_let_in_when_nothing_ends(at_home: Inside) -> None:
    def act(room: Room) -> list[Any]:
        room.containers._slots = Slots(1, longest=0.2)
        room.start("sh", "-c", "echo up; sleep 600", name="first")
        room.wait_for_line("up", "first")
        for name in ("second", "third"):
            room.start("true", name=name)
        return [room.end("second"), room.end("third")]

    assert at_home(act) == [DONE, DONE]


@pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 256])
def test_an_id_that_is_no_name_is_refused(at_home: Inside, name: str) -> None:
    def act(room: Room) -> str:
        try:
            room.start("true", name=name)
        except ValueError as error:
            return str(error)
        return ""

    assert "is not the id of a container" in at_home(act)


# --- the log ---


def test_what_it_prints_is_logged_line_by_line(at_home: Inside) -> None:
    log = at_home(lambda room: room.shell("echo one; echo two >&2; seq 3000; printf end"))
    assert log.splitlines() == ["one", "two", *map(str, range(1, 3001)), "end"]


@pytest.mark.parametrize(
    ("group", "create", "said"),
    [
        ("missing", False, "ResourceNotFoundException: The specified log group does not exist."),
        ("forbidden", True, "AccessDeniedException: no logs:CreateLogStream for you"),
    ],
)
def test_without_its_log_it_never_starts(at_home: Inside, group: str, create: bool, said: str) -> None:
    def act(room: Room) -> list[Any]:
        room.start("true", log=Log(group, "s", CREDENTIALS, create_group=create))
        return [*room.end(), room.started]

    reason, code, message, problem, started = at_home(act)
    assert (reason, code, problem, started) == ("failed", None, said, [])
    assert message.startswith("ResourceInitializationError: failed to validate logger args: create stream has been ")
    assert message.endswith(f", api error {said}: exit status 1")


def test_its_log_group_is_made_when_that_is_wanted(at_home: Inside) -> None:
    def act(room: Room) -> list[Any]:
        room.start("echo", "hello", log=Log("new", "s", CREDENTIALS))
        return [room.end(), room.logs.groups["new"]]

    assert at_home(act) == [DONE, {"s": ["hello"]}]


def test_without_a_log_its_output_goes_nowhere(at_home: Inside) -> None:
    def act(room: Room) -> list[Any]:
        room.start("sh", "-c", "seq 100000; exit 6", log=None)
        return [room.end(), room.logs.groups["known"]]

    assert at_home(act) == [["exited", 6, "", ""], {}]


# --- where namespaces are not to be had ---


def test_without_namespaces_it_runs_in_a_folder_of_its_own_and_says_so() -> None:
    def act(room: Room) -> list[Any]:
        script = f"cat main; echo x > new; sleep {MARK} & echo up; wait"
        room.start("sh", "-c", script, image=room.image(app__main="hello\n"))
        room.wait_for_line("up")
        room.containers.kill("c-1")
        return [room.end()[:2], room.logs.groups["known"]["c-1"], with_words(MARK), room.scratch()]

    end, (note, *log), left, folders = enter(os.getuid(), act, isolated=False)
    assert note.startswith("This platform cannot isolate containers: / is ")
    assert (end, log, left, folders) == (["killed", 137], ["hello", "up"], [], [])
    assert not Path("/app").exists()

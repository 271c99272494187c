"""Asynchronous invocations wait on disk, are tried as AWS says, and survive the process that took them."""

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from helpers.local_aws.lambdas import Invocation, Invocations, Verdict, invocations

ECHO = "arn:aws:lambda:us-east-1:123456789012:function:echo"
OTHER = "arn:aws:lambda:us-east-1:123456789012:function:other"
SECONDS = 180  # that a busy machine may take


class Function:
    """A function that does what it is told to, and remembers its events."""

    def __init__(self, *verdicts: Verdict) -> None:
        self.seen: list[Invocation] = []
        self.going_on = threading.Event()
        self.going_on.set()
        self._verdicts = list(verdicts)
        self._lock = threading.Lock()

    def __call__(self, invocation: Invocation) -> Verdict:
        with self._lock:
            self.seen.append(invocation)
            verdict = self._verdicts.pop(0) if self._verdicts else Verdict.DONE
        self.going_on.wait(SECONDS)
        return verdict


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Callable[..., Invocations]]:
    made: list[Invocations] = []

    def make(run: Callable[[Invocation], Verdict], **settings: Any) -> Invocations:
        made.append(Invocations(tmp_path / "events", run, **{"retry_seconds": (0.02, 0.04), **settings}))
        return made[-1]

    yield make
    for one in made:
        one.stop()
        one.join(SECONDS)


def eventually(check: Callable[[], Any]) -> None:
    deadline = time.monotonic() + SECONDS
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "events").iterdir())


def test_an_event_is_on_disk_before_its_sender_goes_on(queue: Callable[..., Invocations], tmp_path: Path) -> None:
    function = Function()
    request_id = queue(function).put(f"{ECHO}:prod", b'{"n": 1}')
    [file] = files(tmp_path)
    about, event = file.read_bytes().split(b"\n", 1)
    assert (json.loads(about)["request_id"], json.loads(about)["function"]) == (request_id, f"{ECHO}:prod")
    assert event == b'{"n": 1}'
    assert file.stat().st_mode & 0o077 == 0
    assert function.seen == []  # nothing runs before the queue is started


def test_an_event_that_was_dealt_with_is_gone(queue: Callable[..., Invocations], tmp_path: Path) -> None:
    function = Function()
    events = queue(function)
    events.start()
    request_id = events.put(ECHO, b"1")
    eventually(lambda: not files(tmp_path))
    assert [(one.request_id, one.function, one.event) for one in function.seen] == [(request_id, ECHO, b"1")]


def test_a_caller_may_name_the_request(queue: Callable[..., Invocations]) -> None:
    assert queue(Function()).put(ECHO, b"1", "the-id-of-the-call") == "the-id-of-the-call"


def test_a_failure_is_tried_twice_more_under_the_same_id(
    queue: Callable[..., Invocations], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    function = Function(*[Verdict.FAILED] * 9)
    events = queue(function)
    events.start()
    events.put(ECHO, b"1")
    with caplog.at_level(logging.WARNING):
        eventually(lambda: not files(tmp_path))
    assert [one.attempts for one in function.seen] == [0, 1, 2]
    assert len({one.request_id for one in function.seen}) == 1
    assert "given up" in caplog.text


def test_a_success_after_failures_ends_the_attempts(queue: Callable[..., Invocations], tmp_path: Path) -> None:
    function = Function(Verdict.FAILED, Verdict.FAILED, Verdict.DONE)
    events = queue(function)
    events.start()
    events.put(ECHO, b"1")
    eventually(lambda: not files(tmp_path))
    assert len(function.seen) == 3


def test_an_error_of_the_attempt_itself_counts_as_a_failure(queue: Callable[..., Invocations], tmp_path: Path) -> None:
    seen = []

    def broken(invocation: Invocation) -> Verdict:
        seen.append(invocation.attempts)
        raise RuntimeError("a defect")

    events = queue(broken)
    events.start()
    events.put(ECHO, b"1")
    eventually(lambda: not files(tmp_path))
    assert seen == [0, 1, 2]


def test_throttling_costs_no_attempt(
    queue: Callable[..., Invocations], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invocations, "LONGEST_WAIT", 0.02)
    function = Function(*[Verdict.THROTTLED] * 5, Verdict.DONE)
    events = queue(function)
    events.start()
    events.put(ECHO, b"1")
    eventually(lambda: not files(tmp_path))
    assert [one.attempts for one in function.seen] == [0] * 6


def test_an_event_is_dropped_when_it_is_too_old(
    queue: Callable[..., Invocations], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invocations, "MAX_AGE", -1)
    function = Function()
    events = queue(function)
    events.start()
    events.put(ECHO, b"1")
    eventually(lambda: not files(tmp_path))
    assert function.seen == []


def test_what_a_stop_leaves_is_delivered_after_the_next_start(
    queue: Callable[..., Invocations], tmp_path: Path
) -> None:
    before = Function()
    before.going_on.clear()
    stopped = queue(before, at_once=lambda function: 2)
    stopped.start()
    sent = [stopped.put(ECHO, str(n).encode()) for n in range(6)]
    eventually(lambda: len(before.seen) == 2)
    stopped.stop()
    before.going_on.set()  # the two that were running come to their end: they are done
    stopped.join(SECONDS)
    assert len(files(tmp_path)) == 4
    after = Function()
    queue(after).start()
    eventually(lambda: not files(tmp_path))
    assert sorted(one.request_id for one in before.seen + after.seen) == sorted(sent)


def test_what_fails_during_a_stop_is_not_held_against_the_event(
    queue: Callable[..., Invocations], tmp_path: Path
) -> None:
    again, stopped = threading.Event(), threading.Event()

    def before(invocation: Invocation) -> Verdict:
        if invocation.attempts:
            again.set()
            stopped.wait(SECONDS)
        return Verdict.FAILED

    events = queue(before)
    events.start()
    events.put(ECHO, b"1")
    assert again.wait(SECONDS)
    events.stop()  # ends the function's process, which looks like a failure of it
    stopped.set()
    events.join(SECONDS)
    after = Function()
    queue(after).start()
    eventually(lambda: not files(tmp_path))
    assert [one.attempts for one in after.seen] == [1]


def test_what_a_kill_cut_off_is_forgotten_and_the_rest_delivered(
    queue: Callable[..., Invocations], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    queue(Function()).put(ECHO, b"1")
    (tmp_path / "events" / ".00000000000000000000-half").write_bytes(b'{"request')
    (tmp_path / "events" / "00000000000000000001-torn").write_bytes(b'{"request')
    function = Function()
    queue(function).start()
    eventually(lambda: not files(tmp_path))
    assert [one.event for one in function.seen] == [b"1"]
    assert "00000000000000000001-torn cannot be read" in caplog.text


def test_no_function_takes_the_turn_of_another(queue: Callable[..., Invocations], tmp_path: Path) -> None:
    function = Function()
    function.going_on.clear()
    events = queue(function, at_once=lambda function: 2, threads=3)
    events.start()
    for n in range(20):
        events.put(f"{ECHO}:{n}", b"1")  # versions share their function's concurrency
    events.put(OTHER, b"1")
    eventually(lambda: len(function.seen) == 3)
    assert Counter(one.function == OTHER for one in function.seen) == {False: 2, True: 1}
    function.going_on.set()
    eventually(lambda: not files(tmp_path))
    assert len(function.seen) == 21


def test_a_retry_does_not_wait_for_an_event_that_takes_long(queue: Callable[..., Invocations]) -> None:
    slow = threading.Event()
    seen: list[str] = []

    def run(invocation: Invocation) -> Verdict:
        seen.append(invocation.function)
        if invocation.function == OTHER:
            slow.wait(SECONDS)
            return Verdict.DONE
        return Verdict.FAILED if seen.count(ECHO) < 3 else Verdict.DONE

    events = queue(run)
    events.start()
    events.put(ECHO, b"1")
    events.put(OTHER, b"1")
    eventually(lambda: seen.count(ECHO) == 3)
    slow.set()


def test_threads_end_without_work_and_come_back_with_it(
    queue: Callable[..., Invocations], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def running() -> int:
        return sum(thread.name == "asynchronous-invocations" for thread in threading.enumerate())

    monkeypatch.setattr(invocations, "IDLE_SECONDS", 0.05)
    function = Function()
    events = queue(function)
    events.start()
    for n in range(50):
        events.put(ECHO, b"1")
        if n == 25:
            eventually(lambda: not running())
    eventually(lambda: len(function.seen) == 50)
    eventually(lambda: not running())
    assert files(tmp_path) == []


def test_a_burst_is_delivered_once_each(queue: Callable[..., Invocations], tmp_path: Path) -> None:
    function = Function()
    events = queue(function)
    events.start()
    with ThreadPoolExecutor(20) as senders:
        sent = list(senders.map(lambda n: events.put((ECHO, OTHER)[n % 2], str(n).encode()), range(500)))
    eventually(lambda: not files(tmp_path))
    assert sorted(one.request_id for one in function.seen) == sorted(sent)

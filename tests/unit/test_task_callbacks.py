"""Tokens of tasks: who may end one, once, and what happens when nobody does."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.local_aws.states.callbacks import Callback, Callbacks, Tokens, key_in
from helpers.local_aws.states.failures import TaskFailed
from helpers.local_aws.states.scopes import Cancelled, Scope
from helpers.local_aws.wire import AwsError

WORK = "arn:aws:states:us-east-1:123456789012:activity:work"


@pytest.fixture
def callbacks() -> Callbacks:
    return Callbacks(Tokens(b"key"))


def code(call: Callable[[], object]) -> str:
    with pytest.raises(AwsError) as caught:
        call()
    return caught.value.code


def test_a_token_tells_what_it_was_made_for_and_no_other_text_does() -> None:
    tokens = Tokens(b"key")
    token = tokens.new(WORK)
    assert (tokens.resource(token), tokens.new(WORK) == token) == (WORK, False)
    for forged in (
        "",
        "x",
        token[:-4],
        token.replace(token[50], "A" if token[50] != "A" else "B"),
        "ü",
        f"{token}AAAA",
    ):
        assert tokens.resource(forged) is None
    assert Tokens(b"another").resource(token) is None


def test_the_key_of_tokens_is_kept_for_the_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "key"
    assert key_in(file) == key_in(file)
    assert (len(key_in(file)), file.stat().st_mode & 0o777) == (32, 0o600)


def test_what_comes_back_with_the_token_is_the_output(callbacks: Callbacks) -> None:
    token = callbacks.tokens.new(WORK)
    with callbacks.open(token, Callback(Scope(), None, None)) as callback:
        callback.begin()
        callbacks.beat(token)
        callbacks.succeed(token, '{"a": 1}')
        assert callback.wait() == '{"a": 1}'


def test_a_failure_that_comes_back_is_raised(callbacks: Callbacks) -> None:
    token = callbacks.tokens.new(WORK)
    with callbacks.open(token, Callback(Scope(), None, None)) as callback:
        callbacks.fail(token, "Mine", "why")
        with pytest.raises(TaskFailed) as caught:
            callback.wait()
    assert (caught.value.error, caught.value.cause) == ("Mine", "why")


def test_a_token_is_good_once(callbacks: Callbacks) -> None:
    token = callbacks.tokens.new(WORK)
    with callbacks.open(token, Callback(Scope(), None, None)) as callback:
        callbacks.succeed(token, "1")
        for again in (lambda: callbacks.succeed(token, "2"), lambda: callbacks.beat(token)):
            assert code(again) == "TaskTimedOut"
        assert callback.wait() == "1"
    assert code(lambda: callbacks.fail(token, "", None)) == "TaskTimedOut"


def test_a_token_that_nobody_made_is_invalid(callbacks: Callbacks) -> None:
    for forged in ("token", Tokens(b"other").new(WORK)):
        assert code(lambda forged=forged: callbacks.beat(forged)) == "InvalidToken"


def test_a_task_times_out_whatever_heartbeats_come(callbacks: Callbacks) -> None:
    callback = Callback(Scope(), 0.05, 30)
    callback.begin()
    with pytest.raises(TaskFailed) as caught:
        callback.wait()
    failure = caught.value
    assert (failure.error, failure.handled_as, failure.cause) == ("States.Timeout", "States.Timeout", None)
    assert not callback.settle("late")
    assert not callback.beat()


def test_a_missing_heartbeat_is_a_timeout_that_handlers_know_by_its_own_name() -> None:
    callback = Callback(Scope(), 30, 0.05)
    callback.begin()
    with pytest.raises(TaskFailed) as caught:
        callback.wait()
    assert (caught.value.error, caught.value.handled_as) == ("States.Timeout", "States.HeartbeatTimeout")


def test_heartbeats_keep_a_task_alive(callbacks: Callbacks, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.monotonic()]
    monkeypatch.setattr("helpers.local_aws.states.callbacks.time", SimpleNamespace(monotonic=lambda: now[0]))
    token = callbacks.tokens.new(WORK)
    with callbacks.open(token, Callback(Scope(), None, 10)) as callback:
        callback.begin()
        for _ in range(6):
            now[0] += 9
            callbacks.beat(token)
        callbacks.succeed(token, "1")
        assert callback.wait() == "1"


def test_the_clocks_stand_still_until_a_worker_takes_the_task() -> None:
    callback = Callback(Scope(), 0.05, 0.02)
    threading.Timer(0.3, lambda: callback.settle("1")).start()
    assert callback.wait() == "1"


def test_time_that_passed_before_a_restart_counts() -> None:
    callback = Callback(Scope(), 100, None)
    callback.begin(spent=200)
    with pytest.raises(TaskFailed, match=r"States\.Timeout"):
        callback.wait()


def test_a_cancelled_task_ends_and_takes_nothing_more() -> None:
    scope = Scope()
    callback = Callback(scope, None, None)
    threading.Timer(0.05, scope.cancel).start()
    with pytest.raises(Cancelled):
        callback.wait()
    assert not callback.settle("1")
    assert not callback.begin()


def test_a_task_that_cannot_be_begun_is_not() -> None:
    callback = Callback(Scope(), None, None)

    def refuse() -> None:
        raise Cancelled

    assert not callback.begin(refuse)
    assert callback.begin()

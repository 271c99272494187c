"""What ends together: scopes, pieces that run at once, and deadlines."""

import threading
import time
from collections.abc import Callable

import pytest

from helpers.local_aws.seam.together import Together
from helpers.local_aws.states.deadlines import Deadlines
from helpers.local_aws.states.scopes import Cancelled, Scope

SECONDS = 180  # that a busy machine may take


def eventually(check: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SECONDS
    while not check() and time.monotonic() < deadline:
        time.sleep(0.002)
    return check()


def test_what_is_below_ends_with_it_and_what_is_above_does_not():
    root = Scope()
    branch = root.child()
    leaf = branch.child()
    branch.cancel()
    assert (root.cancelled, branch.cancelled, leaf.cancelled) == (False, True, True)
    with pytest.raises(Cancelled):
        leaf.require()
    root.require()


def test_a_scope_made_below_one_that_has_ended_has_ended():
    root = Scope()
    root.cancel()
    assert root.child().cancelled


def test_a_callback_is_called_once_and_not_when_undone():
    scope, called = Scope(), []
    scope.on_cancel(lambda: called.append("kept"))
    scope.on_cancel(lambda: called.append("undone"))()
    scope.cancel()
    scope.cancel()
    assert eventually(lambda: called == ["kept"])
    scope.on_cancel(lambda: called.append("late"))
    assert eventually(lambda: called == ["kept", "late"])


def test_a_sleep_ends_with_its_scope():
    scope, woken = Scope(), threading.Event()

    def sleep() -> None:
        with pytest.raises(Cancelled):
            scope.sleep(3600)
        woken.set()

    scope.start(sleep, "sleeper")
    scope.cancel()
    assert woken.wait(SECONDS)


def test_it_is_idle_when_the_last_thread_has_left():
    idle, go_on = threading.Event(), threading.Event()
    root = Scope(idle=idle.set)
    with root.working():
        root.child().start(lambda: go_on.wait(SECONDS), "worker")
        root.on_cancel(lambda: go_on.wait(SECONDS))
        root.cancel()
    assert not idle.is_set()
    go_on.set()
    assert idle.wait(SECONDS)


def test_pieces_give_their_results_in_order_and_no_more_run_at_once_than_asked():
    running, most = [0], [0]
    lock, full = threading.Lock(), threading.Event()

    def piece(index: int, scope: Scope, last: int) -> tuple[int, int]:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
            if running[0] == 3:
                full.set()
        full.wait(SECONDS)
        scope.sleep(0.01)
        with lock:
            running[0] -= 1
        return index * 10, last

    assert Together(Scope(), 20, 3, piece).run(1) == [index * 10 for index in range(20)]
    assert most[0] == 3


def test_the_first_failure_ends_the_others_and_is_not_kept_waiting():
    started = threading.Event()
    ended: list[str] = []

    def piece(index: int, scope: Scope, last: int) -> tuple[None, int]:
        if index:
            started.wait(SECONDS)
            raise ValueError("broken")
        started.set()
        try:
            scope.sleep(3600)
        except Cancelled:
            ended.append("cut off")
            raise
        return None, last

    together = Together(Scope(), 2, 2, piece)
    with pytest.raises(ValueError, match="broken"):
        together.run(0)
    assert eventually(lambda: ended == ["cut off"])


def test_nothing_new_starts_after_a_failure():
    began: list[int] = []

    def piece(index: int, scope: Scope, last: int) -> tuple[None, int]:
        began.append(index)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - any will do
        Together(Scope(), 5, 1, piece).run(0)
    assert began == [0]


def test_pieces_end_with_the_scope_around_them():
    scope, begun = Scope(), threading.Event()

    def piece(index: int, inner: Scope, last: int) -> tuple[None, int]:
        begun.set()
        inner.sleep(3600)
        return None, last

    threading.Thread(target=lambda: (begun.wait(SECONDS), scope.cancel())).start()
    with pytest.raises(Cancelled):
        Together(scope, 1, 1, piece).run(0)


def test_a_deadline_does_not_wait_for_a_later_one_that_was_set_before():
    deadlines, called = Deadlines(), []
    deadlines.after(3600, lambda: called.append("later"))
    deadlines.after(0.02, lambda: called.append("first"))
    assert eventually(lambda: called == ["first"])


def test_deadlines_come_in_their_order_whatever_the_order_they_were_set_in():
    deadlines, called, held, all_set = Deadlines(), [], threading.Event(), threading.Event()
    deadlines.after(0, lambda: (held.set(), all_set.wait(SECONDS)))  # holds up the others
    assert held.wait(SECONDS)
    for due in (-1000, -3000, -2000):
        deadlines.after(due, lambda due=due: called.append(due))
    all_set.set()
    assert eventually(lambda: called == [-3000, -2000, -1000])


def test_a_cancelled_deadline_is_not_called_and_not_held():
    deadlines, called = Deadlines(), []
    for _ in range(1000):
        deadlines.cancel(deadlines.after(3600, lambda: called.append("never")))
    assert len(deadlines) <= 2
    deadlines.after(0.01, lambda: called.append("after"))
    assert eventually(lambda: called == ["after"])


def test_a_deadline_that_fails_does_not_end_the_others():
    deadlines, called = Deadlines(), []
    deadlines.after(0.01, lambda: 1 / 0)
    deadlines.after(0.02, lambda: called.append("next"))
    assert eventually(lambda: called == ["next"])

"""The line of an activity's tasks: first come, first served, and nothing is lost on the way."""

import asyncio
import threading

from helpers.local_aws.states.activities import ActivityQueues, ActivityTask

WORK = "arn:aws:states:us-east-1:123456789012:activity:work"


def task(name: str, *, ended: bool = False, taken: list[str | None] | None = None) -> ActivityTask:
    def begin(worker: str | None) -> bool:
        if taken is not None:
            taken.append(worker)
        return not ended

    return ActivityTask(name, "{}", begin)


def test_tasks_are_handed_out_in_the_order_in_which_they_came() -> None:
    queues, taken = ActivityQueues(), []
    for name in "abc":
        queues.put(WORK, task(name, taken=taken))

    async def poll() -> list[str]:
        return [(await queues.poll(WORK, f"worker-{n}")).token for n in range(3)]  # type: ignore[union-attr]

    assert asyncio.run(poll()) == ["a", "b", "c"]
    assert taken == ["worker-0", "worker-1", "worker-2"]


def test_a_poll_that_finds_nothing_ends_with_nothing() -> None:
    queues = ActivityQueues()
    assert asyncio.run(queues.poll(WORK, None, 0.02)) is None
    queues.put(WORK, task("later"))
    assert asyncio.run(queues.poll(WORK, None, 0.02)) is not None


def test_workers_that_wait_hold_no_thread_and_are_served_as_they_came() -> None:
    queues = ActivityQueues()

    async def run() -> tuple[list[str], int]:
        polls = [asyncio.create_task(queues.poll(WORK, str(n), 600)) for n in range(50)]
        await asyncio.sleep(0)
        threads = threading.active_count()
        putting = threading.Thread(target=lambda: [queues.put(WORK, task(str(n))) for n in range(50)])
        putting.start()
        got = await asyncio.gather(*polls)
        return [one.token for one in got if one], threads

    before = threading.active_count()
    tokens, threads = asyncio.run(run())
    assert tokens == [str(n) for n in range(50)]
    assert threads <= before  # one of another test may have ended meanwhile


def test_a_task_whose_worker_left_goes_to_the_next_worker() -> None:
    queues = ActivityQueues()

    async def run() -> str:
        leaving = asyncio.create_task(queues.poll(WORK, "leaving", 600))
        await asyncio.sleep(0)
        queues.put(WORK, task("only"))  # it is the leaving worker's now, who does not know it yet
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        found = await queues.poll(WORK, "next", 600)
        return found.token if found else ""

    assert asyncio.run(run()) == "only"


def test_a_worker_that_left_before_is_given_nothing() -> None:
    queues, taken = ActivityQueues(), []

    async def run() -> None:
        leaving = asyncio.create_task(queues.poll(WORK, "leaving", 600))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        queues.put(WORK, task("only", taken=taken))
        await queues.poll(WORK, "next", 600)

    asyncio.run(run())
    assert taken == ["next"]


def test_a_task_that_has_ended_meanwhile_is_passed_over() -> None:
    queues = ActivityQueues()
    queues.put(WORK, task("ended", ended=True))
    queues.put(WORK, task("alive"))
    found = asyncio.run(queues.poll(WORK, None, 600))
    assert found is not None
    assert found.token == "alive"


def test_a_task_that_is_withdrawn_is_not_handed_out() -> None:
    queues, withdrawn = ActivityQueues(), task("withdrawn")
    queues.put(WORK, withdrawn)
    queues.discard(WORK, withdrawn)
    queues.discard(WORK, withdrawn)
    assert asyncio.run(queues.poll(WORK, None, 0.02)) is None


def test_tasks_of_one_activity_are_not_another_s() -> None:
    queues = ActivityQueues()
    queues.put(WORK, task("mine"))
    assert asyncio.run(queues.poll(f"{WORK}-2", None, 0.02)) is None


def test_a_stop_of_the_embedded_aws_ends_every_poll() -> None:
    queues = ActivityQueues()

    async def run() -> list[ActivityTask | None]:
        polls = [asyncio.create_task(queues.poll(WORK, None, 600)) for _ in range(3)]
        await asyncio.sleep(0)
        threading.Thread(target=queues.close).start()
        return [*await asyncio.gather(*polls), await queues.poll(WORK, None, 600)]

    assert asyncio.run(run()) == [None] * 4

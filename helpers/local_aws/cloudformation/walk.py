"""Work through things that wait for each other, several at a time."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

AT_ONCE = 4


def walk(
    waiting: Mapping[str, Iterable[str]],
    work: Callable[[str], bool],
    *,
    go_on: Callable[[], bool],
    after_failure: bool = False,
) -> set[str]:
    """Call ``work`` on each name, once what it waits for has succeeded. Returns the names that succeeded.

    ``work`` returns whether it succeeded. After a failure nothing new is begun, or with
    ``after_failure`` only what does not wait for a failed one. Nothing new is begun once
    ``go_on`` says no. What ``work`` raises is raised when all that is under way has ended.
    """
    left = {name: set(needs) & set(waiting) for name, needs in waiting.items()}
    done: set[str] = set()
    failed = False
    running: dict[Future[bool], str] = {}
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="stack") as pool:
        while left or running:
            if go_on() and (after_failure or not failed):
                ready = sorted(name for name, needs in left.items() if needs <= done)
                for name in ready[: AT_ONCE - len(running)]:
                    running[pool.submit(work, name)] = name
                    del left[name]
            if not running:
                break
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                name = running.pop(future)
                if future.result():
                    done.add(name)
                else:
                    failed = True
    return done

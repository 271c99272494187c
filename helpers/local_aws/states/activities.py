"""The tasks of activities: first come, first served, to however many workers wait at once.

A worker that waits holds no thread. A task is its worker's only once the answer
is made, so one whose client left before that goes to the next.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

POLL_SECONDS = 60.0  # that GetActivityTask waits, as on AWS


@dataclass(frozen=True, eq=False)
class ActivityTask:
    """A task that waits for a worker. ``begin(worker)`` makes it that worker's; False if it has ended meanwhile."""

    token: str
    input: str
    begin: Callable[[str | None], bool]


@dataclass(eq=False)
class _Poller:
    loop: asyncio.AbstractEventLoop
    woken: asyncio.Event
    task: ActivityTask | None = None

    def wake(self) -> None:
        self.loop.call_soon_threadsafe(self.woken.set)


@dataclass
class _Line:
    tasks: deque[ActivityTask] = field(default_factory=deque)
    pollers: deque[_Poller] = field(default_factory=deque)

    def match(self) -> None:
        """Give tasks that wait to workers that wait."""
        while self.tasks and self.pollers:
            poller = self.pollers.popleft()
            poller.task = self.tasks.popleft()
            poller.wake()


class ActivityQueues:
    """A line of tasks and one of workers for each activity."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._closed = False

    def put(self, activity: str, task: ActivityTask) -> None:
        """Add a task at the end of the line, from any thread."""
        with self._lock:
            line = self._lines.setdefault(activity, _Line())
            line.tasks.append(task)
            line.match()

    def discard(self, activity: str, task: ActivityTask) -> None:
        """Take a task out of the line, if it is still there."""
        with self._lock:
            line = self._lines.get(activity)
            if line and task in line.tasks:
                line.tasks.remove(task)
            self._tidy(activity)

    async def poll(self, activity: str, worker: str | None, seconds: float = POLL_SECONDS) -> ActivityTask | None:
        """Return the next task, begun by ``worker``; None if none came in ``seconds``, or everything stops."""
        until = asyncio.get_running_loop().time() + seconds
        while (task := await self._next(activity, until)) is not None:
            if task.begin(worker):
                return task
        return None

    def close(self) -> None:
        """Send all workers away: the embedded AWS stops."""
        with self._lock:
            self._closed = True
            for line in self._lines.values():
                for poller in line.pollers:
                    poller.wake()
                line.pollers.clear()

    async def _next(self, activity: str, until: float) -> ActivityTask | None:
        loop = asyncio.get_running_loop()
        with self._lock:
            line = self._lines.setdefault(activity, _Line())
            if line.tasks:
                return line.tasks.popleft()
            if self._closed:
                return None
            poller = _Poller(loop, asyncio.Event())
            line.pollers.append(poller)
        try:
            async with asyncio.timeout_at(until):
                await poller.woken.wait()
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            self._leave(activity, poller, put_back=True)
            raise
        self._leave(activity, poller, put_back=False)
        return poller.task

    def _leave(self, activity: str, poller: _Poller, *, put_back: bool) -> None:
        with self._lock:
            line = self._lines.setdefault(activity, _Line())
            if poller in line.pollers:
                line.pollers.remove(poller)
            if put_back and poller.task is not None:
                line.tasks.appendleft(poller.task)
                line.match()
            self._tidy(activity)

    def _tidy(self, activity: str) -> None:
        line = self._lines.get(activity)
        if line is not None and not line.tasks and not line.pollers:
            del self._lines[activity]

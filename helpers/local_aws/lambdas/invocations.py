"""The queue of asynchronous invocations: on disk before the caller has an answer, until they are dealt with."""

import contextlib
import enum
import heapq
import json
import logging
import os
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

PER_FUNCTION = max(4, 2 * (os.cpu_count() or 1))  # of one function: no burst takes all threads, nor all memory
THREADS = 4 * PER_FUNCTION  # invocations at once, of all functions together
RETRY_SECONDS = (1.0, 2.0)  # after the first and the second failure; on AWS one and two minutes
LONGEST_WAIT = 30.0  # seconds between attempts of a throttled event; on AWS five minutes
MAX_AGE = 6 * 3600  # seconds; AWS's default
LARGEST_EVENT = 1 << 20  # bytes
IDLE_SECONDS = 10.0  # after which a thread without work ends

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Invocation:
    """One event for one function.

    ``function`` is the ARN that was invoked, with its qualifier; ``event`` is
    JSON; ``received`` is in seconds since the epoch; ``attempts`` counts the
    times that the function has failed on it.
    """

    request_id: str
    function: str
    event: bytes
    received: float
    attempts: int = 0


class Verdict(enum.Enum):
    """What came of an attempt: done, a failure of the function, no room for it, or no use in trying again."""

    DONE = enum.auto()
    FAILED = enum.auto()
    THROTTLED = enum.auto()
    DROPPED = enum.auto()


@dataclass(frozen=True)
class _Entry:
    """An event that waits: its file, and what is needed to choose it. The event itself stays on disk."""

    file: str
    function: str  # without qualifier: what shares its concurrency
    throttled: int = 0


class Invocations:
    """Events that wait for their functions, at least once each.

    An event is a file in ``folder``, written before ``put`` returns, and
    removed when it was dealt with or given up: what is left after a stop or a
    kill is delivered after the next start. (A power failure may take the
    last seconds: nothing is forced to the disk.) ``run`` makes one attempt;
    ``at_once`` tells how many of a function's events may run at the same
    time. Threads start when there is work and end when there is none.
    """

    def __init__(
        self,
        folder: Path,
        run: Callable[[Invocation], Verdict],
        *,
        at_once: Callable[[str], int] = lambda function: PER_FUNCTION,
        threads: int = THREADS,
        retry_seconds: tuple[float, ...] = RETRY_SECONDS,
    ) -> None:
        """Find what an earlier process left. Nothing runs before ``start``."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._run, self._at_once = folder, run, at_once
        self._most, self._retry_seconds = threads, retry_seconds
        self._condition = threading.Condition()
        self._ready: dict[str, deque[_Entry]] = {}
        self._later: list[tuple[float, int, _Entry]] = []
        self._running: Counter[str] = Counter()
        self._threads: set[threading.Thread] = set()
        self._idle = self._count = 0
        self._started = self._closed = False
        for file in self._left_over():
            self._make_ready(file)

    def put(self, function: str, event: bytes, request_id: str = "") -> str:
        """Keep an event for ``function`` (an ARN) and return its request id, a new one where none is given.

        Raises OSError when it cannot be kept.
        """
        now = time.time()
        invocation = Invocation(request_id or str(uuid.uuid4()), function, event, now)
        entry = _Entry(f"{int(now * 1e9):020d}-{invocation.request_id}", _unqualified(function))
        self._write(entry.file, invocation)
        with self._condition:
            self._make_ready(entry)
            self._staff()
            self._condition.notify()
        return invocation.request_id

    def start(self) -> None:
        """Begin to run what waits."""
        with self._condition:
            self._started = True
            self._staff()

    def stop(self) -> None:
        """Begin nothing more. What is running and now fails stays in the queue, for the next start."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def join(self, seconds: float) -> None:
        """Wait, after ``stop``, until nothing runs any more, at most ``seconds``."""
        deadline = time.monotonic() + seconds
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))

    def _left_over(self) -> Iterator[_Entry]:
        for path in sorted(self._folder.iterdir()):
            if path.name.startswith("."):  # was being written when the process died: nobody was told that it is kept
                path.unlink()
                continue
            invocation = self._read(path.name)
            if invocation is not None:
                yield _Entry(path.name, _unqualified(invocation.function))

    def _make_ready(self, entry: _Entry) -> None:
        self._ready.setdefault(entry.function, deque()).append(entry)

    def _staff(self) -> None:
        """Have a thread for each event that may run now, and one that waits for those of later."""
        if not self._started or self._closed:
            return
        wanted = sum(
            max(0, min(len(entries), self._at_once(function) - self._running[function]))
            for function, entries in self._ready.items()
        ) + bool(self._later)
        while self._idle < wanted and len(self._threads) < self._most:
            self._idle += 1
            thread = threading.Thread(target=self._work, name="asynchronous-invocations", daemon=True)
            self._threads.add(thread)
            thread.start()

    def _work(self) -> None:
        while (entry := self._take()) is not None:
            invocation = self._read(entry.file)
            verdict = Verdict.DROPPED if invocation is None else self._attempt(invocation)
            with self._condition:
                self._running[entry.function] -= 1
                if not self._running[entry.function]:
                    del self._running[entry.function]
                self._idle += 1
            if invocation is not None:
                self._settle(entry, invocation, verdict)

    def _take(self) -> _Entry | None:
        """Return the next event to run, or None when this thread is no longer needed."""
        with self._condition:
            patience = time.monotonic() + IDLE_SECONDS
            while not self._closed:
                now = time.monotonic()
                while self._later and self._later[0][0] <= now:
                    self._make_ready(heapq.heappop(self._later)[2])
                entry = self._next()
                if entry is not None:
                    self._idle -= 1
                    self._running[entry.function] += 1
                    self._staff()
                    return entry
                if not self._later and now >= patience:
                    break
                self._condition.wait((self._later[0][0] if self._later else patience) - now)
            self._idle -= 1
            self._threads.discard(threading.current_thread())
            return None

    def _next(self) -> _Entry | None:
        """Return the oldest event of the next function that has room. Functions take turns."""
        for function, entries in self._ready.items():
            if self._running[function] < self._at_once(function):
                entry = entries.popleft()
                del self._ready[function]
                if entries:
                    self._ready[function] = entries  # at the end
                return entry
        return None

    def _attempt(self, invocation: Invocation) -> Verdict:
        if time.time() - invocation.received > MAX_AGE:
            logger.warning("event %s for %s is too old to be tried again", invocation.request_id, invocation.function)
            return Verdict.DROPPED
        try:
            return self._run(invocation)
        except Exception:  # whatever it was must not end the thread, nor lose the event
            if not self._closed:
                logger.exception("event %s for %s", invocation.request_id, invocation.function)
            return Verdict.FAILED

    def _settle(self, entry: _Entry, invocation: Invocation, verdict: Verdict) -> None:
        """Remove an event that was dealt with; keep the others for later."""
        failed = verdict is Verdict.FAILED
        if verdict in (Verdict.DONE, Verdict.DROPPED):
            self._remove(entry.file)
        elif self._closed:
            return  # it may have failed only because its process was ended: the next start tries it again
        elif failed and invocation.attempts >= len(self._retry_seconds):
            logger.warning(
                "%s failed on event %s %d times: given up",
                invocation.function, invocation.request_id, invocation.attempts + 1,
            )  # fmt: skip
            self._remove(entry.file)
        elif failed:
            self._write(entry.file, Invocation(**{**asdict(invocation), "attempts": invocation.attempts + 1}))
            self._postpone(self._retry_seconds[invocation.attempts], entry)
        else:
            wait = min(2.0**entry.throttled, LONGEST_WAIT)
            self._postpone(wait, _Entry(entry.file, entry.function, entry.throttled + 1))

    def _postpone(self, seconds: float, entry: _Entry) -> None:
        with self._condition:
            self._count += 1  # decides between two of the same instant
            heapq.heappush(self._later, (time.monotonic() + seconds, self._count, entry))
            self._staff()
            self._condition.notify_all()  # whoever waits, waits until this one at the longest

    def _write(self, file: str, invocation: Invocation) -> None:
        about = {name: value for name, value in asdict(invocation).items() if name != "event"}
        unfinished = self._folder / f".{file}"
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb", buffering=0) as new:
            new.write(json.dumps(about).encode() + b"\n" + invocation.event)
        os.replace(unfinished, self._folder / file)

    def _read(self, file: str) -> Invocation | None:
        try:
            about, event = (self._folder / file).read_bytes().split(b"\n", 1)
            return Invocation(event=event, **json.loads(about))
        except (OSError, ValueError, TypeError):
            logger.exception("the event in %s cannot be read: dropped", file)
            self._remove(file)
            return None

    def _remove(self, file: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._folder / file).unlink()


def _unqualified(function: str) -> str:
    return ":".join(function.split(":")[:7])

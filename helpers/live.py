"""A view that changes while something runs, and that leaves the same in a notebook at every run."""

import time
from collections.abc import Callable
from typing import TypeVar

from IPython.display import Markdown, display

from helpers import progress

Found = TypeVar("Found")


def follow(
    heading: str,
    look: Callable[[], Found],
    ended: Callable[[Found], bool],
    text: Callable[[Found], str],
    *,
    seconds: float,
    every: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Found:
    """Show ``text`` of what ``look`` returns until that has ``ended``, and the time that has gone. Returns it.

    ``every``: seconds between two looks; by default ever more, 0.2 to 5, since AWS limits the rate of calls.
    Raises TimeoutError after ``seconds``, with what was shown.
    """
    # nbval compares what is displayed and knows nothing of updates: at the end this output is as at first.
    handle = display(Markdown(heading), display_id=True)
    waited = 0.0
    try:
        while not ended(found := look()):
            shown = text(found)
            if waited >= seconds:
                raise TimeoutError(f"not ended after {seconds:g} seconds:\n{shown}")
            if handle is not None:
                handle.update(Markdown(f"{shown}\n\n**waiting** for {progress.clock(waited)}"))
            pause = every if every is not None else min(5.0, max(0.2, waited / 10))
            sleep(pause)
            waited += pause
    finally:
        if handle is not None:
            handle.update(Markdown(heading))
    return found

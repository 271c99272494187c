"""Patterns that clients write, matched within a time that the pattern does not decide.

Python's own ``re`` looks for a match for ever, if need be, and lets no other thread run meanwhile.
"""

import fnmatch
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

SECONDS = 1.0  # for one search of a Regex: as long as Step Functions gives a whole expression


@lru_cache(4096)
def wildcard(pattern: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    """Return a pattern of IAM, where * is any text and ? any character, to be held against a whole text."""
    # ``translate`` never looks back at what a * has taken; it alone takes [ for something special.
    plain = fnmatch.translate(pattern.replace("[", "[[]"))
    return re.compile(plain, re.IGNORECASE if ignore_case else 0)


@lru_cache(4096)
def star(pattern: str) -> re.Pattern[str]:
    r"""Return a pattern of a Choice state, where * is any text unless it is written as \*."""
    parts = re.findall(r"\\[\\*]|\*+|[^\\*]+|\\", pattern)
    return re.compile(fnmatch.translate("".join("*" if part[0] == "*" else _literal(part) for part in parts)))


def _literal(part: str) -> str:
    text = part[1:] if len(part) == 2 and part[0] == "\\" else part
    return re.sub(r"[*?[]", r"[\g<0>]", text)


class Regex:
    """A regular expression with the methods of ``re.Pattern`` that JSONata uses.

    Each raises TimeoutError after SECONDS, and lets other threads run.
    """

    def __init__(self, pattern: str, *, ignore_case: bool, multiline: bool) -> None:
        """Raises ValueError for what is no regular expression."""
        import regex  # which few expressions need

        flags = (regex.IGNORECASE if ignore_case else 0) | (regex.MULTILINE if multiline else 0)
        try:
            self._pattern = regex.compile(pattern, flags)
        except regex.error as error:
            raise ValueError(str(error)) from None

    def search(self, string: str) -> Any:
        """Return the first match, or None."""
        return self._pattern.search(string, timeout=SECONDS)

    def finditer(self, string: str) -> Iterator[Any]:
        """Yield the matches."""
        return self._pattern.finditer(string, timeout=SECONDS)

    def sub(self, repl: str | Callable[[Any], str], string: str, count: int = 0) -> str:
        """Replace the matches; ``repl`` as a text is a template of ``re``."""
        for group in re.finditer(r"\\g<(\d+)>", repl) if isinstance(repl, str) else ():
            if int(group[1]) > self._pattern.groups:  # in the words of ``re``, which JSONata's library reads
                raise ValueError(f"invalid group reference {group[1]} at position {group.start() + 3}")
        return self._pattern.sub(repl, string, count, timeout=SECONDS)

    def split(self, string: str, maxsplit: int = 0) -> list[str]:
        """Return what is between the matches."""
        return self._pattern.split(string, maxsplit, timeout=SECONDS)

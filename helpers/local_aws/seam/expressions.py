"""Step Functions: JSONata, and the patterns of Choice states, within bounds.

ministack ends an expression after a second, but looks at the clock between its parts only.
"""

from collections.abc import Callable
from typing import Any

from helpers.local_aws.patterns import Regex, star
from helpers.local_aws.seam.hooks import Ministack

LARGEST_TEXT = 4 * 2**20  # characters that a part of an expression may come to: a state's data has 256 KiB


def install(ministack: Ministack) -> None:
    """Put the hooks in."""
    states = ministack.states
    states.jsonata = _Bounded(states.jsonata)
    pad = states.jsonata.static_frame.lookup("pad")
    pad.method = _bounded_pad(pad.method)
    evaluate = states._evaluate_rule

    def evaluate_rule(rule: dict, data: Any, context: dict | None = None) -> bool:
        if "StringMatches" not in rule or {"And", "Or", "Not"} & rule.keys():
            return evaluate(rule, data, context)
        value = states._resolve_path_or_ctx(rule["Variable"], data, context)
        return isinstance(value, str) and bool(star(rule["StringMatches"]).match(value))

    states._evaluate_rule = evaluate_rule


class _Bounded:
    """The library's module as ministack uses it: ``jsonata.Jsonata.jsonata`` and ``jsonata.utils``."""

    def __init__(self, library: Any) -> None:
        self._library, self.utils, self.Jsonata = library, library.utils, self
        self.static_frame = library.Jsonata.static_frame  # the functions that every expression has

    def jsonata(self, expression: str, timeout: int | None = None) -> Any:
        """Return a compiled expression."""
        made = self._library.Jsonata.jsonata(expression, regex_engine=_regex, timeout=timeout)
        look_at_clock = made.environment.lookup("__evaluate_exit")

        def look(part: Any, given: Any, frame: Any, result: Any) -> None:
            if isinstance(result, str):
                _require_small(len(result))
            if look_at_clock:
                look_at_clock(part, given, frame, result)

        made.environment.set_evaluate_exit_callback(look)
        return made


def _regex(pattern: str, flags: Any) -> Regex:
    return Regex(pattern, ignore_case=flags.case_insensitive, multiline=flags.multiline)


def _bounded_pad(method: Callable[..., Any]) -> Callable[..., Any]:
    def pad(text: Any, width: Any, filler: Any) -> Any:
        if isinstance(width, int | float):
            _require_small(abs(width))
        return method(text, width, filler)

    return pad


def _require_small(characters: float) -> None:
    if characters > LARGEST_TEXT:
        raise ValueError(f"a text has more than {LARGEST_TEXT} characters")

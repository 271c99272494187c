"""Words of a Dockerfile's instruction: quotes, escapes and variables."""

import json
import re
from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IN_BRACES = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?:(:[-+])([^{}]*))?\}")


def exec_form(text: str) -> list[str] | None:
    """Return the words of ``["a", "b"]``, or None where the text is something else, as Docker decides it."""
    if not text.lstrip().startswith("["):
        return None
    try:
        words = json.loads(text)
    except ValueError:
        return None
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def split(text: str, variables: Mapping[str, str]) -> list[str]:
    """Split a text at its spaces, with quotes and escapes taken away and variables put in.

    Raises ValueError for a quote without its end, or a variable in a form that Docker does not have.
    """
    words: list[str] = []
    word: list[str] | None = None
    quote, index = "", 0
    while index < len(text):
        letter = text[index]
        if not quote and letter.isspace():
            if word is not None:
                words.append("".join(word))
            word = None
            index += 1
            continue
        word = [] if word is None else word
        if letter == quote or (not quote and letter in "'\""):
            quote = "" if quote else letter
            index += 1
        elif letter == "\\" and quote != "'" and index + 1 < len(text) and (not quote or text[index + 1] in '"\\$'):
            word.append(text[index + 1])
            index += 2
        elif letter == "$" and quote != "'":
            value, index = _variable(text, index, variables)
            word.append(value)
        else:
            word.append(letter)
            index += 1
    if quote:
        raise ValueError(f"a {quote} has no end")
    return words if word is None else [*words, "".join(word)]


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Put variables into a text that is one word, whatever spaces it has."""
    protected = re.sub(r"(\s)", r"\\\1", text)
    return "".join(split(protected, variables))


def assignments(text: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Read ``A=1 B="x y"``, or ``A and the rest`` as older Dockerfiles have it. Raises ValueError."""
    first = text.split(maxsplit=1)
    if first and "=" not in first[0]:
        if len(first) < 2:
            raise ValueError(f"{first[0]} has no value")
        return {first[0]: expand(first[1], variables)}
    found = {}
    for word in split(text, variables):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"{word!r} is not NAME=value")
        found[name] = value
    if not found:
        raise ValueError("it needs NAME=value")
    return found


def _variable(text: str, index: int, variables: Mapping[str, str]) -> tuple[str, int]:
    """Return the value of the variable at ``index``, where a $ is, and where the text goes on."""
    if plain := _NAME.match(text, index + 1):
        return variables.get(plain[0], ""), plain.end()
    if not text.startswith("{", index + 1):
        return "$", index + 1
    braces = _IN_BRACES.match(text, index + 1)
    if braces is None:
        raise ValueError(f"{text[index : index + 20]!r} is a form of variable that is not supported")
    value, how, word = variables.get(braces[1], ""), braces[2], braces[3] or ""
    if how == ":-" and not value:
        value = expand(word, variables)
    elif how == ":+":
        value = expand(word, variables) if value else ""
    return value, braces.end()

"""Walk a tree of YAML nodes and collect every problem with its line."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import yaml

from .yaml_nodes import FILE_NAME, kind, line_of, quote

MAX_PROBLEMS = 100


@dataclass
class Experiment:
    """What an experiment.yml asks for, as far as it is valid.

    ``values`` has the file's structure; ``lines`` has the line of each value by
    its path, such as ``train.InstanceType``.
    """

    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def problem(self, path: str, text: str) -> str:
        """Return ``text`` as a problem of the value at ``path``."""
        return f"{FILE_NAME}:{self.lines[path]}: {path}: {text}"


class InvalidError(Exception):
    """One value breaks a rule; the message says which."""


class TooManyError(Exception):
    """So much is wrong that more messages would not help."""


def closest(word: str, known: Collection[str]) -> str | None:
    """Return the one of ``known`` that ``word`` most looks like, if any; upper and lower case count as the same."""
    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(word[:200].lower(), list(by_lower), n=1)
    return by_lower[close[0]] if close else None


def hint(word: str, known: Collection[str]) -> str:
    """Return " Did you mean …?" for the closest of ``known``, or nothing."""
    match = closest(word, known)
    return f" Did you mean {quote(match)}?" if match else ""


class Reader:
    """Reads values by rules; a rule raises InvalidError."""

    def __init__(self, result: Experiment) -> None:
        self.result = result

    def fail(self, node: yaml.Node, path: str, text: str) -> None:
        """Note a problem of ``node``. Raises TooManyError after MAX_PROBLEMS."""
        if len(self.result.problems) >= MAX_PROBLEMS:
            raise TooManyError
        self.result.problems.append(f"{FILE_NAME}:{line_of(node)}: {path + ': ' if path else ''}{text}")

    def value(self, node: yaml.Node, path: str, rule: Callable[[yaml.Node], Any]) -> Any:
        """Apply ``rule`` to ``node``; where it is broken, note the problem and return None."""
        self.result.lines[path] = line_of(node)
        try:
            return rule(node)
        except InvalidError as invalid:
            self.fail(node, path, str(invalid))
            return None

    def mapping(
        self, node: yaml.Node, path: str, required: Collection[str], optional: Collection[str] = ()
    ) -> dict[str, yaml.Node]:
        """Return the known keys of a mapping; note unknown, repeated and missing ones."""
        known = (*required, *optional)
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, path, f"must hold the keys {', '.join(required or known)}, but holds {kind(node)}")
            return {}
        found: dict[str, yaml.Node] = {}
        meant: set[str | None] = set()
        for key_node, value_node in self.pairs(node, path):
            key = key_node.value
            if key in known:
                found[key] = value_node
            else:
                meant.add(closest(key, known))
                self.fail(key_node, path, f"unknown key {quote(key)}.{hint(key, known)}")
        for name in required:
            if name not in found and name not in meant:  # a misspelt key is not missing as well
                self.fail(node, path, f"key '{name}' is missing")
        return found

    def pairs(self, node: yaml.MappingNode, path: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
        """Return the keys and values of a mapping; note keys that are no words, and repeated ones."""
        first_lines: dict[str, int] = {}
        found = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":merge"):
                self.fail(key_node, path, f"a key must be a plain word, not {_key_kind(key_node)}")
            elif key_node.value in first_lines:
                first = first_lines[key_node.value]
                self.fail(key_node, path, f"key {quote(key_node.value)} appears twice, first on line {first}")
            else:
                first_lines[key_node.value] = line_of(key_node)
                found.append((key_node, value_node))
        return found

    def items(self, node: yaml.Node, path: str, example: str, most: int) -> list[yaml.Node]:
        """Return the items of a list; note what is no list, or has more than ``most`` items."""
        self.result.lines[path] = line_of(node)
        if not isinstance(node, yaml.SequenceNode):
            self.fail(node, path, f"must be a list such as {example}, not {kind(node)}")
            return []
        if len(node.value) > most:
            self.fail(node, path, f"has {len(node.value)} items; SageMaker takes at most {most}")
            return []
        return node.value


def _key_kind(node: yaml.Node) -> str:
    return "the merge key '<<'" if isinstance(node, yaml.ScalarNode) else kind(node)

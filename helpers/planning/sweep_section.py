"""Read the ``sweep`` of an experiment.yml."""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial

import yaml

from . import rules
from .limits import limit
from .reader import InvalidError, Reader
from .sweep import MAX_VARIANTS, Axis, Changes, Grid, Listed, RandomSample, Range, Sweep, apply, variants
from .yaml_nodes import kind, quote

FORMS = ("grid", "list", "random")
RANGES = ("uniform", "log_uniform", "integer")
MAX_SEED = 2**32 - 1


class SweepSection:
    """Reads one sweep over ``steps``; what is wrong with it goes to the reader's problems."""

    def __init__(self, reader: Reader, steps: Collection[str]) -> None:
        self.reader, self.steps = reader, steps
        self.places: dict[tuple[str, str], str] = {}  # (step, option): path of its first value

    def read(self, node: yaml.Node) -> Sweep | None:
        """Return the sweep, or None where it cannot be run."""
        before = len(self.reader.result.problems)
        found = self.reader.mapping(node, "sweep", (), FORMS)
        if len(found) > 1:
            self.reader.fail(node, "sweep", f"must hold one of {', '.join(FORMS)}, not {' and '.join(found)}")
        elif not found and len(self.reader.result.problems) == before:
            self.reader.fail(node, "sweep", f"must hold one of {', '.join(FORMS)}")
        sweep = None
        for form, value in found.items():
            sweep = {"grid": self._grid, "list": self._list, "random": self._random}[form](value, f"sweep.{form}")
        return sweep if len(self.reader.result.problems) == before else None

    def check(self, sweep: Sweep, args: Mapping[str, Sequence[str]]) -> None:
        """Note swept options that the steps' ``args`` leave no place for."""
        result, most = self.reader.result, limit("ContainerArguments", "max")
        for (step, option), path in self.places.items():
            times = sum(item == option or item.startswith(f"{option}=") for item in args.get(step, ()))
            if times > 1:
                result.problems.append(result.problem(path, f"{option} stands {times} times in {step}.args: keep one"))
        for step, longest in _longest(sweep, args).items():
            if longest > most:
                path = next(path for (of, _), path in self.places.items() if of == step)
                long = f"with it {step} has {longest} arguments; SageMaker takes at most {most}"
                result.problems.append(result.problem(path, long))

    def _grid(self, node: yaml.Node, path: str) -> Sweep:
        axes = self._axes(node, path, ranges=False)
        count = math.prod(len(axis.values) for axis in axes if isinstance(axis.values, tuple))
        self._check_count(node, path, count)
        return Grid(tuple(axes))

    def _list(self, node: yaml.Node, path: str) -> Sweep:
        self.reader.result.lines[path] = node.start_mark.line + 1
        if not isinstance(node, yaml.SequenceNode):
            self.reader.fail(node, path, f'must be a list such as [{{train: {{"--C": "0.1"}}}}], not {kind(node)}')
            return Listed(())
        if not node.value:
            self.reader.fail(node, path, "is empty")
        if not self._check_count(node, path, len(node.value)):
            return Listed(())
        changes: list[Changes] = []
        for number, item in enumerate(node.value):
            options = self._options(item, f"{path}[{number}]")
            change: dict[str, dict[str, str]] = {}
            for step, option, value, where in options:
                change.setdefault(step, {})[option] = self.reader.value(value, where, rules.argument)
            if change in changes:
                self.reader.fail(item, f"{path}[{number}]", "is the same as an earlier one")
            changes.append(change)
        return Listed(tuple(changes))

    def _random(self, node: yaml.Node, path: str) -> Sweep:
        known = self.reader.mapping(node, path, ("samples",), ("seed", *self.steps))
        numbers = {"samples": 1, "seed": 0}
        for name, (least, most) in {"samples": (1, MAX_VARIANTS), "seed": (0, MAX_SEED)}.items():
            if name in known:
                rule = partial(rules.whole_number, least=least, most=most)
                numbers[name] = self.reader.value(known[name], f"{path}.{name}", rule)
        if not isinstance(node, yaml.MappingNode):
            return Listed(())
        steps = [pair for pair in node.value if pair[0].value in self.steps]
        axes = self._axes(yaml.MappingNode(node.tag, steps, node.start_mark, node.end_mark), path, ranges=True)
        return RandomSample(tuple(axes), **numbers)

    def _axes(self, node: yaml.Node, path: str, *, ranges: bool) -> list[Axis]:
        before = len(self.reader.result.problems)
        options = self._options(node, path)
        if not options and len(self.reader.result.problems) == before:
            self.reader.fail(node, path, f"names no step ({', '.join(self.steps)})")
        axes = []
        for step, option, value, where in options:
            self.reader.result.lines[where] = value.start_mark.line + 1
            if ranges and isinstance(value, yaml.MappingNode):
                axes.append(Axis(step, option, self._range(value, where)))
            else:
                axes.append(Axis(step, option, self._choices(value, where, ranges=ranges)))
        return axes

    def _options(self, node: yaml.Node, path: str) -> list[tuple[str, str, yaml.Node, str]]:
        """Return (step, option, its value, its path) for each option below ``node``."""
        found = []
        for step, options in self.reader.mapping(node, path, (), tuple(self.steps)).items():
            where = f"{path}.{step}"
            if not isinstance(options, yaml.MappingNode):
                self.reader.fail(options, where, f'must hold options such as "--C", not {kind(options)}')
                continue
            if not options.value:
                self.reader.fail(options, where, "names no option")
            for key, value in self.reader.pairs(options, where):
                place = f"{where}.{key.value}"
                self.reader.value(key, place, lambda node: rules.option(node.value))
                self.places.setdefault((step, key.value), place)
                found.append((step, key.value, value, place))
        return found

    def _choices(self, node: yaml.Node, path: str, *, ranges: bool) -> tuple[str, ...]:
        if not isinstance(node, yaml.SequenceNode):
            also = f", or one of {', '.join(RANGES)} with [low, high]" if ranges else ""
            self.reader.fail(node, path, f'must be a list of values such as ["0.1", "1"]{also}, not {kind(node)}')
            return ()
        if not node.value:
            self.reader.fail(node, path, "is empty: list at least one value")
        values: list[str] = []
        for number, item in enumerate(node.value):
            value = self.reader.value(item, f"{path}[{number}]", rules.argument)
            if value is not None and value in values:
                self.reader.fail(item, path, f"lists {quote(value)} twice")
            values.append(value)
        return tuple(values)

    def _range(self, node: yaml.MappingNode, path: str) -> Range:
        found = self.reader.mapping(node, path, (), RANGES)
        if len(found) != 1:
            if len(found) == len(node.value):
                self.reader.fail(node, path, f"must hold one of {', '.join(RANGES)}")
            return Range("uniform", 0, 1)
        ((name, bounds),) = found.items()
        return self.reader.value(bounds, path, lambda value: _bounds(name, value)) or Range("uniform", 0, 1)

    def _check_count(self, node: yaml.Node, path: str, count: int) -> bool:
        if count > MAX_VARIANTS:
            self.reader.fail(node, path, f"has {count:,} variants; at most {MAX_VARIANTS:,} are run from one push")
        return count <= MAX_VARIANTS


def _bounds(name: str, node: yaml.Node) -> Range:
    if not isinstance(node, yaml.SequenceNode) or len(node.value) != 2:
        raise InvalidError(f"{name} must be followed by [low, high]")
    if name == "integer":
        low, high = (float(rules.whole_number(item, -(10**9), 10**9)) for item in node.value)
    else:
        low, high = (rules.number(item) for item in node.value)
    if low >= high:
        raise InvalidError(f"the low end, {node.value[0].value}, must be below the high end, {node.value[1].value}")
    if name == "log_uniform" and low <= 0:
        raise InvalidError(f"log_uniform takes numbers above 0, not {node.value[0].value}")
    return Range(name, low, high)  # type: ignore[arg-type]


def _longest(sweep: Sweep, args: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the most arguments that a variant gives each swept step."""
    longest: dict[str, int] = {}
    for changes in variants(sweep):
        for step, options in changes.items():
            longest[step] = max(longest.get(step, 0), len(apply(args.get(step, ()), options)))
    return longest

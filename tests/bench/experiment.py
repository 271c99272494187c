"""What everyone runs: the four scripts of code/, their arguments, and where their files lie."""

import ast
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from helpers import dataset
from helpers.local_aws.control import PROJECT

CODE = PROJECT / "code"
# What each step reads, in the order in which they run.
INPUTS = {
    "preprocess": (),
    "train": ("preprocess",),
    "predict": ("preprocess", "train"),
    "evaluate": ("preprocess", "train", "predict"),
}
STEPS = tuple(INPUTS)
SWEPT = STEPS[1:]  # the steps that have a variant for each value of C
SWEEP = ("0.001", "0.003", "0.01", "0.03", "0.1", "0.3", "1", "3")
ANOTHER_C = "0.5"
NOTHING = '''"""A step that does nothing."""

import os
from pathlib import Path


def main(argv=None):
    """Write a file, so that there is an output to keep."""
    output = Path(os.environ.get("PROCESSING_DIR", "/opt/ml/processing")) / "output"
    output.mkdir(parents=True, exist_ok=True)
    (output / "metrics.json").write_text("{}")


if __name__ == "__main__":
    main()
'''


@dataclass(frozen=True)
class Task:
    """One case in one turn: the scripts' text, the arguments, and the values of C to sweep, if any.

    ``mark`` is a comment that ends up in scripts, so that nobody can have seen them before. ``jobs`` is how
    many steps have to run at least; who remembers what is done runs no more.
    """

    case: str
    mark: str
    changed: Sequence[str] = STEPS
    sweep: Sequence[str] = ()
    overrides: Mapping[str, str] = field(default_factory=dict)
    nothing: bool = False
    jobs: int = 4

    def arguments(self, step: str, c: str | None = None) -> list[str]:
        """Return the arguments of a step; ``c`` replaces train's C."""
        if self.nothing:
            return []
        values = [str(value) for value in _experiment()[step].get("args", [])]
        c = c or self.overrides.get("C")
        if step == "train" and c:
            values[values.index("--C") + 1] = c
        return values

    def write_scripts(self, folder: Path) -> None:
        """Write the scripts into ``folder``; those not ``changed`` keep the text that they have there."""
        folder.mkdir(parents=True, exist_ok=True)
        for step in STEPS:
            target = folder / f"{step}.py"
            if step in self.changed or not target.exists():
                text = NOTHING if self.nothing else (CODE / target.name).read_text()
                target.write_text(f"{text}# {self.mark}\n")
        for module in [] if self.nothing else modules():
            if not (folder / module.name).exists():
                shutil.copy(module, folder / module.name)


def cases(turn: int) -> list[Task]:
    """Return the cases of a turn, in the order in which each finds what the one before left."""
    first, swept, empty = (f"turn {turn}, {what}" for what in ("first", "sweep", "nothing to do"))
    return [
        Task("first run", first),
        Task("nothing changed", first, changed=(), jobs=0),
        Task("evaluate.py changed", f"{first}, changed", changed=("evaluate",), jobs=1),
        Task("argument of train changed", first, changed=(), overrides={"C": ANOTHER_C}, jobs=3),
        Task("8-point sweep", swept, sweep=SWEEP, jobs=25),
        Task("four no-op steps", empty, nothing=True),
    ]


CASES = tuple(task.case for task in cases(0))


def modules() -> list[Path]:
    """Return the modules beside the scripts that they share."""
    return sorted(path for path in CODE.glob("*.py") if path.stem not in STEPS)


def imported(script: Path) -> list[str]:
    """Return the files beside ``script`` that it imports, directly or through one another."""
    waiting, found = [script], set[str]()
    while waiting:
        for node in ast.walk(ast.parse(waiting.pop().read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in names:
                file = script.with_name(f"{name.partition('.')[0]}.py")
                if file.is_file() and file.name not in found | {script.name}:
                    found.add(file.name)
                    waiting.append(file)
    return sorted(found)


def link_folders(root: Path, data: Path, *, shared: Path | None = None) -> None:
    """Lay out each step's folder below ``root``, its inputs as links to the outputs of earlier steps.

    The links are relative, so that a copy of the tree is complete. ``shared``: the root
    whose preprocess this one uses; without it, ``root`` has a preprocess of its own, which reads ``data``.
    """
    for step, sources in INPUTS.items():
        if step == "preprocess" and shared:
            continue
        (root / step / "input").mkdir(parents=True, exist_ok=True)
        if step == "preprocess":
            _link(root / step / "input" / "census-income.csv", data)
        for source in sources:
            made = shared if shared and source == "preprocess" else root
            _link(root / step / "input" / source, made / source / "output")


def place_data(folder: Path) -> Path:
    """Put a copy of the full data set into ``folder`` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(dataset.path(), folder / "census-income.csv"))


def _link(link: Path, target: Path) -> None:
    if not link.is_symlink():
        link.symlink_to(os.path.relpath(target, link.parent))


def _experiment() -> dict:
    return yaml.safe_load((CODE / "experiment.yml").read_text())

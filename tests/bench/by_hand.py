"""The scripts without any tool: one command after another, and inside one Python that has everything loaded."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.experiment import STEPS, SWEEP, SWEPT, Task, link_folders, place_data
from bench.figures import timed

ANY_CHANGE = ("nothing changed", "evaluate.py changed", "argument of train changed")


class Folders:
    """A folder with the scripts, the data set, and a folder of files for each step and variant."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.code, self.work = folder, folder / "code", folder / "work"
        data = place_data(folder / "data")
        link_folders(self.work / "single", data)
        for number in range(len(SWEEP)):
            link_folders(self.work / str(number), data, shared=self.work / "single")

    def prepare(self, task: Task) -> None:
        """Write the scripts. Not timed."""
        task.write_scripts(self.code)

    def roots(self, task: Task) -> list[str]:
        """Return the names of the folders in which the last three steps run."""
        return [str(number) for number in range(len(task.sweep))] or ["single"]

    def jobs(self, task: Task) -> list[tuple[str, Path, list[str]]]:
        """Return step, folder and arguments of everything that has to run, in an order that works."""
        found = [("preprocess", self.work / "single" / "preprocess", task.arguments("preprocess"))]
        for root, c in zip(self.roots(task), task.sweep or [None], strict=True):
            found += [(step, self.work / root / step, task.arguments(step, c)) for step in SWEPT]
        return found

    def check(self, task: Task, since: float) -> None:
        """Raise RuntimeError unless all metrics are there, and are newer than ``since`` where they have to be."""
        for root in self.roots(task):
            output = self.work / root / "evaluate" / "output"
            made = output / "metrics.json"
            if not made.exists() or (task.case != "nothing changed" and made.stat().st_mtime < since):
                raise RuntimeError(f"{made.relative_to(self.folder)} was not written")
            if not task.nothing and not 0.7 < json.loads(made.read_text())["roc_auc"] < 0.9:
                raise RuntimeError(f"{made.relative_to(self.folder)} is not of this data set")

    def close(self) -> None:
        """End what was started."""


class ByHand(Folders):
    """``python preprocess.py && python train.py && …``: a Python for each, started one after the other."""

    name = "by hand"
    note = (
        "`python preprocess.py && python train.py && …`, a new Python for each. Nothing remembers what is done: after "
        "any change all four run again (the time of the first run); a sweep repeats all but preprocess"
    )
    same_as_first = ANY_CHANGE

    def run(self, task: Task) -> float:
        """Return the seconds that the commands take."""
        return timed(lambda: [self._call(*job) for job in self.jobs(task)])

    def _call(self, step: str, root: Path, arguments: list[str]) -> None:
        subprocess.run(
            [sys.executable, str(self.code / f"{step}.py"), *arguments],
            env={**os.environ, "PROCESSING_DIR": str(root)},
            check=True,
            capture_output=True,
        )


class WarmPython(Folders):
    """The scripts' ``main`` called in one Python that has pandas and scikit-learn loaded: what the work alone takes."""

    name = "by hand, warm Python"
    note = "`main()` of each script, one after another in one process that has loaded everything: the work alone"
    same_as_first = ANY_CHANGE

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.steps: dict[str, float] = {}
        self.worker = Worker([sys.executable, str(Path(__file__).with_name("warm.py"))])

    def run(self, task: Task) -> float:
        """Return the seconds that the calls take; ``steps`` keeps those of each step."""
        self.steps = dict.fromkeys(STEPS, 0.0)
        started = time.perf_counter()
        for step, root, arguments in self.jobs(task):
            request = {"code": str(self.code), "step": step, "root": str(root), "arguments": arguments}
            self.steps[step] += timed(lambda request=request: self.worker.ask(request))
        return time.perf_counter() - started

    def close(self) -> None:
        """End the process."""
        self.worker.close()


class Worker:
    """A process that reads a request in a line of JSON and answers "done", or what went wrong."""

    def __init__(self, command: list[str], **options: Any) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **options
        )

    def ask(self, request: dict[str, object]) -> None:
        """Send a request and wait for its end. Raises RuntimeError."""
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if answer != "done\n":
            raise RuntimeError(f"{request}: {answer.strip() or 'the process ended'}")

    def close(self) -> None:
        """Let the process end."""
        self.process.communicate()

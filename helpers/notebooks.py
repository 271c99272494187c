"""Run the notebooks: ``python -m helpers.notebooks run|store|check``.

``run`` executes copies and keeps them in ``build/notebooks`` (``make run``);
``store`` makes the .ipynb files from their text twins and stores their outputs
(``make notebooks``); ``check`` says which of them are not what their twin says.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from helpers.local_aws import control

PROJECT = Path(__file__).resolve().parents[1]
NOTEBOOKS = PROJECT / "notebooks"
TEXT = NOTEBOOKS / "text"
BUILD = PROJECT / "build" / "notebooks"
CELL_SECONDS = 900
KERNEL_SECONDS = 300  # for a kernel to start
_REUSED = (" found", "already there", "is reused")  # how the notebooks say it
_KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def twins(numbers: list[str] | None = None) -> list[Path]:
    """Return the text twins in order, all of them or those asked for: "08a", or "08" for each one of that number."""
    wanted = set(numbers or ())
    return [path for path in sorted(TEXT.glob("*.py")) if not wanted or {number(path), path.name[:2]} & wanted]


def number(path: Path) -> str:
    """Return a notebook's number as its file name has it, such as "07" or "08a"."""
    return path.name.partition("_")[0]


def read(twin: Path) -> nbformat.NotebookNode:
    """Return the notebook of a text twin: without outputs, and with cell ids that do not change from run to run."""
    notebook = jupytext.read(twin)
    notebook.metadata = nbformat.from_dict({"kernelspec": _KERNEL, "language_info": {"name": "python"}})
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index:02}"
        cell.metadata = nbformat.from_dict({key: value for key, value in cell.metadata.items() if key == "tags"})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def execute(notebook: nbformat.NotebookNode) -> None:
    """Run a notebook's cells in its folder, in place. Raises CellExecutionError."""
    client = NotebookClient(notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": str(NOTEBOOKS)}})
    client.startup_timeout, client.iopub_timeout = KERNEL_SECONDS, 60  # outputs that come later would be missing
    client.record_timing = False  # times would make every run's file different
    client.coalesce_streams = True  # how lines fall into messages depends on timing
    client.extra_arguments = ["--IPKernelApp.log_level=ERROR"]  # it warns of plain TCP; it listens on 127.0.0.1 only
    client.execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            output.pop("transient", None)


def run(numbers: list[str]) -> int:
    """Execute notebooks into ``build/notebooks``, a line of progress each. Returns the exit code."""
    BUILD.mkdir(parents=True, exist_ok=True)
    for twin in twins(numbers):
        notebook, started = read(twin), time.monotonic()
        print(f"  {twin.stem} …", end="", flush=True)
        try:
            execute(notebook)
        except CellExecutionError as error:
            print(f" failed\n{error}", file=sys.stderr)
            return 1
        finally:
            nbformat.write(notebook, BUILD / f"{twin.stem}.ipynb")
        cells = sum(cell.cell_type == "code" for cell in notebook.cells)
        print(f" {cells} cells in {time.monotonic() - started:.1f} s")
        for line in reused(notebook):
            print(f"      {line}")
    return 0


def reused(notebook: nbformat.NotebookNode) -> list[str]:
    """Return what an executed notebook printed of things that were there before and were used again."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    lines = (line for output in outputs for line in output.get("text", "").splitlines())
    return [line for line in lines if any(phrase in line for phrase in _REUSED)]


def store() -> int:
    """Execute every notebook on a fresh embedded AWS and store them, outputs included. Returns the exit code."""
    with fresh_embedded_aws():
        for twin in twins():
            print(f"  {twin.stem} …", flush=True)
            notebook = read(twin)
            execute(notebook)
            target = NOTEBOOKS / f"{twin.stem}.ipynb"
            partial = target.with_suffix(".partial")
            partial.write_text(nbformat.writes(notebook) + "\n")
            partial.replace(target)
    return 0


@contextmanager
def fresh_embedded_aws() -> Iterator[Path]:
    """Point the notebooks at an embedded AWS with nothing in it, and remove it afterwards."""
    before = {name: os.environ.get(name) for name in ("WORKSHOP_STATE_DIR", "WORKSHOP_TARGET")}
    with tempfile.TemporaryDirectory(prefix="workshop-") as folder:
        state_dir = Path(folder) / "state"
        os.environ.update(WORKSHOP_STATE_DIR=str(state_dir), WORKSHOP_TARGET="local")
        try:
            yield state_dir
        finally:
            control.stop(state_dir)
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def stale() -> Iterator[str]:
    """Yield what is wrong with the stored notebooks: missing, without a twin, or with other cells than their twin."""
    stored = {path.stem: path for path in NOTEBOOKS.glob("*.ipynb")}
    for name in sorted(stored.keys() - {twin.stem for twin in twins()}):
        yield f"notebooks/{name}.ipynb has no text twin"
    for twin in twins():
        if twin.stem not in stored:
            yield f"notebooks/{twin.stem}.ipynb is missing: make notebooks"
            continue
        cells = json.loads(stored[twin.stem].read_text())["cells"]
        same = [("".join(cell["source"]), cell["cell_type"]) for cell in cells]
        if same != [(cell.source, cell.cell_type) for cell in read(twin).cells]:
            yield f"notebooks/{twin.stem}.ipynb differs from its text twin: make notebooks"


def main() -> int:
    """Run the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m helpers.notebooks", description=__doc__)
    parser.add_argument("command", choices=["run", "store", "check"])
    parser.add_argument("numbers", nargs="*", help="of run: such as 00 01; all when none is given")
    options = parser.parse_args()
    # The kernel is the one of this Python, also when its environment is not activated.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if options.command == "check":
        problems = list(stale())
        print("\n".join(problems) or f"{len(twins())} notebooks are what their text twins say")
        return bool(problems)
    return store() if options.command == "store" else run(options.numbers)


if __name__ == "__main__":
    sys.exit(main())

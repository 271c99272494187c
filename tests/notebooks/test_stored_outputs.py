"""Every notebook, in order, on a fresh embedded AWS, against its stored outputs (nbval)."""

import copy
from collections.abc import Callable
from pathlib import Path

import nbformat
import notebook_rules
import pytest
from nbval_run import compare

from helpers import notebooks


def test_notebooks_reproduce_their_stored_outputs() -> None:
    with notebooks.fresh_embedded_aws():
        done = compare(sorted(notebooks.NOTEBOOKS.glob("*.ipynb")))
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"


# Does that notice everything? The same command, on a small notebook of which one thing is changed.
CELLS = (
    "print('roc_auc', round(0.8431, 3))",
    "from IPython.display import Markdown, display\ndisplay(Markdown('a'))\n42",
)


def alter_a_number(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[0].outputs[0].text = "roc_auc 0.844\n"


def strip_the_outputs_of_a_cell(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[0].outputs = []


def strip_one_of_two_outputs(notebook: nbformat.NotebookNode) -> None:
    del notebook.cells[1].outputs[0]


def strip_an_execution_count(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[0].execution_count = None


def strip_everything(notebook: nbformat.NotebookNode) -> None:
    for cell in notebook.cells:
        cell.outputs, cell.execution_count = [], None


@pytest.fixture(scope="module")
def executed() -> nbformat.NotebookNode:
    """Return a small notebook with its outputs."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    notebooks.execute(notebook)
    return notebook


def test_an_untouched_notebook_passes(executed: nbformat.NotebookNode, tmp_path: Path) -> None:
    nbformat.write(executed, tmp_path / "same.ipynb")
    assert compare([tmp_path / "same.ipynb"]).returncode == 0
    assert not [*notebook_rules.unrun_cells(executed), *notebook_rules.silent_cells(executed)]


@pytest.mark.parametrize("change", [alter_a_number, strip_the_outputs_of_a_cell, strip_one_of_two_outputs])
def test_a_changed_output_is_noticed(
    executed: nbformat.NotebookNode, tmp_path: Path, change: Callable[[nbformat.NotebookNode], None]
) -> None:
    changed = copy.deepcopy(executed)
    change(changed)
    nbformat.write(changed, tmp_path / "changed.ipynb")
    done = compare([tmp_path / "changed.ipynb"])
    assert done.returncode == 1
    assert "Cell outputs differ" in done.stdout


@pytest.mark.parametrize("change", [strip_an_execution_count, strip_everything])
def test_a_cell_that_nbval_takes_for_not_run_is_noticed_by_its_count(
    executed: nbformat.NotebookNode, change: Callable[[nbformat.NotebookNode], None]
) -> None:
    changed = copy.deepcopy(executed)
    change(changed)
    assert list(notebook_rules.unrun_cells(changed))

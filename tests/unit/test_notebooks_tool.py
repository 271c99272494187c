"""The tool that runs and stores notebooks: what it reads from a text twin, and what it leaves out of the file."""

import os

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from helpers import notebooks
from helpers.local_aws import control

TWIN = """# ---
# jupyter:
#   kernelspec:
#     display_name: Another name
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 09 · Try

# %% tags=["raises-exception"] id="x"
1 / 0

# %%
print("a")
print("b")
"""


@pytest.fixture
def twin(tmp_path):
    path = tmp_path / "09_try.py"
    path.write_text(TWIN)
    return path


def test_twins_come_in_order_and_by_number():
    everything = notebooks.twins()
    assert everything == sorted(everything)
    assert [notebooks.number(path) for path in notebooks.twins(["99", "00"])] == ["00", "99"]


def test_a_number_stands_for_all_its_notebooks_and_a_letter_for_one() -> None:
    parts = [notebooks.number(path) for path in notebooks.twins(["08"])]
    assert parts == ["08a", "08b", "08c", "08d"]
    assert [notebooks.number(path) for path in notebooks.twins(["08b"])] == ["08b"]
    assert notebooks.twins(["no such number"]) == []


def test_a_notebook_read_twice_is_the_same_to_the_byte(twin):
    one, other = (nbformat.writes(notebooks.read(twin)) for _ in range(2))
    assert one == other


def test_of_a_cells_metadata_only_tags_stay(twin):
    notebook = notebooks.read(twin)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "code"]
    assert [dict(cell.metadata) for cell in notebook.cells] == [{}, {"tags": ["raises-exception"]}, {}]
    assert [cell.id for cell in notebook.cells] == ["cell-00", "cell-01", "cell-02"]
    assert "jupytext" not in notebook.metadata
    nbformat.validate(notebook)


def test_a_notebook_that_ran_holds_its_outputs_and_no_times(twin):
    notebook = notebooks.read(twin)
    notebooks.execute(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2]
    assert [output["text"] for output in code[1].outputs] == ["a\nb\n"]
    assert all("execution" not in cell.metadata for cell in notebook.cells)
    nbformat.validate(notebook)


def test_a_cell_that_fails_stops_the_notebook(tmp_path):
    path = tmp_path / "09_fail.py"
    path.write_text("# %%\nassert False, 'why'\n\n# %%\nprint('not reached')\n")
    notebook = notebooks.read(path)
    with pytest.raises(CellExecutionError, match="why"):
        notebooks.execute(notebook)
    assert notebook.cells[1].execution_count is None


@pytest.mark.parametrize("before", [None, "aws"])
def test_a_fresh_embedded_aws_leaves_no_trace_in_the_environment(monkeypatch, before):
    monkeypatch.delenv("WORKSHOP_STATE_DIR", raising=False)
    monkeypatch.delenv("WORKSHOP_TARGET", raising=False)
    if before:
        monkeypatch.setenv("WORKSHOP_TARGET", before)
    with notebooks.fresh_embedded_aws() as folder:
        assert os.environ["WORKSHOP_TARGET"] == "local"
        assert control.default_state_dir() == folder
    assert os.environ.get("WORKSHOP_TARGET") == before
    assert "WORKSHOP_STATE_DIR" not in os.environ
    assert not folder.parent.exists()


def test_what_was_used_again_is_told_from_what_was_made() -> None:
    printed = "bucket: created\nrole: found, brought up to date\nC = 1: was pushed before, its run is reused, started\n"
    cell = nbformat.v4.new_code_cell("…", outputs=[nbformat.v4.new_output("stream", text=printed)])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("a role was found"), cell])
    assert notebooks.reused(notebook) == printed.splitlines()[1:]

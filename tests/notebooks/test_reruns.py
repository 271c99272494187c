"""Every cell can be run twice in a row, and what the first run made is found and not doubled."""

import copy

import nbformat
import pytest

from helpers import notebooks


def twice(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the notebook with each code cell followed by itself."""
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "code":
            again = copy.deepcopy(cell)
            again.id = f"{cell.id}-again"
            cells.append(again)
    return nbformat.from_dict({**notebook, "cells": cells})


@pytest.mark.parametrize(("first", "last"), [("00", "05"), ("06", "07"), ("08", "99")])
def test_every_cell_can_be_run_twice_in_a_row(first: str, last: str) -> None:
    # 02 before them: it has to be enough for every other notebook, but for those that say what they need.
    begin = notebooks.twins(["02"])
    rest = [twin for twin in notebooks.twins() if first <= notebooks.number(twin) <= last and twin not in begin]
    with notebooks.fresh_embedded_aws():
        for twin in (*begin, *rest):
            notebooks.execute(twice(notebooks.read(twin)))  # a cell that fails raises CellExecutionError

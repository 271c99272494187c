"""Every cell can be run twice in a row, and what the first run made is found and not doubled."""

import copy

import nbformat

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


def test_every_cell_can_be_run_twice_in_a_row() -> None:
    # 02 first: it has to be enough for every other notebook.
    order = sorted(notebooks.twins(), key=lambda twin: (notebooks.number(twin) != "02", twin.name))
    with notebooks.fresh_embedded_aws():
        for twin in order:
            notebooks.execute(twice(notebooks.read(twin)))  # a cell that fails raises CellExecutionError

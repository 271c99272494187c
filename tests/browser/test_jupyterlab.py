"""JupyterLab shows the notebooks as they are meant: every Mermaid picture is drawn, every table is a table.

No cell is run.
"""

import os
import re
import shutil
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest
from jupyter_lab import MILLISECONDS, jupyterlab

from helpers import notebooks

TALL = {"width": 1400, "height": 12_000}  # JupyterLab draws only the cells that are in view
FENCE = re.compile("^```mermaid$", re.M)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a JupyterLab on copies of the notebooks."""
    home = tmp_path_factory.mktemp("jupyter")
    shutil.copytree(notebooks.NOTEBOOKS, home / "notebooks")
    with jupyterlab(home, home / "notebooks", os.environ) as url:
        yield url


@pytest.fixture(scope="module")
def page(browser: Any) -> Any:
    """Open a page that is as tall as a notebook."""
    page = browser.new_page(viewport=TALL)
    page.set_default_timeout(MILLISECONDS)
    return page


@pytest.mark.parametrize("name", [twin.stem for twin in notebooks.twins()])
def test_pictures_are_drawn_and_tables_are_tables(lab: str, page: Any, name: str) -> None:
    stored = nbformat.read(notebooks.NOTEBOOKS / f"{name}.ipynb", as_version=4)
    texts = [cell.source for cell in stored.cells if cell.cell_type == "markdown"]
    outputs = [output for cell in stored.cells for output in cell.get("outputs", ())]
    texts += [output.data["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {})]
    pictures = sum(len(FENCE.findall(text)) for text in texts)

    page.goto(lab.format(name), wait_until="load")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    drawn = ".jp-Notebook .jp-RenderedMermaid:not(.jp-mod-warning) :is(svg, img)"
    page.wait_for_function("([css, n]) => document.querySelectorAll(css).length == n", arg=[drawn, pictures])
    everything = "n => { const all = [...document.querySelectorAll('.jp-Notebook .jp-RenderedMarkdown')]\n"
    everything += "return all.length == n && all.every(each => each.childElementCount) }"
    page.wait_for_function(everything, arg=len(texts))
    # Of what is drawn from Markdown alone: the code of a cell may well hold a fence.
    shown = "\n".join(page.locator(".jp-Notebook .jp-RenderedMarkdown").all_inner_texts())
    assert shown
    assert "```" not in shown
    assert not re.search(r"^\| ?-{3}", shown, re.M), "a table of Markdown stayed text"

"""JupyterLab shows the notebooks as they are meant: every Mermaid picture is drawn, every table is a table.

Runs where a Chromium and the package `playwright` are found. No cell is run.
"""

import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from helpers import notebooks

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium was found")

TALL = {"width": 1400, "height": 12_000}  # JupyterLab draws only the cells that are in view
FENCE = re.compile("^```mermaid$", re.M)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a JupyterLab on copies of the notebooks. Yields its URL with a place for a notebook's name."""
    home = tmp_path_factory.mktemp("jupyter")
    shutil.copytree(notebooks.NOTEBOOKS, home / "project" / "notebooks")
    folders = {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    token = secrets.token_hex(16)
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    options += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", f"--notebook-dir={home / 'project'}"]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options],
        env={**os.environ, **folders, "JUPYTER_TOKEN": token, "HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=(home / "log").open("w"),
    )
    try:
        # A workspace for each: in one and the same JupyterLab opens what was open before, too.
        yield f"{_url(server, home)}lab/workspaces/{{0}}/tree/notebooks/{{0}}.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait(30)


def _url(server: subprocess.Popen[bytes], home: Path) -> str:
    """Return where the server listens, which it writes into a file and, with port 0, only into its log."""
    for _ in range(300):
        found = re.search(r"http://127\.0\.0\.1:[1-9]\d*/", (home / "log").read_text())
        if found:
            return found.group()
        assert server.poll() is None, (home / "log").read_text()
        time.sleep(0.2)
    pytest.fail((home / "log").read_text())


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """Open a page of a headless Chromium."""
    with playwright.sync_playwright() as started:
        # Chromium's own sandbox does not work for root, who runs containers and CI; the pages are ours.
        browser = started.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=os.getuid() != 0)
        yield browser.new_page(viewport=TALL)
        browser.close()


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
    shown = page.inner_text(".jp-Notebook")
    assert "```" not in shown
    assert not re.search(r"^\| ?-{3}", shown, re.M), "a table of Markdown stayed text"

"""A JupyterLab of a test."""

import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

MILLISECONDS = 180_000  # that a busy machine may take to draw something


@contextmanager
def jupyterlab(home: Path, folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Run a JupyterLab on ``folder``. Yields its URL with a place, {0}, for the name of a notebook in it.

    Kernels have ``environment``; what JupyterLab itself keeps goes to ``home``.
    """
    folders = {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    token = secrets.token_hex(16)
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    options += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", f"--notebook-dir={folder}"]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options],
        env={**environment, **folders, "JUPYTER_TOKEN": token, "HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=(home / "log").open("w"),
    )
    try:
        # A workspace for each: in one and the same JupyterLab opens what was open before, too.
        yield f"{_url(server, home)}lab/workspaces/{{0}}/tree/{{0}}.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait(180)


def _url(server: subprocess.Popen[bytes], home: Path) -> str:
    """Return where the server listens, which it writes into a file and, with port 0, only into its log."""
    for _ in range(900):
        found = re.search(r"http://127\.0\.0\.1:[1-9]\d*/", (home / "log").read_text())
        if found:
            return found.group()
        assert server.poll() is None, (home / "log").read_text()
        time.sleep(0.2)
    pytest.fail((home / "log").read_text())

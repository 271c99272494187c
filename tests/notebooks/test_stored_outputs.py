"""Every notebook, in order, on a fresh embedded AWS, against its stored outputs (nbval)."""

import os
import subprocess
import sys

from helpers import notebooks


def test_notebooks_reproduce_their_stored_outputs() -> None:
    stored = [notebooks.NOTEBOOKS / f"{twin.stem}.ipynb" for twin in notebooks.twins()]
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "--nbval-cell-timeout=900", "-q"]
    command += ["-p", "no:cacheprovider", "-x"]
    with notebooks.fresh_embedded_aws():
        done = subprocess.run(
            [*command, *map(str, stored)],
            cwd=notebooks.PROJECT,
            env=os.environ,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"

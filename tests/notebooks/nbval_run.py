"""The one command that compares notebooks with their stored outputs."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from helpers import notebooks

# No --nbval-sanitize-with: nothing in the stored outputs differs from run to run.
COMMAND = (sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-q", "-x", "-p", "no:cacheprovider")


def compare(stored: Iterable[Path]) -> subprocess.CompletedProcess[str]:
    """Run notebooks in the given order and compare every output with the stored one."""
    limits = {"cell": notebooks.CELL_SECONDS, "kernel-startup": notebooks.KERNEL_SECONDS}
    return subprocess.run(
        [*COMMAND, *(f"--nbval-{what}-timeout={limit}" for what, limit in limits.items()), *map(str, stored)],
        cwd=notebooks.PROJECT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )

"""Run a script's ``main`` inside this process. Copied into the projects of peers that run steps so."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def run(code: str | Path, step: str, root: str | Path, arguments: Sequence[str]) -> None:
    """Call ``main(arguments)`` of the present text of ``code``/step.py, its files below ``root``."""
    script = Path(code) / f"{step}.py"
    if str(script.parent) not in sys.path:
        sys.path.insert(0, str(script.parent))  # as when the script is run: its modules lie beside it
    specification = importlib.util.spec_from_file_location(step, script)
    module = importlib.util.module_from_spec(specification)
    sys.modules[step] = module
    specification.loader.exec_module(module)
    os.environ["PROCESSING_DIR"] = str(root)
    module.main(list(arguments))

"""The modules of a Lambda function, imported as its zip holds them."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from helpers import functions


def load_function(folder: Path, *names: str) -> list[ModuleType]:
    """Import the modules of a Lambda function as its zip holds them: its own, and the package ``planning``.

    Their names are forgotten afterwards: other functions and the tests have modules of the same names.
    """
    own = {"planning", *(path.stem for path in folder.glob("*.py"))}
    others = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in own}
    sys.path[:0] = [str(folder), str(functions.PLANNING.parent)]
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        del sys.path[:2]
        for name in [name for name in sys.modules if name.partition(".")[0] in own]:
            del sys.modules[name]
        sys.modules.update(others)

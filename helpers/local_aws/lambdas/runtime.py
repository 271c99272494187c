"""What Lambda's Python runtime brings, and nothing else of this environment."""

import importlib.util
import os
import sys
from pathlib import Path

PACKAGES = (
    "awslambdaric",
    "simplejson",
    "boto3",
    "botocore",
    "s3transfer",
    "jmespath",
    "dateutil",
    "six",
    "urllib3",
)

_FORGOTTEN: list[object] = []  # freeing them would write to, and so copy, memory that processes share


def link_runtime(folder: Path) -> Path:
    """Gather links to the runtime's packages below ``folder``, so that functions see these and no others."""
    folder = folder / "runtime"
    folder.mkdir(parents=True, exist_ok=True)
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"the embedded AWS needs the package {name}", name=name)
        source = Path(spec.origin)
        source = source.parent if source.name == "__init__.py" else source
        link = folder / source.name
        if not link.is_symlink() or link.readlink() != source:
            link.unlink(missing_ok=True)
            link.symlink_to(source)
    return folder


def forget_the_rest() -> None:
    """Leave of this process's modules and import paths those of the standard library and of the runtime.

    What a forked process has loaded besides must not be importable by a function.
    """
    kept = {*sys.stdlib_module_names, *PACKAGES}
    library = os.path.dirname(os.__file__)
    for name in [name for name in sys.modules if name.partition(".")[0] not in kept]:
        _FORGOTTEN.append(sys.modules.pop(name))
    sys.path[:] = [
        path
        for path in sys.path
        if path.endswith(".zip") or (path.startswith(library) and not path.endswith("-packages"))
    ]
    sys.meta_path[:] = [
        finder
        for finder in sys.meta_path
        if str(getattr(finder, "__module__", "")).partition(".")[0]
        in {"_frozen_importlib", "_frozen_importlib_external", *kept}
    ]
    sys.path_importer_cache.clear()

"""Python environments with other versions than ours, each built once and kept in .cache/envs.

Where one cannot be built, the test that asks for it fails and says why.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class EnvironmentFailed(Exception):
    """An environment cannot be built; the message is the command and what it said."""


def python_with(requirements: Path, *, before: tuple[int, int] | None = None, built_here: Sequence[str] = ()) -> Path:
    """Return the interpreter of an environment with just the pinned packages of ``requirements``.

    Nothing that the file does not name is installed: it has to be complete.
    ``before``: the first Python for which these versions have no wheels.
    ``built_here``: packages that are published as source only. Raises EnvironmentFailed.
    """
    key = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:16]
    target = ROOT / ".cache" / "envs" / key
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as scratch:
            _build(Path(scratch) / "env", requirements, before, built_here)
            try:
                os.rename(Path(scratch) / "env", target)  # only a finished environment gets the name
            except OSError:
                assert target.exists()  # another test process was faster
    return target / "bin" / "python"


def _build(folder: Path, requirements: Path, before: tuple[int, int] | None, built_here: Sequence[str]) -> None:
    """Make the environment: with uv, or with pip where uv is missing."""
    python = folder / "bin" / "python"
    from_source = [part for name in built_here for part in ("--no-binary", name)]
    pinned = ("--quiet", "--no-deps", "--only-binary", ":all:", *from_source, "-r", requirements)
    beside = Path(sys.executable).with_name("uv")
    if uv := str(beside) if beside.exists() else shutil.which("uv"):
        version = sys.executable
        if before and sys.version_info >= before:
            version = f">=3.10,<{before[0]}.{before[1]}"  # uv finds an older one
        _call(uv, "venv", "--quiet", "--python", version, folder)
        _call(uv, "pip", "install", "--python", python, *pinned)
    else:
        _call(sys.executable, "-m", "venv", folder)
        _call(python, "-m", "pip", "install", *pinned)


def _call(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvironmentFailed(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")

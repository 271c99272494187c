"""The programs of a build: `docker`, and a Python into which commands may install without changing this one."""

import shlex
import sys
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[3]


def install(folder: Path, room: Path, *, daemon: bool) -> str:
    """Put the programs into new folders; return what the PATH begins with. ``daemon``: whether images can be built."""
    folder.mkdir(parents=True)
    images = room / "docker"
    how = "daemon" if daemon else "no-daemon"
    python = shlex.quote(sys.executable)
    _program(
        folder / "docker",
        f"exec env PYTHONSAFEPATH=1 PYTHONPATH={shlex.quote(str(_PROJECT))} {python}"
        f' -m helpers.local_aws.builds.docker {shlex.quote(str(images))} {how} "$@"',
    )
    return f"{folder}:{_overlay(room / 'python')}"


def _overlay(folder: Path) -> Path:
    """Make a virtual environment that has all packages of this one; return its folder of programs."""
    programs = folder / "bin"
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    programs.mkdir(parents=True)
    packages.mkdir(parents=True)
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    here = dict.fromkeys(path for path in sys.path if path.endswith(("site-packages", "dist-packages")))
    (packages / "embedded_aws.pth").write_text("".join(f"{path}\n" for path in here))
    python = programs / "python"
    python.symlink_to(base)
    for name in ("python3", f"python{sys.version_info.major}.{sys.version_info.minor}"):
        (programs / name).symlink_to("python")
    for name in ("pip", "pip3"):
        _program(programs / name, f'exec {shlex.quote(str(python))} -m pip "$@"')
    return programs


def _program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)

"""Copies of folders that a host sees at given paths: the files of an image, the source of a build."""

import os
import shutil
from pathlib import Path, PurePosixPath

from helpers.local_aws.workers import isolation

ROOT = "root"  # what lies in a host's folder under this name is seen at /
# Folders that belong to the machine, with all that is in them.
_MACHINES = frozenset(("bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "media", "mnt"))
_MACHINES |= {"proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var"}


def lay(source: Path, target: str, folder: Path) -> None:
    """Copy the folder ``source`` to where a host whose folder this is sees it at the absolute path ``target``.

    ``folder`` holds what the host sees at / in ``root``, and at /tmp in ``tmp``. Raises
    OSError, also where something lies already, or would lie over what is the machine's.
    """
    names = PurePosixPath(target).parts[1:]
    if not target.startswith("/") or ".." in names:
        raise OSError(f"{target} is not an absolute path")
    for name in names[:1] or os.listdir(source):
        if name in _MACHINES and not (name == "tmp" and len(names) > 1 and isolation.private_tmp()):
            raise FileExistsError(f"{target}: nothing can lie over the machine's own /{name}")
    place = _root(target, folder)
    for name in names:
        place /= name
        if place.is_symlink():  # what it leads to is not that of the host, out here
            raise FileExistsError(f"{target}: a symbolic link is in the way")
    if place.exists() and any(place.iterdir()):
        raise FileExistsError(f"{target}: something lies there already")
    shutil.copytree(source, place, symlinks=True, dirs_exist_ok=True)


def make(target: str, folder: Path) -> None:
    """Make the folder that a host sees at ``target``, unless it is there already or would be one of the machine's."""
    theirs, ours = Path("/"), _root(target, folder)
    for name in PurePosixPath(target).parts[1:]:
        theirs, ours = theirs / name, ours / name
        if ours.is_symlink() or name == "..":
            return
        if not ours.exists():
            if os.path.lexists(theirs) and theirs != Path("/opt"):
                return
            ours.mkdir()


def _root(target: str, folder: Path) -> Path:
    """Return the folder to which the absolute path ``target`` is relative out here."""
    return folder if PurePosixPath(target).parts[1:2] == ("tmp",) and isolation.private_tmp() else folder / ROOT

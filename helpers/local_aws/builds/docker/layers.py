"""Layers of an image: archives that are the same bytes whenever they hold the same files."""

import gzip
import hashlib
import io
import os
import posixpath
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# Folders that are the machine's own in every container: an image cannot have files there.
_SYSTEM = "bin boot dev etc home lib lib32 lib64 libx32 media mnt proc root run sbin srv sys tmp usr var"
SYSTEM = frozenset(_SYSTEM.split())


@dataclass(frozen=True)
class Entry:
    """What lies at one path: a file's place on this machine, the target of a link, or neither for a folder."""

    file: Path | None = None
    link: str = ""


@dataclass(frozen=True)
class Layer:
    """An archive: its content, the digest of it, and the digest that it has unpacked."""

    data: bytes
    digest: str
    diff_id: str


def pack(entries: dict[PurePosixPath, Entry]) -> Layer:
    """Return a layer with what lies at these paths (``/app/a.py``), and the folders that they are in.

    Times and owners are left out, and of the modes only whether a file can be executed.
    """
    folders = {parent: Entry() for path in entries for parent in path.parents if len(parent.parts) > 1}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, entry in sorted({**folders, **entries}.items()):
            item = tarfile.TarInfo(str(path.relative_to("/")))
            if entry.file is not None:
                data = entry.file.read_bytes()
                item.size = len(data)
                item.mode = 0o755 if os.access(entry.file, os.X_OK) and entry.file.stat().st_mode & 0o100 else 0o644
                archive.addfile(item, io.BytesIO(data))
            else:
                item.type = tarfile.SYMTYPE if entry.link else tarfile.DIRTYPE
                item.mode, item.linkname = (0o777, entry.link) if entry.link else (0o755, "")
                archive.addfile(item)
    plain = content.getvalue()
    packed = gzip.compress(plain, 6, mtime=0)
    return Layer(packed, digest_of(packed), digest_of(plain))


def digest_of(data: bytes) -> str:
    """Return ``sha256:…`` of a content."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def entry_of(place: Path, path: PurePosixPath) -> Entry:
    """Return what a file, folder or link of this machine is at ``path``.

    Raises ValueError for a link that leads out of its own top folder: outside of it are the machine's files.
    """
    if not place.is_symlink():
        return Entry(None if place.is_dir() else place)
    target = os.readlink(place)
    if leads_out(path, target):
        raise ValueError(f"the link {path} -> {target} leads out of /{path.parts[1]}")
    return Entry(link=target)


def leads_out(path: PurePosixPath, target: str) -> bool:
    """Tell whether a link at ``path`` is absolute, or leads above the image's top folder that it is in."""
    top = 2 if path.parts[1] == "opt" else 1
    reached = posixpath.normpath(posixpath.join("/", *path.parts[1:-1], target)).split("/")[1:]
    above = posixpath.normpath(posixpath.join(*path.parts[1:-1], target)).startswith("..")
    return target.startswith("/") or above or reached[:top] != list(path.parts[1 : top + 1])


def misplaced(path: PurePosixPath, *, folder: bool) -> str:
    """Return why an image cannot have something at an absolute path, or "" where it can."""
    parts = path.parts[1:]
    if not parts:
        return ""
    if parts[0] in SYSTEM:
        return f"/{parts[0]} is the machine's own in every container; use a folder such as /app"
    if parts[:2] == ("opt", "ml"):
        return "/opt/ml is where SageMaker puts a job's files"
    if not folder and len(parts) < (3 if parts[0] == "opt" else 2):
        return "only folders can lie at / and at /opt; use a folder such as /app"
    return ""

"""Put the layers of an image into a folder, one over the other. They come from users: nothing in them is trusted."""

import gzip
import io
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO

from helpers.local_aws.archives import Item
from helpers.local_aws.builds.docker import layers

MOST_BYTES = 4 * 2**30  # of all files of one image
MOST_FILES = 200_000
_WHITEOUT = ".wh."
_BLOCK = 1 << 20


class Unpacking:
    """An image's files, as they come together in ``root``."""

    def __init__(self, root: Path, *, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES) -> None:
        self._root, self._bytes, self._files = root, most_bytes, most_files

    def add(self, packed: IO[bytes]) -> None:
        """Put a layer (tar, gzip) over those before. Raises ValueError for one that cannot be had here."""
        try:
            with gzip.open(packed) as plain, tarfile.open(fileobj=plain, mode="r|", tarinfo=Item) as archive:
                self._add(archive)
        except (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError) as error:
            raise ValueError(f"a layer is not a tar.gz archive: {error}") from None

    def _add(self, archive: Iterable[tarfile.TarInfo]) -> None:
        assert isinstance(archive, tarfile.TarFile)
        for item in archive:
            path = self._path(item)
            if path is None:
                continue
            self._files -= 1
            if self._files < 0:
                raise ValueError("the image has too many files")
            name = path.name
            if name == f"{_WHITEOUT}{_WHITEOUT}.opq":
                _remove_contents(self._place(path.parent))
            elif name.startswith(_WHITEOUT):
                removed = name.removeprefix(_WHITEOUT)
                if removed in ("", ".", ".."):
                    raise ValueError(f"a layer has the path {item.name!r}")
                _remove(self._place(path.parent / removed))
            else:
                self._put(archive, item, path)

    def _path(self, item: tarfile.TarInfo) -> PurePosixPath | None:
        """Return where an item lies, as an absolute path; None for / itself."""
        path = PurePosixPath("/", item.name.lstrip("/"))
        parts = [part for part in path.parts if part != "."]
        if ".." in parts or "\0" in item.name:
            raise ValueError(f"a layer has the path {item.name!r}")
        return PurePosixPath(*parts) if len(parts) > 1 else None

    def _place(self, path: PurePosixPath) -> Path:
        """Return where ``path`` lies on this machine. Raises ValueError when a link is in the way."""
        place = self._root
        for part in path.parts[1:-1]:
            place = place / part
            if place.is_symlink():
                raise ValueError(f"a layer puts {path} behind a link")
        return place / path.name if len(path.parts) > 1 else place

    def _put(self, archive: tarfile.TarFile, item: tarfile.TarInfo, path: PurePosixPath) -> None:
        if problem := layers.misplaced(path, folder=item.isdir()):
            raise ValueError(f"a layer has {path}: {problem}")
        place = self._place(path)
        if item.isdir():
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                _remove(place)
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o755)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove(place)
        if item.issym():
            if layers.leads_out(path, item.linkname):
                raise ValueError(f"a layer has the link {path} -> {item.linkname}, which leads out of its folder")
            place.symlink_to(item.linkname)
        elif item.islnk():
            self._link(item, path, place)
        elif item.isreg():
            content = archive.extractfile(item)
            assert content is not None, "a regular file has a content"
            self._write(content, place)
            place.chmod(0o755 if item.mode & 0o100 else 0o644)
        else:
            raise ValueError(f"a layer has {path}, which is neither a file, a folder nor a link")

    def _link(self, item: tarfile.TarInfo, path: PurePosixPath, place: Path) -> None:
        """Copy what a hard link names: two names of one file would share what a container writes."""
        target = self._path(tarfile.TarInfo(item.linkname))
        source = self._place(target) if target else self._root
        if source.is_symlink() or not source.is_file():
            raise ValueError(f"a layer has {path} as a link to {item.linkname}, which is no file of the image")
        with source.open("rb") as content:
            self._write(content, place)
        place.chmod(source.stat().st_mode & 0o777)

    def _write(self, content: IO[bytes], place: Path) -> None:
        with place.open("xb") as file:
            while block := content.read(_BLOCK):
                self._bytes -= len(block)
                if self._bytes < 0:
                    raise ValueError("the image has too many bytes")
                file.write(block)


def unpack(root: Path, packed: Iterable[bytes | Path]) -> None:
    """Unpack layers into the folder ``root``. Raises ValueError."""
    unpacking = Unpacking(root)
    for layer in packed:
        with io.BytesIO(layer) if isinstance(layer, bytes) else layer.open("rb") as file:
            unpacking.add(file)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    elif os.path.lexists(place):
        place.unlink()


def _remove_contents(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        for item in place.iterdir():
            _remove(item)

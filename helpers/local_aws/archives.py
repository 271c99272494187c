"""Archives that somebody else packed, read without trust in what their headers say."""

import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

_LONGEST_HEADER = 2**20  # bytes of what ``tarfile`` reads into memory before it tells of a member
_EXTENDED = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
# What ``zipfile`` raises where an archive cannot be unpacked; RuntimeError is its word on encryption.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)


class Item(tarfile.TarInfo):
    """A member of an archive, for ``tarfile.open(…, tarinfo=Item)``. Raises ValueError where it would not fit."""

    @classmethod
    def frombuf(cls, *block: Any) -> "Item":
        """Read a header."""
        item = super().frombuf(*block)
        if item.type in _EXTENDED and item.size > _LONGEST_HEADER:
            raise ValueError(f"a header of {item.size} bytes")
        return item


def behind_link(folder: Path, name: str) -> bool:
    """Tell whether something in the folder at ``name`` is a link, or is reached by one."""
    path = PurePosixPath(name.lstrip("/"))
    return any((folder / part).is_symlink() for part in (path, *path.parents))

"""What becomes of the folders that the hosts of a training job leave: archives in S3, one for all hosts.

The hosts have ended, so nothing changes meanwhile. What they left may be
anything: no link is followed, and only files, folders and links are packed.
"""

import gzip
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from helpers.local_aws.workers import requests, transfer
from helpers.local_aws.workers.host import Host


def run(task: dict[str, Any], host: Host) -> dict[str, Any]:
    """Make and upload the ``archives`` of a task: each from ``folder`` below several ``roots``, to ``uri``.

    An archive of nothing is not made. Return the members of the last message.
    """
    signer = requests.Signer(task["endpoint_url"], task["region"], task["credentials"])
    s3 = requests.S3(requests.Client(host.channel, signer))
    failure = ""
    try:
        for archive in task["archives"]:
            folders = [place for root in archive["roots"] if (place := _below(Path(root), archive["folder"]))]
            if any(any(folder.iterdir()) for folder in folders):
                with tempfile.TemporaryFile(dir=task["folder"]) as file:
                    pack(folders, file)
                    transfer.store(s3, archive["uri"], file.fileno())
    except transfer.TransferError as error:
        failure = str(error)
    except OSError as error:
        failure = f"InternalServerError: Artifact upload failed: {error}"
    return {"code": 0, "failure": failure, "stopped": "", "message": "", "notes": ""}


def pack(folders: Sequence[Path], into: IO[bytes]) -> None:
    """Write a ``.tar.gz`` of what is in the folders, and go to its beginning; of a name in several, the first counts.

    The same files give the same bytes: names are sorted, times and owners left out.
    """
    seen: set[str] = set()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=into, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        for folder in folders:
            for path in _entries(folder):
                name = path.relative_to(folder).as_posix()
                if name not in seen:
                    seen.add(name)
                    _add(archive, path, name)
    into.flush()
    into.seek(0)


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    entry = archive.gettarinfo(str(path), name)
    entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
    if not entry.isreg():
        archive.addfile(entry)
        return
    with path.open("rb") as file:
        archive.addfile(entry, file)


def _entries(folder: Path) -> Iterator[Path]:
    for name in sorted(os.listdir(folder)):
        path = folder / name
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            yield path
            yield from _entries(path)
        elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            yield path


def _below(root: Path, folder: str) -> Path | None:
    """Return a folder below ``root``, or None where there is none that is reached without a link."""
    place = root
    for part in Path(folder).parts:
        place /= part
        if place.is_symlink():
            return None
    return place if place.is_dir() else None

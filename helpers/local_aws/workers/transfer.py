"""Move a job's inputs from S3 to its folder and its outputs back.

The rules are those of SageMaker Processing: ``S3Prefix`` and ``ManifestFile``,
full copies or shares by key, no symbolic links in outputs.
"""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from helpers.local_aws.workers.requests import Refusal


class TransferError(Exception):
    """A transfer that failed; the text is the job's FailureReason."""


class Store(Protocol):
    """S3, as far as transfers use it: raises Refusal, or OSError when it cannot be reached."""

    def keys(self, bucket: str, prefix: str, /) -> Iterator[str]: ...
    def read(self, bucket: str, key: str, /) -> bytes: ...
    def fetch(self, bucket: str, key: str, into: int, /) -> None: ...
    def put(self, bucket: str, key: str, source: int, /) -> None: ...


def download(s3: Store, source: dict[str, Any], local: Path, host: int, hosts: int) -> None:
    """Download one ``S3Input`` to the folder ``local``; host ``host`` (from 0) of ``hosts`` takes its share."""
    uri = source["S3Uri"]
    try:
        found = list(_manifest(s3, uri) if source["S3DataType"] == "ManifestFile" else _prefix(s3, uri))
        if source.get("S3DataDistributionType") == "ShardedByS3Key":
            found = sorted(found)[host::hosts]
        for bucket, key, name in found:
            _fetch(s3, bucket, key, _inside(local, name, bucket, key))
    except Refusal as error:
        raise TransferError(f"ClientError: Data download failed:{_reason(error)}, S3 URI {uri}") from error
    except OSError as error:
        raise TransferError(f"InternalServerError: Data download failed: {error}") from error


def fetch(s3: Store, uri: str, target: Path) -> None:
    """Download one object to the new file ``target``."""
    try:
        _fetch(s3, *_split(uri), target)
    except Refusal as error:
        raise TransferError(f"ClientError: Data download failed:{_reason(error)}, S3 URI {uri}") from error
    except OSError as error:
        raise TransferError(f"InternalServerError: Data download failed: {error}") from error


def restore(s3: Store, uri: str, local: Path, done: dict[str, tuple[int, int]]) -> None:
    """Download the folder ``uri``, which may be empty, as ``upload`` left it; note in ``done`` what is there now."""
    bucket, prefix = _split(uri)
    prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
    try:
        for key in s3.keys(bucket, prefix):
            if not key.endswith("/"):
                target = _inside(local, key[len(prefix) :], bucket, key)
                _fetch(s3, bucket, key, target)
                done[str(target)] = _mark(target.stat())
    except Refusal as error:
        raise TransferError(f"ClientError: Data download failed:{_reason(error)}, S3 URI {uri}") from error
    except OSError as error:
        raise TransferError(f"InternalServerError: Data download failed: {error}") from error


def upload(s3: Store, local: Path, uri: str, done: dict[str, tuple[int, int]], root: Path) -> None:
    """Upload every file below ``local`` whose size and time are not those in ``done``, and note them there.

    A program may do below ``root`` what it likes, even meanwhile: nothing that a link leads to is uploaded,
    since this process may see more than the program does.
    """
    bucket, prefix = _split(uri)
    prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
    try:
        for path, folder, status in _files(local, root):
            mark = _mark(status)
            if done.get(str(path)) == mark:
                continue
            with suppress(FileNotFoundError):  # a temporary one, perhaps
                with open(path.name, "rb", opener=partial(_open, folder=folder)) as body:
                    s3.put(bucket, prefix + path.relative_to(local).as_posix(), body.fileno())
                done[str(path)] = mark
    except Refusal as error:
        raise TransferError(f"ClientError: Data upload failed:{_reason(error)}, S3 URI {uri}") from error
    except OSError as error:
        raise TransferError(f"InternalServerError: Data upload failed: {error}") from error


def store(s3: Store, uri: str, source: int) -> None:
    """Upload the content of the open file ``source`` as one object."""
    try:
        s3.put(*_split(uri), source)
    except Refusal as error:
        raise TransferError(f"ClientError: Artifact upload failed:{_reason(error)}, S3 URI {uri}") from error
    except OSError as error:
        raise TransferError(f"InternalServerError: Artifact upload failed: {error}") from error


def _mark(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _prefix(s3: Store, uri: str) -> Iterator[tuple[str, str, str]]:
    """List (bucket, key, name relative to LocalPath); a prefix that is no folder also matches longer names."""
    bucket, prefix = _split(uri)
    base = prefix.rfind("/") + 1
    empty = True
    for key in s3.keys(bucket, prefix):
        empty = False
        if key.endswith("/"):
            continue  # what the S3 console makes for an empty folder
        inside_folder = not prefix.endswith("/") and key.startswith(prefix + "/")
        yield bucket, key, key[len(prefix) + 1 :] if inside_folder else key[base:]
    if empty:
        raise TransferError(
            f'ClientError: Failed to download data. No S3 objects found under S3 URL "{uri}" given in input data '
            "source. Please ensure that the bucket exists, that objects exist under that S3 prefix, and that the "
            f'role has "s3:ListBucket" permissions on bucket "{bucket}".'
        )


def _manifest(s3: Store, uri: str) -> Iterator[tuple[str, str, str]]:
    bucket, key = _split(uri)
    text = s3.read(bucket, key)
    try:
        first, *names = json.loads(text)
        bucket, prefix = _split(first["prefix"])
    except (ValueError, KeyError, TypeError) as error:
        raise TransferError(f"ClientError: Manifest file {uri} is not a valid manifest: {error}") from error
    if not all(isinstance(name, str) for name in names):
        raise TransferError(f"ClientError: Manifest file {uri} holds an entry that is not a string")
    for name in names:
        yield bucket, prefix + name, name


def _inside(local: Path, name: str, bucket: str, key: str) -> Path:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\0" in name:
        raise TransferError(f"ClientError: Failed to download data. s3://{bucket}/{key} would leave {local}")
    return local / parts


def _fetch(s3: Store, bucket: str, key: str, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            s3.fetch(bucket, key, file.fileno())
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise TransferError(
            f"ClientError: Failed to download data. Cannot download s3://{bucket}/{key}, a previously downloaded "
            "file/folder clashes with it. Please check your s3 objects and ensure that there is no object that is "
            "both a folder as well as a file."
        ) from None


def _files(local: Path, root: Path) -> Iterator[tuple[Path, int, os.stat_result]]:
    """Yield each regular file, a descriptor of the folder that it is in, and its status."""
    folder = os.open(root, os.O_RDONLY)
    try:
        for part in local.relative_to(root).parts:
            outer, folder = folder, _open(part, os.O_RDONLY | os.O_DIRECTORY, folder)
            os.close(outer)
        for place, _, names, inner in os.fwalk(".", dir_fd=folder):
            for name in sorted(names):
                with suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=inner, follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        yield local / place / name, inner, status
    except (FileNotFoundError, NotADirectoryError):
        return
    finally:
        os.close(folder)


def _open(name: str, flags: int, folder: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _reason(error: Refusal) -> str:
    return f"{error.code} ({error.status}): {error.message}"

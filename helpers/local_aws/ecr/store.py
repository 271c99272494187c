"""What a registry keeps: repositories, the images in them, and contents by their digest."""

import hashlib
import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from helpers.local_aws import json_files

_LONGEST_FILE = 200  # characters of a file's name, with room for an ending
_ORPHAN_SECONDS = 3600.0  # for which a layer waits for the manifest that names it


@dataclass
class Stored:
    """One image of a repository: its manifest's kind, when it came, and the contents that it names."""

    media_type: str
    pushed: float
    size: int
    contents: list[str] = field(default_factory=list)


@dataclass
class Repository:
    """A repository: ``tags`` to digests of images, and the ``layers`` that were uploaded to it."""

    name: str
    created: float
    mutability: str = "MUTABLE"
    scan_on_push: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    images: dict[str, Stored] = field(default_factory=dict)
    layers: dict[str, float] = field(default_factory=dict)  # digest: when it came

    def digest_of(self, reference: str) -> str | None:
        """Return the digest of the image with this tag or digest."""
        digest = self.tags.get(reference, reference)
        return digest if digest in self.images else None

    def tags_of(self, digest: str) -> list[str]:
        """Return the tags of an image."""
        return sorted(tag for tag, tagged in self.tags.items() if tagged == digest)


class Store:
    """Repositories as files, one each, and their contents. Whoever changes something holds ``lock``."""

    def __init__(self, folder: Path) -> None:
        """Read what ``folder`` has; uploads that were under way are gone."""
        self.lock = threading.RLock()
        self._records, self._blobs, self._uploads = folder / "repositories", folder / "blobs", folder / "uploads"
        self.unpacked = folder / "unpacked"
        shutil.rmtree(self._uploads, ignore_errors=True)
        self._repositories: dict[str, Repository] = {}
        for path in self._records.glob("*.json"):
            content = json.loads(path.read_text())
            content["images"] = {digest: Stored(**image) for digest, image in content["images"].items()}
            self._repositories[content["name"]] = Repository(**content)

    def find(self, name: str) -> Repository | None:
        """Return a repository, or None."""
        return self._repositories.get(name)

    def all(self) -> list[Repository]:
        """Return every repository, by name."""
        return [self._repositories[name] for name in sorted(self._repositories)]

    def save(self, repository: Repository) -> None:
        """Keep a repository as it is now."""
        self._repositories[repository.name] = repository
        self._records.mkdir(parents=True, exist_ok=True)
        json_files.write(self._record(repository.name), asdict(repository))

    def delete(self, name: str) -> None:
        """Forget a repository, and what only it held."""
        del self._repositories[name]
        self._record(name).unlink()
        shutil.rmtree(self._uploads / self._file(name), ignore_errors=True)
        self.tidy()

    def tidy(self, repository: Repository | None = None) -> None:
        """Remove the layers that no image of ``repository`` names, and the contents that no repository holds."""
        if repository is not None:
            named = {digest for image in repository.images.values() for digest in image.contents}
            old = time.time() - _ORPHAN_SECONDS
            repository.layers = {key: came for key, came in repository.layers.items() if key in named or came > old}
            self.save(repository)
        held = {digest for kept in self._repositories.values() for digest in (*kept.layers, *kept.images)}
        for folder, remove in ((self._blobs, os.unlink), (self.unpacked, shutil.rmtree)):
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.name.replace("-", ":", 1) not in held and path.name.startswith("sha256-"):
                    remove(path)

    def put(self, data: bytes) -> str:
        """Keep a content; return its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self._blobs.mkdir(parents=True, exist_ok=True)
        temporary = self._blobs / f"new-{uuid.uuid4().hex}"
        temporary.write_bytes(data)
        os.replace(temporary, self.blob(digest))
        return digest

    def blob(self, digest: str) -> Path:
        """Return where the content with this digest lies, if there is one."""
        return self._blobs / digest.replace(":", "-", 1)

    # Uploads belong to a repository, and are known by an id that only their owner was told.

    def begin_upload(self, name: str) -> str:
        """Begin an upload to a repository; return its id."""
        upload = str(uuid.uuid4())
        path = self._upload(name, upload)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return upload

    def uploaded(self, name: str, upload: str) -> int | None:
        """Return how many bytes of an upload have come, or None when there is no such upload."""
        path = self._upload(name, upload)
        return path.stat().st_size if path.is_file() else None

    def open_upload(self, name: str, upload: str) -> IO[bytes]:
        """Open an upload to add to it."""
        return self._upload(name, upload).open("ab")

    def finish_upload(self, name: str, upload: str, digests: Iterable[str]) -> str | None:
        """Keep an upload as a layer of its repository if its digest is one of ``digests``; return it, else None."""
        path = self._upload(name, upload)
        digest = _digest_of(path)
        if digest not in digests:
            return None
        self._blobs.mkdir(parents=True, exist_ok=True)
        with self.lock:
            os.replace(path, self.blob(digest))
            repository = self._repositories[name]
            repository.layers[digest] = time.time()
            self.save(repository)
        return digest

    def _upload(self, name: str, upload: str) -> Path:
        try:
            known = str(uuid.UUID(upload))  # it comes from a client, and becomes a file's name
        except ValueError:
            known = "none"
        return self._uploads / self._file(name) / known

    def _record(self, name: str) -> Path:
        return self._records / f"{self._file(name)}.json"

    def _file(self, name: str) -> str:
        if len(name) <= _LONGEST_FILE:
            return name.replace("/", "%")
        return f"%{hashlib.sha256(name.encode()).hexdigest()}"  # a name may have as many characters as a file's, 256


def _digest_of(path: Path) -> str:
    found = hashlib.sha256()
    for block in _blocks(path):
        found.update(block)
    return f"sha256:{found.hexdigest()}"


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block

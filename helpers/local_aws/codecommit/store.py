"""Repositories on disk: a bare git folder each, and beside it what AWS knows of the repository.

A folder is named by the repository's id, never by its name: names come from
clients. What is half made or half deleted has a name that starts with a dot,
and is removed at the next start.
"""

import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dulwich.config import ConfigFile
from dulwich.repo import Repo

from helpers.local_aws.codecommit.rules import error

# Read by every git process that serves a repository; HOME points here.
GIT_CONFIG = {
    ("core",): {"hooksPath": "/dev/null"},
    ("http",): {"receivepack": "true", "uploadpack": "true", "getanyfile": "false"},
    ("gc",): {"auto": "0"},  # a collection in the background could outlive us and race the API's readers
    ("maintenance",): {"auto": "false"},
    ("receive",): {"autogc": "false"},
}


class Repository:
    """One repository. ``record`` and ``comments`` are plain JSON; change them under ``lock``, then ``save``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git = folder / "git"
        self.lock = threading.RLock()
        self.record: dict[str, Any] = json.loads((folder / "repository.json").read_text())
        comments = folder / "comments.json"
        self.comments: list[dict[str, Any]] = json.loads(comments.read_text()) if comments.exists() else []

    @property
    def name(self) -> str:
        """Return the name that clients use."""
        return self.record["name"]

    @contextmanager
    def open(self) -> Iterator[Repo]:
        """Open the git repository. Each use opens anew: git processes change it behind dulwich's caches."""
        try:
            repo = Repo(str(self.git), bare=True)
        except OSError:  # deleted between look-up and use
            raise error("RepositoryDoesNotExistException", f"{self.name} does not exist") from None
        try:
            yield repo
        finally:
            repo.close()

    def save(self) -> None:
        """Write the record through to disk."""
        self.record["modified"] = time.time()
        write_json(self.folder / "repository.json", self.record)

    def save_comments(self) -> None:
        """Write the comments through to disk."""
        write_json(self.folder / "comments.json", self.comments)


class Store:
    """Every repository of the account, by name. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self.repositories_dir = folder / "repositories"
        self.home = folder / "home"
        self.repositories_dir.mkdir(parents=True, exist_ok=True)
        self.home.mkdir(exist_ok=True)
        config = ConfigFile()
        for section, values in GIT_CONFIG.items():
            for key, value in values.items():
                config.set(tuple(part.encode() for part in section), key.encode(), value.encode())
        config.write_to_path(str(self.home / ".gitconfig"))
        self._lock = threading.Lock()
        self._by_name: dict[str, Repository] = {}
        for entry in self.repositories_dir.iterdir():
            if entry.name.startswith("."):
                shutil.rmtree(entry)
            else:
                repository = Repository(entry)
                for lock in (*repository.git.glob("*.lock"), *(repository.git / "refs").rglob("*.lock")):
                    lock.unlink()  # of a git process that was killed: it would block its branch for ever
                self._by_name[repository.name] = repository

    def all(self) -> list[Repository]:
        """Return the repositories, by name."""
        with self._lock:
            return [self._by_name[name] for name in sorted(self._by_name)]

    def find(self, name: str) -> Repository | None:
        """Return the repository ``name``, or None."""
        return self._by_name.get(name)

    def get(self, name: str) -> Repository:
        """Return the repository ``name``. Raises RepositoryDoesNotExistException."""
        repository = self.find(name)
        if repository is None:
            raise error("RepositoryDoesNotExistException", f"{name} does not exist")
        return repository

    def create(self, name: str, description: str, tags: dict[str, str]) -> Repository:
        """Make an empty repository. Raises RepositoryNameExistsException."""
        repository_id = str(uuid.uuid4())
        now = time.time()
        record: dict[str, Any] = {"id": repository_id, "name": name, "description": description, "tags": tags}
        record |= {"created": now, "modified": now, "triggers": [], "configuration_id": ""}
        with self._lock:
            if name in self._by_name:
                raise error("RepositoryNameExistsException", f"Repository named {name} already exists")
            draft = self.repositories_dir / f".{repository_id}"
            (draft / "git").mkdir(parents=True)
            Repo.init_bare(str(draft / "git"), default_branch=b"main").close()
            write_json(draft / "repository.json", record)
            final = self.repositories_dir / repository_id
            os.replace(draft, final)
            self._by_name[name] = Repository(final)
            return self._by_name[name]

    def delete(self, name: str) -> str:
        """Remove the repository ``name`` and return its id, or "" when there is none."""
        with self._lock:
            repository = self._by_name.pop(name, None)
            if repository is None:
                return ""
            with repository.lock:
                gone = repository.folder.with_name(f".{repository.folder.name}")
                os.replace(repository.folder, gone)
        # A git process that still writes there must not turn the deletion into a failure; the next start sweeps.
        shutil.rmtree(gone, ignore_errors=True)
        return repository.record["id"]


def write_json(path: Path, value: object) -> None:
    """Replace ``path`` by ``value`` as JSON, so that a kill leaves the old or the new file."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    draft.write_text(json.dumps(value, indent=1))
    os.replace(draft, path)

"""The records of HTTP APIs: each a JSON file, all of them in memory."""

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from helpers.local_aws import json_files

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"

Item = dict[str, Any]


@dataclass
class Api:
    """An API: what was asked for, by botocore's names, its tags, and its integrations, routes and stages by id.

    ``created`` is in seconds since the epoch; a stage's id is its name.
    """

    api_id: str
    settings: Item
    created: float
    tags: dict[str, str] = field(default_factory=dict)
    integrations: dict[str, Item] = field(default_factory=dict)
    routes: dict[str, Item] = field(default_factory=dict)
    stages: dict[str, Item] = field(default_factory=dict)


class Records:
    """Every API of the account. A change is on disk when ``change`` returns."""

    def __init__(self, folder: Path) -> None:
        """Read the records of ``folder``, which is made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._lock = folder, threading.RLock()
        self._apis = {path.stem: Api(**json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))}

    def find(self, api_id: str) -> Api | None:
        """Return an API, or None. It is changed through ``change`` only."""
        return self._apis.get(api_id)

    def all(self) -> list[Api]:
        """Return every API, the oldest first."""
        with self._lock:
            return sorted(self._apis.values(), key=lambda api: (api.created, api.api_id))

    def add(self, settings: Mapping[str, Any], tags: Mapping[str, str]) -> Api:
        """Write down a new API under an id of its own."""
        with self._lock:
            api = Api(new_id(10, self._apis), dict(settings), time.time(), dict(tags))
            self._write(api)
            self._apis[api.api_id] = api
            return api

    def change(self, api: Api, change: Callable[[], object]) -> None:
        """Run ``change``, which may raise before it has changed anything, and write the API down."""
        with self._lock:
            change()
            self._write(api)

    def remove(self, api: Api) -> None:
        """Forget an API with all that belongs to it."""
        with self._lock:
            self._apis.pop(api.api_id, None)
            self._path(api).unlink(missing_ok=True)

    def _path(self, api: Api) -> Path:
        return self._folder / f"{api.api_id}.json"

    def _write(self, api: Api) -> None:
        json_files.write(self._path(api), asdict(api))


def new_id(length: int, taken: Mapping[str, Any]) -> str:
    """Return an id that is not ``taken``, of the form that AWS's have: a letter, then letters and digits."""
    while True:
        made = secrets.choice(_LETTERS[:26]) + "".join(secrets.choice(_LETTERS) for _ in range(length - 1))
        if made not in taken:
            return made

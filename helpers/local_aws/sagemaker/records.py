"""The records of the jobs of a kind: each a file, and in memory only what finds and lists them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.local_aws import json_files

FINAL = frozenset({"Completed", "Failed", "Stopped"})

Job = dict[str, Any]


class Records:
    """One record per job name, for ever. Not thread safe.

    A record has ``request``, ``arn``, ``tags``, ``status``, times in epoch
    seconds (``created``, ``modified``, ``started``, ``ended``), ``failure`` and
    what its kind adds: ``message``, or ``transitions`` and ``metrics``. Those of
    jobs that run are held in memory; of the others, the file is the record, and
    the name, status and times are what is held.
    """

    def __init__(self, folder: Path) -> None:
        """Read the records of ``folder``, which is made if it is not there."""
        self._folder = folder
        self._running: dict[str, Job] = {}
        self._final: dict[str, tuple[str, float, float]] = {}
        self._names: dict[str, str] = {}  # of jobs, by the name in their ARN, which is in lower case
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.json"):
            self._hold(path.stem, json.loads(path.read_text()))

    def __contains__(self, name: str) -> bool:
        return name in self._running or name in self._final

    def add(self, name: str, job: Job) -> None:
        """Write down a new job."""
        self._write(name, job)
        self._hold(name, job)

    def status(self, name: str) -> str:
        """Return a job's status. Raises KeyError for a name that was never used."""
        return self._final[name][0] if name in self._final else self._running[name]["status"]

    def find(self, name: str) -> Job | None:
        """Return the record of a job, or None. It is not to be changed."""
        if name in self._final:
            return json.loads(self._path(name).read_text())
        return self._running.get(name)

    def named(self, name: str) -> str | None:
        """Return the name of the job in whose ARN ``name`` stands, or None."""
        return self._names.get(name.lower())

    def running(self) -> list[str]:
        """Return the names of the jobs that are not final."""
        return list(self._running)

    def index(self) -> Iterator[tuple[str, str, float, float]]:
        """Yield name, status, time of creation and time of modification of every job."""
        for name, job in self._running.items():
            yield name, job["status"], job["created"], job["modified"]
        for name, known in self._final.items():
            yield name, *known

    def change(self, name: str, **changes: Any) -> None:
        """Update a record."""
        job = {**(self.find(name) or {}), **changes}
        self._write(name, job)
        self._hold(name, job)

    def _hold(self, name: str, job: Job) -> None:
        self._names.setdefault(name.lower(), name)
        if job["status"] in FINAL:
            self._running.pop(name, None)
            self._final[name] = job["status"], job["created"], job["modified"]
        else:
            self._running[name] = job

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _write(self, name: str, job: Job) -> None:
        json_files.write(self._path(name), job)

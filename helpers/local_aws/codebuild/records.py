"""What is kept of projects and builds: a file for each."""

import json
from pathlib import Path
from typing import Any

from helpers.local_aws import json_files

Record = dict[str, Any]


class Records:
    """Records by name, in a folder. Not thread safe; who changes a record saves it."""

    def __init__(self, folder: Path) -> None:
        """Read the records of ``folder``, which is made if it is not there."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._records = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}

    def find(self, name: str) -> Record | None:
        """Return a record, or None."""
        return self._records.get(name)

    def all(self) -> list[Record]:
        """Return every record."""
        return list(self._records.values())

    def save(self, name: str, record: Record) -> None:
        """Keep a record as it is now."""
        self._records[name] = record
        json_files.write(self._folder / f"{name}.json", record)

    def delete(self, name: str) -> None:
        """Forget a record."""
        del self._records[name]
        (self._folder / f"{name}.json").unlink()

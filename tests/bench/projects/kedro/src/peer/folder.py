"""A data set that is a folder which a node has already written."""

from pathlib import Path

from kedro.io import AbstractDataset


class Folder(AbstractDataset):
    """Load gives the path, save has nothing left to do."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def _load(self) -> str:
        return str(self._path)

    def _save(self, data: str) -> None:
        if not self._exists():
            raise FileNotFoundError(f"the node wrote nothing to {self._path}")

    def _exists(self) -> bool:
        return self._path.is_dir() and any(self._path.iterdir())

    def _describe(self) -> dict[str, str]:
        return {"path": str(self._path)}

"""What ECS remembers: clusters and task definitions in one file each, and a file for every task."""

import json
import threading
import time
from pathlib import Path
from typing import Any

from helpers.local_aws import json_files

SEEN = 3600.0  # seconds that a stopped task can be described

Record = dict[str, Any]


class Store:
    """The records. Read and change them under ``lock``, then save them.

    ``clusters`` by name; ``definitions`` by "family:revision", with the last
    revision ever used of each family in ``families``; ``tasks`` by id. A record
    holds the members that ECS describes, times in epoch seconds, besides
    ``tags`` and what is needed to run a task.
    """

    def __init__(self, folder: Path) -> None:
        """Read the records of ``folder``, which is made if it is not there."""
        self._folder, self._tasks = folder, folder / "tasks"
        self._tasks.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.lock = threading.RLock()
        self.clusters: dict[str, Record] = self._read("clusters")
        kept = self._read("definitions")
        self.definitions: dict[str, Record] = kept.get("definitions", {})
        self.families: dict[str, int] = kept.get("families", {})
        self.tasks: dict[str, Record] = {path.stem: json.loads(path.read_text()) for path in self._tasks.glob("*.json")}

    def save_clusters(self) -> None:
        """Write the clusters down."""
        json_files.write(self._folder / "clusters.json", self.clusters)

    def save_definitions(self) -> None:
        """Write the task definitions down, without those that were to be deleted and no task uses any more."""
        used = {task["taskDefinitionArn"] for task in self.tasks.values() if task["lastStatus"] != "STOPPED"}
        for name, each in list(self.definitions.items()):
            if each["status"] == "DELETE_IN_PROGRESS" and each["taskDefinitionArn"] not in used:
                del self.definitions[name]
        kept = {"definitions": self.definitions, "families": self.families}
        json_files.write(self._folder / "definitions.json", kept)

    def save_task(self, task_id: str) -> None:
        """Write one task down."""
        json_files.write(self._tasks / f"{task_id}.json", self.tasks[task_id])

    def forget_old(self) -> None:
        """Drop the tasks that stopped an hour ago."""
        latest = time.time() - SEEN
        for task_id, task in list(self.tasks.items()):
            if task.get("stoppedAt", latest) < latest:
                del self.tasks[task_id]
                (self._tasks / f"{task_id}.json").unlink(missing_ok=True)

    def active_tasks(self, cluster_arn: str) -> list[Record]:
        """Return the tasks of a cluster that have not stopped."""
        return [
            task
            for task in self.tasks.values()
            if task["clusterArn"] == cluster_arn and task["lastStatus"] != "STOPPED"
        ]

    def _read(self, name: str) -> dict[str, Any]:
        path = self._folder / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else {}

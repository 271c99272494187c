"""What is known of stacks, kept in one file each."""

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from helpers.local_aws.cloudformation.errors import invalid
from helpers.local_aws.wire import AwsError

STACK = "AWS::CloudFormation::Stack"

logger = logging.getLogger(__name__)

# What a stack becomes when the embedded AWS ended in the middle of an operation.
_BROKEN = {
    "CREATE_IN_PROGRESS": "CREATE_FAILED",
    "ROLLBACK_IN_PROGRESS": "ROLLBACK_FAILED",
    "DELETE_IN_PROGRESS": "DELETE_FAILED",
    "UPDATE_IN_PROGRESS": "UPDATE_FAILED",
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": "UPDATE_FAILED",
    "UPDATE_ROLLBACK_IN_PROGRESS": "UPDATE_ROLLBACK_FAILED",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": "UPDATE_ROLLBACK_FAILED",
}
INTERRUPTED = "The embedded AWS was stopped during the operation."

Data = dict[str, Any]


class Stack:
    """One stack: its data, which can be saved as JSON, and the events that tell of it.

    ``data["resources"]`` holds, by logical id: type, physical, properties, attributes, status,
    reason, time, needs (logical ids), on_delete and on_replace (what its policies say).
    """

    def __init__(self, file: Path, data: Data) -> None:
        self.data, self._file, self._lock = data, file, threading.RLock()

    @property
    def id(self) -> str:
        """Its ARN."""
        return self.data["id"]

    @property
    def name(self) -> str:
        """Its name."""
        return self.data["name"]

    @property
    def status(self) -> str:
        """Its status."""
        return self.data["status"]

    @property
    def resources(self) -> dict[str, Data]:
        """Its resources by logical id."""
        return self.data["resources"]

    def change(self, change: Callable[[Data], None]) -> None:
        """Change the data and save them."""
        with self._lock:
            change(self.data)
            self._save()

    def enter(self, status: str, reason: str = "", token: str = "") -> None:
        """Take a status, and tell of it."""
        with self._lock:
            self.data["status"], self.data["reason"] = status, reason
            if status == "DELETE_COMPLETE":
                self.data["deleted"] = time.time()
            if not status.endswith("_IN_PROGRESS"):
                self._end_change_set("COMPLETE" if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE") else "FAILED")
            self._event(self.name, self.id, STACK, status, reason, token)

    def begin(self, former: str, status: str) -> None:
        """Take the first status of an operation, asked for when the stack was ``former``. Raises AwsError.

        Of two requests that come at once, one is refused.
        """
        with self._lock:
            if self.status != former:
                raise invalid(f"Stack:{self.id} is in {self.status} state and can not be updated.")
            self.enter(status, "User Initiated")

    def resource(self, logical: str, status: str, reason: str = "", **more: Any) -> None:
        """Give a resource a status, and tell of it; ``more`` are other members of its data."""
        with self._lock:
            entry = self.resources.setdefault(logical, {"physical": "", "type": "", "properties": {}, "attributes": {}})
            entry |= {**more, "status": status, "reason": reason, "time": time.time()}
            self._event(logical, entry["physical"], entry["type"], status, reason)

    def tell(self, logical: str, physical: str, kind: str, status: str, reason: str = "") -> None:
        """Tell of a resource that the stack no longer has, or has in another form."""
        with self._lock:
            self._event(logical, physical, kind, status, reason)

    def forget(self, logical: str) -> None:
        """Leave a resource out from now on."""
        self.change(lambda data: data["resources"].pop(logical, None))

    def break_off(self, reason: str = INTERRUPTED) -> None:
        """Mark an operation that nobody carries on."""
        status = _BROKEN.get(self.status)
        if status is None:
            return
        for logical, entry in list(self.resources.items()):
            if entry["status"].endswith("_IN_PROGRESS"):
                self.resource(logical, entry["status"].replace("_IN_PROGRESS", "_FAILED"), reason)
        self.enter(status, reason)

    def _end_change_set(self, how: str) -> None:
        for found in self.data["change_sets"].values():
            if found["execution"] == "EXECUTE_IN_PROGRESS":
                found["execution"] = f"EXECUTE_{how}"

    def _event(self, logical: str, physical: str, kind: str, status: str, reason: str, token: str = "") -> None:
        event = {
            "EventId": f"{logical}-{status}-{uuid.uuid4()}" if kind != STACK else str(uuid.uuid4()),
            "LogicalResourceId": logical,
            "PhysicalResourceId": physical,
            "ResourceType": kind,
            "Timestamp": time.time(),
            "ResourceStatus": status,
        }
        token = token or self.data.get("token", "")
        event |= {"ResourceStatusReason": reason} if reason else {}
        event |= {"ClientRequestToken": token} if token else {}
        self.data["events"].append(event)
        self._save()

    def _save(self) -> None:
        """Write the file anew, so that a kill leaves the former one or this one."""
        partial = self._file.with_suffix(".partial")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(self.data, file, separators=(",", ":"))
        partial.replace(self._file)


class Stacks:
    """Every stack, deleted ones too."""

    def __init__(self, folder: Path) -> None:
        """Read the stacks of ``folder``; operations that were under way are marked as failed."""
        self._folder, self._lock = folder, threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._stacks: dict[str, Stack] = {}
        for file in sorted(folder.glob("*.json")):
            try:
                stack = Stack(file, json.loads(file.read_text()))
                stack.break_off()
            except (ValueError, KeyError):
                logger.warning("%s cannot be read: its stack is left out", file)
            else:
                self._stacks[stack.id] = stack

    def __iter__(self) -> Iterator[Stack]:
        """Iterate over every stack, newest first."""
        with self._lock:
            found = list(self._stacks.values())
        return iter(sorted(found, key=lambda stack: stack.data["created"], reverse=True))

    def find(self, name: str) -> Stack | None:
        """Return the stack with this id, or the one with this name that is not deleted."""
        with self._lock:
            if name in self._stacks:
                return self._stacks[name]
            alive = [stack for stack in self._stacks.values() if stack.name == name]
        return next((stack for stack in alive if stack.status != "DELETE_COMPLETE"), None)

    def blank(self, arn: str, role: str) -> Stack:
        """Return a new stack that nobody knows of yet."""
        data: Data = {
            "id": arn, "name": arn.split("/")[1], "status": "", "reason": "", "created": time.time(), "updated": None,
            "deleted": None, "description": "", "template": "", "parameters": {}, "tags": {}, "capabilities": [],
            "role": role, "outputs": [], "imports": [], "disable_rollback": False, "protected": False, "token": "",
            "change_set": "", "resources": {}, "change_sets": {}, "events": [], "unfinished": None,
        }  # fmt: skip
        return Stack(self._folder / f"{arn.rpartition('/')[2]}.json", data)

    def add(self, stack: Stack, status: str) -> None:
        """Record a new stack in its first status. Raises AwsError when its name has been taken meanwhile."""
        with self._lock:
            for other in self._stacks.values():
                if other.name == stack.name and other.status != "DELETE_COMPLETE":
                    raise AwsError("AlreadyExistsException", f"Stack [{stack.name}] already exists")
            stack.enter(status, "User Initiated")
            self._stacks[stack.id] = stack

    def exporter(self, name: str) -> tuple[Stack, str] | None:
        """Return the stack that exports ``name``, and the value."""
        for stack in self:
            if stack.status != "DELETE_COMPLETE":
                for output in stack.data["outputs"]:
                    if output.get("ExportName") == name:
                        return stack, output["OutputValue"]
        return None

    def importers(self, name: str) -> list[Stack]:
        """Return the stacks that import ``name``."""
        return [stack for stack in self if stack.status != "DELETE_COMPLETE" and name in stack.data.get("imports", ())]

"""The life of tasks: from PROVISIONING, over their container, to STOPPED."""

import copy
import logging
import secrets
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

from helpers.local_aws import ecr
from helpers.local_aws.containers import Container, End
from helpers.local_aws.ecs import launch, names
from helpers.local_aws.ecs.launch import Assume, NotStarted
from helpers.local_aws.ecs.orders import PLATFORM, Order
from helpers.local_aws.ecs.store import Record, Store
from helpers.local_aws.wire import Site

LOST = "The embedded AWS was stopped while the task was running."
_LIMIT = 1024  # characters of stoppedReason
_FAILED = "TaskFailedToStart"
_log = logging.getLogger(__name__)


class Running(Protocol):
    """What runs containers (see ``containers.Containers``)."""

    def start(self, container: Container, *, started: Any, ended: Any) -> None:
        """Run a container; ``started()`` when it does, ``ended(End)`` once."""

    def stop(self, run_id: str) -> None:
        """Ask a container to end."""


class Tasks:
    """Runs tasks, and wakes those who wait for one. Thread safe."""

    def __init__(
        self, site: Site, store: Store, containers: Running, images: ecr.Source, assume: Assume, require: ecr.Require
    ) -> None:
        """End the tasks that ran when the embedded AWS was killed. See ``Ecs`` for ``assume`` and ``require``."""
        self._site, self._store, self._containers, self._images = site, store, containers, images
        self._assume, self._require = assume, require
        self._ended: dict[str, threading.Event] = {}
        self._closing = False
        with store.lock:
            for task_id, task in store.tasks.items():
                if task["lastStatus"] != "STOPPED":
                    self._ended[task_id] = threading.Event()
                    if "startedAt" in task or task["desiredStatus"] == "STOPPED":
                        self._finish(task_id, End("lost", None))

    def run(self, order: Order) -> list[Record]:
        """Make the tasks that were ordered, and start them. Returns their records, at once."""
        with self._store.lock:
            made = [self._record(order, provider) for provider in order.providers]
            for task in made:
                self._store.tasks[task["taskId"]] = task
                self._ended[task["taskId"]] = threading.Event()
                self._store.save_task(task["taskId"])
            shown = copy.deepcopy(made)
        for task in shown:
            self._launch(task["taskId"])
        return shown

    def resume(self) -> None:
        """Start the tasks that waited when the embedded AWS was stopped."""
        with self._store.lock:
            waiting = [task_id for task_id, task in self._store.tasks.items() if task["lastStatus"] != "STOPPED"]
        for task_id in waiting:
            self._launch(task_id)

    def stop(self, task_id: str, reason: str) -> Record:
        """Ask a task to stop; one that has stopped stays as it is. Returns its record."""
        with self._store.lock:
            task = self._store.tasks[task_id]
            if task["desiredStatus"] != "STOPPED":
                changes: dict[str, Any] = {"desiredStatus": "STOPPED", "stopCode": "UserInitiated", "tags": []}
                if task["lastStatus"] == "RUNNING":
                    changes |= {"lastStatus": "STOPPING", "stoppingAt": time.time()}
                self._change(task_id, **changes, stoppedReason=reason[:_LIMIT])
            shown = copy.deepcopy(task)
        self._containers.stop(launch.run_id(shown))
        return shown

    def wait(self, task_id: str, timeout: float | None) -> bool:
        """Block until the task has stopped; False when ``timeout`` seconds pass first."""
        with self._store.lock:
            ended = self._ended.get(task_id)
        return ended is None or ended.wait(timeout)

    def close(self) -> None:
        """Let no more tasks start. The containers that run are ended by whoever made them."""
        self._closing = True

    def _launch(self, task_id: str) -> None:
        threading.Thread(target=self._follow, args=(task_id,), name=f"task {task_id}", daemon=True).start()

    def _follow(self, task_id: str) -> None:
        """Pull a task's image and start its container, or write down why that could not be."""
        try:
            self._start(task_id)
        except NotStarted as problem:
            self._finish(task_id, End("failed", None, str(problem)))
        except Exception as error:  # noqa: BLE001 - the end of a thread: the task has to end whatever happens
            _log.exception("task %s", task_id)
            self._finish(task_id, End("failed", None, f"ResourceInitializationError: {error}"))

    def _start(self, task_id: str) -> None:
        if self._closing or self._stopped_before(task_id):
            return
        now = time.time()
        changes: dict[str, Any] = {"connectivity": "CONNECTED", "connectivityAt": now, "pullStartedAt": now}
        task = self._change(task_id, **changes, lastStatus="PENDING")
        image = launch.pull(task, self._images, self._require)
        task = self._change(task_id, pullStoppedAt=time.time(), container={"imageDigest": image.digest})
        container = launch.container(task, image, self._assume)
        if self._closing or self._stopped_before(task_id):
            return
        self._containers.start(
            container,
            started=lambda: self._note_start(task_id),
            ended=lambda end: self._finish(task_id, end),
        )
        if self._desired(task_id) == "STOPPED":  # asked for after the look above, and before there was anything to stop
            self._containers.stop(container.run_id)

    def _desired(self, task_id: str) -> str:
        with self._store.lock:
            return self._store.tasks[task_id]["desiredStatus"]

    def _stopped_before(self, task_id: str) -> bool:
        """End a task that was to stop before its container was started; tell whether it was."""
        if self._desired(task_id) != "STOPPED":
            return False
        self._finish(task_id, End("stopped", None))
        return True

    def _note_start(self, task_id: str) -> None:
        with self._store.lock:
            changes: dict[str, Any] = {"startedAt": time.time(), "container": {"lastStatus": "RUNNING"}}
            if self._store.tasks[task_id]["desiredStatus"] == "RUNNING":
                changes["lastStatus"] = "RUNNING"
            self._change(task_id, **changes)

    def _finish(self, task_id: str, end: End) -> None:
        """Write down how a task ended. One that never started, because all was stopped, goes on waiting."""
        with self._store.lock:
            task = self._store.tasks[task_id]
            if task["lastStatus"] == "STOPPED":
                return
            if end.reason == "lost" and "startedAt" not in task and task["desiredStatus"] == "RUNNING":
                return
            now = time.time()
            container: dict[str, Any] = {"lastStatus": "STOPPED"}
            if end.code is not None:
                container["exitCode"] = end.code
            code, reason = _outcome(end)
            if code == _FAILED:
                container["reason"] = reason
            changes = {
                "desiredStatus": "STOPPED",
                "lastStatus": "STOPPED",
                "stopCode": task.get("stopCode", code),
                "stoppedReason": task.get("stoppedReason", reason),
                "stoppingAt": task.get("stoppingAt", now),
                "executionStoppedAt": now,
                "stoppedAt": now,
            }
            self._change(task_id, **changes, container=container)
            if ended := self._ended.pop(task_id, None):
                ended.set()
            if task["taskDefinitionArn"] in {each["taskDefinitionArn"] for each in self._deleted()}:
                self._store.save_definitions()
        if end.log_problem:
            _log.warning("task %s: %s", task_id, end.log_problem)

    def _deleted(self) -> list[Record]:
        return [each for each in self._store.definitions.values() if each["status"] == "DELETE_IN_PROGRESS"]

    def _change(self, task_id: str, *, container: dict[str, Any] | None = None, **changes: Any) -> Record:
        """Update a task and, with ``container``, its container; write it down. Returns a copy."""
        with self._store.lock:
            task = self._store.tasks[task_id]
            task.update(changes, version=task["version"] + 1)
            if container:
                task["containers"][0].update(container)
            if task["lastStatus"] == "STOPPED":
                task["attachments"][0]["status"] = "DELETED"
            elif "connectivityAt" in task:
                task["attachments"][0]["status"] = "ATTACHED"
            self._store.save_task(task_id)
            return copy.deepcopy(task)

    def _record(self, order: Order, provider: str) -> Record:
        task_id, cluster = names.new_id(), order.cluster["clusterName"]
        arn = self._site.arn("ecs", f"task/{cluster}/{task_id}")
        wanted = order.definition["containerDefinitions"][0]
        override: dict[str, Any] = next(iter(order.overrides["containerOverrides"]), {})
        asked = {**wanted, **override}
        sizes = {name: str(asked[name]) for name in ("memory", "memoryReservation") if name in asked}
        container = {
            "containerArn": self._site.arn("ecs", f"container/{cluster}/{task_id}/{uuid.uuid4()}"),
            "taskArn": arn,
            "name": wanted["name"],
            "image": wanted["image"],
            "runtimeId": f"{task_id}-{secrets.randbelow(9 * 10**9) + 10**9}",
            "lastStatus": "PENDING",
            "networkInterfaces": [],
            "healthStatus": "UNKNOWN",
            "cpu": str(asked.get("cpu", 0)),
            **sizes,
        }
        architecture = order.definition.get("runtimePlatform", {}).get("cpuArchitecture", "X86_64").lower()
        task: Record = {
            "taskId": task_id,
            "taskArn": arn,
            "clusterArn": order.cluster["clusterArn"],
            "taskDefinitionArn": order.definition["taskDefinitionArn"],
            "definition": {name: value for name, value in order.definition.items() if name != "tags"},
            "public": order.public,
            "token": order.token,
            "digest": order.digest,
            "attachments": [_interface(order.subnet)],
            "attributes": [{"name": "ecs.cpu-architecture", "value": architecture}],
            "availabilityZone": order.zone,
            "containers": [container],
            "cpu": order.cpu,
            "memory": order.memory,
            "createdAt": time.time(),
            "desiredStatus": "RUNNING",
            "lastStatus": "PROVISIONING",
            "enableExecuteCommand": False,
            "group": order.group,
            "healthStatus": "UNKNOWN",
            "inferenceAccelerators": [],
            "launchType": "FARGATE",
            "overrides": order.overrides,
            "platformVersion": PLATFORM,
            "platformFamily": "Linux",
            "tags": order.tags,
            "version": 1,
        }
        optional = {"capacityProviderName": provider, "startedBy": order.started_by}
        return task | {name: value for name, value in optional.items() if value}


def _interface(subnet: str) -> Record:
    """Return a task's network interface: its addresses lead nowhere here, so it shows none."""
    details = [{"name": "subnetId", "value": subnet}]
    return {
        "id": str(uuid.uuid4()),
        "type": "ElasticNetworkInterface",
        "status": "PRECREATED",
        "details": details,
    }


def _outcome(end: End) -> Sequence[str]:
    """Return stopCode and stoppedReason of a task that nobody stopped."""
    if end.reason == "failed":
        return _FAILED, end.problem[:_LIMIT]
    if end.reason == "lost":
        return "TerminationNotice", LOST
    return "EssentialContainerExited", "Essential container in task exited"

"""The life of instances: pending, running, shutting-down, terminated, each state as true as its process.

A launch and a termination each run in a thread. What asks only looks at, and
changes, the record; the thread that has started the process decides, by the
record, whether it may stay.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from helpers.local_aws.ec2 import documents, launching
from helpers.local_aws.ec2.launching import Order
from helpers.local_aws.ec2.machines import SHUTDOWN, Launch
from helpers.local_aws.ec2.store import Instance, Store, new_id
from helpers.local_aws.wire import AwsError, Site

_STOPPED = "the embedded AWS was stopped while the instance was running"
_BY_USER = ("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")
_BY_ITSELF = ("Client.InstanceInitiatedShutdown", f"Client.InstanceInitiatedShutdown: {SHUTDOWN}")
_log = logging.getLogger(__name__)


class Machines(Protocol):
    """What instances need of the processes behind them: see ``machines.Machines``."""

    def launch(self, launch: Launch) -> None: ...
    def terminate(self, instance_id: str) -> None: ...
    def console(self, instance_id: str) -> bytes: ...
    def close(self) -> None: ...


Start = Callable[[Callable[[str, str], None]], Machines]  # given what to call when an instance has ended by itself


class Instances:
    """Launch and end instances, and write down how they are. Thread safe."""

    def __init__(self, site: Site, store: Store, start: Start) -> None:
        """``start`` makes the machines. Instances that ran when the embedded AWS was stopped are terminated."""
        self._site, self._store = site, store
        self._closing = False
        self._threads: set[threading.Thread] = set()
        with store.lock:
            self._end_all()
        self._machines = start(self._ended)

    def launch(self, order: Order) -> list[Instance]:
        """Record the instances of an order as pending, and start them; the same ClientToken starts nothing new.

        Raises AwsError, and then nothing was made.
        """
        store = self._store
        with store.lock:
            if earlier := self._earlier(order):
                return earlier
            self._require_open()
            reservation_id = new_id("r")
            made: list[Instance] = []
            try:
                for number in range(launching.count(store, order)):
                    made.append(launching.make(store, order, number, reservation_id))
                    store.instances[made[-1].instance_id] = made[-1]
            except AwsError:
                for instance in made:
                    del store.instances[instance.instance_id]
                raise
            for instance in made:
                for resource, kind in ((instance.instance_id, "instance"), (instance.volume.volume_id, "volume")):
                    if order.tags[kind]:
                        store.tags[resource] = dict(order.tags[kind])
            store.save()
            launches = [documents.launch(self._site, store, instance, order.user_data) for instance in made]
        for launch in launches:
            self._in_thread(partial(self._start, launch), f"launch {launch.instance_id}")
        return made

    def terminate(self, ids: Sequence[str]) -> list[tuple[Instance, str]]:
        """End instances; return each with the state that it was in. Raises InvalidInstanceID.NotFound."""
        found: list[tuple[Instance, str]] = []
        running: list[Instance] = []
        with self._store.lock:
            for instance in self._store.find_instances(list(ids)):
                found.append((instance, instance.state))
                if instance.alive:
                    if instance.state == "running":  # one that is pending is ended by the thread that starts it
                        running.append(instance)
                    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
                    self._change(instance, "shutting-down", _BY_USER, f"User initiated ({now} GMT)")
            self._store.save()
        for instance in running:
            self._in_thread(partial(self._stop, instance), f"terminate {instance.instance_id}")
        return found

    def console(self, instance_id: str) -> bytes:
        """Return what an instance has printed, its last 64 KB."""
        return self._machines.console(instance_id)

    def close(self) -> None:
        """End every instance. Nothing of them outlives this call."""
        with self._store.lock:
            self._closing = True
            self._end_all()
        self._machines.close()
        for thread in tuple(self._threads):
            thread.join(5)

    def _earlier(self, order: Order) -> list[Instance]:
        if not order.token:
            return []
        self._store.forget_old()
        found = [each for each in self._store.instances.values() if each.token == order.token]
        if any(each.request != order.digest for each in found):
            raise AwsError(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
            )
        return found

    def _require_open(self) -> None:
        if self._closing:
            raise AwsError("Unavailable", "The embedded AWS is about to stop.", 503)

    def _in_thread(self, work: Callable[[], None], name: str) -> None:
        def run() -> None:
            try:
                work()
            except Exception:  # noqa: BLE001 - the end of a thread: there is nobody else to tell
                _log.exception("%s", name)
            finally:
                self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.add(thread)
        thread.start()

    def _start(self, launch: Launch) -> None:
        """Start an instance's processes; it is running once these do, unless it is not wanted any more."""
        instance = self._store.instances[launch.instance_id]
        try:
            if not instance.alive:
                self._terminated(instance)
                return
            self._machines.launch(launch)
        except Exception as error:  # noqa: BLE001 - the end of a thread: the record has to say how it went
            _log.warning("%s could not be started: %s", launch.instance_id, error)
            self._machines.terminate(launch.instance_id)
            self._end(instance, *_failed(f"the processes could not be started: {error}"))
            return
        with self._store.lock:
            if instance.state == "pending":
                self._change(instance, "running", ("", ""), "")
                self._store.save()
                return
        self._stop(instance)

    def _stop(self, instance: Instance) -> None:
        self._machines.terminate(instance.instance_id)
        self._terminated(instance)

    def _ended(self, instance_id: str, reason: str) -> None:
        """Note that an instance's processes are gone although nobody terminated it."""
        instance = self._store.instances.get(instance_id)
        if instance is None:
            return
        if reason != SHUTDOWN:
            self._end(instance, *_failed(reason))
        elif instance.shutdown == "terminate":
            self._end(instance, _BY_ITSELF, "")
        else:
            self._end(instance, *_failed(f"{SHUTDOWN}: the embedded AWS keeps no stopped instances"))

    def _end(self, instance: Instance, reason: tuple[str, str], transition: str) -> None:
        with self._store.lock:
            if instance.alive and not self._closing:
                self._change(instance, "terminated", reason, transition)
                self._store.save()
        self._terminated(instance)

    def _terminated(self, instance: Instance) -> None:
        with self._store.lock:
            if instance.holds:
                self._change(instance, "terminated", instance.reason, instance.transition)
                self._store.save()

    def _end_all(self) -> None:
        """Write down that nothing runs any more, before it is ended: what comes after a kill reads the same."""
        held = [each for each in self._store.instances.values() if each.holds]
        for instance in held:
            if instance.alive:
                self._change(instance, "terminated", *_failed(_STOPPED))
            else:
                self._change(instance, "terminated", instance.reason, instance.transition)
        if held:
            self._store.save()

    def _change(self, instance: Instance, state: str, reason: tuple[str, str], transition: str) -> None:
        instance.state, instance.reason, instance.transition = state, reason, transition
        if state == "terminated":
            instance.ended = time.time()
            self._store.tags.pop(instance.volume.volume_id, None)


def _failed(why: str) -> tuple[tuple[str, str], str]:
    """Return StateReason and StateTransitionReason of an end that nobody asked for."""
    code = "Server.InternalError"
    return (code, f"{code}: {why.removeprefix(code).removeprefix(': ')}"), code


def association_id(instance: Instance) -> str:
    """Return the id of an instance's association with its profile."""
    digest = hashlib.sha256(f"{instance.instance_id} {instance.profile_arn}".encode()).hexdigest()
    return f"iip-assoc-{digest[:17]}"

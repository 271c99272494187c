"""The life of a stack: what each operation goes through, in a thread of its own."""

import copy
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from helpers.local_aws.cloudformation.deployment import KEPT, Deployment, Interrupted, Step
from helpers.local_aws.cloudformation.records import Data, Stack
from helpers.local_aws.cloudformation.targets import Target
from helpers.local_aws.wire import AwsError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failing:
    """What to do when an operation fails: "ROLLBACK", "DO_NOTHING" or "DELETE", and with what was made."""

    then: str = "ROLLBACK"
    retain_except_on_create: bool = False


@dataclass
class Running:
    """An operation that is under way."""

    thread: threading.Thread
    stop: threading.Event = field(default_factory=threading.Event)


class Operations:
    """Starts operations, and ends them with the embedded AWS."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, Running] = {}
        self._closed = False

    def start(self, stack: Stack, work: Callable[[threading.Event], None], *, instead: bool = False) -> None:
        """Run ``work`` in a thread; ``instead``: after the stack's operation under way has been told to stop."""
        stop = threading.Event()
        with self._lock:
            if self._closed:
                raise AwsError("ServiceUnavailable", "the embedded AWS is stopping", 503)
            former = self._running.get(stack.id) if instead else None
            if former is not None:
                former.stop.set()

            def run() -> None:
                if former is not None:
                    former.thread.join()
                self._run(stack, work, stop)

            # A daemon: a call that never returns must not keep the process alive.
            thread = threading.Thread(target=run, name=f"stack {stack.name}", daemon=True)
            self._running[stack.id] = Running(thread, stop)
            thread.start()

    def close(self, seconds: float = 5) -> None:
        """Stop what is under way: its calls end, nothing new is begun, and the stacks are marked."""
        with self._lock:
            self._closed = True
            running = list(self._running.values())
        for operation in running:
            operation.stop.set()
        for operation in running:
            operation.thread.join(seconds)

    def _run(self, stack: Stack, work: Callable[[threading.Event], None], stop: threading.Event) -> None:
        try:
            work(stop)
        except Interrupted:
            if self._is_last(stack):  # else another operation has been put in this one's place, and goes on
                stack.break_off()
        except Exception as error:
            logger.exception("the operation on stack %s failed", stack.name)
            stack.break_off(f"Internal Failure: {type(error).__name__}")
        finally:
            with self._lock:
                if self._is_last(stack):
                    del self._running[stack.id]

    def _is_last(self, stack: Stack) -> bool:
        last = self._running.get(stack.id)
        return last is not None and last.thread is threading.current_thread()


def create(stack: Stack, deployment: Deployment, target: Target, failing: Failing, settle: Callable[[], None]) -> None:
    """Make a stack's resources. ``settle`` records the template and the rest of the target."""
    settle()
    reason = _applied(stack, deployment, target)
    if not reason:
        stack.enter("CREATE_COMPLETE")
        return
    if failing.then == "DO_NOTHING":
        stack.enter("CREATE_FAILED", reason)
        return
    stack.enter("ROLLBACK_IN_PROGRESS", f"{reason} Rollback requested by user.")
    policies = () if failing.retain_except_on_create else ("Retain",)
    deployment.failures.clear()
    if not deployment.delete_all(stack.resources.copy(), policies=policies):
        stack.enter("ROLLBACK_FAILED", _failed(deployment, "delete"))
        return
    stack.change(lambda data: data.update(outputs=[]))
    stack.enter("ROLLBACK_COMPLETE")
    if failing.then == "DELETE":
        stack.enter("DELETE_IN_PROGRESS")
        stack.enter("DELETE_COMPLETE")


def update(stack: Stack, deployment: Deployment, target: Target, failing: Failing, settle: Callable[[], None]) -> None:
    """Make a stack's resources what ``target`` says, or bring them back to what they were."""
    former = copy.deepcopy({name: stack.data.get(name) for name in (*SETTLED, "resources", "outputs", "imports")})
    settle()
    reason = _applied(stack, deployment, target)
    if not reason:
        stack.enter("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        deployment.clean()
        stack.enter("UPDATE_COMPLETE")
        return
    if failing.then == "DO_NOTHING":
        stack.enter("UPDATE_FAILED", reason)
        return
    stack.enter("UPDATE_ROLLBACK_IN_PROGRESS", reason)
    roll_back(stack, deployment, deployment.done, former)


def roll_back(
    stack: Stack, deployment: Deployment, steps: Sequence[Step], former: Data, leftovers: Sequence[Any] = ()
) -> None:
    """Undo ``steps`` of an update and bring back what the stack was (``former``); then delete ``leftovers`` too."""
    deployment.failures.clear()
    left = deployment.undo(steps, former["resources"])
    deployment.leftovers = [*leftovers, *deployment.leftovers]
    if left:
        names = ", ".join(sorted(step.logical for step in left))
        kept = {"steps": [asdict(step) for step in left], "former": former, "leftovers": deployment.leftovers}
        stack.change(lambda data: data.update(unfinished=kept))
        stack.enter("UPDATE_ROLLBACK_FAILED", f"The following resource(s) failed to update: [{names}].")
        return
    stack.enter("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
    deployment.clean()
    back = {name: former[name] for name in (*SETTLED, "outputs", "imports")}
    stack.change(lambda data: data.update(back, unfinished=None))
    stack.enter("UPDATE_ROLLBACK_COMPLETE")


def continue_rollback(stack: Stack, deployment: Deployment, skipped: Sequence[str]) -> None:
    """Try again what a rollback could not undo; what is ``skipped`` counts as undone."""
    unfinished = stack.data["unfinished"]
    steps = [Step(**step) for step in unfinished["steps"] if step["logical"] not in skipped]
    for logical in skipped:
        stack.resource(logical, "UPDATE_COMPLETE", "Resource rollback was skipped by the user")
    roll_back(stack, deployment, steps, unfinished["former"], [tuple(item) for item in unfinished["leftovers"]])


def delete(stack: Stack, deployment: Deployment, kept: Sequence[str]) -> None:
    """Delete a stack's resources, except for those that a policy or ``kept`` leaves alone."""
    if not deployment.delete_all(stack.resources.copy(), kept=kept, policies=KEPT):
        stack.enter("DELETE_FAILED", _failed(deployment, "delete"))
        return
    stack.change(lambda data: data.update(outputs=[], change_sets={}))
    stack.enter("DELETE_COMPLETE")


# What of a stack's data an update replaces.
SETTLED = ("template", "parameters", "tags", "description", "capabilities", "role")


def _applied(stack: Stack, deployment: Deployment, target: Target) -> str:
    """Carry out ``target`` and its outputs. Returns "", or why it failed."""
    if not deployment.apply(target):
        return _failed(deployment, *sorted(set(deployment.failures.values())))
    try:
        outputs = deployment.outputs(target)
    except AwsError as error:
        return error.message
    stack.change(lambda data: data.update(outputs=outputs))
    return ""


def _failed(deployment: Deployment, *verbs: str) -> str:
    parts = []
    for verb in verbs:
        names = sorted(logical for logical, done in deployment.failures.items() if done == verb)
        parts.append(f"The following resource(s) failed to {verb}: [{', '.join(names)}].")
    return " ".join(parts)

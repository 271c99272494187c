"""One operation on a stack: make, change or delete its resources, and undo what was done when something fails."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from helpers.local_aws.cloudformation import intrinsics, targets
from helpers.local_aws.cloudformation.changes import policies_of, replaced_by, unresolved
from helpers.local_aws.cloudformation.names import physical_name
from helpers.local_aws.cloudformation.records import INTERRUPTED, Data, Stack
from helpers.local_aws.cloudformation.resources import TYPES
from helpers.local_aws.cloudformation.resources.base import Calls, Failed, ResourceType
from helpers.local_aws.cloudformation.targets import Around, Target
from helpers.local_aws.cloudformation.walk import walk
from helpers.local_aws.wire import AwsError

logger = logging.getLogger(__name__)

KEPT = ("Retain", "RetainExceptOnCreate")


class Interrupted(Exception):
    """The operation was told to stop."""


@dataclass(frozen=True)
class Step:
    """One thing that was done, so that it can be undone: ``before`` is None for a new resource."""

    logical: str
    before: Data | None
    after: Data


class Deployment:
    """Carries out changes of one stack, with the clients of one principal."""

    def __init__(
        self,
        around: Around,
        stack: Stack,
        client: Callable[[str], Any],
        *,
        stopping: Callable[[], bool],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._around, self._stack, self._client = around, stack, client
        self._stopping, self._pause = stopping, pause
        self.done: list[Step] = []  # in the order in which they were done
        self.failures: dict[str, str] = {}  # what was to be done ("create", "update", "delete"), by logical id
        self.leftovers: list[tuple[str, Data, str]] = []  # to delete when all is well: id, data, policy

    def apply(self, target: Target) -> bool:
        """Make the resources what ``target`` says. Returns whether that succeeded; raises Interrupted."""
        needs = target.needs
        scope = self._scope(target, needs)

        def converge(logical: str) -> bool:
            return self._converge(logical, target, scope, sorted(needs[logical]))

        made = walk(needs, converge, go_on=self._goes_on)
        self._stop_if_told()
        if made != set(needs):
            return False
        for logical, entry in list(self._stack.resources.items()):
            if logical not in needs:
                self.leftovers.append((logical, entry, entry.get("on_delete", "Delete")))
        return True

    def outputs(self, target: Target) -> list[Data]:
        """Return the stack's outputs. Raises AwsError."""
        scope, found = self._scope(target, target.needs), []
        for name, output in target.template.outputs.items():
            if not target.holds.get(output.get("Condition", ""), True):
                continue
            item = {"OutputKey": name}
            item["OutputValue"] = intrinsics.text_of(intrinsics.resolve(output["Value"], scope), f"Output {name}")
            if output.get("Description"):
                item["Description"] = str(output["Description"])
            if output.get("Export"):
                export = intrinsics.resolve(output["Export"].get("Name"), scope)
                item["ExportName"] = intrinsics.text_of(export, f"the export of output {name}")
            found.append(item)
        return found

    def clean(self) -> None:
        """Delete what an update replaced or left out; what cannot be deleted is let go, as on AWS."""
        for logical, entry, policy in reversed(self.leftovers):
            self._stop_if_told()
            current = self._stack.resources.get(logical)
            if policy in KEPT:
                self._stack.tell(logical, entry["physical"], entry["type"], "DELETE_SKIPPED")
            else:
                self._stack.tell(logical, entry["physical"], entry["type"], "DELETE_IN_PROGRESS")
                reason = self._remove(entry)
                status = "DELETE_FAILED" if reason else "DELETE_COMPLETE"
                self._stack.tell(logical, entry["physical"], entry["type"], status, reason)
            if current is not None and current["physical"] == entry["physical"]:
                self._stack.forget(logical)
        self.leftovers = []

    def undo(self, steps: Sequence[Step], former: Mapping[str, Data]) -> list[Step]:
        """Bring resources back to what they were before ``steps``. Returns the steps that could not be undone.

        ``former``: the resources as they were. What the steps made is left for ``clean``.
        """
        self.leftovers, left = [], []
        for logical, entry in list(self._stack.resources.items()):
            if logical in former:
                entry |= {name: former[logical].get(name) for name in ("needs", "on_delete", "on_replace")}
                if entry["status"] == "UPDATE_FAILED" and logical not in {step.logical for step in steps}:
                    self._stack.resource(logical, "UPDATE_COMPLETE")
            elif not entry["physical"]:
                self._stack.forget(logical)
        for step in reversed(steps):
            self._stop_if_told()
            if step.before is None:
                kept = "Retain" if step.after.get("on_delete") == "Retain" else "Delete"
                self.leftovers.append((step.logical, step.after, kept))
            elif step.before["physical"] != step.after["physical"] or step.before["type"] != step.after["type"]:
                self.leftovers.append((step.logical, step.after, "Delete"))
                self._stack.resource(step.logical, "UPDATE_COMPLETE", **_plain(step.before))
            elif not self._revert(step):
                left.append(step)
        self.leftovers.reverse()
        return left[::-1]

    def delete_all(
        self, logicals: Mapping[str, Data], *, kept: Sequence[str] = (), policies: tuple[str, ...] = KEPT
    ) -> bool:
        """Delete resources, dependants first. Returns whether nothing is left.

        ``kept``: resources to leave alone. ``policies``: the DeletionPolicy values that keep a resource.
        """
        waiting: dict[str, set[str]] = {logical: set() for logical in logicals}
        for logical, entry in logicals.items():
            for other in entry.get("needs", []):
                if other in waiting:
                    waiting[other].add(logical)
        done = walk(
            waiting, lambda logical: self._delete(logical, kept, policies), go_on=self._goes_on, after_failure=True
        )
        self._stop_if_told()
        return done == set(logicals)

    def _goes_on(self) -> bool:
        return not self._stopping()

    def _stop_if_told(self) -> None:
        if self._stopping():
            raise Interrupted(INTERRUPTED)

    def _calls(self, new: str = "") -> Calls:
        """Return the calls for one resource; ``new``: its logical id, when it is being made."""

        def noted(physical: str) -> None:
            if new:
                self._stack.resource(new, "CREATE_IN_PROGRESS", "Resource creation Initiated", physical=physical)

        return Calls(self._client, self._around.site, pause=self._pause, noted=noted)

    def _scope(self, target: Target, needs: Mapping[str, Any]) -> intrinsics.Scope:
        """Return what the functions of the target's template speak of."""

        def resource(logical: str) -> Data:
            if logical not in needs:
                raise unresolved(logical)
            return self._stack.resources[logical]

        return targets.scope(self._around, target, lambda logical: resource(logical)["physical"],
                             lambda logical, name: resource(logical)["attributes"][name])  # fmt: skip

    def _converge(self, logical: str, target: Target, scope: intrinsics.Scope, needs: list[str]) -> bool:
        resource = target.template.resources[logical]
        kind, before = TYPES[resource["Type"]], self._present(logical)
        about = {"needs": needs, **policies_of(resource)}
        verb = "create" if before is None else "update"
        try:
            wanted = target.properties(logical, scope)
            if before is None:
                self._clear(logical)
                return self._create(logical, kind, wanted, about, None)
            if before["type"] == kind.type:
                replacing = replaced_by(kind.type, before["properties"], wanted)
                if not replacing:
                    return self._update(logical, kind, before, wanted, about)
                given = wanted.get(kind.name) if kind.name else None
                if given is not None and given == before["properties"].get(kind.name):
                    raise Failed(
                        "CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename "
                        f"{given} and update the stack again."
                    )
            return self._create(logical, kind, wanted, about, before)
        except (AwsError, Failed) as error:
            reason = error.message if isinstance(error, AwsError) else str(error)
            self.failures[logical] = verb
            known = {} if before else {"type": kind.type, "properties": {}, "attributes": {}, "physical": "", **about}
            self._stack.resource(logical, f"{verb.upper()}_FAILED", reason, **known)
            return False

    def _present(self, logical: str) -> Data | None:
        """Return a resource, unless an operation before this one failed to make it."""
        entry = self._stack.resources.get(logical)
        return None if entry is None or entry["status"] == "CREATE_FAILED" else entry

    def _clear(self, logical: str) -> None:
        """Delete what an operation before this one left of a resource that it failed to make. Raises Failed."""
        entry = self._stack.resources.get(logical)
        if entry is not None and (reason := self._remove(entry)):
            raise Failed(reason)

    def _create(
        self, logical: str, kind: ResourceType, wanted: Mapping[str, Any], about: Data, before: Data | None
    ) -> bool:
        """Make a resource, or one that takes the place of ``before``."""
        former = _plain(before) if before else None
        name = wanted.get(kind.name) if kind.name else None
        name = name or physical_name(self._stack.name, logical, kind.name_limit, lower=kind.lower_case)
        verb = "CREATE" if before is None else "UPDATE"
        if before is None:
            self._stack.resource(logical, "CREATE_IN_PROGRESS", type=kind.type, physical="", properties=wanted,
                                 attributes={}, **about)  # fmt: skip
        else:
            words = "Requested update requires the creation of a new physical resource; hence creating one."
            self._stack.resource(logical, "UPDATE_IN_PROGRESS", words)
        call = self._calls(logical if before is None else "")
        entry: Data = {"type": kind.type, "physical": "", "properties": wanted, "attributes": {}, **about}

        def make(call: Calls) -> None:
            made = kind.create(call, name, wanted)
            entry.update(physical=made.physical, attributes=dict(made.attributes))

        reason = self._attempt(make, call)
        entry["physical"] = entry["physical"] or call.physical
        if not reason:
            self._stack.resource(logical, f"{verb}_COMPLETE", **entry)
            self.done.append(Step(logical, former, entry))
            if former is not None and before is not None:
                self.leftovers.append((logical, former, before.get("on_replace", "Delete")))
            return True
        self.failures[logical] = verb.lower()
        if before is None:
            self._stack.resource(logical, "CREATE_FAILED", reason, **entry)
        else:
            self._stack.resource(logical, "UPDATE_FAILED", reason)
        if entry["physical"]:
            self.done.append(Step(logical, former, entry))
        return False

    def _update(self, logical: str, kind: ResourceType, before: Data, wanted: Mapping[str, Any], about: Data) -> bool:
        former = _plain(before)
        if before["properties"] == wanted:
            self._stack.change(lambda data: data["resources"][logical].update(about))
            return True
        self._stack.resource(logical, "UPDATE_IN_PROGRESS")
        call, entry = self._calls(), {**former, "properties": wanted, **about}

        def change(call: Calls) -> None:
            found = kind.update(call, former["physical"], former["properties"], wanted)
            entry["attributes"] = {**former["attributes"], **found}

        reason = self._attempt(change, call)
        if not reason:
            self._stack.resource(logical, "UPDATE_COMPLETE", **entry)
        else:
            self.failures[logical] = "update"
            self._stack.resource(logical, "UPDATE_FAILED", reason)
        if not reason or call.changed:  # a change that began has to be undone too
            self.done.append(Step(logical, former, entry))
        return not reason

    def _revert(self, step: Step) -> bool:
        assert step.before is not None
        before, after = step.before, step.after
        self._stack.resource(step.logical, "UPDATE_IN_PROGRESS")
        call = self._calls()
        reason = self._attempt(
            lambda call: _kind(before).update(call, before["physical"], after["properties"], before["properties"]),
            call,
        )
        if reason:
            self._stack.resource(step.logical, "UPDATE_FAILED", reason)
            return False
        self._stack.resource(step.logical, "UPDATE_COMPLETE", **_plain(before))
        return True

    def _delete(self, logical: str, kept: Sequence[str], policies: tuple[str, ...]) -> bool:
        entry = self._stack.resources[logical]
        if logical in kept or entry.get("on_delete", "Delete") in policies:
            self._stack.resource(logical, "DELETE_SKIPPED")
            self._stack.forget(logical)
            return True
        self._stack.resource(logical, "DELETE_IN_PROGRESS")
        if reason := self._remove(entry):
            self.failures[logical] = "delete"
            self._stack.resource(logical, "DELETE_FAILED", reason)
            return False
        self._stack.resource(logical, "DELETE_COMPLETE")
        self._stack.forget(logical)
        return True

    def _remove(self, entry: Data) -> str:
        """Delete what exists of one resource. Returns "", or why that failed."""
        physical, properties = entry["physical"], entry["properties"]
        if not physical:
            return ""
        return self._attempt(lambda call: _kind(entry).delete(call, physical, properties), self._calls())

    def _attempt(self, work: Callable[[Calls], Any], call: Calls) -> str:
        """Do something to one resource. Returns "", or why it failed."""
        try:
            work(call)
        except ClientError as error:
            return _reason(error)
        except (Failed, AwsError) as error:
            return str(error)
        except Exception as error:
            logger.exception("a call for stack %s failed", self._stack.name)
            return f"Internal Failure: {type(error).__name__}"
        return ""


def _kind(entry: Data) -> ResourceType:
    return TYPES[entry["type"]]


def _plain(entry: Data) -> Data:
    """Return what a resource is, without how its last operation went."""
    return {name: value for name, value in entry.items() if name not in ("status", "reason", "time")}


def _reason(error: ClientError) -> str:
    """Return a service's own error as events of CloudFormation tell it."""
    answer, metadata = error.response["Error"], error.response["ResponseMetadata"]
    code, status = answer["Code"], metadata.get("HTTPStatusCode", 400)
    denied = status == 403 or "AccessDenied" in code or code in ("UnauthorizedOperation", "AuthorizationError")
    kinds = (
        ("AccessDenied", denied),
        ("AlreadyExists", "AlreadyExists" in code or "InUse" in code or code.endswith(".Duplicate")),
        ("NotFound", "NotFound" in code or code.startswith("NoSuch")),
        ("GeneralServiceException", True),
    )
    kind = next(name for name, fits in kinds if fits)
    operation = error.operation_name
    return (
        f'Resource handler returned message: "{answer.get("Message", "")}" (Operation: {operation}, Error Code: '
        f"{code}, Status Code: {status}) (HandlerErrorCode: {kind})"
    )

"""Task definitions: registered in revisions, deregistered, deleted."""

import time
from typing import Any

from helpers.local_aws.ecs import names, request, tags
from helpers.local_aws.ecs.errors import client, invalid, unsupported
from helpers.local_aws.ecs.pages import page
from helpers.local_aws.ecs.store import Record, Store
from helpers.local_aws.ecs.views import definition_view
from helpers.local_aws.wire import AwsError, Params, Site


class Definitions:
    """The task definitions of a site. The methods named for operations answer them."""

    def __init__(self, site: Site, store: Store) -> None:
        self._site, self._store = site, store

    def register(self, params: Params, caller_arn: str) -> Params:
        """Make the next revision of a family."""
        wanted, given = request.complete(self._site, params), tags.checked(params.get("tags", []))
        store, family = self._store, params["family"]
        with store.lock:
            revision = store.families.get(family, 0) + 1
            record = {
                **wanted,
                "taskDefinitionArn": self.arn(family, revision),
                "revision": revision,
                "status": "ACTIVE",
                "registeredAt": time.time(),
                "registeredBy": caller_arn,
                "tags": given,
            }
            store.families[family] = revision
            store.definitions[f"{family}:{revision}"] = record
            store.save_definitions()
            return {"taskDefinition": definition_view(record), "tags": given}

    def describe(self, params: Params) -> Params:
        """Return one revision; of a family, the latest that is ACTIVE."""
        with self._store.lock:
            record = self.find(params["taskDefinition"])
            if record is None:
                raise client("Unable to describe task definition.")
            shown = {"taskDefinition": definition_view(record)}
            return {**shown, "tags": record["tags"]} if "TAGS" in params.get("include", []) else shown

    def list_arns(self, params: Params) -> Params:
        """List the ARNs of revisions, of one family where one is named."""
        wanted, family = params.get("status", "ACTIVE"), params.get("familyPrefix")
        with self._store.lock:
            found = [
                each
                for each in self._store.definitions.values()
                if each["status"] == wanted and family in (None, each["family"])
            ]
        found.sort(key=lambda each: (each["family"], each["revision"]), reverse=params.get("sort") == "DESC")
        return page("taskDefinitionArns", [each["taskDefinitionArn"] for each in found], params)

    def list_families(self, params: Params) -> Params:
        """List families; an INACTIVE one has no ACTIVE revision any more."""
        prefix, status = params.get("familyPrefix", ""), params.get("status", "ALL")
        with self._store.lock:
            known = {each["family"] for each in self._store.definitions.values()}
            active = {each["family"] for each in self._store.definitions.values() if each["status"] == "ACTIVE"}
        chosen = {"ACTIVE": active, "INACTIVE": known - active, "ALL": known}[status]
        return page("families", sorted(each for each in chosen if each.startswith(prefix)), params)

    def deregister(self, params: Params) -> Params:
        """Make a revision INACTIVE: no new tasks of it, those that run go on."""
        family, revision = names.definition(self._site, params["taskDefinition"])
        if revision is None:
            raise client("The revision of the task definition to deregister is missing.")
        with self._store.lock:
            record = self._store.definitions.get(f"{family}:{revision}")
            if record is None:
                raise client("The specified task definition does not exist.")
            if record["status"] == "ACTIVE":
                record.update(status="INACTIVE", deregisteredAt=time.time())
                self._store.save_definitions()
            return {"taskDefinition": definition_view(record)}

    def delete(self, params: Params) -> Params:
        """Delete INACTIVE revisions; one whose tasks still run is gone when they have ended."""
        asked = params["taskDefinitions"]
        if not 1 <= len(asked) <= 10:
            raise invalid("You can delete 1 to 10 task definitions in one request.")
        deleted: list[Any] = []
        failures: list[Params] = []
        with self._store.lock:
            for reference in asked:
                record, problem = self._deletable(reference)
                if record is None or problem:
                    failures.append({"arn": record["taskDefinitionArn"] if record else reference, "reason": problem})
                    continue
                record.setdefault("deleteRequestedAt", time.time())
                record["status"] = "DELETE_IN_PROGRESS"
                deleted.append(definition_view(record))
            self._store.save_definitions()
        return {"taskDefinitions": deleted, "failures": failures}

    def to_run(self, reference: str) -> Record:
        """Return the revision that a task is to be run of. Raises InvalidParameterException."""
        record = self.find(reference)
        if record is None:
            raise invalid("TaskDefinition not found.")
        if record["status"] != "ACTIVE":
            raise invalid("TaskDefinition is inactive")
        return record

    def find(self, reference: str) -> Record | None:
        """Return the revision that a reference names, or None."""
        family, revision = names.definition(self._site, reference)
        if revision is not None:
            return self._store.definitions.get(f"{family}:{revision}")
        of_family = (each for each in self._store.definitions.values() if each["family"] == family)
        active = [each for each in of_family if each["status"] == "ACTIVE"]
        return max(active, key=lambda each: each["revision"]) if active else None

    def arn(self, family: str, revision: int | str) -> str:
        """Return the ARN of a revision."""
        return self._site.arn("ecs", f"task-definition/{family}:{revision}")

    def _deletable(self, reference: str) -> tuple[Record | None, str]:
        missing = (
            "The specified task definition does not exist. Specify a valid account, family, revision and try again."
        )
        try:
            family, revision = names.definition(self._site, reference)
        except AwsError:
            return None, missing
        if revision is None:
            return None, missing
        record = self._store.definitions.get(f"{family}:{revision}")
        if record is None:
            return None, missing
        if record["status"] == "ACTIVE":
            still = "The specified task definition is still in ACTIVE status."
            return record, f"{still} Please deregister the target and try again."
        return record, ""


def require_known_compatibility(record: Record, launch_type: str) -> None:
    """Raise AwsError unless tasks of this definition can be launched so."""
    if launch_type not in record["requiresCompatibilities"]:
        raise invalid(f"Task definition does not support launch_type {launch_type}.")
    if launch_type != "FARGATE":
        raise unsupported("RunTask", f"launchType {launch_type}")

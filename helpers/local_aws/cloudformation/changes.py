"""What executing a template would change, as change sets tell it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from helpers.local_aws.cloudformation import checks
from helpers.local_aws.cloudformation.errors import invalid, unsupported
from helpers.local_aws.cloudformation.intrinsics import UNKNOWN, Scope, references
from helpers.local_aws.cloudformation.records import Stack
from helpers.local_aws.cloudformation.resources import TYPES
from helpers.local_aws.cloudformation.targets import Around, Target, scope
from helpers.local_aws.cloudformation.template import Template

Change = dict[str, Any]


@dataclass
class _Plan:
    """What has been found so far: how each resource changes ("new", "replaced", "maybe", "changed" or "")."""

    stack: Stack
    target: Target
    former: Template | None
    former_values: Mapping[str, Any]
    becomes: dict[str, str] = field(default_factory=dict)

    def reference(self, logical: str) -> Any:
        if logical not in self.becomes:
            raise unresolved(logical)
        return UNKNOWN if self.becomes[logical] in ("new", "replaced", "maybe") else self._entry(logical)["physical"]

    def attribute(self, logical: str, name: str) -> Any:
        if logical not in self.becomes:
            raise unresolved(logical)
        entry = self._entry(logical) if self.becomes[logical] != "new" else {}
        open_now = self.becomes[logical] == "changed" and name in TYPES[entry["type"]].volatile
        if self.becomes[logical] in ("new", "replaced", "maybe") or open_now:
            return UNKNOWN
        return entry["attributes"][name]

    def _entry(self, logical: str) -> dict[str, Any]:
        return self.stack.resources[logical]


def plan(
    around: Around, stack: Stack, target: Target, former: Template | None, former_values: Mapping[str, Any]
) -> list[Change]:
    """Return the changes of the stack's resources, in the form of DescribeChangeSet. Raises AwsError."""
    state = _Plan(stack, target, former, former_values)
    where = scope(around, target, state.reference, state.attribute)
    needs = target.needs
    found = {}
    for logical in checks.in_order(needs):
        change = _change(state, logical, where)
        if change:
            found[logical] = change
    for logical, entry in stack.resources.items():
        if logical not in needs:
            policy = entry.get("on_delete", "Delete").replace("ExceptOnCreate", "")
            found[logical] = {"PolicyAction": policy, "Action": "Remove", "LogicalResourceId": logical,
                              "PhysicalResourceId": entry["physical"], "ResourceType": entry["type"], "Scope": [],
                              "Details": []}  # fmt: skip
    return [{"Type": "Resource", "ResourceChange": found[logical]} for logical in sorted(found)]


def unresolved(logical: str) -> Exception:
    """Return the refusal of a reference to a resource that a condition leaves out."""
    return invalid(f"Template format error: Unresolved resource dependencies [{logical}] in the Resources block of the "
                   "template")  # fmt: skip


def replaced_by(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the changed properties that make a new resource. Raises AwsError where a change is not carried out."""
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    for name in names:
        if name in TYPES[kind].fixed:
            raise unsupported(f"changing the property {name} of {kind}")
    return [name for name in names if name in TYPES[kind].replaced]


def policies_of(resource: Mapping[str, Any]) -> dict[str, str]:
    """Return what becomes of a resource when it is deleted or replaced."""
    return {
        "on_delete": resource.get("DeletionPolicy", "Delete"),
        "on_replace": resource.get("UpdateReplacePolicy", "Delete"),
    }


def _change(state: _Plan, logical: str, where: Scope) -> Change | None:
    resource = state.target.template.resources[logical]
    kind, entry = resource["Type"], state.stack.resources.get(logical)
    if entry is not None and entry["status"] == "CREATE_FAILED":
        entry = None
    wanted = state.target.properties(logical, where)
    if entry is None:
        state.becomes[logical] = "new"
        return {"Action": "Add", "LogicalResourceId": logical, "ResourceType": kind, "Scope": [], "Details": []}
    about = {"Action": "Modify", "LogicalResourceId": logical, "PhysicalResourceId": entry["physical"],
             "ResourceType": kind}  # fmt: skip
    if entry["type"] != kind:
        state.becomes[logical] = "replaced"
        return {**about, "Replacement": "True", "Scope": ["Properties"], "Details": []}
    old = entry["properties"]
    replacing = replaced_by(kind, old, wanted)
    names = sorted(name for name in {*old, *wanted} if old.get(name) != wanted.get(name))
    details = [_detail(state, logical, name, wanted.get(name), name in replacing) for name in names]
    details += _attributes(state, logical, entry, resource)
    sure = any(_known(wanted.get(name)) for name in replacing)
    replacement = "True" if sure else "Conditional" if replacing else "False"
    state.becomes[logical] = {"True": "replaced", "Conditional": "maybe"}.get(replacement, "changed" if names else "")
    if not details:
        return None
    policy = {"PolicyAction": f"ReplaceAnd{policies_of(resource)['on_replace']}"} if replacement == "True" else {}
    scopes = list(dict.fromkeys(detail["Target"]["Attribute"] for detail in details))
    return {**policy, **about, "Replacement": replacement, "Scope": scopes, "Details": details}


def _detail(state: _Plan, logical: str, name: str, value: Any, replacing: bool) -> Change:
    source, cause = _source(state, logical, name)
    if name == "Tags" and source == "":
        target = {"Attribute": "Tags", "RequiresRecreation": "Never"}
    else:
        target = {"Attribute": "Properties", "Name": name, "RequiresRecreation": "Always" if replacing else "Never"}
    return {
        "Target": target,
        "Evaluation": "Static" if _known(value) else "Dynamic",
        **({"ChangeSource": source} if source else {}),
        **({"CausingEntity": cause} if cause else {}),
    }


def _source(state: _Plan, logical: str, name: str) -> tuple[str, str]:
    """Return why a property changes: "" for the stack's tags."""
    raw = state.target.template.resources[logical].get("Properties", {}).get(name)
    before = (state.former.resources.get(logical, {}) if state.former else {}).get("Properties", {}).get(name)
    if raw != before:
        return "DirectModification", ""
    for entity, attribute in references(raw):
        if entity in state.target.values:
            if state.former_values.get(entity) != state.target.values[entity]:
                return "ParameterReference", entity
        elif state.becomes.get(entity):
            return ("ResourceAttribute", f"{entity}.{attribute}") if attribute else ("ResourceReference", entity)
    return ("", "") if name == "Tags" else ("DirectModification", "")


def _attributes(state: _Plan, logical: str, entry: Mapping[str, Any], resource: Mapping[str, Any]) -> list[Change]:
    after = policies_of(resource)
    before = state.former.resources.get(logical, {}) if state.former else {}
    differ = {
        "DeletionPolicy": entry.get("on_delete", "Delete") != after["on_delete"],
        "UpdateReplacePolicy": entry.get("on_replace", "Delete") != after["on_replace"],
        "Metadata": before.get("Metadata") != resource.get("Metadata"),
    }
    return [
        {
            "Target": {"Attribute": name, "RequiresRecreation": "Never"},
            "Evaluation": "Static",
            "ChangeSource": "DirectModification",
        }
        for name, changed in differ.items()
        if changed
    ]


def _known(value: Any) -> bool:
    return UNKNOWN not in json.dumps(value)

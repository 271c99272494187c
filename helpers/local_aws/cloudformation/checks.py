"""What is wrong with a template before anything is made of it, and in which order its resources are made."""

from collections.abc import Mapping
from typing import Any

from helpers.local_aws.cloudformation import parameters, schema
from helpers.local_aws.cloudformation.errors import invalid, unsupported
from helpers.local_aws.cloudformation.intrinsics import named_conditions, references
from helpers.local_aws.cloudformation.resources import TYPES
from helpers.local_aws.cloudformation.template import Template

PSEUDO = {"AWS::AccountId", "AWS::NoValue", "AWS::NotificationARNs", "AWS::Partition", "AWS::Region", "AWS::StackId",
          "AWS::StackName", "AWS::URLSuffix"}  # fmt: skip
_RESOURCE_KEYS = {"Type", "Properties", "DependsOn", "Condition", "Metadata", "DeletionPolicy", "UpdateReplacePolicy"}
_RESOURCE_UNSUPPORTED = {"CreationPolicy", "UpdatePolicy"}
POLICIES = {"DeletionPolicy": ("Delete", "Retain", "RetainExceptOnCreate"), "UpdateReplacePolicy": ("Delete", "Retain")}
_NAMED_IAM = {"AWS::IAM::Role": "RoleName", "AWS::IAM::InstanceProfile": "InstanceProfileName"}

Needs = dict[str, set[str]]


def check(template: Template) -> None:
    """Raise AwsError for anything that CloudFormation would refuse, or that is not carried out here."""
    parameters.check(template)
    unknown = {str(resource.get("Type")) for resource in template.resources.values()} - set(TYPES)
    if unknown:
        raise invalid(f"Template format error: Unrecognized resource types: [{', '.join(sorted(unknown))}]")
    for name, resource in template.resources.items():
        _check_resource(name, resource, template)
    for name, output in template.outputs.items():
        strange = sorted(set(output) - {"Value", "Description", "Export", "Condition"})
        export = output.get("Export", {"Name": ""})
        if strange or "Value" not in output or not isinstance(export, dict) or set(export) != {"Name"}:
            raise invalid(f"Template format error: Output {name} is malformed.")
        _check_references(output, template, "Outputs")
        _check_condition(output.get("Condition"), template, "Outputs")
    in_order(needs(template))


def needs(template: Template, present: Mapping[str, bool] | None = None) -> Needs:
    """Return what each resource waits for: what it refers to, and DependsOn. ``present``: the conditions' answers."""
    here = {
        name
        for name, resource in template.resources.items()
        if present is None or present.get(resource.get("Condition", ""), True)
    }
    found = {}
    for name in here:
        resource = template.resources[name]
        wanted = resource.get("DependsOn", [])
        wanted = {wanted} if isinstance(wanted, str) else set(wanted)
        found[name] = (wanted | {target for target, _ in references(resource.get("Properties", {}))}) & here
    return found


def in_order(waiting: Needs) -> list[str]:
    """Return names so that each comes after what it waits for. Raises AwsError naming a circle."""
    left, done = dict(waiting), []
    while left:
        ready = sorted(name for name, wanted in left.items() if not wanted & left.keys())
        if not ready:
            circle = sorted(name for name in left if _reaches(name, name, left))
            raise invalid(f"Circular dependency between resources: [{', '.join(circle)}]")
        done += ready
        for name in ready:
            del left[name]
    return done


def capabilities(template: Template) -> tuple[str, list[str]]:
    """Return the capability that a template needs ("" for none), and the types that need it."""
    kinds = [resource for resource in template.resources.values() if str(resource.get("Type")) in _NAMED_IAM]
    named = [item for item in kinds if _NAMED_IAM[item["Type"]] in (item.get("Properties") or {})]
    types = sorted({item["Type"] for item in named or kinds})
    return ("CAPABILITY_NAMED_IAM" if named else "CAPABILITY_IAM" if kinds else ""), types


def _reaches(start: str, end: str, waiting: Needs) -> bool:
    seen: set[str] = set()
    front = set(waiting[start])
    while front:
        if end in front:
            return True
        seen |= front
        front = {item for name in front for item in waiting.get(name, ())} - seen
    return False


def _check_resource(name: str, resource: Mapping[str, Any], template: Template) -> None:
    for key in sorted(set(resource) & _RESOURCE_UNSUPPORTED):
        raise unsupported(f"the attribute {key} (resource {name})")
    strange = sorted(set(resource) - _RESOURCE_KEYS)
    if strange:
        raise invalid(f"Invalid template resource property '{strange[0]}'")
    for key, allowed in POLICIES.items():
        if resource.get(key, "Delete") not in allowed:
            raise invalid(f"Template error: resource {name} has the {key} {resource[key]!r}; it must be one of "
                          f"{', '.join(allowed)}")  # fmt: skip
    _check_condition(resource.get("Condition"), template, "Resources")
    wanted = resource.get("DependsOn", [])
    if not isinstance(wanted, str) and not (isinstance(wanted, list) and all(isinstance(item, str) for item in wanted)):
        raise invalid(f"Template format error: DependsOn of resource {name} must be text or a list of texts.")
    for other in [wanted] if isinstance(wanted, str) else wanted:
        if other not in template.resources:
            raise _unresolved(str(other), "Resources")
        if other == name:
            raise invalid(f"Circular dependency between resources: [{name}]")
    properties = resource.get("Properties") or {}
    _check_references(properties, template, "Resources")
    kind = TYPES[resource["Type"]]
    try:
        schema.fit(kind.properties, properties)
    except schema.Unfit as problem:
        raise failed_validation(name, resource["Type"], str(problem)) from None
    lacking = [item for item in kind.required if item not in properties]
    if lacking:
        raise failed_validation(name, resource["Type"], f"#: required key [{lacking[0]}] not found")


def failed_validation(name: str, kind: str, problem: str) -> Exception:
    """Return the refusal of a resource's properties."""
    return invalid(f"Properties validation failed for resource {name} ({kind}) with message: {problem}")


def _check_condition(condition: Any, template: Template, block: str) -> None:
    if condition is not None and (not isinstance(condition, str) or condition not in template.conditions):
        raise invalid(f"Template format error: Unresolved condition dependency {condition} in the {block} block")


def _check_references(value: Any, template: Template, block: str) -> None:
    for condition in named_conditions(value):
        _check_condition(condition, template, block)
    for name, attribute in references(value):
        if name in PSEUDO or (name in template.parameters and not attribute):
            continue
        if name not in template.resources:
            raise _unresolved(name, block)
        kind = template.resources[name]["Type"]
        if attribute and attribute not in TYPES[kind].attributes:
            raise invalid(f"Template error: resource {name} does not support attribute type {attribute} in Fn::GetAtt")


def _unresolved(name: str, block: str) -> Exception:
    return invalid(f"Template format error: Unresolved resource dependencies [{name}] in the {block} block of the "
                   "template")  # fmt: skip

"""What a stack is to become: a template with everything that it depends on settled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from helpers.local_aws.cloudformation import checks, conditions, parameters, schema
from helpers.local_aws.cloudformation.intrinsics import NO_VALUE, Scope, resolve
from helpers.local_aws.cloudformation.resources import TYPES
from helpers.local_aws.cloudformation.template import Template
from helpers.local_aws.wire import Site


@dataclass(frozen=True)
class Around:
    """What functions of a template find outside of it."""

    site: Site
    imported: Callable[[str], str]
    zones: Callable[[str], list[str]]


@dataclass(frozen=True)
class Target:
    """A template, its parameters' values, the stack's tags, and which conditions hold."""

    template: Template
    settled: Mapping[str, parameters.Stored]
    tags: Mapping[str, str]
    holds: Mapping[str, bool]
    values: Mapping[str, Any]  # what Ref gives for parameters and pseudo parameters

    @property
    def needs(self) -> checks.Needs:
        """The resources that are to exist, and what each waits for."""
        return checks.needs(self.template, self.holds)

    def properties(self, logical: str, scope: Scope) -> dict[str, Any]:
        """Return a resource's properties as its type takes them. Raises AwsError."""
        resource = self.template.resources[logical]
        kind = TYPES[resource["Type"]]
        found = resolve(resource.get("Properties") or {}, scope)
        try:
            found = schema.fit(kind.properties, {} if found is NO_VALUE else found)
        except schema.Unfit as problem:
            raise checks.failed_validation(logical, kind.type, str(problem)) from None
        if kind.tags and self.tags:
            found["Tags"] = _tagged(found.get("Tags"), self.tags, kind.tags)
        return found


def settle(
    around: Around, template: Template, settled: Mapping[str, parameters.Stored], tags: Mapping[str, str], arn: str
) -> Target:
    """Return the target of ``template`` for the stack ``arn``. Raises AwsError."""
    values: dict[str, Any] = {
        name: parameters.reference(template.parameters[name], stored) for name, stored in settled.items()
    }
    values |= {
        "AWS::AccountId": around.site.account_id,
        "AWS::NotificationARNs": [],
        "AWS::Partition": "aws",
        "AWS::Region": around.site.region,
        "AWS::StackId": arn,
        "AWS::StackName": arn.split("/")[1],
        "AWS::URLSuffix": "amazonaws.com",
    }
    return Target(template, settled, tags, conditions.evaluate(template, values), values)


def scope(
    around: Around, target: Target, reference: Callable[[str], Any], attribute: Callable[[str, str], Any]
) -> Scope:
    """Return what the target's functions look things up in."""
    return Scope(
        target.values, target.template.mappings, target.holds, reference, attribute, around.imported, around.zones
    )


def _tagged(own: Any, stack: Mapping[str, str], form: str) -> Any:
    """Return the resource's own tags and those of its stack; its own win."""
    if form == "map":
        return {**stack, **(own or {})}
    mine = own or []
    named = {tag["Key"] for tag in mine}
    return [*mine, *({"Key": key, "Value": value} for key, value in stack.items() if key not in named)]

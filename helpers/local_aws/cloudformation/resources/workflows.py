"""Step Functions state machines, and EventBridge rules that start things on a schedule."""

import re
from collections.abc import Mapping
from typing import ClassVar

from helpers.local_aws.cloudformation.resources.base import (
    Calls,
    Failed,
    Made,
    Properties,
    ResourceType,
    changed,
    present,
    refuse_taken,
    retag,
    tagged,
)
from helpers.local_aws.cloudformation.schema import ANY, TAGS, TEXT, WHOLE, Map, text

_NO_MACHINE = ("StateMachineDoesNotExist",)
_NO_RULE = ("ResourceNotFoundException",)
_PLACE = re.compile(r"\$\{([A-Za-z0-9_-]+)\}")


class StateMachine(ResourceType):
    """AWS::StepFunctions::StateMachine."""

    type = "AWS::StepFunctions::StateMachine"
    properties: ClassVar = {
        "StateMachineName": TEXT,
        "StateMachineType": TEXT,
        "Definition": ANY,
        "DefinitionString": TEXT,
        "DefinitionSubstitutions": Map(TEXT),
        "RoleArn": TEXT,
        "Tags": TAGS,
    }
    required = ("RoleArn",)
    replaced = frozenset({"StateMachineName", "StateMachineType"})
    attributes = frozenset({"Arn", "Name"})
    name, name_limit, tags = "StateMachineName", 80, "list"

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Make the machine; the physical id is its ARN."""
        arn = call.site.arn("states", f"stateMachine:{name}")
        if "StateMachineName" in wanted:
            refuse_taken(call, self.type, arn, _NO_MACHINE, "stepfunctions", "describe_state_machine",
                         stateMachineArn=arn)  # fmt: skip
        request = {"type": wanted["StateMachineType"]} if "StateMachineType" in wanted else {}
        made = call(
            "stepfunctions", "create_state_machine", name=name, definition=_definition(wanted),
            roleArn=wanted["RoleArn"], **request, **tagged(wanted, "tags", _lower),
        )  # fmt: skip
        call.exists(made["stateMachineArn"])
        return Made(made["stateMachineArn"], {"Arn": made["stateMachineArn"], "Name": name})

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Change definition, role and tags."""
        if changed(old, new, "Definition", "DefinitionString", "DefinitionSubstitutions", "RoleArn"):
            call("stepfunctions", "update_state_machine", stateMachineArn=physical, definition=_definition(new),
                 roleArn=new["RoleArn"])  # fmt: skip
        retag(call, old, new, "stepfunctions", members=("tags", "tagKeys"), form=_lower, resourceArn=physical)
        return {}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Delete the machine and wait until it is gone, its executions with it."""
        if call.tolerant(_NO_MACHINE, "stepfunctions", "delete_state_machine", stateMachineArn=physical) is None:
            return
        call.until(
            lambda: call.tolerant(
                _NO_MACHINE, "stepfunctions", "describe_state_machine", stateMachineArn=physical
            ) is None,
            f"the deletion of {physical}",
        )  # fmt: skip


def _lower(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _definition(wanted: Properties) -> str:
    """Return the definition as text, its substitutions put in."""
    given = [name for name in ("Definition", "DefinitionString") if name in wanted]
    if len(given) != 1:
        raise Failed("a state machine takes one of Definition and DefinitionString")
    values = wanted.get("DefinitionSubstitutions", {})
    return _PLACE.sub(lambda match: values.get(match.group(1), match.group(0)), text(wanted[given[0]]))


class Rule(ResourceType):
    """AWS::Events::Rule, on the default event bus."""

    type = "AWS::Events::Rule"
    properties: ClassVar = {
        "Name": TEXT,
        "Description": TEXT,
        "EventPattern": ANY,
        "ScheduleExpression": TEXT,
        "State": TEXT,
        "Targets": [
            {
                "Arn": TEXT,
                "Id": TEXT,
                "Input": TEXT,
                "InputPath": TEXT,
                "InputTransformer": {"InputPathsMap": Map(TEXT), "InputTemplate": TEXT},
                "RetryPolicy": {"MaximumEventAgeInSeconds": WHOLE, "MaximumRetryAttempts": WHOLE},
                "RoleArn": TEXT,
            }
        ],
        "Tags": TAGS,
    }
    replaced = frozenset({"Name"})
    attributes = frozenset({"Arn"})
    name, name_limit, tags = "Name", 64, "list"

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Make the rule, then its targets."""
        if "Name" in wanted:
            refuse_taken(call, self.type, name, _NO_RULE, "events", "describe_rule", Name=name)
        made = call("events", "put_rule", **_rule(name, wanted), **tagged(wanted))
        call.exists(name)
        self._targets(call, name, {}, wanted)
        return Made(name, {"Arn": made["RuleArn"]})

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Change the rule, its targets and its tags."""
        if changed(old, new, "Description", "EventPattern", "ScheduleExpression", "State"):
            call("events", "put_rule", **_rule(physical, new))
        self._targets(call, physical, old, new)
        retag(call, old, new, "events", ResourceARN=call.site.arn("events", f"rule/{physical}"))
        return {}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Take the targets away and delete the rule."""
        ids = [target["Id"] for target in old.get("Targets", [])]
        if ids:
            call.tolerant(_NO_RULE, "events", "remove_targets", Rule=physical, Ids=ids)
        call.tolerant(_NO_RULE, "events", "delete_rule", Name=physical)

    def _targets(self, call: Calls, rule: str, old: Properties, new: Properties) -> None:
        before = {target["Id"]: target for target in old.get("Targets", [])}
        after = {target["Id"]: target for target in new.get("Targets", [])}
        gone = sorted(set(before) - set(after))
        wanted = [target for key, target in after.items() if before.get(key) != target]
        answers = []
        if gone:
            answers.append(call("events", "remove_targets", Rule=rule, Ids=gone))
        if wanted:
            answers.append(call("events", "put_targets", Rule=rule, Targets=wanted))
        for answer in answers:
            for entry in answer.get("FailedEntries", []):
                raise Failed(f"target {entry.get('TargetId')}: {entry.get('ErrorCode')}: {entry.get('ErrorMessage')}")


def _rule(name: str, wanted: Properties) -> dict[str, str]:
    request = {"Name": name, "State": "ENABLED", **present(wanted, "Description", "ScheduleExpression", "State")}
    if "EventPattern" in wanted:
        request["EventPattern"] = text(wanted["EventPattern"])
    return request


TYPES = (StateMachine(), Rule())

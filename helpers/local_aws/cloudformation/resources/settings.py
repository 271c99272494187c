"""CloudWatch log groups and SSM parameters."""

from collections.abc import Mapping
from typing import ClassVar

from helpers.local_aws.cloudformation.resources.base import (
    Calls,
    Made,
    Properties,
    ResourceType,
    changed,
    listed,
    pairs,
    present,
    retag,
)
from helpers.local_aws.cloudformation.schema import TAGS, TEXT, WHOLE, Map

_NO_GROUP = ("ResourceNotFoundException",)
_NO_PARAMETER = ("ParameterNotFound",)


class LogGroup(ResourceType):
    """AWS::Logs::LogGroup."""

    type = "AWS::Logs::LogGroup"
    properties: ClassVar = {"LogGroupName": TEXT, "RetentionInDays": WHOLE, "Tags": TAGS}
    replaced = frozenset({"LogGroupName"})
    attributes = frozenset({"Arn"})
    name, name_limit, tags = "LogGroupName", 512, "list"

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Make the log group and say how long events are kept."""
        tagged = {"tags": pairs(wanted)} if pairs(wanted) else {}
        call("logs", "create_log_group", logGroupName=name, **tagged)
        call.exists(name)
        self._retention(call, name, {}, wanted)
        return Made(name, {"Arn": _log_arn(call, name) + ":*"})

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Change how long events are kept, and the tags."""
        self._retention(call, physical, old, new)
        tags, removed = retag(old, new)
        if tags:
            call("logs", "tag_resource", resourceArn=_log_arn(call, physical), tags=tags)
        if removed:
            call("logs", "untag_resource", resourceArn=_log_arn(call, physical), tagKeys=removed)
        return {}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Delete the log group with its events."""
        call.tolerant(_NO_GROUP, "logs", "delete_log_group", logGroupName=physical)

    def _retention(self, call: Calls, name: str, old: Properties, new: Properties) -> None:
        if not changed(old, new, "RetentionInDays"):
            return
        if "RetentionInDays" in new:
            call("logs", "put_retention_policy", logGroupName=name, retentionInDays=new["RetentionInDays"])
        else:
            call("logs", "delete_retention_policy", logGroupName=name)


def _log_arn(call: Calls, name: str) -> str:
    return f"arn:aws:logs:{call.region}:{call.account_id}:log-group:{name}"


class Parameter(ResourceType):
    """AWS::SSM::Parameter."""

    type = "AWS::SSM::Parameter"
    properties: ClassVar = {
        "Name": TEXT,
        "Type": TEXT,
        "Value": TEXT,
        "Description": TEXT,
        "AllowedPattern": TEXT,
        "Tier": TEXT,
        "Tags": Map(TEXT),
    }
    required = ("Type", "Value")
    replaced = frozenset({"Name"})
    attributes = volatile = frozenset({"Type", "Value"})
    name, name_limit, tags = "Name", 1011, "map"

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Put the parameter, which must be new."""
        request = present(wanted, "Type", "Value", "Description", "AllowedPattern", "Tier")
        if pairs(wanted):
            request["Tags"] = listed(pairs(wanted))
        call("ssm", "put_parameter", Name=name, **request)
        call.exists(name)
        return Made(name, {"Type": wanted["Type"], "Value": wanted["Value"]})

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Write a new version, and change the tags."""
        names = ("Type", "Value", "Description", "AllowedPattern", "Tier")
        if changed(old, new, *names):
            call("ssm", "put_parameter", Name=physical, Overwrite=True, **present(new, *names))
        tags, removed = retag(old, new)
        if tags:
            call("ssm", "add_tags_to_resource", ResourceType="Parameter", ResourceId=physical, Tags=listed(tags))
        if removed:
            call("ssm", "remove_tags_from_resource", ResourceType="Parameter", ResourceId=physical, TagKeys=removed)
        return {"Type": new["Type"], "Value": new["Value"]}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Delete the parameter."""
        call.tolerant(_NO_PARAMETER, "ssm", "delete_parameter", Name=physical)


TYPES = (LogGroup(), Parameter())

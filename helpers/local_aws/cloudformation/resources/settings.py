"""CloudWatch log groups and SSM parameters."""

from collections.abc import Mapping
from typing import ClassVar

from helpers.local_aws.cloudformation.resources.base import (
    Calls,
    Made,
    Properties,
    ResourceType,
    changed,
    present,
    retag,
    tagged,
)
from helpers.local_aws.cloudformation.schema import TAGS, TEXT, WHOLE, Map

_NO_GROUP = ("ResourceNotFoundException",)
_NO_PARAMETER = ("ParameterNotFound",)
_SETTINGS = ("Type", "Value", "Description", "AllowedPattern", "Tier")


class LogGroup(ResourceType):
    """AWS::Logs::LogGroup."""

    type = "AWS::Logs::LogGroup"
    properties: ClassVar = {"LogGroupName": TEXT, "RetentionInDays": WHOLE, "Tags": TAGS}
    replaced = frozenset({"LogGroupName"})
    attributes = frozenset({"Arn"})
    name, name_limit, tags = "LogGroupName", 512, "list"

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Make the log group and say how long events are kept."""
        call("logs", "create_log_group", logGroupName=name, **tagged(wanted, "tags", dict))
        call.exists(name)
        self._retention(call, name, {}, wanted)
        return Made(name, {"Arn": call.site.arn("logs", f"log-group:{name}:*")})

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Change how long events are kept, and the tags."""
        self._retention(call, physical, old, new)
        retag(call, old, new, "logs", members=("tags", "tagKeys"), form=dict,
              resourceArn=call.site.arn("logs", f"log-group:{physical}"))  # fmt: skip
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
        call("ssm", "put_parameter", Name=name, **present(wanted, *_SETTINGS), **tagged(wanted))
        call.exists(name)
        return Made(name, {"Type": wanted["Type"], "Value": wanted["Value"]})

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Write a new version, and change the tags."""
        if changed(old, new, *_SETTINGS):
            call("ssm", "put_parameter", Name=physical, Overwrite=True, **present(new, *_SETTINGS))
        retag(call, old, new, "ssm", ("add_tags_to_resource", "remove_tags_from_resource"),
              ResourceType="Parameter", ResourceId=physical)  # fmt: skip
        return {"Type": new["Type"], "Value": new["Value"]}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Delete the parameter."""
        call.tolerant(_NO_PARAMETER, "ssm", "delete_parameter", Name=physical)


TYPES = (LogGroup(), Parameter())

"""IAM roles and instance profiles."""

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
from helpers.local_aws.cloudformation.schema import POLICY, TAGS, TEXT, WHOLE, text

_GONE = ("NoSuchEntity",)


class Role(ResourceType):
    """AWS::IAM::Role."""

    type = "AWS::IAM::Role"
    properties: ClassVar = {
        "RoleName": TEXT,
        "Path": TEXT,
        "AssumeRolePolicyDocument": POLICY,
        "Description": TEXT,
        "MaxSessionDuration": WHOLE,
        "ManagedPolicyArns": [TEXT],
        "Policies": [{"PolicyName": TEXT, "PolicyDocument": POLICY}],
        "Tags": TAGS,
    }
    required = ("AssumeRolePolicyDocument",)
    replaced = frozenset({"RoleName", "Path"})
    attributes = frozenset({"Arn", "RoleId"})
    name, name_limit, tags = "RoleName", 64, "list"

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Make the role, then attach and write its policies."""
        request = present(wanted, "Path", "Description", "MaxSessionDuration") | tagged(wanted)
        trust = text(wanted["AssumeRolePolicyDocument"])
        role = call("iam", "create_role", RoleName=name, AssumeRolePolicyDocument=trust, **request)["Role"]
        call.exists(name)
        self._policies(call, name, {}, wanted)
        return Made(name, {"Arn": role["Arn"], "RoleId": role["RoleId"]})

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Change trust, description, policies and tags."""
        if changed(old, new, "AssumeRolePolicyDocument"):
            trust = text(new["AssumeRolePolicyDocument"])
            call("iam", "update_assume_role_policy", RoleName=physical, PolicyDocument=trust)
        if changed(old, new, "Description", "MaxSessionDuration"):
            call("iam", "update_role", RoleName=physical, Description=new.get("Description", ""),
                 MaxSessionDuration=new.get("MaxSessionDuration", 3600))  # fmt: skip
        self._policies(call, physical, old, new)
        retag(call, old, new, "iam", ("tag_role", "untag_role"), RoleName=physical)
        return {}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Delete the role, and before it the policies that the stack gave it."""
        if call.tolerant(_GONE, "iam", "get_role", RoleName=physical) is None:
            return
        self._policies(call, physical, old, {})
        call.tolerant(_GONE, "iam", "delete_role", RoleName=physical)

    def _policies(self, call: Calls, role: str, old: Properties, new: Properties) -> None:
        before, after = list(old.get("ManagedPolicyArns", [])), list(new.get("ManagedPolicyArns", []))
        for arn in [arn for arn in after if arn not in before]:
            call("iam", "attach_role_policy", RoleName=role, PolicyArn=arn)
        for arn in [arn for arn in before if arn not in after]:
            call.tolerant(_GONE, "iam", "detach_role_policy", RoleName=role, PolicyArn=arn)
        written = {item["PolicyName"]: item["PolicyDocument"] for item in old.get("Policies", [])}
        wanted = {item["PolicyName"]: item["PolicyDocument"] for item in new.get("Policies", [])}
        for name, document in wanted.items():
            if written.get(name) != document:
                call("iam", "put_role_policy", RoleName=role, PolicyName=name, PolicyDocument=text(document))
        for name in [name for name in written if name not in wanted]:
            call.tolerant(_GONE, "iam", "delete_role_policy", RoleName=role, PolicyName=name)


class InstanceProfile(ResourceType):
    """AWS::IAM::InstanceProfile."""

    type = "AWS::IAM::InstanceProfile"
    properties: ClassVar = {"InstanceProfileName": TEXT, "Path": TEXT, "Roles": [TEXT]}
    required = ("Roles",)
    replaced = frozenset({"InstanceProfileName", "Path"})
    attributes = frozenset({"Arn"})
    name, name_limit = "InstanceProfileName", 128

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Make the profile and put its role in."""
        request = present(wanted, "Path")
        made = call("iam", "create_instance_profile", InstanceProfileName=name, **request)["InstanceProfile"]
        call.exists(name)
        self._roles(call, name, {}, wanted)
        return Made(name, {"Arn": made["Arn"]})

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Exchange the role: a profile holds one at a time."""
        self._roles(call, physical, old, new)
        return {}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Take the role out and delete the profile."""
        self._roles(call, physical, old, {})
        call.tolerant(_GONE, "iam", "delete_instance_profile", InstanceProfileName=physical)

    def _roles(self, call: Calls, profile: str, old: Properties, new: Properties) -> None:
        before, after = old.get("Roles", []), new.get("Roles", [])
        for role in [role for role in before if role not in after]:
            call.tolerant(_GONE, "iam", "remove_role_from_instance_profile", InstanceProfileName=profile, RoleName=role)
        for role in [role for role in after if role not in before]:
            call("iam", "add_role_to_instance_profile", InstanceProfileName=profile, RoleName=role)


TYPES = (Role(), InstanceProfile())

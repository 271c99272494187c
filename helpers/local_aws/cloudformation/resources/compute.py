"""Lambda functions and the permission to invoke them."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any, ClassVar

from helpers.local_aws.cloudformation.resources.base import (
    Calls,
    Failed,
    Made,
    Properties,
    ResourceType,
    changed,
    present,
    retag,
    tagged,
)
from helpers.local_aws.cloudformation.schema import TAGS, TEXT, WHOLE, Map

_GONE = ("ResourceNotFoundException",)
_INLINE_LIMIT = 4 * 2**20  # characters of an inline ZipFile
_CONFIGURATION = ("Description", "Environment", "EphemeralStorage", "Handler", "LoggingConfig", "MemorySize", "Role",
                  "Runtime", "Timeout")  # fmt: skip
# What a function has of a setting that is taken out of its template.
_DEFAULTS: dict[str, Any] = {
    "Description": "",
    "Environment": {"Variables": {}},
    "EphemeralStorage": {"Size": 512},
    "MemorySize": 128,
    "Timeout": 3,
}


class Function(ResourceType):
    """AWS::Lambda::Function."""

    type = "AWS::Lambda::Function"
    properties: ClassVar = {
        "FunctionName": TEXT,
        "Architectures": [TEXT],
        "Code": {"S3Bucket": TEXT, "S3Key": TEXT, "S3ObjectVersion": TEXT, "ZipFile": TEXT},
        "Description": TEXT,
        "Environment": {"Variables": Map(TEXT)},
        "EphemeralStorage": {"Size": WHOLE},
        "Handler": TEXT,
        "LoggingConfig": {"LogGroup": TEXT},
        "MemorySize": WHOLE,
        "PackageType": TEXT,
        "ReservedConcurrentExecutions": WHOLE,
        "Role": TEXT,
        "Runtime": TEXT,
        "Tags": TAGS,
        "Timeout": WHOLE,
    }
    required = ("Code", "Role")
    replaced = frozenset({"FunctionName", "PackageType"})
    attributes = frozenset({"Arn"})
    name, name_limit, tags = "FunctionName", 64, "list"

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Make the function from its package and wait until it is active."""
        request = present(wanted, *_CONFIGURATION, "Architectures", "PackageType")
        made = call("lambda", "create_function", FunctionName=name, Code=_code(wanted), **request,
                    **tagged(wanted, form=dict))  # fmt: skip
        call.exists(name)
        self._settled(call, name)
        if "ReservedConcurrentExecutions" in wanted:
            reserved = wanted["ReservedConcurrentExecutions"]
            call("lambda", "put_function_concurrency", FunctionName=name, ReservedConcurrentExecutions=reserved)
        return Made(name, {"Arn": made["FunctionArn"]})

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Change configuration, code, concurrency and tags."""
        request = {}
        for name in _CONFIGURATION:
            if changed(old, new, name):
                if name not in new and name not in _DEFAULTS:
                    raise Failed(f"{name} cannot be taken out of {physical}: Lambda has no value to put in its place")
                request[name] = new.get(name, _DEFAULTS.get(name))
        if request:
            call("lambda", "update_function_configuration", FunctionName=physical, **request)
            self._settled(call, physical)
        if changed(old, new, "Code", "Architectures"):
            code = _code(new) | present(new, "Architectures")
            call("lambda", "update_function_code", FunctionName=physical, **code)
            self._settled(call, physical)
        if changed(old, new, "ReservedConcurrentExecutions"):
            if "ReservedConcurrentExecutions" in new:
                reserved = new["ReservedConcurrentExecutions"]
                call("lambda", "put_function_concurrency", FunctionName=physical, ReservedConcurrentExecutions=reserved)
            else:
                call("lambda", "delete_function_concurrency", FunctionName=physical)
        retag(call, old, new, "lambda", form=dict, Resource=call.site.arn("lambda", f"function:{physical}"))
        return {}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Delete the function."""
        call.tolerant(_GONE, "lambda", "delete_function", FunctionName=physical)

    def _settled(self, call: Calls, name: str) -> None:
        def ready() -> bool:
            found = call("lambda", "get_function", FunctionName=name)["Configuration"]
            if "Failed" in (found.get("State"), found.get("LastUpdateStatus")):
                raise Failed(found.get("StateReason") or found.get("LastUpdateStatusReason") or f"{name} failed")
            return found.get("State", "Active") == "Active" and found.get("LastUpdateStatus") != "InProgress"

        call.until(ready, f"function {name}")


def _code(wanted: Properties) -> dict[str, Any]:
    """Return Lambda's parameters of the code; inline source becomes the file ``index`` of a package."""
    code = wanted["Code"]
    source = code.get("ZipFile")
    if source is None:
        return dict(code)
    runtime = wanted.get("Runtime", "")
    suffix = "py" if runtime.startswith("python") else "js" if runtime.startswith("nodejs") else ""
    if not suffix or len(source) > _INLINE_LIMIT:
        raise Failed("Code/ZipFile takes source for Python and Node.js of at most 4 MB")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as files:
        entry = zipfile.ZipInfo(f"index.{suffix}")
        entry.external_attr = 0o644 << 16
        files.writestr(entry, source)
    return {"ZipFile": archive.getvalue()}


class Permission(ResourceType):
    """AWS::Lambda::Permission."""

    type = "AWS::Lambda::Permission"
    properties: ClassVar = {
        "Action": TEXT,
        "FunctionName": TEXT,
        "Principal": TEXT,
        "SourceAccount": TEXT,
        "SourceArn": TEXT,
    }
    required = ("Action", "FunctionName", "Principal")
    replaced = frozenset(properties)
    name_limit = 100

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Add a statement to the function's policy; the physical id is the statement's."""
        call("lambda", "add_permission", StatementId=name, **wanted)
        call.exists(name)
        return Made(name)

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Change nothing: every property replaces."""
        return {}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Take the statement away."""
        call.tolerant(_GONE, "lambda", "remove_permission", FunctionName=old["FunctionName"], StatementId=physical)


TYPES = (Function(), Permission())

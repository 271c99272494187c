"""AWS's JSON protocol for the services that are ours.

A service is a class with one method per operation. This module checks a call
against botocore's model of the service, asks IAM, runs the method, and shapes
the answer or the error. The same path serves requests that arrive over HTTP
and calls that one service makes to another (Step Functions to SageMaker), so
neither can skip a check.
"""

import base64
import binascii
import datetime as dt
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import regex
from botocore import xform_name
from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape

Params = dict[str, Any]


class AwsError(Exception):
    """An error as AWS answers it: ``code``, ``message`` and the HTTP ``status``."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


@dataclass(frozen=True)
class Site:
    """What every service knows of the running embedded AWS."""

    state_dir: Path
    endpoint_url: str
    region: str
    account_id: str

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of ``resource`` of ``service`` in this account and region."""
        return f"arn:aws:{service}:{self.region}:{self.account_id}:{resource}"


@dataclass(frozen=True)
class Permission:
    """One thing that IAM must allow before a call is made."""

    action: str
    resource: str = "*"
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Caller:
    """An authenticated principal, and the way to ask IAM about it.

    ``decide`` raises AwsError (AccessDeniedException) unless the principal's
    policies allow the permission.
    """

    arn: str
    decide: Callable[[Permission], None]

    def require(self, *permissions: Permission) -> None:
        """Raise AccessDeniedException naming the first permission that is missing."""
        for permission in permissions:
            self.decide(permission)


class Service:
    """Base of our services: subclasses add a method ``operation(params, caller)`` per operation.

    A method takes validated parameters and returns the output members as
    botocore's model names them. An operation without a method is refused by
    name: nothing pretends.
    """

    name: ClassVar[str]  # as botocore and the signature name it

    def __init__(self, site: Site) -> None:
        self.site = site

    def permissions(self, operation: str, params: Params) -> Sequence[Permission]:
        """Return what the caller needs for ``operation`` on these parameters."""
        raise NotImplementedError(operation)

    def invalid(self, operation: str, member: str, problem: str) -> AwsError:
        """Return the service's error for a parameter that breaks the model's constraints."""
        return AwsError("ValidationException", f"1 validation error detected: {problem}")

    def call(self, operation: str, params: Params, caller: Caller) -> Params:
        """Validate, authorize and run ``operation``. Raises AwsError."""
        model = service_model(self.name)
        method = getattr(self, xform_name(operation), None)
        if operation not in model.operation_names:
            raise AwsError("UnknownOperationException", f"{self.name} has no operation {operation}")
        if method is None:
            raise AwsError("NotImplemented", f"the embedded AWS does not support {self.name}:{operation}", 501)
        check(model.operation_model(operation), params, partial(self.invalid, operation))
        caller.require(*self.permissions(operation, params))
        return method(params, caller)

    def answer(self, target: str, body: bytes, caller: Caller) -> Params:
        """Answer one HTTP request: ``target`` is the X-Amz-Target header."""
        operation = target.rpartition(".")[2]
        try:
            params = json.loads(body or b"{}")
        except (ValueError, RecursionError) as error:
            raise AwsError("SerializationException", f"the request body is not JSON: {error}") from None
        if not isinstance(params, dict):
            raise AwsError("SerializationException", "the request body is not a JSON object")
        model = service_model(self.name)
        if operation in model.operation_names:
            params = decode(model.operation_model(operation), params)
        return self.call(operation, params, caller)


def check(operation: OperationModel, params: Params, invalid: Callable[[str, str], AwsError]) -> None:
    """Hold parameters against the model. Raises SerializationException, or what ``invalid(member, problem)`` makes."""
    if operation.input_shape is not None:
        _check(operation.input_shape, params, "", invalid)


def dump(output: Params) -> bytes:
    """Encode an answer: times as epoch seconds, bytes as base64."""
    return json.dumps(output, default=_plain, separators=(",", ":")).encode()


@cache
def service_model(name: str) -> ServiceModel:
    """Return botocore's model of the service ``name``, without its documentation, which is most of it."""
    return ServiceModel(read_model(name, Loader().determine_latest_version(name, "service-2")), name)


def read_model(name: str, version: str) -> dict[str, Any]:
    """Read botocore's model of a service from its file, without the documentation."""
    file = Path(Loader.BUILTIN_DATA_PATH, name, version, "service-2.json.gz")
    return json.loads(gzip.decompress(file.read_bytes()), object_hook=_without_documentation)


def _without_documentation(item: dict[str, Any]) -> dict[str, Any]:
    if isinstance(item.get("documentation"), str):
        item["documentation"] = ""  # not deleted: botocore reads that of S3's context parameters
    return item


def _plain(value: object) -> object:
    if isinstance(value, dt.datetime):
        return value.timestamp()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"cannot send {type(value).__name__} over the wire")


def decode(operation: OperationModel, params: Params) -> Params:
    """Turn base64 members into bytes; everything else stays as JSON gave it."""

    def walk(shape: Shape, value: Any) -> Any:
        if isinstance(shape, StructureShape) and isinstance(value, dict):
            return {
                k: walk(shape.members[k], v) if k in shape.members else v for k, v in value.items() if v is not None
            }
        if isinstance(shape, ListShape) and isinstance(value, list):
            return [walk(shape.member, item) for item in value]
        if isinstance(shape, MapShape) and isinstance(value, dict):
            return {k: walk(shape.value, v) for k, v in value.items()}
        if shape.type_name == "blob" and isinstance(value, str):
            try:
                return base64.b64decode(value, validate=True)
            except binascii.Error:
                raise AwsError("SerializationException", f"{shape.name} is not base64") from None
        return value

    return params if operation.input_shape is None else walk(operation.input_shape, params)


_TYPES: dict[str, tuple[type, ...]] = {
    "structure": (dict,),
    "map": (dict,),
    "list": (list, tuple),
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "blob": (bytes, bytearray),
    "timestamp": (int, float, str, dt.datetime),
}


def _check(shape: Shape, value: Any, path: str, fail: Callable[[str, str], AwsError]) -> None:
    """Hold ``value`` against every constraint that the model states: presence, type, enum, pattern, range."""
    member = path or shape.name
    if _wrong_type(shape, value):
        raise AwsError("SerializationException", f"{member} must be a {shape.type_name}, not {type(value).__name__}")
    problem = _broken_constraint(shape, value)
    if problem:
        raise fail(member, f"Value '{value!s:.100}' at '{member}' failed to satisfy constraint: {problem}")
    if isinstance(shape, StructureShape):
        for name in shape.required_members:
            if value.get(name) is None:
                raise fail(
                    name, f"Value null at '{_join(path, name)}' failed to satisfy constraint: Member must not be null"
                )
        for name, item in value.items():
            if name not in shape.members:
                raise fail(name, f"Unknown parameter '{_join(path, name)}'")
            _check(shape.members[name], item, _join(path, name), fail)
    elif isinstance(shape, ListShape):
        for index, item in enumerate(value, 1):
            _check(shape.member, item, f"{path}.{index}.member", fail)
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            _check(shape.key, key, f"{path}.key", fail)
            _check(shape.value, item, f"{path}.{key}", fail)


def _wrong_type(shape: Shape, value: Any) -> bool:
    number = shape.type_name in ("integer", "long", "float", "double")
    return not isinstance(value, _TYPES[shape.type_name]) or (number and isinstance(value, bool))


def _broken_constraint(shape: Shape, value: Any) -> str:
    rules = shape.metadata
    if "enum" in rules and value not in rules["enum"]:
        return f"Member must satisfy enum value set: [{', '.join(rules['enum'])}]"
    pattern = _pattern(rules["pattern"]) if "pattern" in rules and isinstance(value, str) else None
    if pattern and not pattern.fullmatch(value):
        return f"Member must satisfy regular expression pattern: {rules['pattern']}"
    sized = isinstance(value, (str, bytes, list, tuple, dict))
    size, noun = (len(value), "length ") if sized else (value, "value ")
    if "min" in rules and not isinstance(value, (bool, dt.datetime)) and size < rules["min"]:
        return f"Member must have {noun}greater than or equal to {rules['min']}"
    if "max" in rules and not isinstance(value, (bool, dt.datetime)) and size > rules["max"]:
        return f"Member must have {noun}less than or equal to {rules['max']}"
    return ""


@cache
def _pattern(pattern: str) -> regex.Pattern | None:
    """Compile a pattern of the model, or None for the few that no engine takes (surrogate ranges, ``${1,128}``)."""
    try:
        return regex.compile(pattern)
    except regex.error:
        return None


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name

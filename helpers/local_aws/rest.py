"""AWS's REST-JSON protocol for the services that are ours.

The operation stands in the method and the path, some of its parameters in the
path and the query, the others in a JSON body. What has been read is handed to
``Service.call``: validation, IAM and the operation itself are the same as for
the JSON protocol, and as for the calls that one service makes to another.
"""

import datetime as dt
import json
import re
from functools import cache
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote

from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

from helpers.local_aws.wire import AwsError, Caller, Params, Service, decode, dump, service_model

CONTENT_TYPE = "application/json"


class RestService(Service):
    """Base of our services that speak REST-JSON. ``name`` is botocore's; ``denial`` what a denial by IAM is called."""

    denial: ClassVar[tuple[str, int]] = ("AccessDeniedException", 403)

    def answer_rest(self, method: str, raw_path: str, query: str, body: bytes, caller: Caller) -> tuple[int, bytes]:
        """Answer one HTTP request, its path and query as they were sent. Returns status and body; raises AwsError."""
        found = find_operation(self.name, method, raw_path)
        if found is None:
            raise AwsError("UnknownOperationException", f"{self.name} has no operation at {method} {raw_path}", 404)
        operation, labels = found
        params = self._in_body(operation, body) | _in_query(operation, query) | labels
        output = self.call(operation.name, params, caller)
        status = operation.http.get("responseCode", 200)
        if status == 204:
            return status, b""
        shape = operation.output_shape
        return status, dump(_to_wire(shape, output)) if shape else b"{}"

    def call(self, operation: str, params: Params, caller: Caller) -> Params:
        """Validate, authorize and run ``operation``; a denial has the service's own code."""
        try:
            return super().call(operation, params, caller)
        except AwsError as error:
            if error.code != "AccessDeniedException":
                raise
            code, status = self.denial
            raise AwsError(code, error.message, status) from None

    def _in_body(self, operation: OperationModel, body: bytes) -> Params:
        try:
            params = json.loads(body or b"{}")
        except (ValueError, RecursionError) as error:
            raise AwsError("SerializationException", f"the request body is not JSON: {error}") from None
        if not isinstance(params, dict):
            raise AwsError("SerializationException", "the request body is not a JSON object")
        shape = operation.input_shape
        for name in params:
            # A parameter of the path would be another one if the body could say it again.
            if shape is None or name not in _wire_names(shape) or _location(shape, _wire_names(shape)[name]):
                raise self.invalid(operation.name, name, f"Unknown parameter '{name}'")
        return decode(operation, _from_wire(shape, params)) if shape else {}


def find_operation(service: str, method: str, raw_path: str) -> tuple[OperationModel, Params] | None:
    """Return the operation at ``method`` and ``raw_path`` (still quoted) with the path's parameters, or None."""
    for verb, pattern, name, labels in _routes(service):
        match = pattern.fullmatch(raw_path) if verb == method else None
        if match:
            values = (unquote(value) for value in match.groups())
            return service_model(service).operation_model(name), dict(zip(labels, values, strict=True))
    return None


@cache
def _routes(service: str) -> list[tuple[str, re.Pattern[str], str, list[str]]]:
    """Return method, pattern of the path, operation and members in the path; the most literal paths come first."""
    model = service_model(service)
    routes = []
    for name in model.operation_names:
        operation = model.operation_model(name)
        parts = re.split(r"\{([^}]+)\}", operation.http["requestUri"].rstrip("/"))
        members = {
            member.serialization.get("name", key): key
            for key, member in (operation.input_shape.members if operation.input_shape else {}).items()
            if member.serialization.get("location") == "uri"
        }
        labels = [members[label.rstrip("+")] for label in parts[1::2]]
        holes = ["(.+)" if label.endswith("+") else "([^/]+)" for label in parts[1::2]]
        pattern = "".join(re.escape(text) + hole for text, hole in zip(parts[::2], [*holes, "/?"], strict=True))
        routes.append((operation.http["method"], re.compile(pattern), name, labels))
    return sorted(routes, key=lambda route: len(route[3]))


def _in_query(operation: OperationModel, query: str) -> Params:
    shape = operation.input_shape
    params: Params = {}
    members = {
        member.serialization.get("name", key): key
        for key, member in (shape.members if shape else {}).items()
        if member.serialization.get("location") == "querystring"
    }
    for name, text in parse_qsl(query, keep_blank_values=True):
        if shape is None or name not in members:
            raise AwsError("BadRequestException", f"{operation.name} has no parameter {name:.100} in its query")
        member = shape.members[members[name]]
        if isinstance(member, ListShape):
            params.setdefault(members[name], []).append(_scalar(member.member, text, name))
        elif members[name] in params:
            raise AwsError("BadRequestException", f"the parameter {name:.100} was sent twice")
        else:
            params[members[name]] = _scalar(member, text, name)
    return params


def _scalar(shape: Shape, text: str, name: str) -> Any:
    """Read a value of the query as its type."""
    if shape.type_name in ("integer", "long"):
        if not re.fullmatch(r"-?\d{1,18}", text):
            raise AwsError("SerializationException", f"{name} is not a whole number")
        return int(text)
    if shape.type_name == "boolean":
        if text not in ("true", "false"):
            raise AwsError("SerializationException", f"{name} is neither true nor false")
        return text == "true"
    return text


def _location(shape: StructureShape, key: str) -> str | None:
    return shape.members[key].serialization.get("location")


def _wire_names(shape: StructureShape) -> dict[str, str]:
    return {member.serialization.get("name", key): key for key, member in shape.members.items()}


def _from_wire(shape: Shape, value: Any) -> Any:
    """Name members as botocore's model does. Names that the model lacks stay, for the check to find them."""
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        names = _wire_names(shape)
        return {
            names.get(name, name): _from_wire(shape.members[names[name]], item) if name in names else item
            for name, item in value.items()
        }
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [_from_wire(shape.member, item) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {key: _from_wire(shape.value, item) for key, item in value.items()}
    return value


def _to_wire(shape: Shape, value: Any) -> Any:
    """Name members as they travel, and write times as the model says. Members without a value stay away."""
    if isinstance(shape, StructureShape):
        names = {key: member.serialization.get("name", key) for key, member in shape.members.items()}
        return {names[key]: _to_wire(shape.members[key], item) for key, item in value.items() if item is not None}
    if isinstance(shape, ListShape):
        return [_to_wire(shape.member, item) for item in value]
    if isinstance(shape, MapShape):
        return {key: _to_wire(shape.value, item) for key, item in value.items()}
    if isinstance(value, dt.datetime) and shape.serialization.get("timestampFormat") == "iso8601":
        return value.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return value

"""AWS's Query protocol: a form in, XML out, both as botocore's model of the service has them."""

import datetime as dt
import re
import uuid
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from botocore.model import ListShape, ServiceModel, Shape, StructureShape

from helpers.local_aws.wire import AwsError, Params

_MOST_MEMBERS = 20_000  # form fields of one request
_WORDS = {"true": True, "false": False}
_UNSENDABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def read(model: ServiceModel, body: bytes) -> tuple[str, Params]:
    """Return the operation and the parameters of a form.

    Raises AwsError: InvalidAction for an operation that the service does not have,
    ValidationError for a member that it does not have, MalformedInput for a bad number.
    """
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_MEMBERS)
    except ValueError:
        raise AwsError("MalformedInput", "the request body is not a form") from None
    form = dict(pairs)
    operation = form.pop("Action", "")
    form.pop("Version", None)
    if operation not in model.operation_names:
        raise AwsError("InvalidAction", f"Could not find operation {operation} for version {model.api_version}")
    tree: dict[str, Any] = {}
    for name, value in form.items():
        place, parts = tree, name.split(".")
        for part in parts[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise AwsError("MalformedInput", f"{name} is given twice, as a value and as a structure")
        place[parts[-1]] = value
    shape = model.operation_model(operation).input_shape
    return operation, {} if shape is None else _value(shape, tree, "")


def write(model: ServiceModel, operation: str, output: Params) -> bytes:
    """Return the XML of an answer."""
    shape = model.operation_model(operation).output_shape
    inner = ""
    if shape is not None:
        wrapper = shape.serialization.get("resultWrapper", f"{operation}Result")
        inner = f"<{wrapper}>{_members(shape, output)}</{wrapper}>"
    name, space = f"{operation}Response", model.metadata["xmlNamespace"]
    about = f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
    return f'<{name} xmlns="{space}">{inner}{about}</{name}>'.encode()


def _value(shape: Shape, tree: Any, path: str) -> Any:
    if isinstance(shape, StructureShape):
        if not isinstance(tree, dict):
            raise AwsError("MalformedInput", f"{path} must be a structure")
        unknown = sorted(set(tree) - set(shape.members))
        if unknown:
            raise AwsError("ValidationError", f"Unknown parameter {_join(path, unknown[0])}")
        return {name: _value(shape.members[name], item, _join(path, name)) for name, item in tree.items()}
    if isinstance(shape, ListShape):
        if tree == "":  # how an empty list is sent
            return []
        items = tree.get("member") if isinstance(tree, dict) else None
        if not isinstance(items, dict) or not all(index.isascii() and index.isdigit() for index in items):
            raise AwsError("MalformedInput", f"{path} must be a list")
        ordered = sorted(items.items(), key=lambda item: int(item[0]))
        return [_value(shape.member, item, _join(path, f"member.{index}")) for index, item in ordered]
    if not isinstance(tree, str):
        raise AwsError("MalformedInput", f"{path} must be a {shape.type_name}")
    return _scalar(shape, tree, path)


def _scalar(shape: Shape, text: str, path: str) -> Any:
    if shape.type_name == "boolean" and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if shape.type_name in ("integer", "long") and re.fullmatch("-?[0-9]{1,18}", text):
        return int(text)
    if shape.type_name == "string":
        return text
    raise AwsError("MalformedInput", f"{text!r:.60} at {path} is not a {shape.type_name}")


def _members(shape: Shape, value: Params) -> str:
    assert isinstance(shape, StructureShape)
    unknown = set(value) - set(shape.members)
    assert not unknown, f"{shape.name} has no members {unknown}"
    return "".join(
        f"<{name}>{_text(shape.members[name], item)}</{name}>" for name, item in value.items() if item is not None
    )


def _text(shape: Shape, value: Any) -> str:
    if isinstance(shape, StructureShape):
        return _members(shape, value)
    if isinstance(shape, ListShape):
        return "".join(f"<member>{_text(shape.member, item)}</member>" for item in value)
    if shape.type_name == "timestamp":
        moment = dt.datetime.fromtimestamp(value, dt.UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _escaped(str(value))


def _escaped(text: str) -> str:
    """Escape text for XML 1.0, which has no control characters; a carriage return would be read as a line feed."""
    return escape(_UNSENDABLE.sub("", text), {"\r": "&#13;"})


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name

"""EC2's Query protocol: a form comes in, XML goes out.

What an operation takes is written down as a schema (see ``parameters``): a
mapping is a structure, a list of one schema is a list, and a function reads a
value. A parameter that no schema names is refused, for it would be ignored.
"""

import base64
import binascii
import datetime as dt
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from helpers.local_aws.wire import AwsError, Params

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
_MOST_FIELDS = 5000
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")  # what XML has no way to say

Schema = Mapping[str, Any]
Read = Callable[[str, str], Any]


def invalid(message: str) -> AwsError:
    """Return EC2's error for a value that it does not take."""
    return AwsError("InvalidParameterValue", message)


def text(name: str, value: str) -> str:
    """Read a string."""
    if _CONTROL.search(value):
        raise invalid(f"The value of {name} has characters that cannot be sent")
    return value


def integer(name: str, value: str) -> int:
    """Read a whole number."""
    if not re.fullmatch(r"-?[0-9]{1,10}", value):
        raise invalid(f"Invalid value '{value:.100}' for {name}: it must be a whole number")
    return int(value)


def boolean(name: str, value: str) -> bool:
    """Read true or false."""
    if value.lower() not in ("true", "false"):
        raise invalid(f"Invalid value '{value:.100}' for {name}: it must be true or false")
    return value.lower() == "true"


def blob(name: str, value: str) -> bytes:
    """Read base64."""
    try:
        return base64.b64decode(re.sub(r"\s", "", value), validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f"Invalid BASE64 encoding of {name}") from None


def one_of(*values: str) -> Read:
    """Return a reader of one of ``values``."""

    def read(name: str, value: str) -> str:
        if value not in values:
            raise invalid(f"Value ({value:.100}) for parameter {name} is invalid. Valid values: {', '.join(values)}")
        return value

    return read


def form(body: bytes) -> dict[str, str]:
    """Return the fields of a request's body. Raises AwsError."""
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise AwsError("MalformedQueryString", f"The request is not a form: {error}") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise AwsError("MalformedQueryString", "A parameter was sent twice")
    return fields


def parse(fields: Mapping[str, str], schema: Schema, operation: str) -> Params:
    """Return the parameters of ``operation`` as structures and lists. Raises AwsError."""
    tree: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in ("Action", "Version"):
            _plant(tree, name, value)
    return _structure(tree, schema, "", operation)


def xml(operation: str, output: Params) -> bytes:
    """Return the answer of ``operation``. Lists become items; None is left out."""
    inside = _element("requestId", str(uuid.uuid4())) + "".join(_element(name, item) for name, item in output.items())
    return f'<{operation}Response xmlns="{NAMESPACE}">{inside}</{operation}Response>'.encode()


def moment(seconds: float) -> str:
    """Return a time as EC2 writes it."""
    return dt.datetime.fromtimestamp(int(seconds), dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _plant(tree: dict[str, Any], name: str, value: str) -> None:
    *path, leaf = name.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise AwsError("MalformedQueryString", f"{name} is a value and has members, too")
    if leaf in tree:
        raise AwsError("MalformedQueryString", f"{name} is a value and has members, too")
    tree[leaf] = value


def _structure(tree: Any, schema: Schema, path: str, operation: str) -> Params:
    if not isinstance(tree, dict):
        raise invalid(f"{path} is a structure, not a value")
    found = {}
    for name, value in tree.items():
        where = f"{path}.{name}" if path else name
        if name not in schema:
            raise AwsError("NotImplemented", f"the embedded AWS does not support {operation} with {where}", 501)
        found[name] = _value(value, schema[name], where, operation)
    return found


def _value(value: Any, schema: Any, path: str, operation: str) -> Any:
    if isinstance(schema, list):
        if not isinstance(value, dict) or not all(re.fullmatch("[1-9][0-9]{0,3}", number) for number in value):
            raise invalid(f"{path} is a list: {path}.1, {path}.2 …")
        return [_value(value[key], schema[0], f"{path}.{key}", operation) for key in sorted(value, key=int)]
    if isinstance(schema, Mapping):
        return _structure(value, schema, path, operation)
    if isinstance(value, dict):
        raise AwsError("NotImplemented", f"the embedded AWS does not support {operation} with members of {path}", 501)
    return schema(path, value)


def _element(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        inside = "".join(_element(member, item) for member, item in value.items())
    elif isinstance(value, (list, tuple)):
        inside = "".join(_element("item", item) for item in value)
    elif isinstance(value, bool):
        inside = str(value).lower()
    else:
        inside = escape(str(value))
    return f"<{name}>{inside}</{name}>"

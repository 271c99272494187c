"""A template: what a user wrote, read safely and held against the parts of the format that are supported."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from helpers.local_aws.cloudformation.errors import invalid, unsupported

BODY_LIMIT = 51_200  # bytes of a TemplateBody
URL_LIMIT = 1_000_000  # bytes of an object that TemplateURL names

_SECTIONS = {"AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Mappings", "Conditions", "Resources",
             "Outputs"}  # fmt: skip
_UNSUPPORTED_SECTIONS = {"Transform", "Rules", "Hooks", "Globals"}
_DEEPEST = 100  # levels
_MOST = {"Resources": 500, "Parameters": 200, "Outputs": 200, "Mappings": 200}
_SHORT = ("Base64", "FindInMap", "GetAZs", "If", "Equals", "And", "Or", "Not", "ImportValue", "Join", "Select", "Split",
          "Sub", "Cidr", "Transform", "Length", "ToJsonString")  # fmt: skip


@dataclass(frozen=True)
class Template:
    """A template as it was written (``body``) and as it was read."""

    body: str
    document: Mapping[str, Any]

    @property
    def parameters(self) -> Mapping[str, Mapping[str, Any]]:
        """Its parameters' declarations."""
        return self.document.get("Parameters") or {}

    @property
    def mappings(self) -> Mapping[str, Any]:
        """Its mappings."""
        return self.document.get("Mappings") or {}

    @property
    def conditions(self) -> Mapping[str, Any]:
        """Its conditions, not evaluated."""
        return self.document.get("Conditions") or {}

    @property
    def resources(self) -> Mapping[str, Mapping[str, Any]]:
        """Its resources, not resolved."""
        return self.document["Resources"]

    @property
    def outputs(self) -> Mapping[str, Mapping[str, Any]]:
        """Its outputs, not resolved."""
        return self.document.get("Outputs") or {}

    @property
    def description(self) -> str:
        """Its description, or ""."""
        return str(self.document.get("Description") or "")


class _Loader(yaml.SafeLoader):
    """YAML as CloudFormation takes it: its short tags, no aliases, no repeated keys, dates as text."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.YAMLError(f"aliases are not supported (line {mark.line + 1})")
        self._depth += 1
        if self._depth > _DEEPEST:  # the deeper it is, the longer PyYAML takes for each further bracket
            raise RecursionError
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise yaml.YAMLError(f"merge keys are not supported (line {key_node.start_mark.line + 1})")
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool):
                raise yaml.YAMLError(f"a key must be text (line {key_node.start_mark.line + 1})")
            if key in seen:
                raise yaml.YAMLError(f"duplicate key {key!r} (line {key_node.start_mark.line + 1})")
            seen.add(key)
        found = super().construct_mapping(node, deep=True)
        return {str(key): value for key, value in found.items()}


def _plain(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_scalar(node)


def _get_att(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    value = _plain(loader, node)
    return {"Fn::GetAtt": value.split(".", 1) if isinstance(value, str) else value}


def _tag(function: str) -> Any:
    return lambda loader, node: {function: _plain(loader, node)}


for _name in _SHORT:
    _Loader.add_constructor(f"!{_name}", _tag(f"Fn::{_name}"))
_Loader.add_constructor("!Ref", _tag("Ref"))
_Loader.add_constructor("!Condition", _tag("Condition"))
_Loader.add_constructor("!GetAtt", _get_att)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: loader.construct_scalar(node))


def parse(body: str) -> Template:
    """Read a template of JSON or YAML. Raises AwsError (ValidationError, NotImplemented)."""
    try:
        if body.lstrip().startswith("{"):
            document = json.loads(body, object_pairs_hook=_unique)
        else:
            document = yaml.load(body, Loader=_Loader)  # noqa: S506 -- a subclass of SafeLoader
        # What JSON cannot say (sets, bytes, NaN, half a character) could neither be kept nor shown.
        json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, yaml.YAMLError) as error:
        text = " ".join(str(error).split())
        raise invalid(f"Template format error: the template is not well-formed. {text}") from None
    except RecursionError:
        raise invalid("Template format error: the template is nested too deeply.") from None
    if not isinstance(document, dict):
        raise invalid("Template format error: unsupported structure.")
    _check_sections(document)
    return Template(body, document)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"duplicate key among {sorted(found)}")
    return found


def _check_sections(document: dict[str, Any]) -> None:
    for name in sorted(set(document) & _UNSUPPORTED_SECTIONS):
        raise unsupported(f"the template section {name}")
    unknown = sorted(set(document) - _SECTIONS)
    if unknown:
        raise invalid(f"Invalid template property or properties [{', '.join(unknown)}]")
    if str(document.get("AWSTemplateFormatVersion", "2010-09-09")) != "2010-09-09":
        raise invalid("Template format error: the only supported AWSTemplateFormatVersion is 2010-09-09.")
    if not isinstance(document.get("Description", ""), str) or len(document.get("Description", "").encode()) > 1024:
        raise invalid("Template format error: Description must be text of at most 1024 bytes.")
    for section in ("Parameters", "Mappings", "Conditions", "Resources", "Outputs"):
        items = document.get(section)
        if items is None and section != "Resources":
            continue
        if not isinstance(items, dict) or (section == "Resources" and not items):
            raise invalid(f"Template format error: At least one {section} member must be defined.")
        if len(items) > _MOST.get(section, len(items)):
            raise invalid(
                f"Template format error: Number of {section.lower()}, {len(items)}, is greater than maximum allowed, "
                f"{_MOST[section]}"
            )
        for name, item in items.items():
            if section != "Mappings" and not (name.isascii() and name.isalnum() and len(name) <= 255):
                raise invalid(f"Template format error: {section} name '{name:.80}' is non alphanumeric.")
            if not isinstance(item, dict):
                raise invalid(f"Template format error: Every {section} object must contain an object: {name}.")

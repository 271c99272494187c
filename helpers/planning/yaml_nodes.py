"""Read a YAML file that somebody else wrote into a tree of nodes that know their lines.

Only plain data passes: no anchors, aliases, merge keys or tags, one document,
a limit on size and depth. The limits are checked on the parser's event stream,
before anything is built from it, so that a file made to exhaust memory is
refused while it is still small.
"""

import re

import yaml

FILE_NAME = "experiment.yml"
MAX_BYTES = 64 * 1024
MAX_DEPTH = 8
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class UnreadableError(Exception):
    """The file cannot be read at all; the message names the line where there is one."""


def read_nodes(content: bytes) -> yaml.MappingNode:
    """Return the root mapping of the YAML file ``content``.

    Raises UnreadableError, with one problem, when the file is too large, not UTF-8,
    not YAML, not one document holding a mapping, or uses a part of YAML that
    plain data does not need.
    """
    if len(content) > MAX_BYTES:
        raise UnreadableError(f"{FILE_NAME}: the file has {len(content):,} bytes; at most {MAX_BYTES:,} are read")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableError(
            f"{FILE_NAME}:{line}: byte {error.start} is not UTF-8: save the file in that encoding"
        ) from None
    try:
        _check_events(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UnreadableError(f"{FILE_NAME}:{line}: the file holds a character that YAML does not allow") from None
    except yaml.MarkedYAMLError as error:
        raise UnreadableError(_syntax_problem(error)) from None
    except (ValueError, OverflowError):
        # PyYAML does not check escapes such as "\UFFFFFFFF", nor the digits of a %YAML directive
        raise UnreadableError(f"{FILE_NAME}: an escape sequence or directive in the file is out of range") from None
    if root is None:
        raise UnreadableError(f"{FILE_NAME}: the file is empty")
    if not isinstance(root, yaml.MappingNode):
        raise UnreadableError(
            f"{FILE_NAME}:{line_of(root)}: the file must hold keys such as 'pipeline:', not {kind(root)}"
        )
    return root


def line_of(node: yaml.Node) -> int:
    """Return the line, counted from 1, on which ``node`` begins."""
    return node.start_mark.line + 1


def kind(node: yaml.Node) -> str:
    """Name what ``node`` holds, in words for a message."""
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    names = {"str": "text", "int": "a number", "float": "a number", "bool": "true or false", "null": "nothing"}
    return names.get(node.tag.rpartition(":")[2], "a special value")


def quote(value: str, limit: int = 80) -> str:
    """Return ``value`` in quotes, on one line, shortened, and harmless in Markdown."""
    shown = _UNPRINTABLE.sub("?", value.replace("`", "'")).replace("\n", "\\n").replace("\r", "\\r")
    return f"'{shown[:limit]}…'" if len(shown) > limit else f"'{shown}'"


def has_control_characters(text: str) -> bool:
    """Tell whether ``text`` holds control characters other than tab and line ends, or halves of surrogate pairs."""
    return bool(_UNPRINTABLE.search(text))


def _check_events(text: str) -> None:
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise UnreadableError(f"{FILE_NAME}:{line}: the file must hold one document: remove this '---'")
        elif isinstance(event, yaml.AliasEvent) or (isinstance(event, yaml.NodeEvent) and event.anchor):
            raise UnreadableError(f"{FILE_NAME}:{line}: anchors and aliases (& and *) are not read: repeat the value")
        elif isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)) and event.tag:
            raise UnreadableError(f"{FILE_NAME}:{line}: tags ({quote(event.tag)}) are not read: write plain values")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise UnreadableError(f"{FILE_NAME}:{line}: values are nested more than {MAX_DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _syntax_problem(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f":{mark.line + 1}" if mark else ""
    column = f", column {mark.column + 1}" if mark else ""
    context = f" {error.context}" if error.context else ""
    return f"{FILE_NAME}{where}: not valid YAML{column}: {error.problem}{context}"

"""The items of a Distributed Map: read from text as an ItemReader does it."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

DELIMITERS = {"COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "SPACE": " ", "TAB": "\t"}
INPUT_TYPES = ("JSON", "JSONL", "CSV")


def parse(text: str, config: Mapping[str, Any]) -> list[Any]:
    """Return the items of a data set. ``config``: ReaderConfig. Raises ValueError with the reason."""
    kind = config.get("InputType", "JSON")
    if kind == "JSONL":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return _csv(text, config) if kind == "CSV" else _json(text, config.get("ItemsPointer", ""))


def _json(text: str, pointer: str) -> list[Any]:
    items = json.loads(text)
    for part in filter(None, pointer.split("/")):
        key = part.replace("~1", "/").replace("~0", "~")
        try:
            items = items[int(key)] if isinstance(items, list) else items[key]
        except (KeyError, IndexError, TypeError, ValueError):
            raise ValueError(f"nothing is at the ItemsPointer {pointer}") from None
    if not isinstance(items, list):
        raise ValueError("the items are not a JSON array")
    return items


def _csv(text: str, config: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return one object a row. Missing fields are empty; fields without a header are dropped."""
    rows = list(csv.reader(io.StringIO(text), delimiter=DELIMITERS[config.get("CSVDelimiter", "COMMA")]))
    names = list(config.get("CSVHeaders", [])) if config.get("CSVHeaderLocation") == "GIVEN" else []
    if not names and rows:
        names, rows = rows[0], rows[1:]
    return [{name: row[i] if i < len(row) else "" for i, name in enumerate(names)} for row in rows if row]

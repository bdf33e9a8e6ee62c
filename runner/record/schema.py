"""The JSON schemas of what a run folder holds, published under ``runner/record/schemas/``.

``python -m runner.record.schema`` writes them; a test fails while they are stale.
"""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import JsonValue

from runner.record.derive import AS_TEXT, RENAMED
from runner.record.journal import KINDS, Record
from runner.record.manifest import Manifest
from runner.record.rows import SCHEMA_VERSION, FailureRow, ImageRow, SentRecord

FOLDER = Path(__file__).parent / "schemas"

Schema = dict[str, JsonValue]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SIMPLE = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)
_Row = type[Record] | type[ImageRow] | type[FailureRow]


def schemas() -> dict[str, Schema]:
    """Every schema, by file name."""
    return {
        "manifest.json": {"$schema": _DIALECT, **Manifest.model_json_schema()},
        "image_row.json": _derived(ImageRow, "A line of images/metadata.jsonl"),
        "failure_row.json": _derived(FailureRow, "A line of failures.jsonl"),
        "journal_record.json": {
            "$schema": _DIALECT,
            "title": "A line of journal/*.jsonl",
            "oneOf": [_journalled(kind, row) for kind, row in KINDS.items()],
            "$defs": {row.__name__: _object(row) for row in (ImageRow, FailureRow)},
        },
    }


def render(schema: Schema) -> str:
    """The text of a schema file."""
    return json.dumps(schema, indent=2) + "\n"


def main() -> None:
    """Write every schema file."""
    FOLDER.mkdir(exist_ok=True)
    for name, schema in schemas().items():
        (FOLDER / name).write_text(render(schema), encoding="utf-8")


def _derived(row: type[ImageRow] | type[FailureRow], title: str) -> Schema:
    """A flat row: every member is there, mappings are JSON text."""
    as_text: Schema = {"type": "string", "contentMediaType": "application/json"}
    properties: Schema = {
        RENAMED.get(name, name): {**schema, **as_text} if name in AS_TEXT else schema
        for name, schema in _members(row).items()
    }
    return {
        "$schema": _DIALECT,
        "title": title,
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _journalled(kind: str, record: type[Record]) -> Schema:
    head: Schema = {
        "crc": {"type": "string", "pattern": "^[0-9a-f]{8}$"},
        "schema": {"const": SCHEMA_VERSION},
        "kind": {"const": kind},
    }
    body = _object(record)
    properties, required = body["properties"], body["required"]
    if not isinstance(properties, dict) or not isinstance(required, list):
        raise TypeError(f"no schema of an object for {record.__name__}")
    if kind == "attempt":
        head["cells"] = {"type": "array", "items": {"type": "array", "maxItems": 3, "minItems": 3}}
        # Written in any case: resume reads them.
        required = [*required, "cost_usd", "cost_basis", "images", "failures", "cells"]
    if record is SentRecord:
        required = [*required, "worst_usd"]
    return {
        **body,
        "properties": {**head, **properties},
        "required": ["crc", "schema", "kind", *required],
    }


def _object(row: _Row) -> Schema:
    """A dataclass whose members may be missing where they have a default."""
    return {
        "type": "object",
        "properties": dict(_members(row)),
        "required": [field.name for field in fields(row) if not _has_default(field)],
        "additionalProperties": False,
    }


def _members(row: _Row) -> dict[str, Schema]:
    """Type of every field, with the text that its docstring has for it."""
    texts = {
        name: " ".join(text.split()).replace("``", "`")
        for name, text in _ATTRIBUTE.findall(inspect.getdoc(row) or "")
    }
    return {
        name: {**_type(hint), "description": texts[name]}
        for name, hint in get_type_hints(row).items()
    }


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _type(hint: Any) -> Schema:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_type(part) for part in arguments]}
    if origin is tuple and arguments[-1] is Ellipsis:
        return {"type": "array", "items": _type(arguments[0])}
    if origin is tuple:
        return {"type": "array", "prefixItems": [_type(part) for part in arguments]}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object"}
    return {"$ref": f"#/$defs/{hint.__name__}"}


if __name__ == "__main__":
    main()

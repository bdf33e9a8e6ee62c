"""The journal's lines: JSON that any tool can read, and that resume reads without parsing it.

One record per line. Every line says its schema version and kind and begins with a CRC-32 of all
that follows it, so that a torn or damaged line is known anywhere in a file, not only at its end::

    {"crc":"8d0f3a51","schema":1,"kind":"attempt","call_id":"5b1e…","outcome":"done",
     "cost_usd":0.04,"cost_basis":"price_book","cells":[[3127,"5f0c…","done"]],"at":…,"images":[…]}

The head, up to ``cells``, is all that resume needs and always has this order, so one regular
expression takes it from the raw bytes: ten times faster than parsing whole rows, which for a
million of them is the difference between seconds and a minute. Members that have their default are
left out of ``images`` and ``failures``. Text is ASCII with escapes, so that no prompt can break it.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from binascii import unhexlify
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any

from runner.record.rows import (
    SCHEMA_VERSION,
    AttemptRecord,
    FailureRow,
    ImageRow,
    NoteRecord,
    OpenRecord,
    SentRecord,
)
from runner.settings.cell import Json
from runner.settings.errors import RequestError
from runner.settings.secrets import redact_bytes

Record = OpenRecord | SentRecord | NoteRecord | AttemptRecord

RETRY = "retry"
"""In an attempt's head: the cell has no image yet and the same process tries again."""

KINDS: dict[str, type[Record]] = {
    "open": OpenRecord,
    "sent": SentRecord,
    "note": NoteRecord,
    "attempt": AttemptRecord,
}

START = b'{"crc":"'
CRC_START, CRC_END = len(START), len(START) + 8
"""The checksum stands between these; it covers all that follows it but the newline."""

KIND_AT = len('{"crc":"00000000","schema":1,"kind":"')
"""Where the kind's first letter stands in every line."""

CALL_ID_AT = KIND_AT + len('sent","call_id":"')
"""Where the call id of a ``sent`` line stands."""

ATTEMPT_HEAD = re.compile(
    rb'.{%d}attempt","call_id":"([^"]+)","outcome":"([^"]+)","cost_usd":([^,]+),'
    rb'"cost_basis":"([^"]+)","cells":\[(?:\[(\d+),"(.{32}).{32}","([^"]+)"\])?(,?)' % KIND_AT
)
"""Groups: call id, outcome, cost, basis; index, half the id and outcome of the first cell; a comma
if there are more. For intact lines only: it checks nothing that the checksum has not."""

MORE_CELLS = re.compile(rb',?\[(\d+),"(.{32}).{32}","([^"]+)"\]')
"""Groups: index, half the id, outcome; to be matched one after the other."""

_ASCII = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=dict)
_UNICODE = json.JSONEncoder(
    separators=(",", ":"), allow_nan=False, default=dict, ensure_ascii=False
)

_KIND_OF = {record: kind for kind, record in KINDS.items()}
_CALL_ID = re.compile(r"[\w.:-]+", re.ASCII)


def encode(record: Record) -> bytes:
    """One line, with its newline.

    Raises:
        ValueError: A call id has other characters than letters, digits and ``_.:-``.
    """
    members: dict[str, Json] = {"schema": SCHEMA_VERSION, "kind": _KIND_OF[type(record)]}
    match record:
        case SentRecord() | NoteRecord() | AttemptRecord():
            if not _CALL_ID.fullmatch(record.call_id):
                raise ValueError(f"call id {record.call_id!r} is not of letters, digits and _.:-")
            members["call_id"] = record.call_id
        case _:
            pass
    match record:
        case SentRecord():
            members |= {"worst_usd": record.worst_usd, "cells": record.cells, "at": record.at}
            members |= compact(record)
        case AttemptRecord():
            members |= {
                "outcome": record.outcome,
                "cost_usd": record.cost_usd,
                "cost_basis": record.cost_basis,
                "cells": cells_of(record),
                "at": record.at,
                **compact(record),
                "images": [compact(row) for row in record.images],
                "failures": [compact(row) for row in record.failures],
            }
        case _:
            members |= compact(record)
    body = redact_bytes(b'",' + to_json(members)[1:].encode("ascii"))
    return START + b"%08x" % zlib.crc32(body) + body + b"\n"


def intact(line: bytes) -> bool:
    """Whether a line is whole, newline included, and has the checksum that it claims."""
    try:
        # Without its newline the last line loses a byte here, so its sum is wrong.
        good = zlib.crc32(line[CRC_END:-1]) == int(line[CRC_START:CRC_END], 16)
    except ValueError:
        return False
    return good and line.startswith(START) and line.endswith(b"\n")


def decode(line: bytes) -> Record:
    """The record of an intact line.

    Raises:
        RequestError: It was written by a newer version.
    """
    members = json.loads(line)
    refuse_newer(members["schema"], "the journal")
    kind = KINDS[members["kind"]]
    if kind is SentRecord:
        members["cells"] = tuple((index, cell_id) for index, cell_id in members["cells"])
    elif kind is AttemptRecord:
        members["images"] = tuple(image_row(row) for row in members["images"])
        members["failures"] = tuple(failure_row(row) for row in members["failures"])
        del members["cells"]
    for name in ("crc", "schema", "kind"):
        del members[name]
    return kind(**members)


def done_cells(line: bytes) -> Iterator[bytes]:
    """First halves of the ids of the cells that an attempt made; for intact lines only."""
    found = ATTEMPT_HEAD.match(line)
    if found is None or found[6] is None:
        return
    cell, outcome, at = found[6], found[7], found.end()
    while True:
        if outcome == b"done":
            yield unhexlify(cell)
        if (found := MORE_CELLS.match(line, at)) is None:
            return
        cell, outcome, at = found[2], found[3], found.end()


def cells_of(record: AttemptRecord) -> list[tuple[int, str, str]]:
    """Index, id and outcome of every cell of an attempt."""
    return [
        *((row.index, row.cell_id, "done") for row in record.images),
        *(
            (row.index, row.cell_id, row.outcome if record.final else RETRY)
            for row in record.failures
        ),
    ]


def image_row(members: Mapping[str, Any]) -> ImageRow:
    """An image row from its JSON object."""
    lists = {name: tuple(members[name]) for name in _TUPLES if name in members}
    return ImageRow(**{**members, **lists})


def failure_row(members: Mapping[str, Any]) -> FailureRow:
    """A failure row from its JSON object."""
    return FailureRow(**members)


def refuse_newer(version: int, what: str) -> None:
    """Stop before files of a later version are misread.

    Raises:
        RequestError: The version is above our own.
    """
    if version > SCHEMA_VERSION:
        raise RequestError(
            f"{what} has schema version {version}, and this runner reads up to {SCHEMA_VERSION}: "
            "install the version that wrote it, or a later one"
        )


def compact(record: Record | ImageRow | FailureRow) -> dict[str, Json]:
    """The members of a dataclass that differ from their default, in the order of its fields."""
    return {
        name: value
        for name, default in _DEFAULTS[type(record)]
        if (value := getattr(record, name)) != default
    }


def to_json(value: Json, *, ascii_only: bool = True) -> str:
    """JSON text without spaces. What JSON cannot say (NaN, infinity) becomes ``null``.

    A provider's own figures are written as they come: one odd number in them must not cost an
    image that is already paid.
    """
    encode_value = (_ASCII if ascii_only else _UNICODE).encode
    try:
        return encode_value(value)
    except ValueError:
        return encode_value(_finite(value))


def _finite(value: Json) -> Json:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_finite(item) for item in value]
    return value


def _default(field: Any) -> object:
    if field.default_factory is not MISSING:
        return field.default_factory()
    # MISSING equals nothing, so a member without a default is always written.
    return field.default


_ROWS: tuple[type[Record] | type[ImageRow] | type[FailureRow], ...] = (
    *KINDS.values(),
    ImageRow,
    FailureRow,
)
_IN_HEAD = {
    SentRecord: {"call_id", "worst_usd", "cells", "at"},
    AttemptRecord: {"call_id", "outcome", "cost_usd", "cost_basis", "at", "images", "failures"},
    NoteRecord: {"call_id"},
}
_DEFAULTS = {
    row: [
        (field.name, _default(field))
        for field in fields(row)
        if field.name not in _IN_HEAD.get(row, ())
    ]
    for row in _ROWS
}
_TUPLES = tuple(field.name for field in fields(ImageRow) if str(field.type).startswith("tuple"))

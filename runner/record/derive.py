"""The files that people and data sets read: derived from the journal, made again at any time.

``images/metadata.jsonl`` makes the images folder a Hugging Face ``imagefolder``. Its rows are flat:
``axes``, ``params_sent`` and ``params_effective`` are written as JSON *text*, because they hold
different keys and types for different providers (``quality: "high"`` here, ``quality: 80`` there)
and Arrow, which needs one type per column, refuses to load such a file. The input image is called
``input_image`` there, because ``image`` is the column in which ``imagefolder`` puts the picture
itself. ``failures.jsonl`` follows suit. Rows are sorted by index and stream through; memory holds
one number per cell.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from runner.record.atomic import replacing
from runner.record.journal import failure_row, image_row, to_json
from runner.record.paths import RunPaths
from runner.record.reader import JournalReader, Places
from runner.record.rows import FailureRow, ImageRow
from runner.record.state import RunState, load_state
from runner.settings.cell import Json

AS_TEXT = frozenset({"axes", "params_sent", "params_effective"})
"""Members whose JSON text stands in the derived files."""

RENAMED = {"image": "input_image"}
"""Members that have another name in the derived files."""

_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
"""Line ends to many a reader of text, though not to JSON: they are written as escapes."""

_NAMES = {row: [field.name for field in fields(row)] for row in (ImageRow, FailureRow)}
_KEYS = {row: [RENAMED.get(name, name) for name in names] for row, names in _NAMES.items()}
_VALUES = {row: attrgetter(*names) for row, names in _NAMES.items()}


def derive(paths: RunPaths, *, places: Places | None = None) -> RunState:
    """Write ``images/metadata.jsonl`` and ``failures.jsonl`` from the journal, each atomically.

    Reads everything: about a minute for a million cells, so not a thing to do every few seconds.

    Args:
        paths: The run.
        places: Where the cells stand now, if the plan was amended.

    Returns:
        The state that was read on the way: its counts and costs are those of the files.

    Raises:
        OSError: The disk is full or gone; the old files are as they were.
    """
    state = load_state(paths)
    write_state(paths, state, places)
    return state


def write_state(paths: RunPaths, state: RunState, places: Places | None = None) -> None:
    """Write both derived files from a state that was read before.

    Raises:
        OSError: The disk is full or gone.
    """
    with JournalReader(paths, state, places) as reader:
        write_rows(paths, reader.images(), reader.failures())


def write_rows(paths: RunPaths, images: Iterable[ImageRow], failures: Iterable[FailureRow]) -> None:
    """Write both derived files from rows that are not in a journal, each atomically.

    Raises:
        OSError: The disk is full or gone.
    """
    _write(paths.metadata, images)
    _write(paths.failures, failures)


def read_rows(paths: RunPaths) -> Iterator[ImageRow]:
    """The rows of ``images/metadata.jsonl``, by index; none if it is not there."""
    for members in _read(paths.metadata):
        yield image_row(members)


def read_failures(paths: RunPaths) -> Iterator[FailureRow]:
    """The rows of ``failures.jsonl``, by index; none if it is not there."""
    for members in _read(paths.failures):
        yield failure_row(members)


def flat(row: ImageRow | FailureRow) -> dict[str, Json]:
    """The row as it stands in a derived file: every member, in order, mappings as JSON text."""
    kind = type(row)
    members: dict[str, Json] = dict(zip(_KEYS[kind], _VALUES[kind](row), strict=True))
    for name in AS_TEXT & members.keys():
        value = members[name]
        members[name] = to_json(value, ascii_only=False) if value else "{}"
    return members


def _write(path: Path, rows: Iterable[ImageRow | FailureRow]) -> None:
    with replacing(path) as file:
        for row in rows:
            text = to_json(flat(row), ascii_only=False)
            if not text.isascii():
                text = text.translate(_LINE_ENDS)
            # A lone surrogate in a revised prompt is not UTF-8 and would make the file unreadable.
            file.write(text.encode("utf-8", "replace") + b"\n")


def _read(path: Path) -> Iterator[Mapping[str, Any]]:
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            members = json.loads(line)
            for name in AS_TEXT & members.keys():
                members[name] = json.loads(members[name])
            for name, derived in RENAMED.items():
                if derived in members:
                    members[name] = members.pop(derived)
            yield members

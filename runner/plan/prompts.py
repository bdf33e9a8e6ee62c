"""Prompt files: .txt, .csv, .jsonl and .parquet, of any length, read row by row.

A text file is scanned once, in about a second for a million lines. The scan checks every row and
keeps eight bytes for each: where it begins. Rows are read again when they are asked for.

* ``.txt``: one prompt on each line that is not blank.
* ``.csv``: a header, then records; quoted fields may span lines.
* ``.jsonl``: one object on each line that is not blank. A column that holds lists or objects in
  any row is left out.
* ``.parquet``: columns of texts, numbers and booleans (needs the extra ``export``).

Text is UTF-8, with or without a byte order mark, with LF or CRLF.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import cast

from runner.plan.files import file_sha256
from runner.plan.prompt_facts import Records
from runner.plan.prompt_parquet import ParquetRecords
from runner.plan.prompt_text import scan_text
from runner.plan.values import coerce, kind_of
from runner.settings.cell import CELL_KEYS, Scalar
from runner.settings.errors import RequestError


class PromptFile:
    """Rows of prompts with random access, without holding them in memory.

    Attributes:
        path: The path as the user wrote it.
        source: Where the file is read.
        sha256: Hash of the file.
        columns: Names of the columns, in the file's order.
        keys: Those of them that are cell-level keys; each sets its key for its row.
        partial: Those of the keys that are blank in some row.
        representatives: Rows that together hold what a check wants to see: the first, the last,
            the longest, both ends of every number, and each of the first 1,000 different values
            of a size, quality, style, background or output format.
    """

    def __init__(self, path: str, source: Path, sha256: str, records: Records) -> None:
        self.path = path
        self.source = source
        self.sha256 = sha256
        self.columns: tuple[str, ...] = records.columns
        self.keys: tuple[str, ...] = tuple(key for key in self.columns if key in CELL_KEYS)
        self.partial: frozenset[str] = frozenset(records.facts.partial)
        self.representatives: tuple[int, ...] = records.representatives
        self._records = records
        self._kinds = {key: kind_of(key) for key in self.keys}
        self._last: tuple[int, Mapping[str, Scalar]] = (-1, {})

    @classmethod
    def open(cls, path: str | Path, source: Path | None = None) -> PromptFile:
        """Scan a prompt file.

        Args:
            path: The file, as the user wrote it.
            source: Where to read it, if that is another place.

        Raises:
            RequestError: It is missing or empty, or a row is wrong; with the line's number.
            PrerequisiteError: A .parquet file, and pyarrow is not installed.
        """
        source = Path(path) if source is None else source
        suffix = source.suffix.lower()
        if suffix not in (".txt", ".csv", ".jsonl", ".parquet"):
            raise RequestError(
                f"prompt file {path}: '{suffix}' is not a known format; "
                "use .txt, .csv, .jsonl or .parquet"
            )
        sha256 = file_sha256(source, "prompt file")
        records: Records = ParquetRecords(source) if suffix == ".parquet" else scan_text(source)
        return cls(str(path), source, sha256, records)

    def at(self, source: Path) -> PromptFile:
        """The same rows, read from a copy of the file with the same content."""
        return PromptFile(self.path, source, self.sha256, self._records.at(source))

    def __len__(self) -> int:
        return len(self._records)

    def row(self, index: int) -> Mapping[str, Scalar]:
        """The values of a row, by column; a blank value of a cell-level key is ``None``.

        Args:
            index: 0 to ``len(self) - 1``.

        Returns:
            Cell-level keys with the type of the key, other columns as the file has them.
        """
        last, row = self._last
        if last != index:
            row = self._typed(self._records.raw(index), index)
            self._last = index, row
        return row

    def place(self, index: int) -> str:
        """Where a row is, for messages: ``prompts.csv, line 7``."""
        return f"{self.path}, {self._records.place(index)}"

    def _typed(self, raw: Mapping[str, Scalar], index: int) -> Mapping[str, Scalar]:
        row = {column: raw.get(column) for column in self.columns}
        for key, kind in self._kinds.items():
            value = row[key]
            if value == "":
                row[key] = None
            elif value is not None and type(value) is not kind:
                row[key] = self._as(kind, key, value)
        return row

    def _as(self, kind: type, key: str, value: Scalar) -> Scalar:
        if kind is not str:  # the scan has seen that it is one; int("7") is ten times as fast
            with suppress(ValueError):
                return cast(Scalar, kind(value))
        return coerce(key, value, self.path)

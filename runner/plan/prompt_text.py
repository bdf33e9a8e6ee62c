"""Prompt files of text: a scan that keeps where each record begins, and reading at one record."""

from __future__ import annotations

import codecs
import csv
import json
import operator
import threading
import weakref
from array import array
from collections.abc import Callable, Sequence
from itertools import accumulate, chain, compress, islice
from pathlib import Path
from typing import Any, BinaryIO

from runner.plan.prompt_facts import Facts, Raw, column_names
from runner.plan.values import BadValueError, shown, text_fault
from runner.settings.cell import CELL_KEYS
from runner.settings.errors import RequestError

Parse = Callable[[str], Raw]

_CHUNK = 1 << 17


class TextRecords:
    """Records of a text file.

    Args:
        source: The file.
        offsets: Byte at which each record begins, and the size of the file at the end.
        columns: Names of its columns.
        parse: Reads the text of one record.
        facts: What the scan learned.
    """

    def __init__(
        self,
        source: Path,
        offsets: array[int],
        columns: tuple[str, ...],
        parse: Parse,
        facts: Facts,
    ) -> None:
        self.columns = columns
        self.facts = facts
        self._offsets = offsets
        self._parse = parse
        self._source = source
        self._lock = threading.Lock()
        self._file = source.open("rb")
        weakref.finalize(self, self._file.close)
        sizes = array("Q", map(operator.sub, islice(offsets, 1, None), offsets))
        rows = {0, sizes.index(max(sizes)), len(sizes) - 1}
        self.representatives = tuple(sorted(rows | facts.rows()))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def raw(self, index: int) -> Raw:
        """The values of a row."""
        start = self._offsets[index]
        with self._lock:
            self._file.seek(start)
            record = self._file.read(self._offsets[index + 1] - start)
        return self._parse(record.decode())

    def place(self, index: int) -> str:
        """``line 7``: found by counting, as only a message needs it."""
        return _line(self._source, self._offsets[index])

    def at(self, source: Path) -> TextRecords:
        """The same records in a copy of the file."""
        return TextRecords(source, self._offsets, self.columns, self._parse, self.facts)


def scan_text(source: Path) -> TextRecords:
    """Scan a .txt, .csv or .jsonl file.

    Raises:
        RequestError: It is empty or not UTF-8, or a record is wrong; with the line's number.
    """
    _check_encoding(source)
    scanner = {".txt": _scan_txt, ".csv": _scan_csv, ".jsonl": _scan_jsonl}[source.suffix.lower()]
    with source.open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        scan = _Scan(source, file)
        columns, parse = scanner(scan)
        if not scan.offsets:
            raise RequestError(f"prompt file {source} holds no prompt")
        scan.offsets.append(file.tell())
    return TextRecords(source, scan.offsets, columns, parse, scan.facts)


class _Scan:
    """A text file on its way to its offsets and facts, some thousand lines at a time.

    Attributes:
        lines: The lines at hand.
        starts: The byte at which each of them begins.
        offsets: The byte at which each record begins, of all records so far.
        facts: What was learned so far.
    """

    def __init__(self, source: Path, file: BinaryIO) -> None:
        self.source = source
        self.offsets: array[int] = array("Q")
        self.facts = Facts()
        self.lines: list[bytes] = []
        self.starts: list[int] = []
        self._lines_before = 0
        self._file = file
        self._position = file.tell()

    def advance(self) -> bool:
        """Go on to the next lines; ``False`` at the end of the file."""
        self._lines_before += len(self.lines)
        self.lines, self.starts = [], []
        return self.extend(_CHUNK)

    def extend(self, size: int) -> bool:
        """Add about ``size`` bytes of lines to those at hand; ``False`` at the end of the file."""
        more = self._file.readlines(size)
        starts = list(accumulate(map(len, more), initial=self._position))
        self._position = starts.pop()
        self.lines += more
        self.starts += starts
        return bool(more)

    def where(self, line: int) -> str:
        """Where one of the lines at hand is, for messages."""
        return f"prompt file {self.source}, line {self._lines_before + line + 1}"

    def check(self, key: str, values: list[Any], lines: list[int]) -> None:
        """Check the values of a key in the records added last, which begin on these lines."""
        try:
            self.facts.see(key, len(self.offsets) - len(values), values)
        except BadValueError as error:
            raise error.at(self.where(lines[error.place])) from None


def _scan_txt(scan: _Scan) -> tuple[tuple[str, ...], Parse]:
    while scan.advance():
        scan.offsets.extend(compress(scan.starts, map(bytes.strip, scan.lines)))
    return ("prompt",), lambda text: {"prompt": text.strip()}


def _scan_csv(scan: _Scan) -> tuple[tuple[str, ...], Parse]:
    header: list[str] = []
    columns: tuple[str, ...] = ()
    while scan.advance():
        records, lines = _csv_records(scan)
        if not header and records:
            header = [name.strip() for name in records.pop(0)]
            columns = column_names(header, scan.source)
            del lines[0]
        if not set(map(len, records)) <= {len(header)}:
            record, line = next(
                pair for pair in zip(records, lines, strict=True) if len(pair[0]) != len(header)
            )
            raise RequestError(
                f"{scan.where(line)}: the record has {len(record)} fields, the header has "
                f"{len(header)}; a field with a comma goes in double quotes"
            )
        scan.offsets.extend(map(scan.starts.__getitem__, lines))
        for place, key in enumerate(header):
            if key in CELL_KEYS:
                scan.check(key, list(map(operator.itemgetter(place), records)), lines)

    def parse(text: str) -> Raw:
        return dict(zip(header, next(csv.reader([text], strict=True)), strict=True))

    return columns, parse


def _csv_records(scan: _Scan) -> tuple[list[list[str]], list[int]]:
    """The records in the lines at hand, without blank ones, and the line that each begins on."""
    while True:
        reader = csv.reader(map(bytes.decode, scan.lines), strict=True)
        try:
            records = list(reader)
        except csv.Error as error:
            # A quoted field may go on in lines that have not been read yet.
            if reader.line_num == len(scan.lines) and scan.extend(sum(map(len, scan.lines))):
                continue
            raise RequestError(f"{scan.where(reader.line_num - 1)}: not CSV: {error}") from None
        ends: Sequence[int]
        if reader.line_num == len(records):
            ends = range(1, len(records) + 1)
        else:  # some fields span lines
            reader = csv.reader(map(bytes.decode, scan.lines), strict=True)
            ends = [reader.line_num for _ in reader]
        return list(filter(None, records)), list(compress(chain((0,), ends), records))


def _scan_jsonl(scan: _Scan) -> tuple[tuple[str, ...], Parse]:
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    seen: dict[str, None] = {}
    nested: set[str] = set()
    while scan.advance():
        texts = list(map(bytes.strip, scan.lines))
        lines = list(compress(range(len(texts)), texts))
        texts = list(filter(None, texts))
        whole = b",".join(texts)
        rows = _json_rows(decoder, scan, whole, texts, lines)
        known, had_rows = len(seen), bool(scan.offsets)
        seen.update(dict.fromkeys(chain.from_iterable(rows)))
        if had_rows:  # rows of earlier chunks do not have what is new in this one
            scan.facts.partial.update(islice(seen, known, None))
        scan.offsets.extend(map(scan.starts.__getitem__, lines))
        for key in seen:
            if key in CELL_KEYS:
                scan.check(key, _members(rows, key), lines)
        if b"\\u" in whole or b"[" in whole or whole.count(b"{") > len(rows):
            for row, line in zip(rows, lines, strict=True):
                nested.update(_look_closely(row, scan.where(line)))
    columns = column_names([name for name in seen if name not in nested], scan.source)
    return columns, lambda text: dict(decoder.decode(text.strip()))


def _members(rows: list[dict[str, Any]], key: str) -> list[Any]:
    """The values of a key; ``None`` where a row does not have it."""
    try:
        return list(map(operator.itemgetter(key), rows))  # half the time of get()
    except KeyError:
        return [row.get(key) for row in rows]


def _json_rows(
    decoder: json.JSONDecoder, scan: _Scan, whole: bytes, texts: list[bytes], lines: list[int]
) -> list[dict[str, Any]]:
    """The objects on lines of JSON, which are given as a whole, too.

    Raises:
        RequestError: A line is not JSON, or is not one object.
    """
    try:
        # All lines as one list take a third of the time of one by one.
        rows: list[Any] = decoder.decode(f"[{whole.decode()}]")
        if len(rows) == len(texts) and set(map(type, rows)) <= {dict}:
            return rows
    except (ValueError, RecursionError):
        pass
    rows = []
    for text, line in zip(texts, lines, strict=True):
        try:
            row = decoder.decode(text.decode())
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{scan.where(line)}: not JSON: {error}") from None
        if type(row) is not dict:
            raise RequestError(
                f"{scan.where(line)}: a line holds one JSON object with a prompt in it, not "
                f"{shown(text.decode())}"
            )
        rows.append(row)
    return rows


def _look_closely(row: dict[str, Any], where: str) -> list[str]:
    """The members that hold lists or objects.

    Raises:
        RequestError: A text has an escape that is no character.
    """
    for name, value in row.items():
        if isinstance(value, str) and (fault := text_fault(value)):
            raise RequestError(f"{where}: '{name}' cannot be {shown(value)}: {fault}")
    return [name for name, value in row.items() if isinstance(value, (list, dict))]


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _check_encoding(source: Path) -> None:
    """Read the whole file once and make sure that it is text in UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with source.open("rb") as file:
        try:
            while chunk := file.read(_CHUNK):
                if b"\0" in chunk:
                    break
                decoder.decode(chunk)
            else:
                decoder.decode(b"", final=True)
                return
        except UnicodeDecodeError:
            pass
        file.seek(0)
        for number, line in enumerate(file, 1):
            where = f"prompt file {source}, line {number}"
            if b"\0" in line:
                raise RequestError(f"{where}: it holds a NUL byte; save the file as UTF-8 text")
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise RequestError(
                    f"{where}: byte 0x{line[error.start]:02X} at column {error.start + 1} is not "
                    "UTF-8; save the file as UTF-8"
                ) from None


def _line(source: Path, offset: int) -> str:
    with source.open("rb") as file:
        number = 1
        while offset > 0 and (chunk := file.read(min(offset, _CHUNK))):
            number += chunk.count(b"\n")
            offset -= len(chunk)
    return f"line {number}"

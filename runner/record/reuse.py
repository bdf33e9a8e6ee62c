"""Pictures of earlier runs, found by the ids of their cells: made once, used again.

All runs under one outputs folder share an index, ``.cells.sqlite``: cell id to the journal record
that holds its row. It is derived. Opening it takes in what the journals gained since the last
time, by their length, so nothing has to be written while a run goes on, a killed run is found too,
and a deleted run is forgotten. An index that is damaged, or says what no journal says, is made
anew; where the folder cannot be written it is kept in memory.

A picture is taken only if its file still has the bytes of its row.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from runner.record.ids import ID_BYTES
from runner.record.journal import decode, done_cells, intact
from runner.record.paths import RunPaths, image_name
from runner.record.rows import AttemptRecord, ImageRow
from runner.settings.cell import Cell

INDEX = ".cells.sqlite"

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_ATTEMPT = b'"kind":"attempt"'
_SCHEMA = """
CREATE TABLE IF NOT EXISTS journals (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, size INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS cells (
    id BLOB NOT NULL, journal INTEGER NOT NULL, offset INTEGER NOT NULL,
    PRIMARY KEY (id, journal, offset)
) WITHOUT ROWID;
"""


class _StaleIndexError(Exception):
    """The index says what no journal says."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """A picture that an earlier run made of the same cell.

    Attributes:
        row: Its row, as it belongs into the new run.
        file: The file itself, whose bytes were checked.
        record: The record that settled it.
    """

    row: ImageRow
    file: Path
    record: AttemptRecord


def outputs_root(run: Path) -> Path:
    """The folder whose runs know each other: ``outputs/`` of ``outputs/<date>/<time>``."""
    above = run.absolute().parent
    return above.parent if _DATE.fullmatch(above.name) else above


def reused(earlier: Earlier, at: str) -> AttemptRecord:
    """The record of a picture that is taken and not made: it costs nothing again.

    Args:
        earlier: The picture.
        at: Now, UTC, ISO 8601.
    """
    return AttemptRecord(
        call_id=uuid.uuid4().hex[:16],
        at=at,
        outcome="done",
        images=(earlier.row,),
        cost_usd=0.0,
        cost_basis="free",
        recipe=earlier.record.recipe,
    )


class EarlierRuns:
    """What the other runs under an outputs folder hold; a context manager.

    Args:
        run: The run that asks; its own pictures do not count.
    """

    def __init__(self, run: RunPaths) -> None:
        self._root = outputs_root(run.root)
        self._own = str(run.root.absolute().relative_to(self._root))
        self._file: Path | None = self._root / INDEX
        self._index = self._open()

    def __enter__(self) -> EarlierRuns:
        return self

    def __exit__(self, *_: object) -> None:
        self._index.close()

    def find(self, cell: Cell) -> Earlier | None:
        """The latest picture of a cell whose file is whole; ``None``: there is none.

        Raises:
            OSError: A journal cannot be read.
        """
        try:
            return self._find(cell)
        except (_StaleIndexError, sqlite3.DatabaseError):
            self._index.close()
            self._index = self._anew()
        with suppress(_StaleIndexError):
            return self._find(cell)
        return None

    def _find(self, cell: Cell) -> Earlier | None:
        places = self._index.execute(
            "SELECT path, offset FROM cells JOIN journals ON journals.id = journal"
            " WHERE cells.id = ? ORDER BY journal DESC, offset DESC",
            (bytes.fromhex(cell.cell_id)[:ID_BYTES],),
        ).fetchall()
        for path, offset in places:
            run = Path(path).parent.parent
            if str(run) != self._own and (found := self._read(cell, run, path, offset)):
                return found
        return None

    def _read(self, cell: Cell, run: Path, journal: str, offset: int) -> Earlier | None:
        try:
            with (self._root / journal).open("rb") as file:
                file.seek(offset)
                line = file.readline()
        except FileNotFoundError:
            return None
        record = decode(line) if intact(line) else None
        rows = record.images if isinstance(record, AttemptRecord) else ()
        row = next((row for row in rows if row.cell_id == cell.cell_id), None)
        if row is None or not isinstance(record, AttemptRecord):
            raise _StaleIndexError(journal)
        path = RunPaths(self._root / run).image(row.file_name)
        if not _whole(path, row):
            return None
        params = cell.params
        mine = replace(
            row,
            file_name=image_name(cell.index, cell.cell_id, path.suffix),
            index=cell.index,
            variant=cell.variant,
            axes=dict(cell.axes),
            image=params.image,
            mask=params.mask,
            control_image=params.control_image,
            cost_usd=0.0,
            cost_basis="free",
            reused_from=(run / "images" / row.file_name).as_posix(),
        )
        return Earlier(mine, path, record)

    def _open(self) -> sqlite3.Connection:
        """The index, up to date."""
        try:
            return self._updated(self._connect())
        except sqlite3.DatabaseError:
            return self._anew()

    def _anew(self) -> sqlite3.Connection:
        """The index, made of nothing but the journals."""
        if self._file is not None:
            try:
                for name in (INDEX, f"{INDEX}-journal"):
                    (self._root / name).unlink(missing_ok=True)
                return self._updated(self._connect())
            except (OSError, sqlite3.DatabaseError):
                self._file = None
        return self._updated(self._connect())

    def _connect(self) -> sqlite3.Connection:
        # One thread at a time uses it, but not always the same. It can be made again, so it need
        # not survive a power cut.
        index = sqlite3.connect(self._file or ":memory:", timeout=60, check_same_thread=False)
        index.isolation_level = None
        index.execute("PRAGMA synchronous = OFF")
        return index

    def _updated(self, index: sqlite3.Connection) -> sqlite3.Connection:
        try:
            index.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";"):
                index.execute(statement)
            known = {
                path: (number, size)
                for number, path, size in index.execute("SELECT id, path, size FROM journals")
            }
            there = {str(path.relative_to(self._root)): path for path in self._journals()}
            for path, (number, size) in known.items():
                if path not in there or there[path].stat().st_size < size:
                    index.execute("DELETE FROM cells WHERE journal = ?", (number,))
                    index.execute("DELETE FROM journals WHERE id = ?", (number,))
            for path, file in there.items():
                size = file.stat().st_size
                number, seen = known.get(path, (None, 0))
                if size < seen:
                    number, seen = None, 0
                if size > seen:
                    self._take_in(index, path, file, number, seen)
            index.execute("COMMIT")
        except BaseException:
            index.close()
            raise
        return index

    def _take_in(
        self, index: sqlite3.Connection, path: str, file: Path, number: int | None, seen: int
    ) -> None:
        if number is None:
            added = index.execute("INSERT INTO journals (path, size) VALUES (?, 0)", (path,))
            number = added.lastrowid
        with closing(_Lines(file, seen)) as lines:
            index.executemany(
                "INSERT OR IGNORE INTO cells VALUES (?, ?, ?)",
                (
                    (cell, number, offset)
                    for offset, line in lines
                    if line.find(_ATTEMPT, 0, 64) > 0 and intact(line)
                    for cell in done_cells(line)
                ),
            )
            index.execute("UPDATE journals SET size = ? WHERE id = ?", (lines.end, number))

    def _journals(self) -> Iterator[Path]:
        """The journal files of every run, oldest run first where folders are named by time."""
        for depth in ("*", "*/*"):
            yield from sorted(self._root.glob(f"{depth}/journal/*.jsonl"))


class _Lines:
    """The whole lines of a file from an offset on, each with its place."""

    def __init__(self, path: Path, start: int) -> None:
        self._file = path.open("rb", buffering=1 << 20)
        self._file.seek(start)
        self.end = start

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        for line in self._file:
            if not line.endswith(b"\n"):
                return  # somebody is writing it
            yield self.end, line
            self.end += len(line)

    def close(self) -> None:
        self._file.close()


def _whole(path: Path, row: ImageRow) -> bool:
    """Whether a file has the bytes that its row says."""
    try:
        if path.is_symlink() or path.stat().st_size != row.bytes:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == row.sha256
    except OSError:
        return False

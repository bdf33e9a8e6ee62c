"""Rows out of the journal, in the order of the plan, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import BinaryIO

from runner.record.journal import decode
from runner.record.outcomes import CellOutcome
from runner.record.paths import RunPaths
from runner.record.rows import AttemptRecord, FailureRow, ImageRow, SentRecord
from runner.record.state import RunState

CUT_OFF = "the process ended before the answer came; resume settles it"


Places = Mapping[bytes, int]
"""First half of a cell's id to its place in the plan: for a folder whose plan was amended."""

GONE = -1
"""The index of a cell that an amended plan no longer holds. Its image is kept."""


class JournalReader:
    """Random access to the rows that a state points at; a context manager.

    Args:
        paths: The run.
        state: As loaded from its journal.
        places: Where the cells stand now, if the plan was amended: rows then carry their new
            index, and those of cells that the plan no longer holds come last, with :data:`GONE`.
    """

    def __init__(self, paths: RunPaths, state: RunState, places: Places | None = None) -> None:
        self._state = state
        self._places = places
        self._names = paths.journal_files()
        self._files: dict[int, BinaryIO] = {}
        self._cached: tuple[tuple[int, int], dict[int, ImageRow | FailureRow]] | None = None
        self._sent: dict[int, SentRecord] = {
            index: call.sent for call in state.unanswered.values() for index, _ in call.sent.cells
        }

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            file.close()

    def images(self) -> Iterator[ImageRow]:
        """The row of every cell that is done."""
        for slot in self._slots("done"):
            row = self._placed(slot)
            if isinstance(row, ImageRow):
                yield row

    def failures(self) -> Iterator[FailureRow]:
        """The row of every cell that was given up; also of those whose call was cut off."""
        for slot in self._slots("refused", "failed", "unknown"):
            row = self._placed(slot)
            if isinstance(row, FailureRow):
                yield row

    def _slots(self, *outcomes: CellOutcome) -> list[int]:
        slots = self._state.slots(*outcomes)
        if self._places is not None:
            slots.sort(key=lambda slot: (self._index(slot) == GONE, self._index(slot)))
        return slots

    def _index(self, slot: int) -> int:
        if self._places is None:
            return self._state.index(slot)
        return self._places.get(self._state.id_of(slot), GONE)

    def _placed(self, slot: int) -> ImageRow | FailureRow:
        row = self.row(slot)
        return row if self._places is None else replace(row, index=self._index(slot))

    def row(self, slot: int) -> ImageRow | FailureRow:
        """The row that settled a cell."""
        index, place = self._state.index(slot), self._state.place(slot)
        if place is None:
            return self._cut_off(slot, index)
        if self._cached is None or self._cached[0] != place:
            # The images of one call share a line: parse it once.
            self._cached = (place, self._rows_at(*place))
        return self._cached[1][index]

    def _rows_at(self, number: int, offset: int) -> dict[int, ImageRow | FailureRow]:
        file = self._files.get(number)
        if file is None:
            file = self._files[number] = self._names[number].open("rb")
        file.seek(offset)
        record = decode(file.readline())
        if not isinstance(record, AttemptRecord):
            raise RuntimeError(f"{self._names[number]} changed while it was read")
        rows: list[ImageRow | FailureRow] = [*record.images, *record.failures]
        return {row.index: row for row in rows}

    def _cut_off(self, slot: int, index: int) -> FailureRow:
        sent = self._sent[index]
        return FailureRow(
            index=index,
            cell_id=next(cell_id for at, cell_id in sent.cells if at == index),
            variant=sent.variant,
            provider=sent.provider,
            model=sent.model,
            outcome="unknown",
            kind="no_answer",
            message=CUT_OFF,
            attempts=self._state.attempts(index),
            started_at=sent.at,
            cost_usd=None if sent.worst_usd is None else sent.worst_usd / len(sent.cells),
        )

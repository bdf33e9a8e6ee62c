"""What earlier processes left in a run folder, read from the journal: where resume starts.

A million cells are kept in flat arrays, about 40 bytes each. The rules: the latest record of a cell
counts, but nothing overwrites ``done``; a call that was sent and never answered leaves its cells
``unknown`` and counts at its worst price; a try that was to be repeated settles nothing.
"""

from __future__ import annotations

from array import array
from binascii import unhexlify
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from runner.record.ids import ID_BYTES, IdTable
from runner.record.journal import (
    ATTEMPT_HEAD,
    CALL_ID_AT,
    CRC_END,
    CRC_START,
    KIND_AT,
    MORE_CELLS,
    START,
    decode,
    intact,
)
from runner.record.outcomes import LASTING, CellOutcome
from runner.record.paths import RunPaths, image_name
from runner.record.rows import AttemptRecord, NoteRecord, OpenRecord, SentRecord
from runner.settings.cell import Json

_NAMES: tuple[CellOutcome | None, ...] = (None, "done", "refused", "failed", "unknown", "failed")
_CODES = {b"retry": 0, b"done": 1, b"refused": 2, b"failed": 3, b"unknown": 4}
_DONE, _FAILED, _UNKNOWN, _LASTING = 1, 3, 4, 5
_LASTING_KINDS = tuple(b'"kind":"%s"' % kind.encode() for kind in LASTING)
_A, _S = b"as"

_PAGE_BITS = 10
_PAGE = 1 << _PAGE_BITS
_OFFSET_BITS = 44
_MOST_ATTEMPTS = 0xFFFF


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A call that was sent and has no answer in the journal: may be billed, may be re-attached.

    A later :class:`~runner.record.rows.AttemptRecord` with its ``call_id`` settles it.

    Attributes:
        sent: What was journalled before it left.
        facts: What was noted while it was in flight, such as a job id, oldest first.
    """

    sent: SentRecord
    facts: tuple[Mapping[str, Json], ...]


class RunState:
    """The outcome of every cell that was ever tried, as last read by :func:`load_state`.

    Attributes:
        plans: Hashes of the plans that the journal was written for, oldest first. Indices mean
            the same in all of them only if there is one.
        attempts_made: Tries of all calls.
        unanswered: Calls that were cut off.
        damaged: One sentence per journal file with lines that could not be read.
    """

    def __init__(self) -> None:
        self.plans: list[str] = []
        self.attempts_made = 0
        self.unanswered: dict[str, Unanswered] = {}
        self.damaged: list[str] = []
        self._costs: dict[bytes, float] = {}
        self._unknown_usd = 0.0
        self._unpriced = 0
        # One slot per cell, in order of appearance.
        self._outcomes = bytearray()
        self._attempts = array("H")
        self._ids = bytearray()
        self._indices = array("q")
        self._places = array("q")
        self._pages: dict[int, array[int]] = {}
        self._table: IdTable | None = None
        self._ends: list[int] = []
        self._sent: dict[bytes, bytes] = {}
        self._notes: dict[bytes, list[bytes]] = {}
        self._jobs: dict[bytes, tuple[bytes, list[bytes], float | None]] = {}

    def __len__(self) -> int:
        """How many cells were tried."""
        return len(self._outcomes)

    @property
    def counts(self) -> dict[CellOutcome, int]:
        """Cells by outcome; those that were only tried are in none."""
        counts: dict[CellOutcome, int] = {}
        for code, name in enumerate(_NAMES):
            if name:
                counts[name] = counts.get(name, 0) + self._outcomes.count(code)
        return counts

    @property
    def lasting(self) -> int:
        """Cells among the failed ones whose request would fail again, see :data:`LASTING`."""
        return self._outcomes.count(_LASTING)

    @property
    def cost_usd(self) -> float:
        """Dollars that are known to have been paid."""
        return sum(self._costs.values())

    @property
    def cost_by_basis(self) -> dict[str, float]:
        """The same dollars by where each figure comes from."""
        return {basis.decode(): usd for basis, usd in self._costs.items()}

    @property
    def cost_unknown_worst_usd(self) -> float:
        """Dollars that unknown and unanswered calls may have cost at most, where that is known."""
        lost = (call.sent.worst_usd or 0.0 for call in self.unanswered.values())
        # A call that was asked for once more is taken out again: no crumbs of that may stay.
        return round(self._unknown_usd + sum(lost), 9)

    @property
    def unpriced_calls(self) -> int:
        """Calls whose cost is unknown and has no known upper bound either."""
        lost = sum(call.sent.worst_usd is None for call in self.unanswered.values())
        return self._unpriced + lost

    def same_plan(self, plan_hash: str) -> bool:
        """Whether every record was written for this plan, so that indices may be asked for."""
        return all(known == plan_hash for known in self.plans)

    def outcome(self, index: int) -> CellOutcome | None:
        """Outcome by place in the plan; for the plan that wrote the journal (:meth:`same_plan`)."""
        slot = self._slot_at(index)
        return None if slot < 0 else _NAMES[self._outcomes[slot]]

    def outcome_of(self, cell_id: str) -> CellOutcome | None:
        """Outcome by cell id, for any plan."""
        slot = self.slot_of(cell_id)
        return None if slot is None else _NAMES[self._outcomes[slot]]

    def lasts(self, index: int) -> bool:
        """Whether a cell failed in a way that lasts, by place in the plan."""
        slot = self._slot_at(index)
        return slot >= 0 and self._outcomes[slot] == _LASTING

    def lasts_of(self, cell_id: str) -> bool:
        """Whether a cell failed in a way that lasts, by its id."""
        slot = self.slot_of(cell_id)
        return slot is not None and self._outcomes[slot] == _LASTING

    def attempts(self, index: int) -> int:
        """Tries of a cell so far, by place in the plan; at most 65,535."""
        slot = self._slot_at(index)
        return 0 if slot < 0 else self._attempts[slot]

    def attempts_of(self, cell_id: str) -> int:
        """Tries of a cell so far, by its id; at most 65,535."""
        slot = self.slot_of(cell_id)
        return 0 if slot is None else self._attempts[slot]

    def is_cell(self, index: int, cell_id: str) -> bool:
        """Whether the cell that was tried at this place has this id, or an id that begins so."""
        slot = self._slot_at(index)
        return slot >= 0 and self._has_id(slot, unhexlify(cell_id)[:ID_BYTES])

    def slot_of(self, cell_id: str) -> int | None:
        """Slot of a cell by its id, or by the first 12 digits or more of it."""
        slot = self._find(unhexlify(cell_id)[:ID_BYTES])
        return None if slot < 0 else slot

    def slots(self, *outcomes: CellOutcome) -> list[int]:
        """Slots of the cells with one of these outcomes, by place in the plan."""
        codes = {code for code, name in enumerate(_NAMES) if name in outcomes}
        found = [slot for slot, code in enumerate(self._outcomes) if code in codes]
        found.sort(key=self._indices.__getitem__)
        return found

    def id_of(self, slot: int) -> bytes:
        """The first half of a cell's id."""
        return bytes(self._ids[slot * ID_BYTES : (slot + 1) * ID_BYTES])

    def has_image(self, index: int, cell_id: str) -> bool:
        """Whether a cell of this id, or of an id that begins so, was done at this place."""
        slot = self._slot_at(index) if self.is_cell(index, cell_id) else self.slot_of(cell_id)
        return slot is not None and self._outcomes[slot] == _DONE and self._indices[slot] == index

    def index(self, slot: int) -> int:
        """Place in the plan of the cell in a slot."""
        return self._indices[slot]

    def place(self, slot: int) -> tuple[int, int] | None:
        """Journal file number and offset of the record that settled a slot.

        ``None`` for a cell that only an unanswered call names.
        """
        place = self._places[slot]
        return None if place < 0 else (place >> _OFFSET_BITS, place & (1 << _OFFSET_BITS) - 1)

    def update(self, paths: RunPaths) -> None:
        """Take in what the journal gained since the last time; nothing is read twice.

        A last line without its newline is left for the next time: somebody may be writing it.

        Raises:
            RequestError: A later version wrote it.
        """
        for number, file in enumerate(paths.journal_files()):
            if number == len(self._ends):
                self._ends.append(0)
            self._read(number, file)

    def _read(self, number: int, file: Path) -> None:
        base, offset, damaged, first_damage = number << _OFFSET_BITS, self._ends[number], 0, 0
        sent = self._sent
        with file.open("rb", buffering=1 << 20) as lines:
            if offset == 0:
                self._add_plan(lines.readline())
            lines.seek(offset)
            for line in lines:
                # `intact` and the shortest branch stand here themselves: a million calls cost.
                try:
                    good = crc32(line[CRC_END:-1]) == int(line[CRC_START:CRC_END], 16)
                except ValueError:
                    good = False
                if not good or line[:CRC_START] != START:
                    if not line.endswith(b"\n"):
                        break
                    damaged += 1
                    first_damage = first_damage if damaged > 1 else offset
                elif line[KIND_AT] == _S:
                    sent[line[CALL_ID_AT : line.index(b'"', CALL_ID_AT)]] = line
                else:
                    self._take(line, base + offset)
                offset += len(line)
        self._ends[number] = offset
        if damaged:
            self.damaged.append(
                f"{file.name}: {damaged} damaged line(s), the first at byte {first_damage:,}, "
                "skipped; what they recorded counts as not done"
            )

    def _add_plan(self, line: bytes) -> None:
        """Take in the first line of a file; if it is damaged, its plan counts as another one."""
        if not line.endswith(b"\n"):
            return
        record = decode(line) if intact(line) else None
        plan_hash = record.plan_hash if isinstance(record, OpenRecord) else ""
        if plan_hash not in self.plans:
            self.plans.append(plan_hash)
        if len(self.plans) > 1 and self._table is None:
            # With several plans an index says nothing: cells are found by their id.
            self._table = IdTable(self._ids)

    def settle(self) -> None:
        """The run is over: calls without an answer leave their cells unknown."""
        for call_id, line in self._sent.items():
            unanswered = _unanswered(line, self._notes.get(call_id, ()))
            if unanswered is None:
                continue
            self.unanswered[unanswered.sent.call_id] = unanswered
            self.attempts_made += 1
            for index, cell_id in unanswered.sent.cells:
                self._put(index, unhexlify(cell_id)[:ID_BYTES], _UNKNOWN, -1)
        self._sent.clear()
        self._notes.clear()

    def jobs(self) -> list[Unanswered]:
        """Calls whose outcome is unknown and that noted something, such as a job's id.

        Those that were cut off, and those that were given up before the job was over.
        """
        late = (_unanswered(sent, notes) for sent, notes, _ in self._jobs.values())
        cut_off = (call for call in self.unanswered.values() if call.facts)
        return [*filter(None, late), *cut_off]

    def _take(self, line: bytes, place: int) -> None:
        if line[KIND_AT] == _A and (head := ATTEMPT_HEAD.match(line)) is not None:
            call_id, outcome, cost, basis, index, cell, result, more = head.groups()
            sent = self._sent.pop(call_id, None)
            notes = self._notes.pop(call_id, None) if self._notes else None
            tried = 1
            if self._jobs and call_id in self._jobs:
                # The same call, asked for once more: it was not sent again, nor billed twice.
                sent, notes, worst = self._jobs.pop(call_id)
                self._add_unknown_cost(worst, -1)
                tried = 0
            self.attempts_made += tried
            if cost == b"null" or outcome == b"unknown":
                worst = _worst(cost, sent)
                self._add_unknown_cost(worst, 1)
                if notes and sent is not None and outcome == b"unknown":
                    self._jobs[call_id] = (sent, notes, worst)
            else:
                self._costs[basis] = self._costs.get(basis, 0.0) + float(cost)
            if index is not None:
                self._put(int(index), unhexlify(cell), _CODES[result], place, tried)
            at = head.end()
            while more and (found := MORE_CELLS.match(line, at)) is not None:
                index, cell, result = found.groups()
                self._put(int(index), unhexlify(cell), _CODES[result], place, tried)
                at = found.end()
            if outcome != b"done" and any(kind in line for kind in _LASTING_KINDS):
                self._mark_lasting(line)
        else:
            # The rare ones, and whatever a later version may write.
            record = decode(line)
            if isinstance(record, NoteRecord):
                self._notes.setdefault(record.call_id.encode(), []).append(line)

    def _mark_lasting(self, line: bytes) -> None:
        """Which of the cells that an attempt has just settled failed in a way that lasts."""
        record = decode(line)
        assert isinstance(record, AttemptRecord)
        for row in record.failures:
            slot = self._slot_at(row.index)
            if row.kind in LASTING and self._outcomes[slot] == _FAILED:
                self._outcomes[slot] = _LASTING

    def _add_unknown_cost(self, worst: float | None, calls: int) -> None:
        if worst is None:
            self._unpriced += calls
        else:
            self._unknown_usd += calls * worst

    def _put(self, index: int, cell: bytes, code: int, place: int, tried: int = 1) -> None:
        page = self._pages.get(index >> _PAGE_BITS)
        if page is None:
            page = self._pages[index >> _PAGE_BITS] = array("i", [-1]) * _PAGE
        slot = page[index & _PAGE - 1]
        if slot < 0 and self._table is None:
            # By far the most frequent: the first record of a cell.
            page[index & _PAGE - 1] = len(self._outcomes)
            self._outcomes.append(code)
            self._attempts.append(1)
            self._indices.append(index)
            self._places.append(place if code else -1)
            self._ids += cell
            return
        if slot < 0 or not self._has_id(slot, cell):
            if slot >= 0 and self._table is None:
                # Two cells in one place: another plan wrote here without saying so.
                self._table = IdTable(self._ids)
            slot = -1 if self._table is None else self._table.find(cell)
            if slot < 0:
                slot = len(self._outcomes)
                self._outcomes.append(0)
                self._attempts.append(0)
                self._indices.append(index)
                self._places.append(-1)
                self._ids += cell
                if self._table is not None:
                    self._table.add(slot)
            page[index & _PAGE - 1] = slot
        if self._attempts[slot] < _MOST_ATTEMPTS:
            self._attempts[slot] += tried
        old = self._outcomes[slot]
        if code == 0 or old == _DONE:
            return
        self._outcomes[slot] = code
        self._places[slot] = place
        self._indices[slot] = index

    def _slot_at(self, index: int) -> int:
        page = self._pages.get(index >> _PAGE_BITS)
        return -1 if page is None else page[index & _PAGE - 1]

    def _has_id(self, slot: int, cell: bytes) -> bool:
        return self._ids.startswith(cell, slot * ID_BYTES)

    def _find(self, cell: bytes) -> int:
        if self._table is None:
            self._table = IdTable(self._ids)
        return self._table.find(cell)


def _unanswered(sent: bytes, notes: Iterable[bytes]) -> Unanswered | None:
    """A call from its lines in the journal."""
    record = decode(sent)
    if not isinstance(record, SentRecord):
        return None
    facts = [note.fact for line in notes if isinstance(note := decode(line), NoteRecord)]
    return Unanswered(record, tuple(facts))


def _worst(cost: bytes, sent: bytes | None) -> float | None:
    """Most that a call without a known cost can have cost; ``None``: nobody knows."""
    if cost != b"null":
        return float(cost)
    record = None if sent is None else decode(sent)
    return record.worst_usd if isinstance(record, SentRecord) else None


def load_state(paths: RunPaths, *, live: bool = False) -> RunState:
    """Read the journal of a run, line by line.

    Args:
        paths: The run.
        live: The run goes on: calls without an answer are in flight, not lost, and count nowhere.
            :meth:`RunState.update` then takes in what comes.

    Returns:
        The state; empty for a run that never started.

    Raises:
        RequestError: A later version wrote it.
    """
    state = RunState()
    state.update(paths)
    if not live:
        state.settle()
    return state


def unanswered_images(paths: RunPaths, state: RunState) -> Iterator[tuple[Unanswered, int, Path]]:
    """Images on disk of calls that were cut off between the file and its journal record.

    A file takes its name only when it is whole, so each of them can be adopted: commit an attempt
    with the call's id whose rows name these files, and they are never paid again.

    Yields:
        The call, the position of the cell among the call's cells, and the file.
    """
    for call in state.unanswered.values():
        for position, (index, cell_id) in enumerate(call.sent.cells):
            if state.has_image(index, cell_id):
                continue
            stem = paths.image(image_name(index, cell_id, ".x"))
            for path in sorted(stem.parent.glob(f"{stem.stem}.*")):
                yield call, position, path

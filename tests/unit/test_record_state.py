"""What resume learns from the journal."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.record.ids import ID_BYTES, IdTable
from runner.record.journal import encode
from runner.record.paths import RunPaths, image_name
from runner.record.rows import AttemptRecord, NoteRecord, OpenRecord, SentRecord
from runner.record.state import load_state, unanswered_images
from tests.unit.records import (
    NOW,
    PLAN,
    attempt,
    call_id,
    cell_id,
    done,
    failed,
    failure_row,
    image_row,
    picture,
    sent,
    write_run,
)

Written = AttemptRecord | SentRecord | NoteRecord


def journal_of(root: Path, *files: list[Written], plans: tuple[str, ...] = ()) -> RunPaths:
    """Journal files with these records, written straight to disk."""
    paths = RunPaths(root)
    paths.journal.mkdir(exist_ok=True)
    for number, records in enumerate(files, start=1):
        plan = plans[number - 1] if plans else PLAN
        opening = OpenRecord(at=NOW, plan_hash=plan, host="h", pid=1)
        path = paths.journal / f"{number:04d}-h-1-1.jsonl"
        path.write_bytes(b"".join(encode(record) for record in (opening, *records)))
    return paths


def test_a_folder_without_a_journal_has_an_empty_state(tmp_path: Path) -> None:
    state = load_state(RunPaths(tmp_path))
    assert len(state) == 0
    assert state.outcome(0) is None
    assert state.outcome_of(cell_id(0)) is None
    assert state.attempts(3) == 0
    assert state.same_plan("any")


def test_outcomes_by_place_and_by_id(tmp_path: Path) -> None:
    paths = journal_of(
        tmp_path,
        [done(0), failed(1), failed(2, "refused"), failed(3, "unknown"), done(5_000_000)],
    )
    state = load_state(paths)
    expected = {0: "done", 1: "failed", 2: "refused", 3: "unknown", 4: None, 5_000_000: "done"}
    for index, outcome in expected.items():
        assert state.outcome(index) == outcome
        assert state.outcome_of(cell_id(index)) == outcome
        assert state.is_cell(index, cell_id(index)) == (outcome is not None)
        assert not state.is_cell(index, cell_id(index + 1))
    assert state.counts == {"done": 2, "refused": 1, "failed": 1, "unknown": 1}
    assert state.same_plan(PLAN)
    assert not state.same_plan("another")


def test_failures_that_last_are_known_among_the_failed(tmp_path: Path) -> None:
    said = '"outcome":"failed","kind":"invalid"'  # in a prompt it means nothing
    mixed = attempt(
        2,
        images=(image_row(2, picture(2)),),
        failures=(failure_row(3, kind="invalid"), failure_row(4, prompt=said)),
        outcome="partial",
        cost_usd=0.1,
        cost_basis="usage",
    )
    wrong = attempt(
        1, failures=(failure_row(1, kind="invalid"),), outcome="failed", cost_usd=0.0,
        cost_basis="free",
    )  # fmt: skip
    again = replace(wrong, call_id=call_id(5), failures=(failure_row(2, kind="invalid"),))
    paths = journal_of(tmp_path, [failed(0), wrong, mixed, again])
    state = load_state(paths)
    assert [state.lasts(index) for index in range(6)] == [False, True, False, True, False, False]
    assert state.outcome(3) == "failed"
    assert state.lasts_of(cell_id(3))
    assert not state.lasts_of(cell_id(4))
    assert state.lasting == 2
    assert state.counts == {"done": 1, "refused": 0, "failed": 4, "unknown": 0}
    assert [state.index(slot) for slot in state.slots("failed")] == [0, 1, 3, 4]

    journal_of(tmp_path, [failed(0), wrong, mixed, again], [failed(1), done(3)])
    state = load_state(paths)
    assert state.lasting == 0
    assert state.counts == {"done": 2, "refused": 0, "failed": 3, "unknown": 0}


def test_the_latest_record_counts_but_done_stays_done(tmp_path: Path) -> None:
    paths = journal_of(
        tmp_path,
        [failed(1), failed(2), done(3), failed(4, "unknown")],
        [done(1), failed(2, "refused"), failed(3), failed(4)],
    )
    state = load_state(paths)
    assert [state.outcome(index) for index in (1, 2, 3, 4)] == ["done", "refused", "done", "failed"]
    assert state.counts == {"done": 2, "refused": 1, "failed": 1, "unknown": 0}


def test_attempts_are_counted_over_all_processes(tmp_path: Path) -> None:
    first = [sent(1), failed(1, final=False), sent(1), failed(1)]
    paths = journal_of(tmp_path, first, [sent(1)])
    state = load_state(paths)
    assert state.attempts(1) == state.attempts_of(cell_id(1)) == 3
    assert state.attempts_made == 3


def test_a_try_that_was_to_be_repeated_settles_nothing(tmp_path: Path) -> None:
    state = load_state(journal_of(tmp_path, [failed(1, final=False)]))
    assert state.outcome(1) is None
    assert sum(state.counts.values()) == 0


def test_a_call_without_an_answer_is_unknown_at_its_worst_price(tmp_path: Path) -> None:
    note = NoteRecord(call_id=call_id(1), at=NOW, fact={"job": "j-17"})
    other = NoteRecord(call_id=call_id(2), at=NOW, fact={"job": "j-18"})
    paths = journal_of(tmp_path, [sent(1, 1, 6), note, sent(2), other, done(2), sent(3)], [done(3)])
    state = load_state(paths)
    assert [state.outcome(index) for index in (1, 6, 2, 3)] == [
        "unknown",
        "unknown",
        "done",
        "done",
    ]
    assert list(state.unanswered) == [call_id(1)]
    lost = state.unanswered[call_id(1)]
    assert lost.sent == sent(1, 1, 6)
    assert lost.facts == ({"job": "j-17"},)
    assert state.cost_unknown_worst_usd == pytest.approx(0.5)
    # While the run goes on the same call is merely in flight.
    live = load_state(paths, live=True)
    assert live.outcome(1) is None
    assert live.unanswered == {}


def test_facts_belong_to_the_try_that_noted_them(tmp_path: Path) -> None:
    note = NoteRecord(call_id=call_id(1), at=NOW, fact={"job": "old"})
    paths = journal_of(tmp_path, [sent(1), note, failed(1, final=False), sent(1)])
    assert load_state(paths).unanswered[call_id(1)].facts == ()


def test_tries_are_counted_up_to_a_bound(tmp_path: Path) -> None:
    paths = journal_of(tmp_path, [sent(1, *[1] * 65_540)])
    assert load_state(paths).attempts(1) == 65_535


def test_an_unanswered_call_does_not_undo_what_was_done(tmp_path: Path) -> None:
    state = load_state(journal_of(tmp_path, [done(1)], [sent(1)]))
    assert state.outcome(1) == "done"


def test_costs_known_worst_and_without_bound(tmp_path: Path) -> None:
    paths = journal_of(
        tmp_path,
        [
            done(1),
            attempt(2, outcome="done", cost_usd=0.125, cost_basis="usage"),
            failed(3, "unknown", cost_usd=0.75, cost_basis="estimate"),
            sent(4, worst_usd=1.5),
            failed(4, "unknown", cost_usd=None, cost_basis="unknown"),
            attempt(5, outcome="done", cost_usd=None),
            sent(6, worst_usd=2.0),
            sent(7, worst_usd=None),
            failed(8),
        ],
    )
    state = load_state(paths)
    assert state.cost_usd == pytest.approx(0.375)
    assert state.cost_by_basis == {"price_book": 0.25, "usage": 0.125, "free": 0.0}
    assert state.cost_unknown_worst_usd == pytest.approx(0.75 + 1.5 + 2.0)
    assert state.unpriced_calls == 2


def test_calls_of_many_cells(tmp_path: Path) -> None:
    images = tuple(image_row(index, picture(1), cell_id=cell_id(index)) for index in range(7))
    failures = tuple(failure_row(index, "refused") for index in range(7, 10))
    record = attempt(0, outcome="partial", images=images, failures=failures, cost_usd=1.0)
    state = load_state(journal_of(tmp_path, [record]))
    assert state.counts == {"done": 7, "refused": 3, "failed": 0, "unknown": 0}
    assert state.outcome(9) == "refused"
    # All of them point at the same line.
    assert len({state.place(slot) for slot in state.slots("done", "refused")}) == 1


def test_with_another_plan_cells_are_found_by_id(tmp_path: Path) -> None:
    moved = replace(failed(1), failures=(failure_row(1, cell_id=cell_id(9)),))
    again = replace(done(1), images=(image_row(2, picture(2), cell_id=cell_id(1)),))
    paths = journal_of(tmp_path, [done(1), done(9)], [moved, again], plans=("old", "new"))
    state = load_state(paths)
    assert state.plans == ["old", "new"]
    assert not state.same_plan("new")
    assert len(state) == 2
    assert state.outcome_of(cell_id(1)) == state.outcome_of(cell_id(9)) == "done"
    assert state.attempts_of(cell_id(9)) == 2


def test_two_cells_in_one_place_never_share_an_outcome(tmp_path: Path) -> None:
    # Not even if the file does not say that its plan is another one.
    foreign = replace(failed(1), failures=(failure_row(1, cell_id=cell_id(77)),))
    state = load_state(journal_of(tmp_path, [done(1), foreign, failed(1)]))
    assert state.outcome_of(cell_id(1)) == "done"
    assert state.outcome_of(cell_id(77)) == "failed"
    assert (len(state), state.attempts_of(cell_id(1))) == (2, 2)


def test_garbage_anywhere_is_skipped_counted_and_told(tmp_path: Path) -> None:
    paths = journal_of(tmp_path, [done(index) for index in range(7)])
    file = paths.journal_files()[0]
    lines = file.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"fox", b"cat")
    lines[-1] = b"[" + lines[-1][1:]
    lines.insert(4, b"\0" * 500 + b"\n")
    lines.insert(5, b"\n")
    lines.insert(6, b"not json\n")
    file.write_bytes(b"".join(lines))
    state = load_state(paths)
    expected = ["done", None, *["done"] * 4, None]
    assert [state.outcome(index) for index in range(7)] == expected
    assert len(state.damaged) == 1
    assert "5 damaged line(s), the first at byte" in state.damaged[0]


def test_a_damaged_first_line_counts_as_another_plan(tmp_path: Path) -> None:
    paths = journal_of(tmp_path, [done(1)])
    file = paths.journal_files()[0]
    file.write_bytes(file.read_bytes().replace(b"plan-hash", b"plan-hush"))
    state = load_state(paths)
    assert not state.same_plan(PLAN)
    assert state.outcome_of(cell_id(1)) == "done"


def test_an_empty_journal_file_says_nothing(tmp_path: Path) -> None:
    paths = journal_of(tmp_path, [done(1)])
    (paths.journal / "0002-h-1-1.jsonl").touch()
    state = load_state(paths)
    assert state.same_plan(PLAN)
    assert state.damaged == []


def test_the_last_record_cut_at_every_byte(tmp_path: Path) -> None:
    paths = journal_of(tmp_path, [done(1), sent(2), done(2)])
    file = paths.journal_files()[0]
    whole = file.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for end in range(start, len(whole)):
        file.write_bytes(whole[:end])
        state = load_state(paths)
        assert [state.outcome(1), state.outcome(2)] == ["done", "unknown"]
        assert state.damaged == []
    file.write_bytes(whole)
    assert load_state(paths).outcome(2) == "done"


def test_updates_take_in_only_what_is_new(tmp_path: Path) -> None:
    paths = journal_of(tmp_path, [done(1), sent(2)])
    state = load_state(paths, live=True)
    file = paths.journal_files()[0]
    line = encode(done(2))
    with file.open("ab") as journal:
        journal.write(line[:50])
    state.update(paths)
    assert state.outcome(2) is None
    with file.open("ab") as journal:
        journal.write(line[50:] + encode(sent(3)))
    state.update(paths)
    assert [state.outcome(index) for index in (1, 2, 3)] == ["done", "done", None]
    assert state.attempts_made == 2
    state.settle()
    assert state.outcome(3) == "unknown"
    assert state.damaged == []


outcomes = st.sampled_from(["done", "failed", "refused", "unknown", "retry", "sent"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 6), outcomes), max_size=12), min_size=1, max_size=3),
    st.booleans(),
)
def test_any_history_gives_what_a_plain_dict_would(
    tmp_path_factory: pytest.TempPathFactory,
    history: list[list[tuple[int, str]]],
    one_plan: bool,
) -> None:
    expected: dict[int, str] = {}
    pending: set[int] = set()
    files: list[list[Written]] = []
    for events in history:
        records: list[Written] = []
        for index, outcome in events:
            if outcome == "sent":
                pending.add(index)
                records.append(sent(index))
                continue
            pending.discard(index)
            records.append(
                done(index)
                if outcome == "done"
                else failed(index, final=False)
                if outcome == "retry"
                else failed(index, outcome)
            )
            if outcome != "retry" and expected.get(index) != "done":
                expected[index] = outcome
        files.append(records)
    for index in pending:
        if expected.get(index) != "done":
            expected[index] = "unknown"
    plans = tuple(PLAN if one_plan else f"plan {number}" for number in range(len(files)))
    state = load_state(journal_of(tmp_path_factory.mktemp("run"), *files, plans=plans))
    assert {index: state.outcome_of(cell_id(index)) for index in range(7)} == {
        index: expected.get(index) for index in range(7)
    }
    assert [state.outcome(index) for index in range(7)] == [expected.get(i) for i in range(7)]
    assert sum(state.counts.values()) == len(expected)


def test_images_of_a_call_that_was_cut_off_can_be_adopted(tmp_path: Path) -> None:
    # Cell 5 was sent, lost, sent again and made: its image is nobody's orphan.
    again = replace(done(5), call_id="again")
    paths = write_run(tmp_path, [done(1), sent(2, 2, 3), sent(5), again])
    for index in (1, 3, 4):
        path = paths.image(image_name(index, cell_id(index), ".png"))
        path.write_bytes(picture(index))
    found = list(unanswered_images(paths, load_state(paths)))
    assert [(call.sent.call_id, at, path.name[:7]) for call, at, path in found] == [
        (call_id(2), 1, "0000003")
    ]


def test_a_table_of_many_ids_finds_each_by_any_start() -> None:
    numbers = random.Random(7)
    ids = bytearray()
    table = IdTable(ids)
    cells = [numbers.randbytes(ID_BYTES) for _ in range(5000)]
    for slot, cell in enumerate(cells):
        ids += cell
        table.add(slot)
    again = IdTable(ids)
    for slot, cell in enumerate(cells):
        assert table.find(cell) == again.find(cell) == table.find(cell[:8]) == slot
    assert table.find(bytes(ID_BYTES)) == -1

"""Pictures of earlier runs: found by cell, linked whole, and never by a damaged index."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from runner.record.paths import RunPaths, image_name
from runner.record.reuse import INDEX, EarlierRuns, outputs_root, reused
from runner.record.state import load_state
from runner.record.store import RunStore
from runner.settings.cell import Cell, CellParams
from tests.unit.records import NOW, cell_id, done, failed, picture, sent, with_store, write_run

FIRST, SECOND = "2026-01-01/10-00-00", "2026-01-02/09-00-00"


def cell(number: int, index: int | None = None) -> Cell:
    params = CellParams(prompt=f"a fox, number {number}")
    at = number if index is None else index
    return Cell(at, 3, 0, params, (("seed", number),), cell_id(number))


def earlier_run(root: Path, name: str, *numbers: int) -> RunPaths:
    (root / name).mkdir(parents=True)
    return write_run(root / name, [record for at in numbers for record in (sent(at), done(at))])


def new_run(root: Path, name: str = SECOND) -> RunPaths:
    (root / name).mkdir(parents=True, exist_ok=True)
    return RunPaths(root / name)


def found(paths: RunPaths, *numbers: int) -> list[int]:
    with EarlierRuns(paths) as runs:
        return [number for number in numbers if runs.find(cell(number))]


def test_the_outputs_folder_of_a_run() -> None:
    assert outputs_root(Path("/data/outputs/2026-01-01/10-00-00")) == Path("/data/outputs")
    assert outputs_root(Path("/data/outputs/foxes")) == Path("/data/outputs")
    assert outputs_root(Path("foxes")) == Path.cwd()


def test_a_picture_is_linked_and_its_row_belongs_to_the_new_run(tmp_path: Path) -> None:
    old = earlier_run(tmp_path, FIRST, 1, 2)
    new = new_run(tmp_path)
    with EarlierRuns(new) as runs:
        assert runs.find(cell(7)) is None
        earlier = runs.find(cell(2, index=1500))
    assert earlier is not None
    record = reused(earlier, NOW)
    row = record.images[0]
    assert row.file_name == image_name(1500, cell_id(2), ".png")
    assert (row.index, row.variant, row.axes) == (1500, 3, {"seed": 2})
    assert row.reused_from == f"{FIRST}/images/{image_name(2, cell_id(2), '.png')}"
    assert (row.cost_usd, row.cost_basis) == (0.0, "free")
    assert (record.cost_usd, record.cost_basis) == (0.0, "free")

    async def work(store: RunStore) -> None:
        await store.commit(record, {row.file_name: earlier.file})
        await store.commit(record, {row.file_name: earlier.file})  # a link onto itself

    with_store(new.root, work)
    assert new.image(row.file_name).read_bytes() == picture(2)
    assert new.image(row.file_name).samefile(old.image(image_name(2, cell_id(2), ".png")))
    assert not list(new.temp_files())
    assert load_state(new).outcome(1500) == "done"


def test_a_copy_where_there_can_be_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier_run(tmp_path, FIRST, 1)
    new = new_run(tmp_path)
    with EarlierRuns(new) as runs:
        earlier = runs.find(cell(1))
    assert earlier is not None

    def refuse(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    async def work(store: RunStore) -> None:
        await store.commit(reused(earlier, NOW), {earlier.row.file_name: earlier.file})

    monkeypatch.setattr(os, "link", refuse)
    with_store(new.root, work)
    assert new.image(earlier.row.file_name).read_bytes() == picture(1)
    assert not new.image(earlier.row.file_name).samefile(earlier.file)


def test_only_whole_pictures_of_other_runs_count(tmp_path: Path) -> None:
    old = earlier_run(tmp_path, FIRST, 1, 2, 3, 4)
    write_run(old.root, [failed(5), sent(6)])
    new = new_run(tmp_path)
    files = [old.image(image_name(number, cell_id(number), ".png")) for number in (1, 2, 3)]
    files[0].write_bytes(b"x" * len(picture(1)))
    files[1].unlink()
    files[2].unlink()
    files[2].symlink_to(__file__)
    assert found(new, 1, 2, 3, 4, 5, 6) == [4]
    assert found(old, 4) == []
    write_run(new.root, [done(4)])
    assert found(new, 4) == [4]


def test_the_index_follows_the_journals(tmp_path: Path) -> None:
    first = earlier_run(tmp_path, FIRST, 1)
    new = new_run(tmp_path)
    assert found(new, 1, 2, 3) == [1]
    write_run(first.root, [done(2)])
    second = earlier_run(tmp_path, "by-hand", 3, 1)
    assert found(new, 1, 2, 3) == [1, 2, 3]
    with EarlierRuns(new) as runs:
        latest = runs.find(cell(1))
    assert latest is not None
    assert latest.row.reused_from == f"by-hand/images/{image_name(1, cell_id(1), '.png')}"
    shutil.rmtree(second.root)
    assert found(new, 1, 2, 3) == [1, 2]
    shutil.rmtree(first.root)
    assert found(new, 1, 2, 3) == []
    earlier_run(tmp_path, FIRST, 3)
    assert found(new, 1, 2, 3) == [3]


def test_a_line_that_is_being_written_is_taken_in_later(tmp_path: Path) -> None:
    old = earlier_run(tmp_path, FIRST, 1, 2)
    new = new_run(tmp_path)
    (journal,) = old.journal_files()
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-5])
    assert found(new, 1, 2) == [1]
    journal.write_bytes(whole)
    assert found(new, 1, 2) == [1, 2]


@pytest.mark.parametrize("cut", [0, 1, 100, 4096, 6000])
def test_a_damaged_index_is_made_anew(tmp_path: Path, cut: int) -> None:
    earlier_run(tmp_path, FIRST, *range(20))
    new = new_run(tmp_path)
    assert found(new, 1) == [1]
    index = tmp_path / INDEX
    whole = index.read_bytes()
    index.write_bytes(whole[:cut] + b"garbage" * 1000)
    assert found(new, *range(20)) == list(range(20))
    assert sqlite3.connect(index).execute("PRAGMA quick_check").fetchone() == ("ok",)


def test_an_index_that_says_what_no_journal_says_is_made_anew(tmp_path: Path) -> None:
    earlier_run(tmp_path, FIRST, 1, 2)
    new = new_run(tmp_path)
    assert found(new, 1, 2) == [1, 2]
    with sqlite3.connect(tmp_path / INDEX) as index:
        index.execute("UPDATE cells SET offset = offset + 1")
    index.close()
    assert found(new, 1, 2) == [1, 2]


def test_an_index_that_cannot_be_written_is_kept_in_memory(tmp_path: Path) -> None:
    earlier_run(tmp_path, FIRST, 1)
    (tmp_path / INDEX).mkdir()
    assert found(new_run(tmp_path), 1) == [1]

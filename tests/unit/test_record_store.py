"""The writer: durable, grouped, and whole after any error."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.record import atomic
from runner.record import store as store_module
from runner.record.journal import decode, encode, intact
from runner.record.paths import RunPaths, image_name, temp_path
from runner.record.rows import NoteRecord, OpenRecord
from runner.record.state import load_state
from runner.record.store import RunStore
from runner.settings.errors import PrerequisiteError
from tests.unit.records import (
    NOW,
    PLAN,
    attempt,
    cell_id,
    done,
    failed,
    files_of,
    image_row,
    picture,
    sent,
    with_store,
    write_run,
)


def lines_of(paths: RunPaths) -> list[bytes]:
    return [line for file in paths.journal_files() for line in file.read_bytes().splitlines(True)]


def test_a_commit_leaves_the_image_and_its_record(tmp_path: Path) -> None:
    paths = write_run(tmp_path, [sent(3), done(3)])
    assert paths.image(image_name(3, cell_id(3), ".png")).read_bytes() == picture(3)
    opening, first, second = (decode(line) for line in lines_of(paths))
    assert isinstance(opening, OpenRecord)
    assert (opening.plan_hash, opening.pid) == (PLAN, os.getpid())
    assert (first, second) == (sent(3), done(3))
    assert not list(paths.temp_files())


def test_many_callers_at_once_all_become_durable(tmp_path: Path) -> None:
    async def work(store: RunStore) -> None:
        async def one(index: int) -> None:
            await store.sent(sent(index))
            await store.note(NoteRecord(call_id=f"call-{index}", at=NOW, fact={"job": index}))
            record = failed(index, "refused") if index % 5 == 0 else done(index)
            await store.commit(record, files_of(record))

        await asyncio.gather(*map(one, range(1500, 1700)))

    paths = with_store(tmp_path, work)
    state = load_state(paths)
    assert state.counts == {"done": 160, "refused": 40, "failed": 0, "unknown": 0}
    assert all(intact(line) for line in lines_of(paths))
    assert sum(1 for _ in paths.images.glob("0001/*.png")) == 160


def test_records_that_wait_share_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = 0
    real = os.fsync

    def count(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        real(descriptor)

    async def work(store: RunStore) -> None:
        monkeypatch.setattr("runner.record.writer.os.fsync", count)
        await asyncio.gather(*(store.sent(sent(index)) for index in range(500)))
        monkeypatch.undo()

    paths = with_store(tmp_path, work)
    assert len(lines_of(paths)) == 501
    assert syncs < 250


def test_nothing_is_confirmed_before_image_folder_and_journal_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    real_sync, real_open, real_replace = os.fsync, os.open, Path.replace
    names: dict[int, str] = {}

    def spy_open(path: Any, *rest: Any, **more: Any) -> int:
        descriptor = real_open(path, *rest, **more)
        names[descriptor] = Path(path).name
        return descriptor

    def spy_sync(descriptor: int) -> None:
        real_sync(descriptor)
        events.append(names.get(descriptor, "?"))

    def spy_replace(path: Path, target: Path) -> Path:
        events.append(f"rename {target.name}")
        return real_replace(path, target)

    async def work(store: RunStore) -> None:
        await store.sent(sent(2))
        events.clear()
        await store.commit(done(2), files_of(done(2)))
        events.append("confirmed")

    monkeypatch.setattr("os.open", spy_open)
    monkeypatch.setattr("os.fsync", spy_sync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    paths = with_store(tmp_path, work)
    name = Path(image_name(2, cell_id(2), ".png")).name
    journal = paths.journal_files()[0].name
    order = [f".{name}.tmp", f"rename {name}", "0000", "images", journal, "confirmed"]
    assert events[: len(order)] == order


def test_no_journal_file_without_a_record(tmp_path: Path) -> None:
    async def nothing(store: RunStore) -> None:
        return

    assert with_store(tmp_path, nothing).journal_files() == []


def test_every_process_writes_its_own_file_in_order(tmp_path: Path) -> None:
    for index in range(3):
        paths = write_run(tmp_path, [done(index)])
    names = [path.name for path in paths.journal_files()]
    assert [name[:5] for name in names] == ["0001-", "0002-", "0003-"]
    assert load_state(paths).counts["done"] == 3


@pytest.mark.parametrize("where", ["vanished", "/proc"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything(
    tmp_path: Path, where: str
) -> None:
    root = Path(where) if where.startswith("/") else tmp_path / where
    with pytest.raises(PrerequisiteError, match="cannot write to the run folder"):
        asyncio.run(RunStore.open(RunPaths(root), PLAN))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    async def work(store: RunStore) -> None:
        await store.commit(done(1), files_of(done(1)))
        before = sorted(path for path in tmp_path.rglob("*"))
        with pytest.raises(PrerequisiteError, match=f"process {os.getpid()} on "):
            await RunStore.open(RunPaths(tmp_path), PLAN)
        assert sorted(path for path in tmp_path.rglob("*")) == before

    with_store(tmp_path, work)


def test_a_closed_store_takes_nothing_more(tmp_path: Path) -> None:
    async def run() -> None:
        store = await RunStore.open(RunPaths(tmp_path), PLAN)
        await store.close()
        await store.close()
        with pytest.raises(RuntimeError, match="closed"):
            await store.sent(sent(1))

    asyncio.run(run())


def test_a_cancelled_caller_loses_nothing_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    async def work(store: RunStore) -> None:
        loop_errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, error: loop_errors.append(error))
        tasks = [
            asyncio.create_task(store.commit(record, files_of(record)))
            for record in (done(index) if index % 2 else failed(index) for index in range(40))
        ]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        cancelled = [number for number, end in enumerate(ended) if end is not None]
        assert cancelled == list(range(0, 40, 3))
        assert loop_errors == []

    counts = load_state(with_store(tmp_path, work)).counts
    assert (counts["done"], counts["failed"]) == (20, 20)


class FullDisk:
    """``os.write`` fails like a full disk for files whose name holds a text, after half a write."""

    def __init__(self, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.part = part
        self.full = True
        self.real = os.write
        monkeypatch.setattr("runner.record.atomic.os.write", self)

    def __call__(self, descriptor: int, data: bytes | memoryview) -> int:
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if not self.full or self.part not in name:
            return self.real(descriptor, data)
        if len(data) > 100:
            return self.real(descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("part", ["/journal/", "/images/"])
def test_a_full_disk_reaches_every_caller_and_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    async def work(store: RunStore) -> None:
        await store.commit(done(1), files_of(done(1)))
        disk = FullDisk(part, monkeypatch)
        results = await asyncio.gather(
            *(store.commit(done(index), files_of(done(index))) for index in range(2, 12)),
            return_exceptions=True,
        )
        assert [getattr(result, "errno", None) for result in results] == [errno.ENOSPC] * 10
        state = load_state(store_paths)
        assert state.counts["done"] == 1
        assert state.damaged == []
        assert [path.name for path in store_paths.images.rglob("*.*")] == [first]
        # Room again: the same store goes on.
        disk.full = False
        await store.commit(done(2), files_of(done(2)))

    store_paths = RunPaths(tmp_path)
    first = Path(image_name(1, cell_id(1), ".png")).name
    paths = with_store(tmp_path, work)
    assert load_state(paths).counts["done"] == 2
    assert all(intact(line) for line in lines_of(paths))


def test_a_full_disk_at_the_very_first_record_leaves_a_usable_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(store: RunStore) -> None:
        disk = FullDisk("/journal/", monkeypatch)
        with pytest.raises(OSError, match="No space"):
            await store.sent(sent(1))
        disk.full = False
        await store.sent(sent(1))

    paths = with_store(tmp_path, work)
    assert [type(decode(line)) for line in lines_of(paths)] == [OpenRecord, type(sent(1))]


def test_a_journal_that_cannot_be_cut_back_takes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "disk on fire")

    async def work(store: RunStore) -> None:
        await store.sent(sent(1))
        disk = FullDisk("/journal/", monkeypatch)
        monkeypatch.setattr("runner.record.writer.os.ftruncate", broken)
        with pytest.raises(OSError, match="No space"):
            await store.commit(done(2), files_of(done(2)))
        disk.full = False
        with pytest.raises(OSError, match="disk on fire"):
            await store.sent(sent(3))
        monkeypatch.undo()
        # The record may have become durable all the same: its image must not go.
        assert store_paths.image(image_name(2, cell_id(2), ".png")).exists()

    store_paths = RunPaths(tmp_path)
    with_store(tmp_path, work)


def test_one_bad_image_takes_its_whole_attempt_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FullDisk(cell_id(2)[:12], monkeypatch)
    both = attempt(
        1,
        images=(image_row(1, picture(1)), image_row(2, picture(2))),
        outcome="done",
        cost_usd=0.5,
        cost_basis="usage",
    )

    async def work(store: RunStore) -> None:
        results = await asyncio.gather(
            store.commit(both, files_of(both)),
            store.commit(done(3), files_of(done(3))),
            return_exceptions=True,
        )
        assert isinstance(results[0], OSError)
        assert results[1] is None

    paths = with_store(tmp_path, work)
    assert load_state(paths).counts["done"] == 1
    assert [path.name for path in paths.images.rglob("*.png")] == [
        Path(image_name(3, cell_id(3), ".png")).name
    ]


def test_names_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    async def work(store: RunStore) -> None:
        with pytest.raises(ValueError, match="not the name"):
            await store.commit(done(1), {"../../evil.png": b"x"})
        with pytest.raises(ValueError, match="not the name"):
            await store.commit(done(1, file_name="/etc/passwd"), {})

    paths = with_store(tmp_path, work)
    assert paths.journal_files() == []


def test_a_file_that_is_there_is_adopted_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    path = paths.image(image_name(1, cell_id(1), ".png"))
    path.parent.mkdir(parents=True)
    path.write_bytes(picture(1))

    async def work(store: RunStore) -> None:
        await store.commit(done(1), {})
        with pytest.raises(FileNotFoundError):
            await store.commit(done(2), {})

    with_store(tmp_path, work)
    assert load_state(paths).counts["done"] == 1


def test_opening_after_a_crash_removes_what_is_half_written_and_nothing_else(
    tmp_path: Path,
) -> None:
    paths = write_run(tmp_path, [done(1)])
    whole = paths.journal_files()[0].read_bytes()
    paths.journal_files()[0].write_bytes(whole + encode(done(2))[:-1])
    stray = paths.image(image_name(2, cell_id(2), ".png"))
    left = [temp_path(stray), temp_path(paths.manifest)]
    kept = [stray, stray.parent / "note.tmp"]
    for file in left + kept:
        file.write_bytes(b"x")

    async def nothing(store: RunStore) -> None:
        repairs.extend(store.repairs)

    repairs: list[str] = []
    with_store(tmp_path, nothing)
    # The lock was released in good order, so nobody looked.
    assert all(file.exists() for file in left)
    paths.lock.write_text('{"pid": 1, "host": "h", "boot_id": "b", "started": "1"}')
    with_store(tmp_path, nothing)
    assert not any(file.exists() for file in left)
    assert all(file.exists() for file in kept)
    assert paths.journal_files()[0].read_bytes() == whole
    assert len(repairs) == 1
    assert "half-written record" in repairs[0]


def test_a_failed_rename_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "manifest.json"
    atomic.put_durably(path, b"old")

    def broken(*_: object) -> Path:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="no"):
        atomic.put_durably(path, b"new")
    with pytest.raises(OSError, match="no"), atomic.replacing(path) as file:
        file.write(b"new")
    monkeypatch.undo()
    with pytest.raises(KeyError), atomic.replacing(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["manifest.json"]


def test_a_torn_tail_is_cut_wherever_its_newline_lies(tmp_path: Path) -> None:
    file = tmp_path / "j.jsonl"
    for whole in (b"", b"a\n", b"a\nbb\n", b"x" * 70_000 + b"\n"):
        for torn in (b"", b"t", b"t" * 65_536, b"t" * 200_000):
            file.write_bytes(whole + torn)
            assert store_module._cut_torn_tail(file) == len(torn)
            assert file.read_bytes() == whole


def test_a_writer_that_dies_ends_everything_that_waits_and_what_comes(tmp_path: Path) -> None:
    async def run() -> None:
        store = await RunStore.open(paths, PLAN)
        await store.commit(done(1), files_of(done(1)))
        (writer,) = children()
        os.kill(writer, signal.SIGSTOP)
        waiting = asyncio.gather(
            *(store.commit(done(index), files_of(done(index))) for index in range(2, 6)),
            return_exceptions=True,
        )
        await asyncio.sleep(0)
        os.kill(writer, signal.SIGKILL)
        assert {type(end) for end in await waiting} == {BrokenPipeError}
        with pytest.raises(OSError, match="the process that writes the run folder has ended"):
            await store.sent(sent(6))
        await store.close()

    paths = RunPaths(tmp_path)
    asyncio.run(run())
    assert load_state(paths).counts["done"] == 1
    # The folder is free again.
    with_store(tmp_path, lambda store: store.commit(done(2), files_of(done(2))))
    assert load_state(paths).counts["done"] == 2


def children() -> list[int]:
    me = os.getpid()
    return [
        int(child)
        for thread in Path(f"/proc/{me}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]


HAND_OVER = """
import asyncio, os, signal, sys
from pathlib import Path
from runner.record.paths import RunPaths
from runner.record.store import RunStore
from tests.unit.records import PLAN, done, files_of
from tests.unit.test_record_store import children

async def run():
    store = await RunStore.open(RunPaths(Path(sys.argv[1])), PLAN)
    await store.commit(done(0), files_of(done(0)))
    os.kill(*children(), signal.SIGSTOP)
    for index in range(1, 20):
        asyncio.ensure_future(store.commit(done(index), files_of(done(index))))
    await asyncio.sleep(0)
    print(*children(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(run())
"""


def test_what_was_handed_over_is_written_though_the_run_is_killed(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HAND_OVER, str(tmp_path)]
    killed = subprocess.run(words, stdout=subprocess.PIPE, check=False)
    assert killed.returncode == -signal.SIGKILL
    paths = RunPaths(tmp_path)
    assert load_state(paths).counts["done"] == 1
    os.kill(int(killed.stdout), signal.SIGCONT)
    # Who comes next waits for the writer's end, so the state that it reads is the last one.
    with_store(tmp_path, lambda store: store.commit(done(20), files_of(done(20))))
    assert load_state(paths).counts["done"] == 21

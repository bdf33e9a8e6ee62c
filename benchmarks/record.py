"""How fast the record room is: durable commits, and the journal of a finished run.

python benchmarks/record.py [--commits 4000] [--cells 1000000] [--folder outputs]

Commits: images of 64 kB through RunStore, 256 in flight, every one durable when it counts; the same
without `sent` records (local models need none); and the bare price of temp + fsync + rename on this
disk with eight threads. CPU seconds are those of the process and of its writer. Journal: a run of
CELLS finished cells, one per call, read for resume. Write to a real disk: a tmpfs makes every fsync
free.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runner.record.atomic import put
from runner.record.journal import encode
from runner.record.paths import RunPaths, image_name
from runner.record.rows import AttemptRecord, ImageRow, OpenRecord, SentRecord
from runner.record.store import RunStore

IMAGE_BYTES = 64_000
IN_FLIGHT = 256
NOW = "2026-01-02T03:04:05.678+00:00"


def cell_id(index: int) -> str:
    return hashlib.sha256(b"%d" % index).hexdigest()


def attempt(index: int, data: bytes) -> AttemptRecord:
    name = cell_id(index)
    row = ImageRow(
        file_name=image_name(index, name, ".png"),
        cell_id=name,
        index=index,
        image_index=0,
        variant=0,
        provider="openai",
        model="gpt-image-1",
        model_reported="gpt-image-1-2025-04-15",
        prompt="a lighthouse on a cliff above a stormy sea, oil on canvas, warm evening light",
        size="1024x1024",
        quality="high",
        axes={"seed": index, "quality": "high"},
        params_sent={"size": "1024x1024", "quality": "high", "n": 1, "output_format": "png"},
        width=1024,
        height=1024,
        mime="image/png",
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        request_id=f"req_{name[:24]}",
        started_at=NOW,
        latency_s=0.2013,
        cost_usd=0.04,
        cost_basis="price_book",
        marks=("c2pa",),
    )
    usage = {"input_tokens": 21, "output_tokens": 4160}
    return AttemptRecord(
        call_id=name[:16],
        at=NOW,
        outcome="done",
        images=(row,),
        cost_usd=0.04,
        cost_basis="price_book",
        usage=usage,
    )


def sent(index: int) -> SentRecord:
    name = cell_id(index)
    return SentRecord(call_id=name[:16], at=NOW, cells=((index, name),), worst_usd=0.17)


async def commit_all(root: Path, count: int, *, with_sent: bool) -> None:
    store = await RunStore.open(RunPaths(root), "plan")
    data = os.urandom(IMAGE_BYTES)
    indices = iter(range(count))

    async def work() -> None:
        for index in indices:
            if with_sent:
                await store.sent(sent(index))
            record = attempt(index, data)
            await store.commit(record, {record.images[0].file_name: data})

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(work())
    await store.close()


def bare(root: Path, count: int) -> None:
    data = os.urandom(IMAGE_BYTES)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda index: put(root / str(index), data), range(count)))


def cpu_s() -> float:
    """CPU seconds of this process and of the writers that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def show(what: str, count: int, start: float, cpu: float) -> None:
    wall, used = time.perf_counter() - start, cpu_s() - cpu
    print(f"{what:42}  {count / wall:8,.0f}/s  {used / count * 1000:6.2f} CPU s per 1,000")


def show_time(what: str, start: float, cpu: float) -> None:
    wall, used = time.perf_counter() - start, cpu_s() - cpu
    print(f"{what:42}  {wall:8.2f} s    {used:6.2f} CPU s")


def write_journal(root: Path, cells: int) -> int:
    folder = RunPaths(root).journal
    folder.mkdir()
    file = folder / "0001-bench-1-20260102030405.jsonl"
    with file.open("wb", buffering=1 << 20) as journal:
        journal.write(encode(OpenRecord(at=NOW, plan_hash="plan", host="bench", pid=1)))
        for index in range(cells):
            journal.write(encode(sent(index)))
            journal.write(encode(attempt(index, b"")))
    return file.stat().st_size


def read_journal(root: Path) -> None:
    from runner.record.state import load_state

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), cpu_s()
    state = load_state(RunPaths(root))
    show_time(f"read {len(state):,} finished cells", start, cpu)
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{'memory of the state':42}  {memory:8.1f} MB")
    start, cpu = time.perf_counter(), cpu_s()
    done = sum(state.outcome(index) == "done" for index in range(len(state)))
    show_time(f"ask for {done:,} outcomes by place", start, cpu)
    start, cpu = time.perf_counter(), cpu_s()
    state.outcome_of(cell_id(0))
    show_time("first question by cell id", start, cpu)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--commits", type=int, default=4000)
    options.add_argument("--cells", type=int, default=1_000_000)
    options.add_argument("--folder", type=Path, default=Path("outputs"))
    options.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.read is not None:
        read_journal(given.read)
        return
    folder = Path(tempfile.mkdtemp(prefix="bench-record-", dir=given.folder))
    try:
        for name in ("bare", "sent", "local", "journal"):
            (folder / name).mkdir()
        start, cpu = time.perf_counter(), cpu_s()
        bare(folder / "bare", given.commits)
        show("temp + fsync + rename alone", given.commits, start, cpu)
        start, cpu = time.perf_counter(), cpu_s()
        asyncio.run(commit_all(folder / "sent", given.commits, with_sent=True))
        show(f"sent + commit, {IN_FLIGHT} in flight", given.commits, start, cpu)
        start, cpu = time.perf_counter(), cpu_s()
        asyncio.run(commit_all(folder / "local", given.commits, with_sent=False))
        show(f"commit, {IN_FLIGHT} in flight", given.commits, start, cpu)
        size = write_journal(folder / "journal", given.cells)
        print(f"{f'journal of {given.cells:,} cells':42}  {size / 1e6:8,.0f} MB", flush=True)
        # Its own process, so that the memory is the reader's alone.
        subprocess.run([sys.executable, __file__, "--read", folder / "journal"], check=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

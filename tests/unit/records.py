"""Small runs for the tests of the record room: real images, real journal, real disk."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import io
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from runner.images import inspect
from runner.record.paths import RunPaths, image_name
from runner.record.rows import AttemptRecord, FailureRow, ImageRow, SentRecord
from runner.record.store import RunStore
from runner.record.writer import serve

PLAN = "plan-hash"
NOW = "2026-01-02T03:04:05.678+00:00"


def cell_id(index: int) -> str:
    return hashlib.sha256(b"cell %d" % index).hexdigest()


def call_id(index: int) -> str:
    return f"call-{index}"


@functools.cache
def picture(index: int, *, kind: str = "PNG", size: tuple[int, int] = (12, 8)) -> bytes:
    """A gradient whose colours depend on the index."""
    image = Image.new("RGB", size)
    image.putdata(
        [
            ((x * 20 + index) % 256, (y * 30) % 256, (index * 7) % 256)
            for y in range(size[1])
            for x in range(size[0])
        ]
    )
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def image_row(index: int, data: bytes, **changes: Any) -> ImageRow:
    seen = inspect(data)
    members: dict[str, Any] = {
        "file_name": image_name(index, cell_id(index), seen.info.suffix),
        "cell_id": cell_id(index),
        "index": index,
        "image_index": 0,
        "variant": 0,
        "provider": "fake",
        "model": "m",
        "prompt": f"a fox, number {index}",
        "axes": {"seed": index},
        "params_sent": {"seed": index},
        "width": seen.info.width,
        "height": seen.info.height,
        "mime": seen.info.mime,
        "bytes": len(data),
        "sha256": seen.sha256,
        "pixel_sha256": seen.pixel_sha256,
        "started_at": NOW,
        "cost_usd": 0.25,
        "cost_basis": "price_book",
    }
    return ImageRow(**{**members, **changes})


def failure_row(index: int, outcome: str = "failed", **changes: Any) -> FailureRow:
    members: dict[str, Any] = {
        "index": index,
        "cell_id": cell_id(index),
        "variant": 0,
        "provider": "fake",
        "model": "m",
        "outcome": outcome,
        "kind": "transient",
        "message": "the server said no",
        "started_at": NOW,
    }
    return FailureRow(**{**members, **changes})


def done(index: int, data: bytes | None = None, **changes: Any) -> AttemptRecord:
    row = image_row(index, picture(index) if data is None else data, **changes)
    return attempt(index, images=(row,), outcome="done", cost_usd=0.25, cost_basis="price_book")


def failed(index: int, outcome: str = "failed", **changes: Any) -> AttemptRecord:
    members: dict[str, Any] = {"cost_usd": 0.0, "cost_basis": "free", **changes}
    return attempt(index, failures=(failure_row(index, outcome),), outcome=outcome, **members)


def attempt(index: int, **members: Any) -> AttemptRecord:
    return AttemptRecord(**{"call_id": call_id(index), "at": NOW, **members})


def sent(index: int, *cells: int, worst_usd: float | None = 0.5) -> SentRecord:
    named = tuple((cell, cell_id(cell)) for cell in cells or (index,))
    return SentRecord(
        call_id=call_id(index), at=NOW, cells=named, worst_usd=worst_usd, provider="fake", model="m"
    )


def files_of(record: AttemptRecord) -> dict[str, bytes]:
    return {row.file_name: picture(row.index) for row in record.images}


def start_thread(lanes: Sequence[socket.socket], lock: int) -> Callable[[], object]:
    """The writer on a thread of this process, where a test can come between it and the disk."""
    thread = threading.Thread(target=serve, args=(lanes,))
    thread.start()
    return thread.join


def with_store(
    root: Path, work: Callable[[RunStore], Awaitable[None]], plan: str = PLAN
) -> RunPaths:
    """Open a store on a folder, do the work, close it."""
    paths = RunPaths(root)

    async def run() -> None:
        store = await RunStore.open(paths, plan, start_thread)
        try:
            await work(store)
        finally:
            await store.close()

    asyncio.run(run())
    return paths


def write_run(
    root: Path, records: Iterable[AttemptRecord | SentRecord], plan: str = PLAN
) -> RunPaths:
    """A run with these records, in their order."""

    async def work(store: RunStore) -> None:
        for record in records:
            if isinstance(record, SentRecord):
                await store.sent(record)
            else:
                await store.commit(record, files_of(record))

    root.mkdir(exist_ok=True)
    return with_store(root, work, plan)

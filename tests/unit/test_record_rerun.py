"""The verdict on every image that was made again."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from runner.record.paths import RunPaths
from runner.record.rerun import NEAR_PSNR_DB, CellVerdict, compare_runs
from runner.record.rows import AttemptRecord, ImageRow
from runner.record.store import RunStore
from tests.unit.records import cell_id, done, failed, picture, with_store


def encoded(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def shifted(data: bytes, by: int) -> bytes:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return encoded(ImageChops.add(image, Image.new("RGB", image.size, (by, by, by))))


def run_of(
    root: Path,
    images: dict[int, bytes],
    *,
    failures: tuple[int, ...] = (),
    at: int = 0,
    **changes: Any,
) -> RunPaths:
    """A run whose cell ``i`` stands at place ``i + at``."""
    root.mkdir()

    async def work(store: RunStore) -> None:
        for index, data in images.items():
            record: AttemptRecord = done(index + at, data, cell_id=cell_id(index), **changes)
            await store.commit(record, {record.images[0].file_name: data})
        for index in failures:
            await store.commit(failed(index), {})

    return with_store(root, work)


def test_every_verdict(tmp_path: Path) -> None:
    names = [
        "same",
        "repacked",
        "near",
        "far",
        "resized",
        "lost",
        "failed",
        "api",
        "api same",
        "svg",
    ]
    before = {index: picture(index) for index in range(len(names))}
    before[9] = b"<svg></svg>"
    after = {
        0: before[0],
        1: encoded(Image.open(io.BytesIO(before[1])), compress_level=1),
        2: shifted(before[2], 2),
        3: encoded(Image.new("RGB", (12, 8), "white")),
        4: picture(4, size=(8, 12)),
        7: shifted(before[7], 2),
        8: before[8],
        9: b"<svg/>",
    }
    old = run_of(tmp_path / "old", before)
    # The new plan has another order: cells are matched by id.
    new = run_of(tmp_path / "new", after, failures=(6,), at=100)
    api = {cell_id(7), cell_id(8)}

    def reproducible(row: ImageRow) -> bool:
        return row.cell_id not in api

    verdicts = list(compare_runs(old, new, reproducible))
    assert [names[verdict.old.index] for verdict in verdicts] == names
    assert [verdict.verdict for verdict in verdicts] == [
        "identical-bytes",
        "identical-pixels",
        "near",
        "changed",
        "changed",
        "missing",
        "missing",
        "not-reproducible-by-contract",
        "identical-bytes",
        "changed",
    ]
    near, far, resized = verdicts[2], verdicts[3], verdicts[4]
    assert near.max_diff == 2
    assert near.psnr_db is not None and near.psnr_db >= NEAR_PSNR_DB
    assert far.psnr_db is not None and far.psnr_db < NEAR_PSNR_DB
    assert (resized.max_diff, resized.psnr_db) == (None, None)
    assert verdicts[0].new is not None and verdicts[0].new.index == 100
    assert verdicts[5].new is None


def test_pixels_are_compared_where_no_hash_was_taken(tmp_path: Path) -> None:
    data = picture(1)
    again = encoded(Image.open(io.BytesIO(data)), compress_level=1)
    old = run_of(tmp_path / "old", {1: data}, pixel_sha256=None)
    new = run_of(tmp_path / "new", {1: again}, pixel_sha256=None)
    verdict = verdict_of(old, new)
    assert verdict.old.pixel_sha256 is None
    assert verdict.verdict == "identical-pixels"


def test_an_image_that_is_gone_is_missing(tmp_path: Path) -> None:
    old = run_of(tmp_path / "old", {1: picture(1)})
    new = run_of(tmp_path / "new", {1: picture(2)})
    next(new.images.rglob("*.png")).unlink()
    assert verdict_of(old, new).verdict == "missing"


def verdict_of(old: RunPaths, new: RunPaths) -> CellVerdict:
    (verdict,) = compare_runs(old, new, lambda row: True)
    return verdict

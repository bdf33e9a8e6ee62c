"""What became of a run's images when it was made again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from runner.images import BadImage, compare
from runner.record.manifest import read_manifest
from runner.record.paths import RunPaths
from runner.record.reader import JournalReader, Places
from runner.record.rows import ImageRow
from runner.record.state import load_state
from runner.settings.cell import Json

Verdict = Literal[
    "identical-bytes",
    "identical-pixels",
    "near",
    "changed",
    "not-reproducible-by-contract",
    "missing",
]

NEAR_PSNR_DB = 30.0
"""Where ``near`` ends: below this many dB two images of one size are ``changed``."""


@dataclass(frozen=True, slots=True)
class CellVerdict:
    """How the new image of a cell compares to the old one.

    Attributes:
        old: Row of the old image.
        new: Row of the new image; ``None`` if the cell has none.
        verdict: The answer.
        max_diff: Largest difference of an 8-bit channel, for ``near`` and ``changed`` images of
            one size.
        psnr_db: Peak signal-to-noise ratio in dB, likewise.
    """

    old: ImageRow
    new: ImageRow | None
    verdict: Verdict
    max_diff: int | None = None
    psnr_db: float | None = None


def compare_runs(
    old: RunPaths, new: RunPaths, reproducible: Callable[[ImageRow], bool]
) -> Iterator[CellVerdict]:
    """Compare every image of a run with the image of the same cell in another run.

    ``near`` means: one size, and a PSNR of at least :data:`NEAR_PSNR_DB` dB. That is what another
    machine or library version makes of the same seed (rounding, amplified by sampling); an image
    of another seed lies near 10 dB.

    Args:
        old: The run that was made again.
        new: Where it was made again. Cells are matched by their id.
        reproducible: Whether the maker of an image promises the same pixels for the same request.

    Yields:
        One verdict per image of the old run, by index.

    Raises:
        RequestError: A later version wrote one of the runs.
    """
    before, after = load_state(old), load_state(new)
    with JournalReader(old, before) as old_rows, JournalReader(new, after) as new_rows:
        for row in old_rows.images():
            slot = after.slot_of(row.cell_id)
            match = None if slot is None else new_rows.row(slot)
            if isinstance(match, ImageRow):
                yield _judge(old, row, new, match, reproducible(row))
            else:
                yield CellVerdict(row, None, "missing")


def unusual_recipes(
    paths: RunPaths, usual: Sequence[Json], places: Places | None = None
) -> dict[int, Mapping[str, Json]]:
    """Recipes of the images that were not computed in batches of the size that is asked.

    A run that goes short of memory goes on with smaller batches, and the size of a batch is the
    one thing about it that changes pixels.

    Args:
        paths: The run.
        usual: The batch size that is asked of each variant.
        places: Where its cells stand now, if its plan was amended.

    Returns:
        Index of a cell to its recipe; nothing for cells that were made as asked.
    """
    recipes = read_manifest(paths).recipes
    if {recipe.get("batch_size") for recipe in recipes.values()} <= set(usual):
        return {}
    found: dict[int, Mapping[str, Json]] = {}
    with JournalReader(paths, load_state(paths), places) as rows:
        for row in rows.images():
            recipe = recipes.get(row.recipe or "", {})
            if recipe.get("batch_size", usual[row.variant]) != usual[row.variant]:
                found[row.index] = recipe
    return found


def _judge(
    old: RunPaths, before: ImageRow, new: RunPaths, after: ImageRow, reproducible: bool
) -> CellVerdict:
    if (before.raw_sha256 or before.sha256) == (after.raw_sha256 or after.sha256):
        return CellVerdict(before, after, "identical-bytes")
    if before.pixel_sha256 is not None and before.pixel_sha256 == after.pixel_sha256:
        return CellVerdict(before, after, "identical-pixels")
    if not reproducible:
        return CellVerdict(before, after, "not-reproducible-by-contract")
    try:
        found = compare(
            old.image(before.file_name).read_bytes(), new.image(after.file_name).read_bytes()
        )
    except FileNotFoundError:
        return CellVerdict(before, after, "missing")
    except BadImage:
        return CellVerdict(before, after, "changed")
    if found.same_pixels:
        return CellVerdict(before, after, "identical-pixels")
    near = found.psnr_db is not None and found.psnr_db >= NEAR_PSNR_DB
    verdict: Verdict = "near" if near else "changed"
    return CellVerdict(before, after, verdict, found.max_diff, found.psnr_db)

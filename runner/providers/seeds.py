"""Seeds of the images of one call, for servers that give each image its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runner.providers.contract import Answer, Picture
from runner.settings.cell import Cell


def seed_runs(cells: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    """Cells in groups whose seeds follow each other.

    For servers that are told one seed and count up from it. The images of a point follow each
    other anyway; after a resume some in the middle may be missing.
    """
    runs: list[list[Cell]] = []
    for cell in cells:
        seed = cell.image_seed
        if runs and (seed is None or runs[-1][-1].image_seed == seed - 1):
            runs[-1].append(cell)
        else:
            runs.append([cell])
    return [tuple(run) for run in runs]


def with_seeds(answer: Answer, seeds: Sequence[int | None]) -> Answer:
    """The same answer, whose pictures name the seeds that were sent for them."""
    return replace(
        answer,
        outputs=tuple(
            replace(output, seed_sent=seed) if isinstance(output, Picture) else output
            for output, seed in zip(answer.outputs, seeds, strict=True)
        ),
    )

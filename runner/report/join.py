"""Several runs side by side: one folder with all their images and rows, to be looked at as one.

Cells of different runs meet where their axes have the same values, so a prompt that yesterday's
run and today's share stands in one row of the matrix, with the maker as its columns.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from runner import __version__
from runner.record.derive import read_failures, read_rows, write_rows
from runner.record.manifest import (
    Code,
    Counts,
    Machine,
    Manifest,
    VariantRecord,
    read_manifest,
    write_manifest,
)
from runner.record.paths import RunPaths, image_name, temp_path
from runner.record.rows import FailureRow, ImageRow
from runner.settings.cell import CostBasis, digest
from runner.settings.errors import RequestError

_MARK = "report"
"""First word of the command in the manifest of a joined folder: ours to replace."""


def join(roots: Sequence[Path], out: Path) -> None:
    """Make a folder that shows several runs as one. Images are linked where the disk allows it.

    Args:
        roots: The run folders, in the order in which their makers shall stand.
        out: Folder to make; one that an earlier call made is replaced.

    Raises:
        RequestError: A folder is no run, or ``out`` holds something else.
        OSError: The disk is full or gone.
    """
    manifests = [read_manifest(RunPaths(root)) for root in roots]
    if out.exists() and not _is_joined(out):
        raise RequestError(f"{out}: holds something else; name another folder with --out")
    part = temp_path(out)
    shutil.rmtree(part, ignore_errors=True)
    paths = RunPaths(part)
    paths.images.mkdir(parents=True)
    try:
        offsets = _offsets(manifests)
        images, failures = [], []
        for index, row in enumerate(_rows(roots, offsets)):
            number, old = row
            if isinstance(old, ImageRow):
                name = image_name(index, old.cell_id, Path(old.file_name).suffix)
                _link(RunPaths(roots[number]).image(old.file_name), paths.image(name))
                images.append(replace(old, index=index, file_name=name))
            else:
                failures.append(replace(old, index=index))
        write_rows(paths, images, failures)
        write_manifest(paths, _manifest(manifests, offsets, [str(root) for root in roots]))
        shutil.rmtree(out, ignore_errors=True)
        part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _is_joined(out: Path) -> bool:
    try:
        return read_manifest(RunPaths(out)).command[:1] == (_MARK,)
    except RequestError:
        return False


def _offsets(manifests: Sequence[Manifest]) -> list[int]:
    """What is added to the variants of each run."""
    counts = [1 + max((v.index for v in m.variants), default=0) for m in manifests]
    return [sum(counts[:number]) for number in range(len(counts))]


def _rows(
    roots: Sequence[Path], offsets: Sequence[int]
) -> Iterator[tuple[int, ImageRow | FailureRow]]:
    for number, (root, offset) in enumerate(zip(roots, offsets, strict=True)):
        paths = RunPaths(root)
        rows: list[ImageRow | FailureRow] = [*read_rows(paths), *read_failures(paths)]
        for row in sorted(rows, key=lambda row: (row.index, row.image_index)):
            yield number, replace(row, variant=row.variant + offset)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        return  # the page shows a tile that says so
    except OSError:
        shutil.copyfile(source, target)


def _manifest(
    manifests: Sequence[Manifest], offsets: Sequence[int], roots: Sequence[str]
) -> Manifest:
    counts: Counter[str] = Counter()
    for manifest in manifests:
        counts.update(manifest.counts.model_dump())
    costs = [m.cost_usd for m in manifests if m.cost_usd is not None]
    bases: set[CostBasis] = {m.cost_basis for m in manifests if m.cost_usd is not None}
    worst = [m.cost_unknown_worst_usd for m in manifests]
    known = [amount for amount in worst if amount is not None]
    ends = [m.ended_at for m in manifests if m.ended_at is not None]
    done = all(m.status == "done" for m in manifests)
    return Manifest(
        run_id=" + ".join(m.run_id for m in manifests),
        command=(_MARK, *roots),
        status="done" if done else "incomplete",
        started_at=min(m.started_at for m in manifests),
        ended_at=max(ends) if len(ends) == len(manifests) else None,
        plan_hash=digest([m.plan_hash for m in manifests]),
        cells=sum(m.cells for m in manifests),
        counts=Counts(**counts),
        cost_usd=sum(costs) if costs else None,
        cost_basis=bases.pop() if len(bases) == 1 else "estimate" if bases else "unknown",
        cost_unknown_worst_usd=sum(known) if len(known) == len(worst) else None,
        variants=tuple(
            VariantRecord(
                index=variant.index + offset,
                provider=variant.provider,
                model=variant.model,
                config=variant.config,
                run=manifest.run_id,
            )
            for manifest, offset in zip(manifests, offsets, strict=True)
            for variant in manifest.variants
        ),
        code=Code(version=__version__),
        machine=Machine(python="", platform=""),
        recipes={key: value for m in manifests for key, value in m.recipes.items()},
        warnings=tuple(f"{m.run_id}: {text}" for m in manifests for text in m.warnings),
    )

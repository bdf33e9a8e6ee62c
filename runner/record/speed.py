"""How fast earlier runs were, from the ends of their journals: the same work for runs of any size.

Only answered calls count. Those of two runs are never mixed: the newest run that made a kind of
image says how fast it is made.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from runner.record.journal import decode, intact
from runner.record.manifest import read_manifest
from runner.record.paths import RunPaths
from runner.record.rows import AttemptRecord, ImageRow
from runner.settings.errors import RequestError

RUNS = 20
"""Newest runs that are looked at."""

TAIL_BYTES = 256_000
"""How much of a run's journal is read, from its end: some hundred calls."""

CLOCK_S = 0.001
"""Rows tell the start of a call to the millisecond."""


@dataclass(frozen=True, slots=True)
class Made:
    """What was made, by whom: calls that are alike in all of this take about the same time.

    Attributes:
        maker: See :func:`maker_of`.
        size: Size that was asked.
        quality: Quality that was asked.
        steps: Steps that were asked.
    """

    maker: str
    size: str | None
    quality: str | None
    steps: int | None


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a run made one kind of image.

    Attributes:
        call_s: Median seconds from sending a call to its answer.
        images: Median number of images that a call asked for.
        at_once: Most calls that were in flight together.
    """

    call_s: float
    images: float
    at_once: int


def maker_of(config: Mapping[str, Any]) -> str:
    """What of a variant's resolved config says who makes its images, as a text to compare."""
    parts = [config["provider"], config["device"], config["model"]["name"]]
    return json.dumps([*parts, config["pipeline"]["name"]], sort_keys=True)


def earlier_speeds(root: Path, wanted: Iterable[Made]) -> dict[Made, Speed]:
    """How fast the newest runs under an outputs folder were; what none of them made is missing.

    Args:
        root: See :func:`runner.record.reuse.outputs_root`.
        wanted: Whose speeds are looked for.
    """
    missing, speeds = set(wanted), dict[Made, Speed]()
    for run in _newest(root):
        if not missing:
            break
        speeds |= {made: speed for made, speed in _speeds(run, missing).items() if made in missing}
        missing -= speeds.keys()
    return speeds


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """How many spans of time overlap at most.

    Args:
        spans: Start and length of each, in seconds.
    """
    changes = [change for start, length in spans for change in ((start, 1), (start + length, -1))]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def _newest(root: Path) -> list[RunPaths]:
    found: list[tuple[float, Path]] = []
    for depth in ("*", "*/*"):
        for manifest in root.glob(f"{depth}/manifest.json"):
            try:
                found.append((manifest.stat().st_mtime, manifest.parent))
            except OSError:
                continue  # it was just deleted
    return [RunPaths(run) for _, run in sorted(found, reverse=True)[:RUNS]]


def _speeds(run: RunPaths, wanted: Iterable[Made]) -> dict[Made, Speed]:
    """The speeds of one run and some makers; none of a folder that cannot be read."""
    known = {made.maker for made in wanted}
    try:
        found = ((one.index, maker_of(one.config)) for one in read_manifest(run).variants)
        makers = {index: maker for index, maker in found if maker in known}
        records = list(_answered(run)) if makers else []
    except (OSError, RequestError, KeyError, TypeError, ValueError):
        return {}
    calls: dict[Made, list[AttemptRecord]] = defaultdict(list)
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for record in records:
        row = record.images[0]
        if (maker := makers.get(row.variant)) is not None:
            calls[Made(maker, row.size, row.quality, row.steps)].append(record)
            spans[maker].append((_started(row), row.latency_s - CLOCK_S))
    return {
        made: Speed(
            call_s=median(record.images[0].latency_s for record in alike),
            images=median(len(record.images) + len(record.failures) for record in alike),
            at_once=most_at_once(spans[made.maker]),
        )
        for made, alike in calls.items()
    }


def _answered(run: RunPaths) -> Iterator[AttemptRecord]:
    """The last calls of a run that brought an image."""
    for line in _tail(run):
        record = decode(line) if intact(line) else None
        if isinstance(record, AttemptRecord) and record.images:
            row = record.images[0]
            # One that was reused or found on the disk tells nothing of this run's speed.
            if row.latency_s > CLOCK_S and row.reused_from is None:
                yield record


def _tail(run: RunPaths) -> Iterator[bytes]:
    left = TAIL_BYTES
    for path in reversed(run.journal_files()):
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - left))
            yield from file.read(left).splitlines(keepends=True)
        left -= size
        if left <= 0:
            return


def _started(row: ImageRow) -> float:
    return datetime.fromisoformat(row.started_at).timestamp()

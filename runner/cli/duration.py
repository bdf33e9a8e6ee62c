"""How long a plan will take, from the speed of earlier runs; what nothing is known of is unknown.

It is a range wherever the plan asks for more than was seen: with more calls in flight than the
earlier run had, they may overlap or not; with other numbers of images in a call, it may take as
long as before or in proportion. Loading a model, retries and waiting for a rate limit that has to
be found out do not count.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from runner.plan import Plan, VariantSummary
from runner.providers.contract import Provider
from runner.record.speed import Made, Speed, earlier_speeds, maker_of
from runner.report.text import seconds
from runner.settings.schema import LimitSettings


@dataclass(frozen=True, slots=True)
class Duration:
    """A range of seconds."""

    low_s: float
    high_s: float

    def __str__(self) -> str:
        """As people read it."""
        low, high = seconds(self.low_s), seconds(self.high_s)
        return low if low == high else f"{low} to {high}"


def durations(
    plan: Plan,
    lines: Sequence[VariantSummary],
    providers: Sequence[Provider],
    configs: Sequence[Mapping[str, Any]],
    limits: LimitSettings,
    root: Path,
) -> tuple[Duration | None, ...]:
    """How long each variant of a plan takes, alone; ``None``: unknown.

    Args:
        plan: The plan.
        lines: Its variants in numbers.
        providers: One per variant.
        configs: The resolved config of each variant.
        limits: The user's own bounds.
        root: The outputs folder whose runs are looked at.
    """
    asked = [
        {
            Made(maker_of(config), *workload): images
            for workload, images in plan.workloads(line.index).items()
        }
        for line, config in zip(lines, configs, strict=True)
    ]
    speeds = earlier_speeds(root, chain.from_iterable(asked))
    found: list[Duration | None] = []
    for line, images_of, provider in zip(lines, asked, providers, strict=True):
        at_once = min(limits.max_concurrency, provider.max_concurrency() or limits.max_concurrency)
        parts = [(images, speeds.get(made)) for made, images in images_of.items()]
        found.append(duration_of(parts, line.calls, at_once, limits))
    return tuple(found)


def duration_of(
    parts: Sequence[tuple[int, Speed | None]], calls: int, at_once: int, limits: LimitSettings
) -> Duration | None:
    """How long the calls of one variant take; ``None`` as soon as one part is unknown.

    Args:
        parts: Images that are alike, with the speed at which such were made.
        calls: Calls of all of them.
        at_once: Most of them that may be in flight.
        limits: The user's own bounds.
    """
    images = sum(count for count, _ in parts)
    if not images:
        return Duration(0.0, 0.0)
    fastest = max(
        60 * (calls - 1) / (limits.requests_per_minute or math.inf),
        60 * images * (1 - 1 / calls) / (limits.images_per_minute or math.inf),
    )
    low = high = 0.0
    for count, speed in parts:
        if speed is None:
            return None
        share = count / images
        larger = images / calls / speed.images
        low += speed.call_s * share * max(1.0, calls / at_once) * min(1.0, larger)
        seen = min(at_once, speed.at_once)
        high += speed.call_s * share * max(1.0, calls / seen) * max(1.0, larger)
    return Duration(max(low, fastest), max(high, fastest))


def total(durations: Iterable[Duration | None], providers: Iterable[Provider]) -> Duration | None:
    """How long variants take together: one after the other where they share a rate limit."""
    lanes: defaultdict[str, list[Duration]] = defaultdict(list)
    for duration, provider in zip(durations, providers, strict=True):
        if duration is None:
            return None
        lanes[provider.quota_key()].append(duration)
    return Duration(
        max((sum(one.low_s for one in lane) for lane in lanes.values()), default=0.0),
        max((sum(one.high_s for one in lane) for lane in lanes.values()), default=0.0),
    )

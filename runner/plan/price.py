"""What a plan costs and how many calls it takes, without looking at every cell."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.plan.axes import Alike
from runner.plan.cells import CellMaker
from runner.plan.compose import SLOT, Composer
from runner.plan.index import Index
from runner.providers.contract import Price
from runner.settings.cell import CellParams, CostBasis

PRICE_KEYS: frozenset[str] = frozenset({"size", "quality", "steps", "background", "output_format"})
"""Keys that the price of an image and the size of a call may depend on, within one variant."""

Workload = tuple[str | None, str | None, int | None]
"""Size, quality and steps: what the time of an image depends on most, within one variant."""


@dataclass(frozen=True, slots=True)
class PriceRange:
    """What many images cost in US dollars.

    Attributes:
        low_usd: At least; ``None`` as soon as the price of one image is unknown.
        high_usd: At most; ``None`` as soon as the price of one image is unknown.
        unknown: Number of images whose price is unknown.
        bases: Where the prices come from.
    """

    low_usd: float | None
    high_usd: float | None
    unknown: int = 0
    bases: tuple[CostBasis, ...] = ()

    @classmethod
    def of(cls, prices: Iterable[tuple[Price, int]]) -> PriceRange:
        """The sum of prices per image, each with its number of images."""
        low, high, unknown = 0.0, 0.0, 0
        bases: dict[CostBasis, None] = {}
        for price, images in prices:
            bases[price.basis] = None
            if price.low_usd is None or price.high_usd is None:
                unknown += images
            else:
                low += price.low_usd * images
                high += price.high_usd * images
        if unknown:
            return cls(None, None, unknown, tuple(bases))
        return cls(low, high, 0, tuple(bases))

    @classmethod
    def total(cls, ranges: Iterable[PriceRange]) -> PriceRange:
        """The sum of several ranges."""
        ranges = tuple(ranges)
        bases = dict.fromkeys(basis for one in ranges for basis in one.bases)
        unknown = sum(one.unknown for one in ranges)
        if unknown:
            return cls(None, None, unknown, tuple(bases))
        low = sum(one.low_usd or 0.0 for one in ranges)
        return cls(low, sum(one.high_usd or 0.0 for one in ranges), 0, tuple(bases))


@dataclass(frozen=True, slots=True)
class VariantSummary:
    """One line of the table that ``runner plan`` prints.

    Attributes:
        index: Index of the variant.
        label: What tells it from the others.
        cells: Images to be made.
        calls: Calls that they take.
        price: What they cost.
        dropped: Keys that are asked and not sent.
        warnings: Sentences for the user.
    """

    index: int
    label: Mapping[str, str]
    cells: int
    calls: int
    price: PriceRange
    dropped: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """A plan in numbers.

    Attributes:
        variants: One for each variant.
        cells: Images to be made.
        calls: Calls that they take.
        price: What they cost.
        warnings: Sentences that are about no single variant.
    """

    variants: tuple[VariantSummary, ...]
    cells: int
    calls: int
    price: PriceRange
    warnings: tuple[str, ...]


def combinations(
    composer: Composer, maker: CellMaker, index: Index
) -> Iterator[tuple[CellParams, int]]:
    """The points of a variant, put together where no price can differ.

    Yields:
        Parameters of one of them, and how many they are.
    """
    space, variant = index.space, composer.variant.index
    if PRICE_KEYS & composer.crossed_keys():
        for point in range(space.points):
            if not index.left_out(variant, point):
                yield maker.params(point), 1
        return
    if space.product:
        alike: list[tuple[Alike, ...]] = []
        for dim, masks in enumerate(space.masks):
            keys = tuple(sorted(composer.keys_of(dim) & PRICE_KEYS))
            alike.append(_labelled(composer, index, dim, keys) if keys else masks.alike)
        first = maker.params(0)
        for labels, points in space.fold(index.active[variant], alike).items():
            values: Any = dict(
                pair for label in labels if isinstance(label, tuple) for pair in label
            )
            yield dataclasses.replace(first, **values), points
    for point in range(space.product, space.points):
        if not index.left_out(variant, point):
            yield maker.params(point), 1


def _labelled(
    composer: Composer, index: Index, dim: int, keys: tuple[str, ...]
) -> tuple[Alike, ...]:
    stride = index.space.strides[dim]

    def label(place: int) -> tuple[tuple[str, object], ...]:
        values, _ = composer.values(place * stride)
        return tuple((key, values[SLOT[key]]) for key in keys)

    return index.space.masks[dim].labelled(label)

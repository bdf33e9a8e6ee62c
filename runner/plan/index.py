"""From the index of a cell to its variant, point and image, and which places are left out."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from runner.plan.axes import Space, satisfies
from runner.plan.spec import Variant
from runner.settings.cell import Scalar
from runner.settings.errors import RequestError


class Index:
    """The index space: variants outermost, then points, then the images of a point.

    Args:
        variants: The variants.
        space: The points, the same for every variant.

    Raises:
        RequestError: More places than an index can name.
    """

    def __init__(self, variants: Sequence[Variant], space: Space) -> None:
        self.space = space
        self._images = tuple(variant.n for variant in variants)
        sizes = [space.points * variant.n for variant in variants]
        self.starts = (0, *accumulate(sizes))
        if self.starts[-1] >= 2**62:
            raise RequestError(f"the plan would have {self.starts[-1]} cells; shorten an axis")
        self._asked = [_asked(variant) for variant in variants]
        on_dims = {name for dim in space.dims for name in dim.names}
        on_dims.update(name for dim in space.dims if dim.prompts for name in dim.prompts.columns)
        self.active = tuple(
            sum(
                1 << number
                for number, rule in enumerate(space.rules)
                if satisfies({key: v for key, v in rule.items() if key not in on_dims}, values)
            )
            for values in self._asked
        )
        self._cells_out = tuple(
            frozenset(
                number
                for number, cell in enumerate(space.cells)
                if any(satisfies(rule, {**values, **cell}) for rule in space.rules)
            )
            for values in self._asked
        )

    def __len__(self) -> int:
        return self.starts[-1]

    def locate(self, index: int) -> tuple[int, int, int]:
        """The variant, point and image of an index.

        Raises:
            IndexError: There is no such place.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"the plan has no place {index}: it ends at {len(self) - 1}")
        variant = bisect_right(self.starts, index) - 1
        return (variant, *divmod(index - self.starts[variant], self._images[variant]))

    def left_out(self, variant: int, point: int) -> bool:
        """Whether a rule leaves a point out."""
        if not self.space.rules:
            return False
        cell = point - self.space.product
        if cell >= 0:
            return cell in self._cells_out[variant]
        active = self.active[variant]
        return bool(active and active & self.space.mask(self.space.places(point)))

    def points(self, variant: int) -> int:
        """Number of points of a variant that are not left out."""
        cells = len(self.space.cells) - len(self._cells_out[variant])
        return self.space.count(self.active[variant]) + cells

    def unused_rules(self) -> tuple[int, ...]:
        """Numbers of the rules that leave nothing out."""
        return tuple(
            number
            for number, rule in enumerate(self.space.rules)
            if not self._used(1 << number, rule)
        )

    def _used(self, bit: int, rule: Mapping[str, tuple[Scalar, ...]]) -> bool:
        on_product = self.space.product > 0 and all(
            any(places.mask & bit for places in masks.alike) for masks in self.space.masks
        )
        on_cells = any(
            satisfies(rule, {**asked, **cell}) for asked in self._asked for cell in self.space.cells
        )
        return on_cells or (on_product and any(active & bit for active in self.active))

    def runs(self, variant: int, order: Sequence[int], images: bool = True) -> Iterator[range]:
        """Indices of the product's places, in another order of the dimensions, as ranges.

        Args:
            variant: The variant.
            order: Numbers of dimensions, slowest first. Those not named stay at their first place.
            images: Whether the images of a point come last; otherwise only the first of each.
        """
        count = self._images[variant]
        wheels = [
            (self.space.dims[dim].size, self.space.strides[dim] * count)
            for dim in order
            if self.space.dims[dim].size > 1
        ]
        if images and count > 1:
            wheels.append((count, 1))
        merged: list[tuple[int, int]] = []
        for size, stride in reversed(wheels):
            if merged and stride == merged[-1][0] * merged[-1][1]:
                merged[-1] = (merged[-1][0] * size, merged[-1][1])
            else:
                merged.append((size, stride))
        if self.space.product:
            yield from _turn(self.starts[variant], list(reversed(merged)))

    def cell_places(self, variant: int) -> range:
        """Indices of the explicit points' places."""
        first = self.starts[variant] + self.space.product * self._images[variant]
        return range(first, self.starts[variant + 1])


def _turn(start: int, wheels: Sequence[tuple[int, int]]) -> Iterator[range]:
    if not wheels:
        yield range(start, start + 1)
        return
    (size, stride), *inner = wheels
    offsets = range(start, start + size * stride, stride)
    if not inner:
        yield offsets
        return
    for offset in offsets:
        yield from _turn(offset, inner)


def _asked(variant: Variant) -> dict[str, Scalar]:
    """What rules compare with where a variant decides: its choices and what its config sets."""
    settings = variant.settings
    return {
        "provider": settings.provider.name,
        "model": settings.model.name,
        "pipeline": settings.pipeline.name,
        "device": settings.device.name,
        **settings.model.preset,
        "style": variant.style.name or variant.style.native,
        **variant.values,
        **variant.label,
    }

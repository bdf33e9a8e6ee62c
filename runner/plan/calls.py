"""Cells that may share a call, found lazily and without building a cell that is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

from runner.plan.cells import CellMaker
from runner.plan.compose import Composer
from runner.plan.index import Index
from runner.plan.price import combinations
from runner.providers.contract import Provider
from runner.settings.cell import CELL_KEYS, Cell, CellParams


class Grouping:
    """How the cells of one variant are put into calls.

    Dimensions whose keys may all differ within a call vary fastest, so that calls are full. A
    call ends where a key changes that its cells have to agree on, or when it is full. Where no
    key may differ, a call holds images of one point only.

    Args:
        composer: The variant's composer.
        maker: The variant's cells.
        index: The plan's index space.
        provider: The variant's provider.
    """

    def __init__(
        self, composer: Composer, maker: CellMaker, index: Index, provider: Provider
    ) -> None:
        self._composer = composer
        self._maker = maker
        self._index = index
        self._variant = composer.variant.index
        self._images = composer.variant.n
        self._most = provider.images_per_call
        shared = provider.capabilities().shared_call_keys
        self._shared = bool(shared)
        self._agreed = _getter([key for key in CELL_KEYS if key not in shared])
        # First what a call agrees on, then what it agrees on in part, last what is free.
        rank: list[int] = []
        for dim in range(len(index.space.dims)):
            keys = composer.keys_of(dim)
            rank.append(2 if keys <= shared else 1 if keys & shared else 0)
        self._order = list(range(len(rank)))
        if shared:
            self._order.sort(key=rank.__getitem__)
        self._outer = [dim for dim in self._order if rank[dim] < 2]
        self._free = [dim for dim in self._order if rank[dim] == 2]

    def calls(self, todo: Callable[[int], bool]) -> Iterator[tuple[Cell, ...]]:
        """The calls of all cells whose index ``todo`` wants, in execution order."""
        group: list[Cell] = []
        agreed: object = None
        most = 0
        for index in self._places():
            if not todo(index):
                continue
            _, point, image = self._index.locate(index)
            if self._index.left_out(self._variant, point):
                continue
            cell = self._maker.cell(index, point, image)
            own = self._agreed(cell.params) if self._shared else point
            if group and (own != agreed or len(group) >= most):
                yield tuple(group)
                group = []
            if not group:
                agreed, most = own, self._most(cell.params)
            group.append(cell)
        if group:
            yield tuple(group)

    def count(self) -> int:
        """How many calls all cells of the variant take."""
        if not self._shared:
            return sum(
                points * -(-self._images // self._most(params))
                for params, points in combinations(self._composer, self._maker, self._index)
            )
        calls, waiting, most, agreed = 0, 0, 1, None
        for point, points in self._bundles():
            params = self._maker.params(point)
            own = self._agreed(params)
            if not waiting or own != agreed:
                calls -= -waiting // most
                waiting, most, agreed = 0, self._most(params), own
            waiting += points * self._images
        return calls - (-waiting // most)

    def _places(self) -> Iterator[int]:
        for run in self._index.runs(self._variant, self._order):
            yield from run
        yield from self._index.cell_places(self._variant)

    def _bundles(self) -> Iterator[tuple[int, int]]:
        """Points that agree by construction: one of them, and how many they are."""
        index, space = self._index, self._index.space
        counts: dict[int, int] = {}
        for run in index.runs(self._variant, self._outer, images=False):
            for place in run:
                _, point, _ = index.locate(place)
                places = space.places(point)
                mask = index.active[self._variant]
                for dim in self._outer:
                    mask &= space.masks[dim].at(places[dim])
                if mask not in counts:
                    counts[mask] = space.count(mask, self._free)
                if counts[mask]:
                    yield point, counts[mask]
        for place in index.cell_places(self._variant)[:: self._images]:
            _, point, _ = index.locate(place)
            if not index.left_out(self._variant, point):
                yield point, 1


def _getter(keys: Sequence[str]) -> Callable[[CellParams], object]:
    return attrgetter(*keys) if keys else lambda params: None

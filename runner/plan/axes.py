"""Axes become dimensions, dimensions become points; rules leave points out.

A point is addressed by its number: mixed radix over the dimensions in declared order, then the
explicit points one by one. Nothing here is as long as the number of points: a rule is a bit, each
value of a dimension has a mask of the rules that it satisfies, and a point is left out when the
masks of its values share a bit. Counting folds masks, dimension by dimension.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

from runner.plan.grammar import AxisValues
from runner.plan.prompts import PromptFile
from runner.plan.text import text_of
from runner.plan.values import cell_key, coerce, shown
from runner.settings.cell import CELL_KEYS, Scalar
from runner.settings.errors import RequestError, did_you_mean, listed

Rule = Mapping[str, tuple[Scalar, ...]]
"""One ``sweep.exclude``: a point is left out if for every key its value is one of these."""

CHOICES: frozenset[str] = frozenset({"provider", "model", "pipeline", "device"})
"""Keys of rules that every variant can be told by, also where it is the only one."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """Axes that advance together: one axis, or a ``sweep.zip`` group.

    Attributes:
        axes: Cell-level key to values, all of one length.
        prompts: The prompt file, if its rows advance with this dimension.
        size: Number of places.
    """

    axes: Mapping[str, AxisValues]
    prompts: PromptFile | None
    size: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its axes; a prompt file is the axis ``prompt``."""
        return (*(("prompt",) if self.prompts else ()), *self.axes)


def dimensions(
    axes: Mapping[str, AxisValues], groups: Sequence[Sequence[str]], prompts: PromptFile | None
) -> tuple[Dimension, ...]:
    """Put axes that advance together into one dimension each, in declared order.

    A prompt file is the first dimension, or joins the group that names ``prompt``.

    Raises:
        RequestError: One problem for each group or axis that is wrong.
    """
    problems: list[str] = []
    sizes: dict[str, int] = {"prompt": len(prompts)} if prompts else {}
    for key, values in axes.items():
        if prompts and key in ("prompt", *prompts.keys):
            problems.append(
                f"sweep.axes.{key}: the prompt file {prompts.path} sets {key} too; leave one out"
            )
        sizes.setdefault(key, len(values))
    group_of: dict[str, int] = {}
    for number, names in enumerate(groups):
        where = f"sweep.zip[{number}]"
        keys = [name.removeprefix("pipeline.") for name in names]
        for key in keys:
            if key not in sizes:
                problems.append(
                    f"{where}: '{key}' is not an axis{did_you_mean(key, sizes)} "
                    f"(axes: {listed(tuple(sizes)) or 'none'})"
                )
            elif key in group_of:
                problems.append(f"{where}: the axis '{key}' is in sweep.zip twice")
            group_of[key] = number
        known = [key for key in keys if key in sizes]
        for key in known[1:]:
            if sizes[key] != sizes[known[0]]:
                problems.append(
                    f"{where}: {known[0]} has {sizes[known[0]]} values and {key} has "
                    f"{sizes[key]}; axes that advance together need the same number"
                )
    for key, values in axes.items():
        if key not in group_of and isinstance(values, tuple) and len(set(values)) < len(values):
            twice = next(value for i, value in enumerate(values) if value in values[:i])
            problems.append(
                f"sweep.axes.{key}: {shown(twice)} is there twice; n gives more images of a point"
            )
    if problems:
        raise RequestError(*problems)
    found: list[Dimension] = []
    for key in sizes:
        group = group_of.get(key)
        names = [key] if group is None else [k for k in sizes if group_of.get(k) == group]
        if names[0] == key:
            own = prompts if "prompt" in names and prompts else None
            members = {name: axes[name] for name in names if not (own and name == "prompt")}
            found.append(Dimension(members, own, sizes[key]))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Alike:
    """Places of a dimension that no rule and no label tells apart.

    Attributes:
        mask: The rules that they satisfy.
        label: What the caller wants to tell apart.
        count: How many they are.
        first: The first of them.
    """

    mask: int
    label: Hashable
    count: int
    first: int


class Masks:
    """For every place of a dimension, which rules it satisfies, as bits of an integer.

    Attributes:
        usual: The mask of all places that are not in ``special``.
        special: Other masks, by place.
        alike: All places, by mask, in the order of the first place of each.
    """

    def __init__(self, dimension: Dimension, rules: Sequence[Rule]) -> None:
        self.usual = 0
        hits: dict[int, int] = defaultdict(int)
        for number, rule in enumerate(rules):
            matching = _matching(dimension, rule)
            if matching is None:
                self.usual |= 1 << number
            else:
                for place in matching:
                    hits[place] |= 1 << number
        self.special = {place: self.usual | mask for place, mask in hits.items()}
        self._size = dimension.size
        found: dict[int, list[int]] = defaultdict(list)
        for place in sorted(self.special):
            found[self.special[place]].append(place)
        alike = [Alike(mask, None, len(places), places[0]) for mask, places in found.items()]
        if rest := dimension.size - len(self.special):
            first = next(place for place in range(dimension.size) if place not in self.special)
            alike.append(Alike(self.usual, None, rest, first))
        self.alike = tuple(sorted(alike, key=lambda places: places.first))

    def at(self, place: int) -> int:
        """The mask of a place."""
        return self.special.get(place, self.usual)

    def labelled(self, label: Callable[[int], Hashable]) -> tuple[Alike, ...]:
        """All places by mask and label; looks at every place."""
        found: dict[tuple[int, Hashable], list[int]] = {}
        for place in range(self._size):
            found.setdefault((self.at(place), label(place)), [0, place])[0] += 1
        return tuple(Alike(*key, count, first) for key, (count, first) in found.items())


class Space:
    """All points: the product of the dimensions, then the explicit ones.

    Args:
        dims: The dimensions, the first varies slowest.
        cells: The explicit points, keyed by cell-level key.
        rules: What to leave out.
    """

    def __init__(
        self,
        dims: tuple[Dimension, ...],
        cells: tuple[Mapping[str, Scalar], ...],
        rules: tuple[Rule, ...],
    ) -> None:
        self.dims = dims
        self.cells = cells
        self.rules = rules
        # Without axes there is one point, the config itself, unless points are given.
        self.product = math.prod(dim.size for dim in dims) if dims or not cells else 0
        self.masks = tuple(Masks(dim, rules) for dim in dims)
        strides: list[int] = []
        stride = 1
        for dim in reversed(dims):
            strides.append(stride)
            stride *= dim.size
        self.strides = tuple(reversed(strides))

    @property
    def points(self) -> int:
        """Number of points, those left out included."""
        return self.product + len(self.cells)

    def places(self, point: int) -> list[int]:
        """The place on every dimension of a point of the product."""
        places: list[int] = []
        for stride in self.strides:
            place, point = divmod(point, stride)
            places.append(place)
        return places

    def mask(self, places: Sequence[int]) -> int:
        """The rules that all of the places satisfy."""
        shared = -1
        for masks, place in zip(self.masks, places, strict=True):
            shared &= masks.special.get(place, masks.usual)
        return shared

    def count(self, active: int, dims: Sequence[int] | None = None) -> int:
        """How many points of the product, or of some of its dimensions, no rule leaves out.

        Args:
            active: Mask of the rules that count.
            dims: Numbers of the dimensions; all if not given.
        """
        which = range(len(self.dims)) if dims is None else dims
        if not self.product:
            return 0
        return sum(self.fold(active, [self.masks[dim].alike for dim in which]).values())

    @staticmethod
    def fold(active: int, alike: Sequence[Sequence[Alike]]) -> dict[tuple[Hashable, ...], int]:
        """Count the points that no rule leaves out, by the labels of their places."""
        states: dict[tuple[int, tuple[Hashable, ...]], int] = {(active, ()): 1}
        for dimension in alike:
            folded: dict[tuple[int, tuple[Hashable, ...]], int] = defaultdict(int)
            for (mask, labels), count in states.items():
                for places in dimension:
                    key = mask & places.mask, (*labels, places.label)
                    folded[key] += count * places.count
            states = folded
        return {labels: count for (mask, labels), count in states.items() if mask == 0}

    def neighbour(self, active: int, dim: int, place: int) -> list[int] | None:
        """The first point with a given place on one dimension that no rule leaves out.

        Returns:
            Its place on every dimension; ``None`` if there is none.
        """
        states: dict[int, list[int]] = {active: []}
        for number, masks in enumerate(self.masks):
            own = (Alike(masks.at(place), None, 1, place),) if number == dim else masks.alike
            folded: dict[int, list[int]] = {}
            for mask, chosen in states.items():
                for places in own:
                    folded.setdefault(mask & places.mask, [*chosen, places.first])
            states = folded
        return states.get(0)


def read_rules(
    data: Sequence[Mapping[str, object]],
    dims: Sequence[Dimension],
    labels: Collection[str],
) -> tuple[Rule, ...]:
    """Read ``sweep.exclude``: keys are axes, cell-level keys, columns, or labels of variants.

    Raises:
        RequestError: One problem for each wrong key or value.
    """
    columns = [column for dim in dims if dim.prompts for column in dim.prompts.columns]
    rules: list[Rule] = []
    problems: list[str] = []
    for number, entry in enumerate(data):
        where = f"sweep.exclude[{number}]"
        rule: dict[str, tuple[Scalar, ...]] = {}
        if not entry:
            problems.append(f"{where}: an empty rule would leave out everything")
        for name, value in entry.items():
            many = isinstance(value, Sequence) and not isinstance(value, str)
            values = tuple(value) if isinstance(value, Sequence) and many else (value,)
            try:
                if name in labels or (name in columns and name not in CELL_KEYS):
                    rule[name] = tuple(text_of(item) for item in values)
                else:
                    key = cell_key(name, where)
                    rule[key] = tuple(coerce(key, item, where) for item in values)
            except RequestError as error:
                problems.extend(error.problems)
        rules.append(rule)
    if problems:
        raise RequestError(*problems)
    return tuple(rules)


def satisfies(rule: Rule, values: Mapping[str, Scalar]) -> bool:
    """Whether every key of a rule has one of its values."""
    return all(key in values and values[key] in wanted for key, wanted in rule.items())


def _matching(dimension: Dimension, rule: Rule) -> Sequence[int] | None:
    """The places of a dimension that satisfy a rule; ``None`` if the rule is not about it."""
    tests: list[Callable[[int], bool]] = []
    candidates: list[Sequence[int]] = []
    for key, wanted in rule.items():
        values = dimension.axes.get(key)
        if values is not None:
            candidates.append(_places_of(values, wanted))
        elif dimension.prompts and key in dimension.prompts.columns:
            tests.append(_column_test(dimension.prompts, key, wanted))
    if not tests and not candidates:
        return None
    places: Sequence[int] = min(candidates, key=len) if candidates else range(dimension.size)
    others = [set(found) for found in candidates if found is not places]
    return [
        place
        for place in places
        if all(place in found for found in others) and all(test(place) for test in tests)
    ]


def _places_of(values: AxisValues, wanted: tuple[Scalar, ...]) -> list[int]:
    if isinstance(values, range):
        return sorted({values.index(w) for w in wanted if isinstance(w, int) and w in values})
    known = set(wanted)
    return [place for place, value in enumerate(values) if value in known]


def _column_test(
    prompts: PromptFile, column: str, wanted: tuple[Scalar, ...]
) -> Callable[[int], bool]:
    if column in CELL_KEYS:
        return lambda row: prompts.row(row)[column] in wanted
    return lambda row: text_of(prompts.row(row)[column]) in wanted

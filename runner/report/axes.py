"""The axes of a run, and which two of them make the best matrix."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from runner.settings.cell import Scalar

VARIANT = "@variant"
"""Key of the axis that tells variants apart; no cell-level key can be named so."""

IMAGE = "@image"
"""Key of the axis of the ``n`` images of one point."""

WIDE = 60
"""Columns beyond which a matrix is turned, so that the long side is the one that scrolls down."""

MOST_IN_A_CELL = 12
"""Pictures that one cell of the matrix shows before it points to the rest."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A key and its values.

    Attributes:
        key: The cell-level key, :data:`VARIANT` or :data:`IMAGE`.
        label: What people read.
        values: The distinct values, in the plan's order.
        at: For each entry the place of its value, -1 where it has none.
    """

    key: str
    label: str
    values: tuple[Scalar, ...]
    at: array[int]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the axes go: keys, ``None`` for none. No rows and no columns: a plain wall.

    Attributes:
        rows: Axis whose values are the rows.
        columns: Axis whose values are the columns.
        group: Axis whose values are sections of rows.
    """

    rows: str | None = None
    columns: str | None = None
    group: str | None = None


def choose_layout(axes: Sequence[Axis]) -> Layout:
    """Pick the two independent axes with most values; a prompt makes the rows.

    Prompts by variants come first, so that providers stand side by side. What remains is shown
    together in each cell, and split into sections when that is too much.
    """
    free = {axis.key: axis for axis in axes if len(axis.values) > 1}
    prompt, variant = free.get("prompt"), free.get(VARIANT)
    if prompt and variant and _independent(prompt, variant) and _in_a_cell(prompt, variant):
        return Layout(prompt.key, variant.key)
    by_size = sorted(free.values(), key=lambda axis: (-len(axis.values), axis.key != VARIANT))
    pair = _first_pair([prompt, *by_size] if prompt else by_size)
    if pair is None:
        return Layout()
    rows, columns = pair
    longer = columns.key != VARIANT and len(columns.values) > len(rows.values)
    if rows.key == VARIANT or (rows.key != "prompt" and longer):
        rows, columns = columns, rows
    if len(columns.values) > WIDE and len(rows.values) <= MOST_IN_A_CELL:
        rows, columns = columns, rows
    if _in_a_cell(rows, columns):
        return Layout(rows.key, columns.key)
    others = (axis for axis in by_size if axis.key not in {rows.key, columns.key})
    apart = (axis for axis in others if _independent(axis, rows) and _independent(axis, columns))
    group = next(apart, None)
    return Layout(rows.key, columns.key, None if group is None else group.key)


def _in_a_cell(rows: Axis, columns: Axis) -> bool:
    """Whether the pictures of a point fit into one cell, on average."""
    points = len(set(zip(rows.at, columns.at, strict=True)))
    return len(rows.at) <= MOST_IN_A_CELL * points


def _first_pair(axes: Sequence[Axis]) -> tuple[Axis, Axis] | None:
    pairs = itertools.combinations(axes, 2)
    return next(((one, two) for one, two in pairs if _independent(one, two)), None)


def _independent(one: Axis, two: Axis) -> bool:
    """Whether both are worth an edge: neither follows from the other, and few places are empty."""
    points = len(set(zip(one.at, two.at, strict=True)))
    sizes = len(one.values), len(two.values)
    return points > max(sizes) and 4 * points >= sizes[0] * sizes[1]

"""Columns that keep each distinct value once: ten thousand rows in a few megabytes."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

from runner.settings.cell import Json

_EXACT = 2**53
"""Largest whole number that a JavaScript number holds exactly; seeds go up to 2**63 - 1."""

_MISSING = -1


def plain(value: Json) -> Json:
    """The value as a browser can read it back: strict JSON, no number that it would round.

    Args:
        value: Any JSON value; a NaN or an infinity, which JSON cannot hold, becomes its name.
    """
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if -_EXACT <= value <= _EXACT else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value]


def _key(value: Json) -> Hashable:
    """What makes a value equal to another: 1, 1.0 and true are three values."""
    if value is None or isinstance(value, (bool, int, float)):
        return type(value), value
    return None, json.dumps(value, sort_keys=True)


class Texts(Sequence[Json]):
    """A list of texts in one block of memory: a fourth of what as many strings take."""

    __slots__ = ("_block", "_ends")

    def __init__(self) -> None:
        self._block = bytearray()
        self._ends = array("L", [0])

    def append(self, value: Json) -> None:
        """Add a text; another value becomes one."""
        self._block += str(value).encode("utf-8", "surrogatepass")
        self._ends.append(len(self._block))

    def __getitem__(self, at: Any) -> Any:
        start, end = self._ends[at], self._ends[at + 1]
        return self._block[start:end].decode("utf-8", "surrogatepass")

    def __len__(self) -> int:
        return len(self._ends) - 1


class Column:
    """One value per row, or none; equal values are kept once.

    Args:
        distinct: Hardly two values are equal, so none is looked for; texts stay texts.
    """

    __slots__ = ("_places", "at", "values")

    def __init__(self, *, distinct: bool = False) -> None:
        self.values: list[Json] | Texts = []
        self.at = array("i")
        self._places: dict[Hashable, int] | None = None if distinct else {}

    def put(self, row: int, value: Json) -> None:
        """Set the value of a row; rows come in ascending order."""
        at = self.at
        if len(at) < row:
            at.extend([_MISSING] * (row - len(at)))
        place = None
        if self._places is not None:
            key = value if isinstance(value, str) else _key(value)
            place = self._places.setdefault(key, len(self.values))
        if place is None or place == len(self.values):
            place = len(self.values)
            if place == 0 and self._places is None and isinstance(value, str):
                self.values = Texts()
            self.values.append(plain(value))
        at.append(place)

    def get(self, row: int) -> Json:
        """The value of a row; ``None`` where there is none."""
        place = self.at[row] if row < len(self.at) else _MISSING
        return None if place == _MISSING else self.values[place]

    def packed(self, order: Sequence[int]) -> dict[str, Json]:
        """``{"v": values}`` where all rows hold one value, else ``{"v": values, "i": places}``."""
        size = len(self.at)
        places = [self.at[row] if row < size else _MISSING for row in order]
        if len(self.values) == 1 and _MISSING not in places:
            return {"v": [*self.values]}
        return {"v": [*self.values], "i": places}


class Table:
    """Rows of named plain values.

    Args:
        distinct: Columns in which hardly two values are equal.
    """

    __slots__ = ("_distinct", "columns", "rows")

    def __init__(self, distinct: Collection[str] = ()) -> None:
        self.columns: dict[str, Column] = {}
        self.rows = 0
        self._distinct = distinct

    def append(self, values: Iterable[tuple[str, Json]]) -> None:
        """Add a row of names and values; what is left out takes no room."""
        columns, row = self.columns, self.rows
        for name, value in values:
            column = columns.get(name)
            if column is None:
                column = columns[name] = Column(distinct=name in self._distinct)
            column.put(row, value)
        self.rows += 1

    def get(self, name: str, row: int) -> Json:
        """The value of a column in a row; ``None`` where there is none."""
        column = self.columns.get(name)
        return None if column is None else column.get(row)

    def text(self, name: str, row: int) -> str:
        """The same as text; empty where there is none."""
        value = self.get(name, row)
        return "" if value is None else str(value)

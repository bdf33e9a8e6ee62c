"""What the formats of prompt files share: the records they give and what a scan learns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from runner.plan.values import CHOICE_KEYS, BadValueError, coerce_many, kind_of
from runner.settings.cell import Scalar
from runner.settings.errors import RequestError

Raw = dict[str, Scalar]
"""The values of one row, by column, as the file has them."""

BATCH = 8192
"""Rows that are checked at once."""

_MOST_DISTINCT = 1000


class Facts:
    """What a scan learns about the columns that set keys, so that no check reads every row."""

    def __init__(self) -> None:
        self.partial: set[str] = set()
        self._ends: dict[str, tuple[tuple[float, int], tuple[float, int]]] = {}
        self._texts: dict[str, dict[str, int]] = {}

    def see(self, key: str, first: int, values: Sequence[object]) -> None:
        """Look at the values of a key in consecutive rows, of which ``first`` is the first.

        Raises:
            BadValueError: The key does not take one of them.
        """
        if "" in values:
            values = [None if value == "" else value for value in values]
        typed = coerce_many(key, values, "")
        missing = None in typed
        if missing:
            self.partial.add(key)
            if key == "prompt":
                raise BadValueError(typed.index(None), key, None, "", "every row needs a prompt")
        if kind_of(key) is str:
            known = self._texts.setdefault(key, {})
            most = _MOST_DISTINCT if key in CHOICE_KEYS else 1
            if len(known) < most:
                for text in dict.fromkeys(text for text in typed if isinstance(text, str)):
                    known.setdefault(text, first + typed.index(text))
                    if len(known) == most:
                        break
        elif numbers := cast(
            "list[float]", [n for n in typed if n is not None] if missing else typed
        ):
            smallest, largest = min(numbers), max(numbers)
            low = smallest, first + typed.index(smallest)
            high = largest, first + typed.index(largest)
            old_low, old_high = self._ends.get(key, (low, high))
            self._ends[key] = (
                low if low[0] < old_low[0] else old_low,
                high if high[0] > old_high[0] else old_high,
            )

    def rows(self) -> set[int]:
        """Rows that hold the ends of every number and the different values of every text."""
        ends = {row for pair in self._ends.values() for _, row in pair}
        return ends | {row for texts in self._texts.values() for row in texts.values()}


class Records(Protocol):
    """A scanned file.

    Attributes:
        columns: Names of its columns, in order.
        facts: What the scan learned.
        representatives: Rows that are worth a look; see :class:`runner.plan.prompts.PromptFile`.
    """

    columns: tuple[str, ...]
    facts: Facts
    representatives: tuple[int, ...]

    def __len__(self) -> int: ...

    def raw(self, index: int) -> Raw:
        """The values of a row."""

    def place(self, index: int) -> str:
        """``line 7`` or ``row 7``."""

    def at(self, source: Path) -> Records:
        """The same records in a copy of the file."""


def column_names(names: Sequence[str], source: Path) -> tuple[str, ...]:
    """The columns that a file offers; those without a name are left out.

    Raises:
        RequestError: A name comes twice, or is ``n``.
    """
    named = tuple(name for name in names if name)
    for place, name in enumerate(named):
        if name in named[:place]:
            raise RequestError(f"prompt file {source} has two columns '{name}': rename one")
    if "n" in named:
        raise RequestError(
            f"prompt file {source}: a column cannot set n; rename it if it means something else, "
            "or repeat the row with other seeds"
        )
    return named

"""How long the tests run, and what they did, for the record.

``make test`` runs the short form. ``make torture`` (``python -m tests.torture``) sets
``RUNNER_TORTURE``, runs the long form and prints the sums.
"""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

LONG = bool(os.environ.get("RUNNER_TORTURE"))
"""Whether this is the long form."""

SIZE = int(os.environ.get("RUNNER_TORTURE_SIZE", "100"))
"""Per cent of the long form."""

LEDGER = os.environ.get("RUNNER_TORTURE", "")
"""File to which every test process appends its sums."""


class Figures:
    """What was done, by name."""

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()

    def add(self, what: str, number: int = 1) -> None:
        self.sums[what] += number

    @staticmethod
    def count(*, short: int, long: int) -> int:
        """How often something is tried."""
        return max(short, long * SIZE // 100) if LONG else short

    @staticmethod
    def step(*, short: int, long: int = 1) -> int:
        """How far apart the places are at which something is tried."""
        return min(short, max(1, long * 100 // SIZE)) if LONG else short

    @classmethod
    def passages(cls, *short: int) -> Iterable[int]:
        """Which passages of a point are tried: a few, or all there are."""
        return itertools.count(1, cls.step(short=10)) if LONG else short

    def save(self) -> None:
        if LEDGER and self.sums:
            with Path(LEDGER).open("a") as file:
                file.write(json.dumps(self.sums) + "\n")


def counted() -> Iterator[Figures]:
    """The body of a fixture: figures that are saved when the session ends."""
    found = Figures()
    yield found
    found.save()

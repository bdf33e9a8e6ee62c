"""A small vocabulary for what an API takes: types, ranges, required and forbidden fields.

::

    GENERATE = Shape({"prompt": Text(longest=32_000), "n": Int(1, 10)}, required=("prompt",))
    for problem in GENERATE.problems(seen.json): ...

Form fields are text; :meth:`Shape.form_problems` reads numbers and booleans out of it first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Rule(Protocol):
    """What one field may hold."""

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value; ``None``: nothing."""


@dataclass(frozen=True)
class Text:
    """Text up to a length, optionally of a pattern."""

    longest: int = 100_000
    pattern: str | None = None
    shortest: int = 0

    def problem(self, value: Any) -> str | None:
        if not isinstance(value, str):
            return f"is a {type(value).__name__}, not text"
        if not self.shortest <= len(value) <= self.longest:
            return f"has {len(value)} characters, not {self.shortest} to {self.longest}"
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            return f"is {value!r}, not of the form {self.pattern}"
        return None


@dataclass(frozen=True)
class OneOf:
    """One of a few values."""

    values: Sequence[Any]

    def problem(self, value: Any) -> str | None:
        same = any(value == known and type(value) is type(known) for known in self.values)
        return None if same else f"is {value!r}, not one of {list(self.values)}"


@dataclass(frozen=True)
class Int:
    """A whole number in a range; true and 1.0 are none."""

    least: int
    most: int

    def problem(self, value: Any) -> str | None:
        if type(value) is not int:
            return f"is {value!r}, not a whole number"
        fits = self.least <= value <= self.most
        return None if fits else f"is {value}, not {self.least} to {self.most}"


@dataclass(frozen=True)
class Number:
    """A number in a range."""

    least: float
    most: float

    def problem(self, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"is {value!r}, not a number"
        fits = self.least <= value <= self.most
        return None if fits else f"is {value}, not {self.least} to {self.most}"


@dataclass(frozen=True)
class Bool:
    """True or false."""

    def problem(self, value: Any) -> str | None:
        return None if isinstance(value, bool) else f"is {value!r}, not a boolean"


@dataclass(frozen=True)
class ListOf:
    """A list of values of one kind."""

    item: Rule
    least: int = 0
    most: int = 1000

    def problem(self, value: Any) -> str | None:
        if not isinstance(value, list):
            return f"is a {type(value).__name__}, not a list"
        if not self.least <= len(value) <= self.most:
            return f"has {len(value)} items, not {self.least} to {self.most}"
        found = (self.item.problem(item) for item in value)
        return next((f"holds an item that {text}" for text in found if text), None)


@dataclass(frozen=True)
class Anything:
    """Whatever it is."""

    def problem(self, value: Any) -> str | None:
        return None


@dataclass(frozen=True)
class Shape:
    """An object: its fields, which of them must be there, and nothing else."""

    fields: Mapping[str, Rule]
    required: Sequence[str] = ()

    def problem(self, value: Any) -> str | None:
        return next(self.problems(value), None)

    def problems(self, value: Any) -> Iterator[str]:
        """Everything that is wrong with an object, one sentence each."""
        if not isinstance(value, Mapping):
            yield f"is a {type(value).__name__}, not an object"
            return
        for name in self.required:
            if name not in value:
                yield f"{name} is missing"
        for name, held in value.items():
            rule = self.fields.get(name)
            if rule is None:
                yield f"{name} is not a field of this API (sent: {held!r})"
            elif text := rule.problem(held):
                yield f"{name} {text}"

    def form_problems(
        self, fields: Sequence[tuple[str, str]], files: Sequence[str] = ()
    ) -> Iterator[str]:
        """The same for a multipart form, whose values are text.

        Args:
            fields: Names and texts.
            files: Names of the file fields, which count as present.
        """
        names = Counter(name for name, _ in fields)
        for name, count in names.items():
            if count > 1:
                yield f"{name} comes {count} times"
        values = {name: _typed(text, self.fields.get(name)) for name, text in fields}
        present = {**dict.fromkeys(files, b""), **values}
        for name in self.required:
            if name not in present:
                yield f"{name} is missing"
        yield from Shape({**self.fields}).problems(values)


def _typed(text: str, rule: Rule | None) -> Any:
    if isinstance(rule, Int) and re.fullmatch(r"-?\d+", text):
        return int(text)
    if isinstance(rule, Number):
        try:
            return float(text)
        except ValueError:
            return text
    if isinstance(rule, Bool) and text in {"true", "false"}:
        return text == "true"
    return text

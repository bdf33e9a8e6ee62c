"""What a plan asks, against what each model takes: all problems at once, before the first call."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from runner.plan.axes import Dimension
from runner.plan.compose import Composer
from runner.plan.files import InputFiles
from runner.plan.index import Index
from runner.plan.values import shown
from runner.providers.contract import OWN_SETTINGS, Capabilities, Param, Provider, asked
from runner.providers.lifecycle import lifecycle_warning
from runner.settings.cell import CellParams, Json
from runner.settings.errors import RequestError, did_you_mean, listed
from runner.settings.schema import Unsupported

_EVERY_POINT = 1000
"""Plans of at most so many points are checked point by point; longer ones value by value."""

_MOST_ALIKE = 3
"""So many wrong values of one key are told; of the rest only how many they are."""

_MOST_SENTENCES = 10
"""So many sentences of one kind are told; of the rest only how many they are."""


@dataclass(slots=True)
class Checked:
    """What the check of one variant found.

    Attributes:
        dropped: Keys that are asked and will not be sent.
        warnings: Sentences for the user.
        problems: What stands in the way.
    """

    dropped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def check(
    composer: Composer,
    index: Index,
    files: InputFiles,
    provider: Provider,
    unsupported: Unsupported,
) -> Checked:
    """Check one variant of a plan.

    Args:
        composer: The variant's composer; nothing is dropped yet.
        index: The plan's index space.
        files: The plan's input files.
        provider: The variant's provider.
        unsupported: What to do with keys that the model does not take.
    """
    found = Checked()
    if ended := lifecycle_warning(composer.variant.settings.model):
        found.warnings.append(ended)
    capabilities = provider.capabilities()
    name, kind = composer.variant.name, composer.variant.settings.pipeline.name
    if kind not in capabilities.pipelines:
        known = sorted(capabilities.pipelines)
        found.problems.append(
            f"{name}: this model has no pipeline '{kind}'{did_you_mean(kind, known)}; "
            f"it has {listed(known)}; set pipeline=…"
        )
    for setting in OWN_SETTINGS:
        section, key = setting.split(".")
        value = getattr(getattr(composer.variant.settings, section), key)
        if value is not None and setting not in capabilities.settings:
            found.problems.append(
                f"{name}: {setting}={value} is not followed with pipeline={kind} here; remove it"
            )
    unread: list[str] = []
    for path in sorted(composer.paths()):
        try:
            files.sha256(path)
        except RequestError as error:
            unread.extend(error.problems)
    found.problems += _few(unread, "more input files")
    keys = _Keys(composer, capabilities)
    said: dict[str, None] = {}
    for point in representatives(composer, index):
        params = composer.params(point)
        if keys.see(point, params):
            said.update(dict.fromkeys(provider.check(keys.taken(params))))
    keys.report(unsupported, found)
    found.problems += _few([f"{name}: {sentence}" for sentence in said], "more of the kind")
    return found


def _few(sentences: list[str], more: str) -> list[str]:
    rest = len(sentences) - _MOST_SENTENCES
    return [*sentences[:_MOST_SENTENCES], *([f"… and {rest} {more}"] if rest > 0 else [])]


def representatives(composer: Composer, index: Index) -> Iterator[int]:
    """Points that together show every value, and no point that a rule leaves out.

    All points of a small plan. Of a large one every value of every axis once, only both ends of
    a range, and of a prompt file the rows that its scan picked.
    """
    space, variant = index.space, composer.variant.index
    if space.points <= _EVERY_POINT:
        yield from (p for p in range(space.points) if not index.left_out(variant, p))
        return
    seen: set[int] = set()
    for number, dim in enumerate(space.dims):
        for place in _places(composer, number, dim):
            places = space.neighbour(index.active[variant], number, place)
            if places is not None:
                point = sum(p * stride for p, stride in zip(places, space.strides, strict=True))
                if point not in seen:
                    seen.add(point)
                    yield point
    for point in range(space.product, space.points):
        if not index.left_out(variant, point):
            yield point


def _places(composer: Composer, number: int, dim: Dimension) -> Sequence[int]:
    written_out = any(isinstance(values, tuple) for values in dim.axes.values())
    if written_out or (number == 0 and composer.needs_every_row()):
        return range(dim.size)
    ends = {0, dim.size - 1}
    return sorted(ends.union(dim.prompts.representatives) if dim.prompts else ends)


class _Keys:
    """The keys that are asked, against those that a model takes."""

    def __init__(self, composer: Composer, capabilities: Capabilities) -> None:
        self._composer = composer
        self._taken = capabilities.params
        self._untaken: dict[str, int] = {}  # key → first point that asks for it
        self._wrong: dict[str, dict[Json, int]] = {}

    def see(self, point: int, params: CellParams) -> bool:
        """Look at a point; whether all values of the keys that the model takes are allowed."""
        allowed = True
        for key, value in asked(params).items():
            param = self._taken.get(key)
            if param is None:
                if value != "":  # an empty prompt asks for nothing
                    self._untaken.setdefault(key, point)
            elif _fault(param, value):
                allowed = False
                self._wrong.setdefault(key, {}).setdefault(value, point)
        return allowed

    def taken(self, params: CellParams) -> CellParams:
        """The parameters without those that the model does not take."""
        if not self._untaken:
            return params
        nothing: Any = {key: "" if key == "prompt" else None for key in self._untaken}
        return dataclasses.replace(params, **nothing)

    def report(self, unsupported: Unsupported, found: Checked) -> None:
        """Write down what was seen."""
        name = self._composer.variant.name
        for key, point in self._untaken.items():
            source = self._composer.source(key, point)
            if unsupported == "error":
                found.problems.append(
                    f"{name}: this model does not take {key} (set by {source}); it takes "
                    f"{listed(list(self._taken))}; remove {key}, or leave it out with "
                    "unsupported=drop"
                )
                continue
            found.dropped.append(key)
            if unsupported == "warn":
                found.warnings.append(
                    f"{name}: this model does not take {key} (set by {source}); it is left out"
                )
        for key, wrong in self._wrong.items():
            param = self._taken[key]
            for value, point in islice(wrong.items(), _MOST_ALIKE):
                note = f"; {param.note}" if param.note else ""
                found.problems.append(
                    f"{name}: {key} cannot be {shown(value)} (set by "
                    f"{self._composer.source(key, point)}): {_fault(param, value)}{note}"
                )
            if len(wrong) > _MOST_ALIKE:
                rest = len(wrong) - _MOST_ALIKE
                found.problems.append(f"{name}: … and {rest} more values of {key}")


def _fault(param: Param, value: Json) -> str:
    """What a model takes instead of a value; an empty text if it takes the value."""
    if isinstance(value, str):
        if param.choices and value not in param.choices:
            return f"it takes {listed(param.choices)}{did_you_mean(value, param.choices)}"
    elif isinstance(value, (int, float)):
        low, high = param.minimum, param.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            bounds = (("at least", low), ("at most", high))
            told = (f"{word} {_number(b)}" for word, b in bounds if b is not None)
            return f"it takes {' and '.join(told)}"
    return ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)

"""Values of one axis: a YAML list, a single value, or Hydra's own ``range(0,8)``, ``choice(a,b)``.

A range of integers stays a Python ``range`` and a range of floats is made by index, so that an
axis of a million seeds takes no memory.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast, overload

from runner.plan.values import cell_key, coerce_many, kind_of, shown
from runner.settings.cell import Json, Scalar, digest
from runner.settings.errors import RequestError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

AxisValues = Sequence[Scalar]
"""A tuple, a ``range`` or a :class:`FloatRange`: length and random access, no list in memory."""

MAX_EXPANDED = 1_000_000
"""Most values of a range that has to be written out one by one (shuffled, or turned to text)."""

_CALL = re.compile(
    r"\s*(?:(?:int|float|str|bool)\()*(?:range|choice|shuffle|sort|tag|interval|glob)\(.*\)\s*",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class FloatRange(Sequence[float]):
    """Floats from ``start`` (inclusive) to ``stop`` (exclusive), each computed from its index.

    The arithmetic is decimal: ``range(0,1,0.1)`` holds 0.7 and not 0.7000000000000001.
    """

    start: Decimal
    stop: Decimal
    step: Decimal

    def __len__(self) -> int:
        return max(0, math.ceil((self.stop - self.start) / self.step))

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[float, ...]: ...
    def __getitem__(self, index: int | slice) -> float | tuple[float, ...]:
        places = range(len(self))[index]
        if isinstance(places, range):
            return tuple(self[place] for place in places)
        return float(self.start + self.step * places)


def axis_values(name: str, data: object, where: str = "sweep.axes") -> AxisValues:
    """Read one axis from config data.

    A list gives its elements. A text that is a call of Hydra's sweep grammar (``range(``,
    ``choice(``, ``shuffle(``, ``sort(``, casts around them) is parsed as such; any other text is
    one value, because a prompt may hold commas. ``shuffle`` gives the same order for the same
    values everywhere; the order is written out in ``plan.json``.

    Args:
        name: The axis: a cell-level key, also as ``pipeline.strength``.
        data: What the config holds.
        where: The section, for messages.

    Returns:
        The values, typed as the key.

    Raises:
        RequestError: Wrong key or value.
    """
    key = cell_key(name, where)
    where = f"{where}.{name}"
    if isinstance(data, (range, FloatRange)):
        return _typed(key, data, where)
    if isinstance(data, str) and _CALL.fullmatch(data):
        return _typed(key, _parsed(data, where), where)
    if isinstance(data, Mapping):
        raise RequestError(f"{where}: an axis is a list of values, not a mapping: {shown(data)}")
    if isinstance(data, Sequence) and not isinstance(data, str):
        return _typed(key, tuple(data), where)
    return _typed(key, (cast(Scalar, data),), where)


def axes_from(data: Mapping[str, object], where: str = "sweep.axes") -> dict[str, AxisValues]:
    """Read all axes of a ``sweep.axes`` section, keyed by cell-level key, in its order.

    Raises:
        RequestError: One problem for each axis that is wrong.
    """
    axes: dict[str, AxisValues] = {}
    problems: list[str] = []
    for name, values in data.items():
        try:
            key = cell_key(name, where)
            if key in axes:
                raise RequestError(f"{where}: '{name}' is given twice")
            axes[key] = axis_values(name, values, where)
        except RequestError as error:
            problems.extend(error.problems)
    if problems:
        raise RequestError(*problems)
    return axes


def from_override(override: Override, where: str = "command line") -> tuple[str, AxisValues]:
    """Read an axis from a parsed override such as ``seed=range(0,8)`` or ``prompt=a,b``.

    Returns:
        The cell-level key and its values.

    Raises:
        RequestError: Wrong key or value.
    """
    key = cell_key(override.key_or_group, where)
    where = f"{where}: {override.input_line or override.key_or_group}"
    return key, _typed(key, _enumerated(override._value, where), where)


def values_to_json(values: AxisValues) -> Json:
    """The compact form of plan.json: a list, or the bounds of a range."""
    if isinstance(values, range):
        return {"range": [values.start, values.stop, values.step]}
    if isinstance(values, FloatRange):
        return {"float_range": [str(values.start), str(values.stop), str(values.step)]}
    return list(values)


def values_from_json(data: Json) -> AxisValues:
    """The inverse of :func:`values_to_json`."""
    if isinstance(data, Mapping):
        (kind, bounds), *_ = cast("Mapping[str, list[Any]]", data).items()
        return range(*bounds) if kind == "range" else FloatRange(*map(Decimal, bounds))
    return tuple(cast("Sequence[Scalar]", data))


def _parsed(text: str, where: str) -> AxisValues:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(f"axis={text.strip()}")
    except HydraException as error:
        reason = str(error).strip().partition("\n")[0]
        raise RequestError(
            f"{where}: cannot read {shown(text)}: {reason}; a text that only looks like a call "
            "goes into a list of one"
        ) from None
    return _enumerated(override._value, where)


def _enumerated(value: Any, where: str) -> AxisValues:
    """The values that a parsed element or sweep of Hydra's grammar stands for."""
    from hydra.core.override_parser.types import (
        ChoiceSweep,
        Glob,
        IntervalSweep,
        QuotedString,
        RangeSweep,
    )

    def plain(item: Any) -> Scalar:
        if isinstance(item, QuotedString):
            return item.text
        if isinstance(item, (list, dict)):
            raise RequestError(
                f"{where}: a value of an axis is a number or a text, not {shown(item)}; write "
                "choice(a,b) or a,b without brackets"
            )
        return cast(Scalar, item)

    if isinstance(value, IntervalSweep):
        raise RequestError(
            f"{where}: interval() has no list of values; use range({value.start:g},{value.end:g},"
            "STEP)"
        )
    if isinstance(value, Glob):
        raise RequestError(f"{where}: glob() is for config groups; list the values of an axis")
    values: AxisValues
    if isinstance(value, RangeSweep):
        values = _range(value.start or 0, value.stop or 0, value.step, where)
    elif isinstance(value, ChoiceSweep):
        values = tuple(map(plain, value.list))
    else:
        return (plain(value),)
    return _shuffled(values, where) if value.shuffle else values


def _range(start: float, stop: float, step: float, where: str) -> AxisValues:
    if not all(map(math.isfinite, (start, stop, step))) or step == 0:
        raise RequestError(f"{where}: range({start},{stop},{step}) has no end; the step is not 0")
    if all(isinstance(bound, int) for bound in (start, stop, step)):
        return range(int(start), int(stop), int(step))
    # repr() is the shortest text of a float: the number that the user typed.
    return FloatRange(*(Decimal(repr(bound)) for bound in (start, stop, step)))


def _shuffled(values: AxisValues, where: str) -> AxisValues:
    """An order that looks random and depends on the values alone, on every Python."""
    key = digest(list(_expanded(values, where)))
    order = sorted(
        range(len(values)), key=lambda place: hashlib.sha256(f"{key}:{place}".encode()).digest()
    )
    return tuple(values[place] for place in order)


def _expanded(values: AxisValues, where: str) -> tuple[Scalar, ...]:
    if len(values) > MAX_EXPANDED:
        raise RequestError(
            f"{where}: {len(values)} values are too many to write out one by one "
            f"(at most {MAX_EXPANDED})"
        )
    return tuple(values)


def _typed(key: str, values: AxisValues, where: str) -> AxisValues:
    """The values with the key's type; ranges of numbers stay ranges."""
    if isinstance(values, range):
        # A longer range has no len() in Python, and no plan could be indexed with it.
        if (values.stop - values.start) // values.step >= 2**62:
            raise RequestError(f"{where}: the range is too long")
        if kind_of(key) is float:
            values = FloatRange(*map(Decimal, (values.start, values.stop, values.step)))
    if not len(values):
        raise RequestError(f"{where}: the axis has no value")
    lazy = (isinstance(values, range) and kind_of(key) is int) or (
        isinstance(values, FloatRange) and kind_of(key) is float
    )
    if lazy:  # numbers in order: if both ends are allowed, all are
        coerce_many(key, (values[0], values[-1]), where)
        return values
    return tuple(coerce_many(key, _expanded(values, where), where))

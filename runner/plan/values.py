"""Values of cell-level keys, typed as the schema types the same key at the root of a config."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, cast, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from runner.settings.cell import CELL_KEYS, PIPELINE_KEYS, Scalar
from runner.settings.errors import RequestError, did_you_mean, listed
from runner.settings.schema import PipelineSettings, Settings


def cell_key(name: str, where: str) -> str:
    """The cell-level key that a name means; ``pipeline.strength`` means ``strength``.

    Raises:
        RequestError: There is no such key.
    """
    key = name.removeprefix("pipeline.")
    if key in PIPELINE_KEYS or (key in CELL_KEYS and key == name):
        return key
    if name == "n":
        raise RequestError(
            f"{where}: n is not an axis; give n at the root for more images of every point, or "
            "an axis 'seed'"
        )
    raise RequestError(
        f"{where}: '{name}' is not a cell-level key{did_you_mean(name, CELL_KEYS)} "
        f"(keys: {listed(CELL_KEYS)}); choices of groups such as provider or model are swept "
        "with -m"
    )


def _field(key: str) -> FieldInfo:
    owner = PipelineSettings if key in PIPELINE_KEYS else Settings
    return owner.model_fields[key]


@cache
def kind_of(key: str) -> type:
    """The type of a key's values: ``int``, ``float`` or ``str``."""
    if key == "style":  # a group in the config, a name on an axis
        return str
    kinds: dict[type, type] = {int: int, float: float}
    return next((kinds[arg] for arg in get_args(_field(key).annotation) if arg in kinds), str)


TEXT_KEYS: tuple[str, ...] = tuple(key for key in CELL_KEYS if kind_of(key) is str)
"""Cell-level keys that hold text, and therefore may be templates of a prompt file."""


CHOICE_KEYS: frozenset[str] = frozenset({"size", "quality", "style", "background", "output_format"})
"""Cell-level keys of which a model takes a few texts only."""


def coerce(key: str, value: object, where: str) -> Scalar:
    """A value with the type of its key; ``None`` stays and means: not set.

    Args:
        key: A cell-level key.
        value: What the user wrote.
        where: Where it was set, for the message.

    Raises:
        RequestError: The key does not take this value.
    """
    return coerce_many(key, [value], where)[0]


def coerce_many(key: str, values: Sequence[object], where: str) -> list[Scalar]:
    """:func:`coerce` for many values at once, some 0.1 µs each.

    Raises:
        BadValueError: The key does not take one of them.
    """
    kinds = set(map(type, values))
    if not kinds.isdisjoint(_NEVER):
        place = next(i for i, value in enumerate(values) if type(value) in _NEVER)
        raise BadValueError(place, key, values[place], where, f"it takes {_TAKES[kind_of(key)]}")
    if key == "size" and int in kinds:  # YAML reads a bare 512 as a number, as the schema knows
        values = [f"{value}x{value}" if type(value) is int else value for value in values]
    try:
        typed: list[Scalar] = _adapter(key).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = int(first["loc"][0])
        reason = first["msg"].replace("Input ", "it ", 1)
        if kind_of(key) is str and type(values[place]) in (int, float):
            reason = "it takes a text; put the number in quotes"
        raise BadValueError(place, key, values[place], where, reason) from None
    if kind_of(key) is str:
        texts = cast("list[str]", [text or "" for text in typed] if None in typed else typed)
        if text_fault("".join(texts)):  # one look at all of them, then find the one
            place, fault = next((i, fault) for i, t in enumerate(texts) if (fault := text_fault(t)))
            raise BadValueError(place, key, texts[place], where, fault)
    return typed


class BadValueError(RequestError):
    """A value that its key does not take, with its place in the sequence that was checked."""

    def __init__(self, place: int, key: str, value: object, where: str, reason: str) -> None:
        super().__init__(f"{where}: {key} cannot be {shown(value)}: {reason}")
        self.place = place
        self._parts = key, value, reason

    def at(self, where: str) -> RequestError:
        """The same problem, set elsewhere."""
        key, value, reason = self._parts
        return BadValueError(self.place, key, value, where, reason)


def shown(value: object, limit: int = 60) -> str:
    """A value as a message shows it: quoted like Python, cut after ``limit`` characters."""
    text = "null" if value is None else repr(value)
    return f"{text[: limit - 1]}…" if len(text) > limit else text


def text_fault(text: str) -> str:
    """Why a text cannot be sent or written to a file; an empty text if it can."""
    if "\0" in text:
        return "it holds a NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return f"it holds half a character (U+{ord(text[error.start]):04X}), not valid Unicode"
    return ""


_NEVER: tuple[type, ...] = (bool, list, tuple, dict, bytes, datetime.date, datetime.datetime)
_TAKES = {int: "a whole number", float: "a number", str: "a text"}


@cache
def _adapter(key: str) -> TypeAdapter[list[Scalar]]:
    # The constraints of the schema's own field, so that an axis and the root agree.
    item: Any = str | None
    if key != "style":
        field = _field(key)
        item = Annotated[field.annotation, field]
    return TypeAdapter(list[item], config=ConfigDict(allow_inf_nan=False))

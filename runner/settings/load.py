"""A composed config becomes :class:`Settings`, or one sentence per mistake."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from runner.settings.errors import RequestError, did_you_mean, is_text, listed
from runner.settings.schema import Settings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)


def read_settings(data: Mapping[str, Any], overridden: Iterable[str] = ()) -> Settings:
    """Validate a composed config.

    Args:
        data: The config as plain containers, interpolations resolved.
        overridden: Dotted keys that were set on the command line, for the messages.

    Raises:
        RequestError: One sentence per mistake, all of them at once.
    """
    if torn := list(_torn(data, "")):
        raise RequestError(*torn)
    return validate(Settings, data, "", overridden)


def _torn(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _torn(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _torn(inner, key)
    elif isinstance(value, str) and not is_text(value):
        yield f"{key}={value!r}: this is no text: it holds half a character (a lone surrogate)"


def with_values(data: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a config that has other values.

    Args:
        data: The config as plain containers.
        values: Values by dotted key.
    """
    made = copy.deepcopy(dict(data))
    for key, value in values.items():
        *path, last = key.split(".")
        section = made
        for name in path:
            section = section[name]
        section[last] = value
    return made


def validate(
    model: type[Model], data: Mapping[str, Any], prefix: str, overridden: Iterable[str] = ()
) -> Model:
    """Validate any section; ``prefix`` is its dotted place in the config, for the messages.

    Raises:
        RequestError: One sentence per mistake, all of them at once.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        given = frozenset(overridden)
        raise RequestError(
            *(_sentence(model, detail, prefix, given) for detail in error.errors())
        ) from None


def _sentence(
    model: type[BaseModel], detail: ErrorDetails, prefix: str, overridden: frozenset[str]
) -> str:
    parts = [str(part) for part in detail["loc"]]
    key = ".".join([prefix, *parts] if prefix else parts)
    where = " (set on the command line)" if key in overridden else " (set in the config)"
    kind = detail["type"]
    if kind == "extra_forbidden":
        known = _keys_beside(model, parts)
        near = did_you_mean(parts[-1], known)
        return f"{key}: unknown key{where}{near or f'; known here: {listed(known)}'}"
    if kind == "missing":
        return f"{key}: missing; set it with {key}=…"
    value = detail["input"]
    shown = repr(value) if len(repr(value)) < 80 else repr(value)[:77] + "…"
    message = detail["msg"][0].lower() + detail["msg"][1:]
    near = ""
    if kind == "literal_error":
        near = did_you_mean(str(value), re.findall(r"'([^']+)'", str(detail["ctx"]["expected"])))
    return f"{key}={shown}: {message}{near}{where}"


def _keys_beside(model: type[BaseModel], parts: list[str]) -> list[str]:
    here: type[BaseModel] = model
    for part in parts[:-1]:
        field = here.model_fields.get(part)
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        here = annotation
    return list(here.model_fields)

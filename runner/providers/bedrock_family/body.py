"""Bodies of InvokeModel: files as base64, and ``provider.extra_body`` laid over them."""

from __future__ import annotations

from collections.abc import Mapping

from runner.providers.net import InputImage
from runner.providers.net.payload import encode_base64
from runner.settings.cell import Json


def as_base64(image: InputImage) -> str:
    """A file as the models take it: plain base64, no ``data:`` before it."""
    return encode_base64(image.data)


def merged(body: Mapping[str, Json], extra: Mapping[str, Json]) -> dict[str, Json]:
    """A body with further fields; those of one object are laid over each other."""
    result = dict(body)
    for name, value in extra.items():
        held = result.get(name)
        both = isinstance(held, Mapping) and isinstance(value, Mapping)
        result[name] = merged(held, value) if both else value  # type: ignore[arg-type]
    return result

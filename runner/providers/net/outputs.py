"""From what an answer lists to one output per cell."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.providers.contract import Call, Missing, Picture
from runner.providers.net.http import Http
from runner.settings.cell import Json


@dataclass(frozen=True, slots=True)
class Found:
    """One image as an answer lists it.

    Attributes:
        source: Base64, a ``data:`` or https URL; ``None`` where it says nothing.
        effective: What the API says it used for it.
        warnings: Sentences about it.
    """

    source: str | None
    effective: Mapping[str, Json] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


async def take_all(
    http: Http,
    call: Call,
    found: Sequence[Found | Missing],
    *,
    seed_sent: int | None = None,
    warnings: Sequence[str] = (),
) -> tuple[Picture | Missing, ...]:
    """One output for each cell of a call; images that came as addresses are fetched together.

    Args:
        http: Fetches them, without the key.
        call: What was asked.
        found: What the answer lists: too few and too many are both told.
        seed_sent: The call's one seed.
        warnings: Sentences for every picture.
    """
    count = len(call.cells)
    notes = list(warnings)
    if len(found) > count:
        notes.append(f"{len(found)} images came, {count} were asked for")
    lost = Missing(
        outcome="failed",
        kind="no_image",
        message="fewer images than asked" if found else "no image in the answer",
    )

    async def output(item: Found | Missing) -> Picture | Missing:
        if isinstance(item, Missing):
            return item
        return await http.take(
            item.source,
            seed_sent=seed_sent,
            effective=item.effective,
            warnings=[*notes, *item.warnings],
        )

    outputs = await asyncio.gather(*(output(item) for item in found[:count]))
    return (*outputs, *[lost] * (count - len(outputs)))


def text(value: object) -> str | None:
    """A text that is there and not empty."""
    return value if isinstance(value, str) and value else None


def mapping(value: object) -> Mapping[str, Any]:
    """An object of an answer, or an empty one where something else stands."""
    return value if isinstance(value, Mapping) else {}

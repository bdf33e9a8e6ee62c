"""A cell: one image to be made, fully resolved, and the hash that names it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
"""Any value that JSON can hold."""

Scalar = None | bool | int | float | str
"""A value that an axis may hold."""

CostBasis = Literal["reported", "usage", "price_book", "estimate", "free", "unknown"]
"""Where a cost comes from, best first; ``unknown`` is never written as 0."""

PipelineKind = Literal["text2img", "img2img", "inpaint", "controlnet"]
PIPELINE_KINDS: tuple[str, ...] = get_args(PipelineKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellParams:
    """What is asked of one image, in the words of the field. ``None`` means: not asked.

    Attributes:
        prompt: The text, after templates and the prompt style are applied.
        negative_prompt: What should not be in the picture.
        seed: Start of the noise, 0 to 2**63 - 1. 0 is a value. Image ``i`` of a cell with seed
            ``s`` is made with ``s + i`` where the provider gives each image its own seed.
        size: ``WIDTHxHEIGHT`` in pixels, or a name that the provider knows (``16:9``, ``2K``).
        steps: Denoising steps.
        guidance_scale: Classifier-free guidance, 0 or more.
        quality: The provider's own name of a quality level.
        style: The provider's own name of a style.
        background: ``transparent``, ``opaque`` or ``auto``, where the provider has it.
        output_format: File format asked of the provider: ``png``, ``jpeg``, ``webp`` ….
        image: Path of the input image (img2img, inpaint).
        mask: Path of the mask; white = repaint.
        strength: How far img2img may go from the input: 0 keeps it, 1 changes most.
        control_image: Path of the control image (controlnet).
        control_scale: Weight of the control image, 0 or more.
    """

    prompt: str = ""
    negative_prompt: str | None = None
    seed: int | None = None
    size: str | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    quality: str | None = None
    style: str | None = None
    background: str | None = None
    output_format: str | None = None
    image: str | None = None
    mask: str | None = None
    strength: float | None = None
    control_image: str | None = None
    control_scale: float | None = None


CELL_KEYS: tuple[str, ...] = tuple(field.name for field in fields(CellParams))
"""Every cell-level key: those that become an axis and are never composed."""

PIPELINE_KEYS: frozenset[str] = frozenset(
    {"image", "mask", "strength", "control_image", "control_scale"}
)
"""Cell-level keys that users write under ``pipeline.``."""

FILE_KEYS: frozenset[str] = frozenset({"image", "mask", "control_image"})
"""Cell-level keys that name a file; in the cell's id its content stands for it."""

FILES_APART = "|"
"""Stands between several files of one such key: ``a.png|b.png``."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One image to be made.

    Attributes:
        index: Its place in the plan. Places of excluded cells are never given to others.
        variant: Index of its variant in the plan.
        image_index: Which of the ``n`` images of its point it is, from 0.
        params: What is asked.
        axes: The value of every axis, in the plan's order, as the user wrote it.
        cell_id: 64 hex digits; see :func:`cell_id`.
    """

    index: int
    variant: int
    image_index: int
    params: CellParams
    axes: tuple[tuple[str, Scalar], ...]
    cell_id: str

    @property
    def image_seed(self) -> int | None:
        """The seed of this very image, where the provider gives each image its own."""
        return None if self.params.seed is None else self.params.seed + self.image_index


def canonical_json(value: Json) -> str:
    """The one text of a value: sorted keys, no spaces, shortest float text, no NaN.

    A float that is a whole number is written as an integer, so that ``7`` and ``7.0`` are one
    value; ``None`` members of a mapping are left out, so that a new optional key changes no id.

    Raises:
        ValueError: The value holds a NaN or an infinity.
    """
    return json.dumps(
        _normal(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def _normal(value: Json) -> Json:
    if isinstance(value, bool) or value is None or isinstance(value, (int, str)):
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() else value
    if isinstance(value, Mapping):
        return {str(key): _normal(item) for key, item in value.items() if item is not None}
    return [_normal(item) for item in value]


def digest(value: Json) -> str:
    """sha256 of the canonical JSON text, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def cell_id(identity: str, params: Mapping[str, Json], image_index: int) -> str:
    """Name a cell by what is asked of which model.

    Args:
        identity: :func:`digest` of the variant's identity: provider, model, pipeline and native
            options, without addresses, devices, keys or concurrency.
        params: The cell's parameters; ``None`` members do not count. A file is given by the
            sha256 of its content.
        image_index: Which of the ``n`` images of its point it is.

    Returns:
        64 hex digits that depend on nothing else: not on dict order, float text, locale or time.
    """
    return digest({"variant": identity, "params": dict(params), "image_index": image_index})

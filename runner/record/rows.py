"""The rows that a run leaves: one per image, one per cell without an image, one per attempt.

These frozen dataclasses are the schema of ``images/metadata.jsonl``, ``failures.jsonl`` and
``journal/*.jsonl``; :mod:`runner.record.schema` publishes them as JSON schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from runner.settings.cell import CostBasis, Json, Scalar

SCHEMA_VERSION = 1
"""Version of every file in a run folder. A reader refuses a newer one by name."""

Outcome = Literal["done", "partial", "refused", "failed", "unknown"]
"""How an attempt ended; a cell's own outcome is never ``partial``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """One image, exactly as it was made. A flat line of ``images/metadata.jsonl``.

    Attributes:
        file_name: Path under ``images/``; first, as ``imagefolder`` wants it.
        cell_id: 64 hex digits that name what was asked.
        index: Place in the plan.
        image_index: Which of the ``n`` images of its point.
        variant: Index of the variant in ``plan.json``.
        provider: Name of the provider.
        model: Model that was asked for.
        model_reported: Model that the provider says it used.
        pipeline: Kind of pipeline.
        prompt: The prompt that was asked, after templates and style.
        negative_prompt: The negative prompt that was asked.
        revised_prompt: The prompt that the provider says it used instead.
        seed: Seed of this image: ``s + image_index`` where each image has its own.
        seed_sent: Seed that went on the wire; ``None`` if none did.
        size: Size that was asked.
        steps: Denoising steps asked.
        guidance_scale: Guidance asked.
        quality: Quality level asked.
        style: The provider's style asked.
        background: Background asked.
        output_format: File format asked of the provider.
        image: Input image asked.
        mask: Mask asked.
        strength: Strength asked.
        control_image: Control image asked.
        control_scale: Weight of the control image asked.
        axes: Value of every axis of the plan, as the user wrote it.
        params_sent: What went on the wire, by native name.
        params_effective: What the provider says it used.
        params_dropped: Cell-level keys that were asked and that the model does not take.
        warnings: What a person should know.
        width: Pixels, read from the bytes.
        height: Pixels, read from the bytes.
        mime: Sniffed from the bytes.
        bytes: Length of the file.
        sha256: Hash of the file.
        raw_sha256: Hash of the provider's own bytes, where metadata was put into the file on
            request; ``None``: the file is what the provider sent.
        pixel_sha256: Hash of the decoded pixels, RGBA, 8 bit; ``None`` where not decodable.
        request_id: The provider's id.
        recipe: Short hash of the local recipe in the manifest's ``recipes``.
        reused_from: Where an earlier run under the same outputs folder keeps this file, if it was
            taken from there instead of being made; times and request are those of its making.
        attempts: Tries of the call until this image came.
        started_at: UTC, ISO 8601, when the attempt began.
        latency_s: Seconds from sending to the answer of the whole call.
        cost_usd: Cost of this image; ``None`` = unknown.
        cost_basis: Where the cost comes from.
        marks: Provenance marks found in the file, such as ``c2pa``.
    """

    file_name: str
    cell_id: str
    index: int
    image_index: int
    variant: int
    provider: str
    model: str
    model_reported: str | None = None
    pipeline: str = "text2img"
    prompt: str = ""
    negative_prompt: str | None = None
    revised_prompt: str | None = None
    seed: int | None = None
    seed_sent: int | None = None
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
    axes: Mapping[str, Scalar] = field(default_factory=dict)
    params_sent: Mapping[str, Json] = field(default_factory=dict)
    params_effective: Mapping[str, Json] = field(default_factory=dict)
    params_dropped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    width: int | None = None
    height: int | None = None
    mime: str = "application/octet-stream"
    bytes: int = 0
    sha256: str = ""
    raw_sha256: str | None = None
    pixel_sha256: str | None = None
    request_id: str | None = None
    recipe: str | None = None
    reused_from: str | None = None
    attempts: int = 1
    started_at: str = ""
    latency_s: float = 0.0
    cost_usd: float | None = None
    cost_basis: CostBasis = "unknown"
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRow:
    """A cell that has no image. A line of ``failures.jsonl``.

    Attributes:
        index: Place in the plan.
        cell_id: Names what was asked.
        image_index: Which of the ``n`` images of its point it would be.
        variant: Index of the variant.
        provider: Name of the provider.
        model: Model that was asked for.
        prompt: The prompt.
        axes: Value of every axis.
        outcome: ``refused``, ``failed`` or ``unknown``.
        kind: Short machine name of the cause: ``rate_limit``, ``content_filter`` ….
        code: The provider's own code.
        message: One sentence.
        request_id: The provider's id.
        attempts: Tries that were made.
        started_at: UTC, ISO 8601.
        cost_usd: What it may have cost; for ``unknown`` the worst case. ``None`` = unknown.
    """

    index: int
    cell_id: str
    image_index: int = 0
    variant: int
    provider: str
    model: str
    prompt: str = ""
    axes: Mapping[str, Scalar] = field(default_factory=dict)
    outcome: Literal["refused", "failed", "unknown"]
    kind: str
    code: str | None = None
    message: str = ""
    request_id: str | None = None
    attempts: int = 1
    started_at: str = ""
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRecord:
    """The first line of a journal file: who writes it, for which plan.

    Attributes:
        at: UTC, ISO 8601.
        plan_hash: Hash of the plan whose indices the file uses.
        host: Name of the machine.
        pid: Id of the process.
    """

    at: str
    plan_hash: str
    host: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRecord:
    """Journalled before a call that may be billed leaves: a crash then leaves it ``unknown``.

    Attributes:
        call_id: Names the attempt; its :class:`AttemptRecord` carries the same.
        at: UTC, ISO 8601.
        cells: ``(index, cell_id)`` of every cell of the call.
        worst_usd: Most that the call can cost; ``None`` = unknown.
        variant: Index of the variant.
        provider: Name of the provider.
        model: Model that was asked for.
    """

    call_id: str
    at: str
    cells: tuple[tuple[int, str], ...]
    worst_usd: float | None = None
    variant: int = 0
    provider: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRecord:
    """A fact of a call in flight that must survive a crash, such as a job id to poll.

    Attributes:
        call_id: Names the attempt.
        at: UTC, ISO 8601.
        fact: The fact.
    """

    call_id: str
    at: str
    fact: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One try of a call, and everything that is known of it. The truth for resume.

    Attributes:
        call_id: Names the attempt.
        at: UTC, ISO 8601, when it ended.
        outcome: How it ended. ``partial``: some cells have an image and some have none.
        final: ``False`` if the same cells are tried again in this process.
        images: Rows of the images that are safely on disk.
        failures: Rows of the cells that got none.
        cost_usd: Cost of the whole attempt; ``None`` = unknown.
        cost_basis: Where the cost comes from.
        usage: The provider's own usage figures.
        recipe: The local recipe, whose short hash stands in the rows.
    """

    call_id: str
    at: str
    outcome: Outcome
    final: bool = True
    images: tuple[ImageRow, ...] = ()
    failures: tuple[FailureRow, ...] = ()
    cost_usd: float | None = None
    cost_basis: CostBasis = "unknown"
    usage: Mapping[str, Json] = field(default_factory=dict)
    recipe: Mapping[str, Json] | None = None

"""An answer becomes rows: bytes are sniffed and hashed, nothing is taken on trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from runner.images import BadImage, inspect, marks
from runner.plan import Variant
from runner.providers.contract import (
    Answer,
    Call,
    Capabilities,
    Missing,
    Picture,
    ProviderError,
    asked,
)
from runner.record.paths import image_name
from runner.record.rows import AttemptRecord, FailureRow, ImageRow, Outcome, SentRecord
from runner.settings.cell import Cell, Json, digest

_ADOPTED = "found on disk after a crash; what the answer said beside it is lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is known of one try before its outcome.

    Attributes:
        call: What was sent.
        variant: Of which variant.
        capabilities: What its model takes.
        tries: Tries of these cells so far, this one included, earlier processes' too.
        started_at: UTC, ISO 8601.
        ended_at: UTC, ISO 8601.
        latency_s: Seconds from sending to the answer.
    """

    call: Call
    variant: Variant
    capabilities: Capabilities
    tries: int
    started_at: str
    ended_at: str
    latency_s: float

    def _common(self, cell: Cell) -> dict[str, object]:
        return {
            "cell_id": cell.cell_id,
            "index": cell.index,
            "image_index": cell.image_index,
            "variant": cell.variant,
            "provider": self.variant.settings.provider.name,
            "model": self.variant.settings.model.name,
            "prompt": cell.params.prompt,
            "axes": dict(cell.axes),
            "attempts": self.tries,
            "started_at": self.started_at,
        }


@dataclass(frozen=True, slots=True)
class Written:
    """A record, and the files that must be on disk before it.

    Attributes:
        record: For the journal.
        files: ``file_name`` to bytes.
        extras: ``file_name`` to further files to keep beside that image.
    """

    record: AttemptRecord
    files: dict[str, bytes]
    extras: dict[str, Mapping[str, bytes]] = field(default_factory=dict)


def answered(attempt: Attempt, answer: Answer) -> Written:
    """The record of a call that was answered, whatever the answer holds."""
    cells = attempt.call.cells
    outputs: Sequence[Picture | Missing] = answer.outputs
    if len(outputs) != len(cells):
        lost = Missing(outcome="failed", kind="no_image", message="fewer images than asked")
        outputs = [*outputs, *[lost] * len(cells)][: len(cells)]
    pictures = sum(isinstance(output, Picture) for output in outputs)
    each = answer.cost_usd / pictures if answer.cost_usd is not None and pictures else None
    images: list[ImageRow] = []
    failures: list[FailureRow] = []
    files: dict[str, bytes] = {}
    extras: dict[str, Mapping[str, bytes]] = {}
    for cell, output in zip(cells, outputs, strict=True):
        row = (
            _image(attempt, answer, cell, output, each)
            if isinstance(output, Picture)
            else _missing(attempt, answer, cell, output)
        )
        if isinstance(row, ImageRow) and isinstance(output, Picture):
            images.append(row)
            files[row.file_name] = output.data
            if output.extras:
                extras[row.file_name] = output.extras
        elif isinstance(row, FailureRow):
            failures.append(row)
    record = AttemptRecord(
        call_id=attempt.call.call_id,
        at=attempt.ended_at,
        outcome=_outcome(images, failures),
        images=tuple(images),
        failures=tuple(failures),
        cost_usd=answer.cost_usd,
        cost_basis=answer.cost_basis,
        usage=answer.usage,
        recipe=answer.recipe,
    )
    return Written(record, files, extras)


def unanswered(
    attempt: Attempt, error: ProviderError, *, final: bool, worst_usd: float | None
) -> Written:
    """The record of a call that gave no answer worth keeping.

    Args:
        attempt: The try.
        error: Why, already classified.
        final: Whether these cells are given up.
        worst_usd: What a call without an answer may have cost at most.
    """
    cells = attempt.call.cells
    cost = worst_usd if error.kind == "ambiguous" else 0.0
    failures = _failures(attempt, cells, error, None if cost is None else cost / len(cells))
    record = AttemptRecord(
        call_id=attempt.call.call_id,
        at=attempt.ended_at,
        outcome=failures[0].outcome,
        final=final,
        failures=failures,
        cost_usd=cost,
        cost_basis="unknown" if cost is None else "estimate" if cost else "free",
    )
    return Written(record, {})


def adopt(
    sent: SentRecord,
    cells: tuple[Cell, ...],
    images: Mapping[int, bytes],
    variant: Variant,
    capabilities: Capabilities,
) -> AttemptRecord:
    """The record of a call whose process died after an image was on disk, before its record.

    The images are kept as they are; what the answer said beside them is lost, so the call counts
    at its worst price.

    Args:
        sent: What was journalled before the call left.
        cells: Its cells.
        images: Position in ``cells`` to the bytes on disk.
        variant: Whose cells.
        capabilities: What its model takes.
    """
    attempt = Attempt(
        call=Call(sent.call_id, cells),
        variant=variant,
        capabilities=capabilities,
        tries=1,
        started_at=sent.at,
        ended_at=sent.at,
        latency_s=0.0,
    )
    lost = ProviderError("ambiguous", "the process died before the answer was written")
    pictures = [Picture(data=data, warnings=(_ADOPTED,)) for data in images.values()]
    answer = Answer(
        outputs=(),
        cost_usd=sent.worst_usd,
        cost_basis="unknown" if sent.worst_usd is None else "estimate",
    )
    each = None if sent.worst_usd is None else sent.worst_usd / len(cells)
    rows = [
        _image(attempt, answer, cells[position], picture, each)
        for position, picture in zip(images, pictures, strict=True)
    ]
    whole = tuple(row for row in rows if isinstance(row, ImageRow))
    kept = {row.index for row in whole}
    rest = tuple(cell for cell in cells if cell.index not in kept)
    failures = _failures(attempt, rest, lost, each)
    return AttemptRecord(
        call_id=sent.call_id,
        at=sent.at,
        outcome="partial" if whole and failures else "done" if whole else "unknown",
        images=whole,
        failures=failures,
        cost_usd=answer.cost_usd,
        cost_basis=answer.cost_basis,
    )


def _failures(
    attempt: Attempt, cells: tuple[Cell, ...], error: ProviderError, each_usd: float | None
) -> tuple[FailureRow, ...]:
    """A row for every cell of a call that was not answered."""
    outcome: Literal["refused", "failed", "unknown"] = "failed"
    if error.kind == "ambiguous":
        outcome = "unknown"
    elif error.kind == "refused":
        outcome = "refused"
    return tuple(
        FailureRow(
            **attempt._common(cell),  # type: ignore[arg-type]
            outcome=outcome,
            kind=error.kind,
            code=error.code,
            message=error.message,
            request_id=error.request_id,
            cost_usd=each_usd,
        )
        for cell in cells
    )


def recipe_id(recipe: Mapping[str, Json]) -> str:
    """Short hash of a recipe: the key of the manifest's ``recipes``."""
    return digest(recipe)[:12]


def _outcome(images: list[ImageRow], failures: list[FailureRow]) -> Outcome:
    if images:
        return "partial" if failures else "done"
    return "refused" if all(row.outcome == "refused" for row in failures) else "failed"


def _image(
    attempt: Attempt, answer: Answer, cell: Cell, picture: Picture, cost_usd: float | None
) -> ImageRow | FailureRow:
    capabilities = attempt.capabilities
    try:
        seen = inspect(picture.data, decode=capabilities.reproducible)
    except BadImage as error:
        bad = Missing(outcome="failed", kind="bad_image", message=str(error))
        return _missing(attempt, answer, cell, bad)
    settings = attempt.variant.settings
    params = asked(cell.params)
    params["seed"] = cell.image_seed if capabilities.seed_per_image else cell.params.seed
    params.pop("prompt", None)
    return ImageRow(
        file_name=image_name(cell.index, cell.cell_id, seen.info.suffix),
        **attempt._common(cell),  # type: ignore[arg-type]
        **params,  # type: ignore[arg-type]
        model_reported=answer.model_reported,
        pipeline=settings.pipeline.name,
        revised_prompt=picture.revised_prompt,
        seed_sent=picture.seed_sent,
        params_sent=answer.params_sent,
        params_effective=picture.effective,
        params_dropped=attempt.variant.dropped,
        warnings=picture.warnings,
        width=seen.info.width,
        height=seen.info.height,
        mime=seen.info.mime,
        bytes=len(picture.data),
        sha256=seen.sha256,
        pixel_sha256=seen.pixel_sha256,
        request_id=answer.request_id,
        recipe=None if answer.recipe is None else recipe_id(answer.recipe),
        latency_s=round(attempt.latency_s, 4),
        cost_usd=cost_usd,
        cost_basis=answer.cost_basis,
        marks=marks(picture.data),
    )


def _missing(attempt: Attempt, answer: Answer, cell: Cell, missing: Missing) -> FailureRow:
    return FailureRow(
        **attempt._common(cell),  # type: ignore[arg-type]
        outcome=missing.outcome,
        kind=missing.kind,
        code=missing.code,
        message=missing.message,
        request_id=answer.request_id,
        cost_usd=None if answer.cost_usd is None else 0.0,
    )

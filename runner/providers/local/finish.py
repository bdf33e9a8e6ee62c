"""A computed image becomes a picture with its facts, or the reason why there is none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.providers.contract import Missing, Picture, ProviderError
from runner.providers.local.encode import Format, encode, keep_unmasked
from runner.providers.local.params import CallParams
from runner.settings.cell import Cell, Json

if TYPE_CHECKING:
    from runner.providers.local.inputs import Inputs
    from runner.providers.local.items import Sample

_NO_EFFECT = "negative_prompt had no effect: with this guidance_scale there is none"


@dataclass(frozen=True, slots=True)
class Finisher:
    """Finishes the images of one call; its method runs on threads that encode.

    Attributes:
        params: How the pipeline takes cell-level keys.
        arguments: What was passed to it.
        file_format: Of the files.
        keep_unmasked: Whether the input's own pixels come back outside of the mask.
        classify: Names the kind of an exception.
    """

    params: CallParams
    arguments: Mapping[str, Json]
    file_format: Format
    keep_unmasked: bool
    classify: Callable[[Exception], ProviderError]

    def output(
        self, cell: Cell, result: Sample | Exception, given: Inputs | ProviderError | None
    ) -> Picture | Missing:
        """One image as a file, or why there is none.

        Args:
            cell: What was asked.
            result: What was computed, or why that failed.
            given: The pictures that went in.
        """
        if isinstance(result, Exception):
            fault = self.classify(result)
            return Missing(
                outcome="failed", kind=fault.kind, code=fault.code, message=fault.message
            )
        return self._picture(cell, result, None if isinstance(given, Exception) else given)

    def _picture(self, cell: Cell, sample: Sample, inputs: Inputs | None) -> Picture | Missing:
        if sample.flagged:
            return Missing(
                outcome="refused",
                kind="content_filter",
                code="safety_checker",
                message="the pipeline's safety checker blacked the image out",
            )
        pixels = sample.pixels
        if self.keep_unmasked and inputs is not None:
            pixels = keep_unmasked(pixels, inputs)
        encoded = encode(pixels, self.file_format)
        if isinstance(encoded, Missing):
            return encoded
        data, said = encoded
        warnings = (*sample.warnings, *said)
        if cell.params.negative_prompt and not self.params.guides(self.arguments):
            warnings += (_NO_EFFECT,)
        height, width = pixels.shape[:2]
        effective = self.params.effective(self.arguments, width, height)
        extras: dict[str, bytes] = {}
        if inputs is not None:
            effective |= inputs.facts
            extras = inputs.control_files()
            effective |= {
                f"{name} sha256": hashlib.sha256(file).hexdigest() for name, file in extras.items()
            }
        return Picture(
            data=data,
            seed_sent=cell.image_seed,
            effective=effective,
            warnings=warnings,
            extras=extras,
        )

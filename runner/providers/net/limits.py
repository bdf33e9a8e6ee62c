"""Which input images a model takes: data under ``model.traits``, checked before sending."""

from __future__ import annotations

import functools
from pathlib import Path

from pydantic import Field

from runner.providers.net.inputs import read_input
from runner.settings.errors import RequestError, listed
from runner.settings.schema import Section


class ImageLimits(Section):
    """What an input image may be."""

    mimes: tuple[str, ...] = Field((), description="file types; empty: any")
    min_side: int = Field(1, ge=1, description="shortest side in pixels")
    max_side: int = Field(16384, ge=1, description="longest side in pixels")
    max_pixels: int = Field(2**28, ge=1, description="most pixels")
    max_aspect: float = Field(16384, ge=1, description="longest to shortest side")

    def problem(self, path: str | None, what: str) -> str | None:
        """What is wrong with a file on disk, as a sentence.

        Args:
            path: The file; an address, or one that is not there, is not judged here.
            what: Which setting named it.
        """
        if path is None or "://" in path or not Path(path).is_file():
            return None
        try:
            mime, width, height = _look(path, Path(path).stat().st_mtime_ns, what)
        except RequestError as error:
            return str(error)
        if self.mimes and mime not in self.mimes:
            return f"{what}={path}: this is {mime}; the model takes {listed(self.mimes)}"
        if width is None or height is None:
            return None
        short, long = min(width, height), max(width, height)
        if short < self.min_side or long > self.max_side:
            return (
                f"{what}={path}: {width}x{height} pixels; the model takes sides of "
                f"{self.min_side} to {self.max_side}"
            )
        if width * height > self.max_pixels:
            return (
                f"{what}={path}: {width}x{height} pixels; the model takes "
                f"{self.max_pixels:,} in all at most"
            )
        if long > self.max_aspect * short:
            return (
                f"{what}={path}: {width}x{height} pixels; the model takes shapes up to "
                f"{self.max_aspect:g}:1"
            )
        return None


@functools.lru_cache(maxsize=64)
def _look(path: str, _changed: int, what: str) -> tuple[str, int | None, int | None]:
    image = read_input(path, what)
    return image.mime, image.width, image.height

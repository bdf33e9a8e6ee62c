"""Sizes: one reading of ``1024x1024``, ``16:9``, ``2K`` and ``auto``, and what a model makes of it.

What a model takes is data (``model.traits.sizes``): a table of fixed sizes, a rule for free ones,
native names of aspect ratios and levels, words such as ``auto``.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import Field

from runner.settings.errors import listed
from runner.settings.schema import Section

T = TypeVar("T")

_PIXELS = re.compile(r"(\d{1,5})\s*[x×*]\s*(\d{1,5})\Z", re.IGNORECASE)
_RATIO = re.compile(r"(\d{1,3}):(\d{1,3})\Z")
_LEVEL = re.compile(r"(\d{1,4}(?:\.\d{1,2})?)(k?)\Z", re.IGNORECASE)
_WORD = re.compile(r"[a-z][a-z0-9_ -]*\Z", re.IGNORECASE)
_ONE_MEGAPIXEL = 1024 * 1024
_NEAR = 0.02
"""Difference of shape, as a logarithm, that nobody needs to be told."""
_FAR = math.log(1.25)
"""Difference of shape above which another size would be another picture."""
_OTHER_LEVEL = math.log(2.2)
"""Difference of area above which ``2K`` would be sent as something else."""


class SizeError(ValueError):
    """A size that a model does not take. The text says what it takes instead."""


@dataclass(frozen=True, slots=True)
class Size:
    """A size as a user asked for it. Exactly one of ``pixels``, ``word`` and the rest is set.

    Attributes:
        pixels: Width and height.
        ratio: Aspect ratio, width to height.
        level: ``512``, ``1K``, ``2K``, ``4K`` …, upper case; may stand beside a ratio.
        word: ``auto``, or another name, lower case.
    """

    pixels: tuple[int, int] | None = None
    ratio: tuple[int, int] | None = None
    level: str | None = None
    word: str | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is sent for a size.

    Attributes:
        native: The text that the API takes.
        width: Pixels, where they are known.
        height: Pixels, where they are known.
        warning: A sentence, where it is not exactly what was asked.
    """

    native: str
    width: int | None = None
    height: int | None = None
    warning: str | None = None


@functools.lru_cache(maxsize=1024)  # prices ask for every size of a table, for every image
def parse_size(text: str) -> Size:
    """Read ``1024x768``, ``16:9``, ``2K``, ``16:9@2K`` (ratio and level) or a word.

    Raises:
        SizeError: It is none of them.
    """
    text = text.strip()
    if match := _PIXELS.match(text):
        return _positive(text, pixels=(int(match[1]), int(match[2])))
    shape, at, level = text.partition("@")
    if match := _RATIO.match(shape):
        return _positive(text, ratio=(int(match[1]), int(match[2])), level=_level(level, at, text))
    if _LEVEL.match(text):
        return Size(level=_level(text, "@", text))
    if _WORD.match(text):
        return Size(word=text.lower())
    raise _unreadable(text)


def size_problems(choose: Callable[[T], object], asked: T | None, model: str) -> list[str]:
    """What is wrong with a size: no sentence, or one that names the model.

    Args:
        choose: Finds what is sent for ``asked``, or raises :class:`SizeError`.
        asked: A size, or what holds it; ``None``: nothing was asked.
        model: Name of the model.
    """
    if asked is None:
        return []
    try:
        choose(asked)
    except SizeError as error:
        return [str(error).replace("the model", f"model {model}")]
    return []


def _positive(
    text: str,
    pixels: tuple[int, int] | None = None,
    ratio: tuple[int, int] | None = None,
    level: str | None = None,
) -> Size:
    if 0 in (pixels or ratio or ()):
        raise _unreadable(text)
    return Size(pixels=pixels, ratio=ratio, level=level)


def _level(level: str, at: str, text: str) -> str | None:
    if at and not _area(level):
        raise _unreadable(text)
    return level.upper() or None


def _unreadable(text: str) -> SizeError:
    return SizeError(f"{text!r} is no size; write 1024x1024, 16:9, 2K, 16:9@2K or auto")


class Sizes(Section):
    """The sizes that a model takes."""

    table: tuple[str, ...] = Field((), description="fixed sizes, WIDTHxHEIGHT; the default first")
    words: tuple[str, ...] = Field((), description="names such as auto")
    ratios: tuple[str, ...] = Field((), description="native names of aspect ratios, w:h")
    levels: tuple[str, ...] = Field((), description="native names of levels: 1K, 2K, 4K")
    multiple_of: int | None = Field(
        None, ge=1, description="free sizes: both sides are multiples of this; null: table only"
    )
    min_side: int = Field(1, ge=1, description="free sizes: shortest side")
    max_side: int = Field(16384, ge=1, description="free sizes: longest side")
    min_pixels: int = Field(1, ge=1, description="free sizes: fewest pixels")
    max_pixels: int = Field(2**28, ge=1, description="free sizes: most pixels")
    max_aspect: float = Field(16384, ge=1, description="free sizes: longest to shortest side")

    def describe(self) -> str:
        """What is taken, as the end of a sentence."""
        kinds = [listed([*self.table, *self.ratios, *self.levels, *self.words])]
        if self.multiple_of is not None:
            kinds.append(
                f"WIDTHxHEIGHT with multiples of {self.multiple_of}, {self.min_side} to "
                f"{self.max_side} a side, {self.min_pixels:,} to {self.max_pixels:,} pixels in "
                f"all, at most {self.max_aspect:g}:1"
            )
        return "; or ".join(kind for kind in kinds if kind)

    def pixels(self, text: str) -> Chosen:
        """What to send where the API wants ``WIDTHxHEIGHT``.

        Exact sizes are sent or refused. A ratio or level becomes the nearest size that the model
        has: with a warning if the shape differs by more than 2 %, not at all above 25 %.

        Raises:
            SizeError: The model has no such size.
        """
        size = parse_size(text)
        if size.word is not None:
            return self._word(size.word, text)
        if size.pixels is not None:
            width, height = size.pixels
            native = f"{width}x{height}"
            if native in self.table or self.fits(width, height):
                return Chosen(native, width, height)
            raise self._refused(text)
        wanted = size.ratio or (1, 1)
        area = _area(size.level)
        if self.multiple_of is not None:
            width, height = _free_size(self, wanted, area or _ONE_MEGAPIXEL)
        elif self.table:
            width, height = self._nearest(wanted, area)
        else:
            raise self._refused(text)
        off = abs(math.log((width / height) / (wanted[0] / wanted[1])))
        scale = abs(math.log(width * height / area)) if area else 0.0
        if off > _FAR or scale > _OTHER_LEVEL:
            raise self._refused(text)
        native = f"{width}x{height}"
        warning = f"size={text}: sent as {native}, the nearest there is" if off > _NEAR else None
        return Chosen(native, width, height, warning)

    def ratio(self, text: str) -> Chosen:
        """What to send where the API wants the name of an aspect ratio.

        Raises:
            SizeError: The model has no such ratio.
        """
        size = parse_size(text)
        if size.word is not None:
            return self._word(size.word, text)
        if size.level is not None and size.level not in self.levels:
            raise self._refused(text)
        wanted = size.pixels or size.ratio
        if wanted is None:
            wanted = (1, 1)
        if not self.ratios:
            raise self._refused(text)
        shape = wanted[0] / wanted[1]
        native = min(self.ratios, key=lambda name: abs(math.log(_shape(name) / shape)))
        off = abs(math.log(_shape(native) / shape))
        if off > (1e-9 if size.ratio else _FAR):
            raise self._refused(text)
        if off > _NEAR:
            return Chosen(native, warning=f"size={text}: sent as {native}, the nearest there is")
        return Chosen(native)

    def near(self, width: int, height: int) -> Chosen:
        """The free size nearest to a picture's own, smaller where that is too large."""
        step = self.multiple_of or 1
        scale = min(1.0, self.max_side / max(width, height))
        sides = [max(self.min_side, round(side * scale / step) * step) for side in (width, height)]
        native = f"{sides[0]}x{sides[1]}"
        same = sides == [width, height]
        warning = None if same else f"the input of {width}x{height} pixels is made {native}"
        return Chosen(native, sides[0], sides[1], warning)

    def level(self, text: str) -> str | None:
        """The native level of a size: the one that it names, or that of about as many pixels.

        Raises:
            SizeError: The model has no such level.
        """
        size = parse_size(text)
        if size.level is not None:
            if size.level not in self.levels:
                raise self._refused(text)
            return size.level
        if size.pixels is None or not self.levels:
            return None
        area = size.pixels[0] * size.pixels[1]
        off = {level: abs(math.log((_area(level) or 1) / area)) for level in self.levels}
        nearest = min(off, key=lambda level: off[level])
        if off[nearest] > _OTHER_LEVEL:
            raise self._refused(text)
        return nearest

    def _word(self, word: str, text: str) -> Chosen:
        if word in self.words:
            return Chosen(word)
        raise self._refused(text)

    def _refused(self, text: str) -> SizeError:
        return SizeError(f"size={text}: the model takes {self.describe()}")

    def fits(self, width: int, height: int) -> bool:
        """Whether the rule for free sizes allows these pixels."""
        step = self.multiple_of
        return (
            step is not None
            and width % step == 0
            and height % step == 0
            and min(width, height) >= self.min_side
            and max(width, height) <= self.max_side
            and self.min_pixels <= width * height <= self.max_pixels
            and max(width, height) <= self.max_aspect * min(width, height)
        )

    def _fixed(self) -> list[tuple[int, int]]:
        return [(int(w), int(h)) for w, h in (name.split("x") for name in self.table)]

    def _nearest(self, ratio: tuple[int, int], area: int | None) -> tuple[int, int]:
        shape = ratio[0] / ratio[1]
        target = area or self._fixed()[0][0] * self._fixed()[0][1]

        def distance(size: tuple[int, int]) -> tuple[float, float]:
            width, height = size
            off = abs(math.log(width / height / shape))
            return round(off, 6), abs(math.log(width * height / target))

        return min(self._fixed(), key=distance)


@functools.lru_cache(maxsize=256)
def _free_size(sizes: Sizes, ratio: tuple[int, int], area: int) -> tuple[int, int]:
    """The size of a free rule that is nearest in shape and area.

    Raises:
        SizeError: The rule allows no size of about that shape.
    """
    step = sizes.multiple_of or 1
    shape = ratio[0] / ratio[1]
    area = max(sizes.min_pixels, min(area, sizes.max_pixels))
    best: tuple[float, tuple[int, int]] | None = None
    for width in range(step, sizes.max_side + 1, step):
        for height in (
            math.floor(width / shape / step) * step,
            math.ceil(width / shape / step) * step,
        ):
            if height and sizes.fits(width, height):
                # An exact shape is worth a tenth of the area: 16:9 is 1280x720, not 1360x768.
                off = 100 * abs(math.log(width / height / shape)) + abs(
                    math.log(width * height / area)
                )
                if best is None or off < best[0]:
                    best = (off, (width, height))
    if best is None:
        raise SizeError(f"size={ratio[0]}:{ratio[1]}: the model takes {sizes.describe()}")
    return best[1]


def _area(level: str | None) -> int | None:
    """Pixels of a square of a level: ``2K`` is 2048x2048."""
    match = _LEVEL.match(level or "")
    if match is None:
        return None
    side = float(match[1]) * (1024 if match[2] else 1)
    return round(side * side)


def _shape(name: str) -> float:
    width, _, height = name.partition(":")
    return int(width) / int(height)

"""Text in pictures: Pillow's own font, and a font of the system where that lacks a letter."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

Colour = tuple[int, int, int]

_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "segoeui.ttf",
    "msyh.ttc",
)
_NO_SUCH_LETTER = "\uffff"


class Lettering:
    """Text of one size.

    Args:
        size: Height in pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def font_for(self, text: str) -> FreeTypeFont:
        """The first font that has every letter of a text, or the one that lacks fewest."""
        own = _own_font(self.size)
        if not _missing(own, text):
            return own
        fonts = [own, *_system_fonts(self.size)]
        return min(fonts, key=lambda font: _missing(font, text))

    def draw(self, pen: ImageDraw, x: float, y: int, text: str, colour: Colour) -> None:
        """Draw one line of text, its left upper corner at a place."""
        font = self.font_for(text)
        if font is not _own_font(self.size):
            # Other scripts join and reorder their letters.
            pen.text((x, y), text, colour, font)
            return
        for letter in text:
            glyph = _glyph(font, letter)
            if glyph.image is not None:
                pen.bitmap((round(x) + glyph.left, y + glyph.top), glyph.image, colour)
            x += _advance(font, letter)

    def wrap(self, text: str, width: int, lines: int) -> list[str]:
        """Break a text into lines; the last one ends with an ellipsis if not all of it fits.

        Args:
            text: One line of text.
            width: Pixels that a line may take.
            lines: Most lines.
        """
        font = self.font_for(text)
        done: list[str] = []
        rest = text.strip()
        while rest and len(done) < lines:
            last = len(done) == lines - 1
            line = _head(font, rest, width, whole_words=not last)
            if last and line != rest:
                line = _head(font, rest, width, whole_words=False, ending="…")
            done.append(line)
            rest = rest[len(line) :].lstrip()
        return done


def _head(font: FreeTypeFont, text: str, width: int, *, whole_words: bool, ending: str = "") -> str:
    """As much of the start of a text as fits; one letter at least."""
    room = width - sum(_advance(font, letter) for letter in ending)
    fits = 0
    for letter in text:
        room -= _advance(font, letter)
        if room < 0:
            break
        fits += 1
    fits = max(1, fits)
    head = text[:fits]
    if whole_words and fits < len(text) and text[fits] != " " and " " in head:
        head = head[: head.rindex(" ")]
    return head.rstrip() + ending


@functools.cache
def _own_font(size: int) -> FreeTypeFont:
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("this Pillow is built without FreeType, which the sheet's labels need")
    return font


@functools.cache
def _system_fonts(size: int) -> tuple[FreeTypeFont, ...]:
    from PIL import ImageFont

    def found() -> Iterator[FreeTypeFont]:
        for name in _SYSTEM_FONTS:
            try:
                yield ImageFont.truetype(name, size)
            except OSError:
                continue

    return tuple(found())


@dataclass(frozen=True, slots=True)
class _Glyph:
    """A letter as a picture, and where that stands; no picture for a space."""

    image: Image | None
    left: int
    top: int


@functools.lru_cache(4096)
def _glyph(font: FreeTypeFont, letter: str) -> _Glyph:
    """Drawn once: outlines take nine times as long, and a sheet has thousands of lines."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = map(round, font.getbbox(letter))
    if right <= left or bottom <= top:
        return _Glyph(None, left, top)
    image = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(image).text((-left, -top), letter, 255, font)
    return _Glyph(image, left, top)


@functools.lru_cache(4096)
def _advance(font: FreeTypeFont, letter: str) -> float:
    """Width of a letter by itself: a text is at most as wide as its letters, or a little less."""
    return font.getlength(letter)


def _missing(font: FreeTypeFont, text: str) -> int:
    return sum(not _has(font, letter) for letter in text if not letter.isspace())


@functools.cache
def _has(font: FreeTypeFont, letter: str) -> bool:
    return bytes(font.getmask(letter)) != bytes(font.getmask(_NO_SUCH_LETTER))

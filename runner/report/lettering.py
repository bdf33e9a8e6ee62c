"""Text in pictures: Pillow's own font, and a font of the system where that lacks a letter."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

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
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle] + ending) <= width:
            low = middle
        else:
            high = middle - 1
    head = text[:low]
    if whole_words and low < len(text) and text[low] != " " and " " in head:
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


def _missing(font: FreeTypeFont, text: str) -> int:
    return sum(not _has(font, letter) for letter in text if not letter.isspace())


@functools.cache
def _has(font: FreeTypeFont, letter: str) -> bool:
    return bytes(font.getmask(letter)) != bytes(font.getmask(_NO_SUCH_LETTER))

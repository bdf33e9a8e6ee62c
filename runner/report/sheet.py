"""The contact sheet: the whole matrix as a picture, to mail, to print, to put into a paper."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from runner.images import BadImage
from runner.record.paths import RunPaths
from runner.report.axes import IMAGE
from runner.report.gallery import Gallery
from runner.report.lettering import Lettering
from runner.report.sheet_layout import (
    GAP,
    MARGIN,
    Page,
    Size,
    Tile,
    arrange,
    fit,
    letter_size,
    paginate,
    value_text,
)
from runner.report.text import shorten
from runner.report.thumbs import WORKERS, Thumbs, read_small

if TYPE_CHECKING:
    from PIL.Image import Image

PAPER = (251, 251, 249)
INK = (27, 27, 25)
FAINT = (95, 94, 89)
FAILED = (156, 42, 28)
REFUSED = (122, 74, 0)
EDGE = (190, 188, 180)
HATCH = (238, 236, 231)

_COMPRESSION = 4
_LONGEST_LABEL = 400
_AHEAD = 64


@dataclass(frozen=True, slots=True)
class Pages:
    """A laid-out sheet.

    Attributes:
        pages: What stands where.
        line: Height of a line of text in pixels.
        legend: Paragraphs at the head of each page, with the lines that each may take.
        caption_lines: Lines below each picture.
    """

    pages: tuple[Page, ...]
    line: int
    legend: Mapping[str, int]
    caption_lines: int


def lay_out(gallery: Gallery) -> Pages:
    """Find the largest tiles that fit, and a place for each."""
    grid, legend = arrange(gallery), _legend(gallery)
    lines = sum(legend.values()) + 2
    measured = fit(grid, _Sizes(gallery), lines)
    pages = tuple(paginate(grid, measured, lines))
    return Pages(pages, measured.line, legend, grid.caption_lines)


def draw_sheets(root: Path, gallery: Gallery, thumbs: Thumbs) -> Iterator[bytes]:
    """Draw the pages of the sheet, one after the other.

    Args:
        root: The run folder.
        gallery: What the run holds.
        thumbs: Its small pictures.

    Yields:
        PNG files. A picture that cannot be read is a tile with the reason.
    """
    laid = lay_out(gallery)
    count = len(laid.pages)
    for number, page in enumerate(laid.pages, start=1):
        place = f" · page {number} of {count}" if count > 1 else ""
        sheet = _Sheet(root, gallery, thumbs, page, laid.line)
        yield sheet.draw(f"Run {gallery.header.run_id}{place}", laid.legend, laid.caption_lines)


class _Sizes:
    """The size at which an entry is drawn: shrunk to fit, or enlarged by a whole factor."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery

    def __call__(self, entry: int, tile: int) -> Size:
        width, height = self._gallery.get("width", entry), self._gallery.get("height", entry)
        if not isinstance(width, int) or not isinstance(height, int):
            return tile, tile
        return drawn_size((width, height), (tile, tile))


def drawn_size(size: Size, box: Size) -> Size:
    """Fit a picture into a box: whole factors up, so that pixels stay square; any factor down."""
    scale = min(box[0] / size[0], box[1] / size[1])
    if scale >= 1:
        return size[0] * int(scale), size[1] * int(scale)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


class _Sheet:
    """Draws one page."""

    def __init__(self, root: Path, gallery: Gallery, thumbs: Thumbs, page: Page, line: int) -> None:
        from PIL import Image, ImageDraw

        self.root, self.gallery, self.thumbs, self.page = root, gallery, thumbs, page
        self.image = Image.new("RGB", (page.width, page.height), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self.line = line
        self.body = Lettering(letter_size(line))
        self.small = Lettering(letter_size(line) - 2)
        self.title = Lettering(round(line * 1.2))

    def draw(self, title: str, legend: Mapping[str, int], caption_lines: int) -> bytes:
        """Draw everything and encode it.

        Args:
            title: First line of the legend.
            legend: The paragraphs below it, each with the lines that it may take.
            caption_lines: Lines below each picture.
        """
        width, y = self.page.width - 2 * MARGIN, MARGIN - self.line // 2
        self._lines(self.title.wrap(title, width, 1), MARGIN, y, self.title, INK)
        y += round(1.5 * self.line)
        for text, lines in legend.items():
            self._lines(self.small.wrap(text, width, lines), MARGIN, y, self.small, FAINT)
            y += lines * self.line
        for label in self.page.labels:
            letters = self.small if label.faint else self.body
            wrapped = letters.wrap(shorten(label.text, _LONGEST_LABEL), label.width, label.lines)
            self._lines(wrapped, label.x, label.y, letters, FAINT if label.faint else INK)
        for tile, picture in self._pictures():
            if isinstance(picture, str):
                self._no_picture(tile, picture)
            else:
                self._paste(tile, picture)
            if caption_lines:
                self._caption(tile, caption_lines)
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG", compress_level=_COMPRESSION)
        return buffer.getvalue()

    def _pictures(self) -> Iterator[tuple[Tile, Image | str]]:
        """Decode on several threads, a few pictures ahead of the pen, so that few are in memory."""
        tiles = iter(self.page.tiles)
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="sheet") as pool:
            while batch := list(islice(tiles, _AHEAD)):
                yield from zip(batch, pool.map(self._load, batch), strict=True)

    def _load(self, tile: Tile) -> Image | str:
        """The picture at its size, or why there is none."""
        entry = tile.entry
        if self.gallery.get("status", entry) != "done":
            return self.gallery.text("message", entry)
        problem = self.thumbs.problems.get(entry)
        if problem:
            return problem
        small = self.thumbs.small.get(entry)
        try:
            path = RunPaths(self.root).image(self.gallery.text("file_name", entry))
            picture = read_small(self.root / small if small else path, max(tile.width, tile.height))
        except BadImage as error:
            return f"It is {error.reason}."
        from PIL import Image

        size = drawn_size(picture.size, (tile.width, tile.height))
        grows = size[0] > picture.width
        if size == picture.size:
            return picture
        return picture.resize(size, Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS)

    def _paste(self, tile: Tile, picture: Image) -> None:
        at = (tile.x, tile.y)
        self.image.paste(picture, at, picture if picture.mode == "RGBA" else None)

    def _no_picture(self, tile: Tile, reason: str) -> None:
        """A hatched tile with the outcome, its cause and the provider's words."""
        gallery, entry = self.gallery, tile.entry
        status = gallery.text("status", entry)
        right, bottom = tile.x + tile.width - 1, tile.y + tile.height - 1
        for start in range(-tile.height, tile.width, 12):
            first, last = max(0, -start), min(tile.height, tile.width - start) - 1
            line = (tile.x + start + first, tile.y + first, tile.x + start + last, tile.y + last)
            self.pen.line(line, HATCH)
        self.pen.rectangle((tile.x, tile.y, right, bottom), outline=EDGE)
        title = "Cannot be shown"
        if status != "done":
            kind = gallery.text("kind", entry).replace("_", " ")
            title = (
                status.capitalize() if kind in ("", status) else f"{status.capitalize()}: {kind}"
            )
        room = max(1, (tile.height - 2 * GAP) // self.line)
        heading = self.small.wrap(title, tile.width - 2 * GAP, min(3, room))
        colour = FAILED if status in ("failed", "done") else REFUSED
        x, y = tile.x + GAP, tile.y + GAP
        self._lines(heading, x, y, self.small, colour)
        left = room - len(heading)
        if reason and left > 0:
            words = self.small.wrap(shorten(reason, _LONGEST_LABEL), tile.width - 2 * GAP, left)
            self._lines(words, x, y + len(heading) * self.line, self.small, FAINT)

    def _caption(self, tile: Tile, lines: int) -> None:
        gallery, entry = self.gallery, tile.entry
        layout = gallery.layout
        placed = {layout.rows, layout.columns, layout.group}
        seed = gallery.get("seed", entry)
        if seed is not None:
            # Seeds count up with the images of a point, and say more.
            placed.add(IMAGE)
        texts = [
            value_text(axis, axis.values[axis.at[entry]])
            for axis in gallery.axes
            if axis.key not in placed and axis.key != "prompt" and axis.at[entry] >= 0
        ]
        if not texts and seed is not None:
            texts.append(f"seed {seed}")
        text = [" · ".join(texts)]
        if lines > 1:
            text.insert(0, gallery.text("prompt", entry))
        for number, line in enumerate(text):
            cut = self.small.wrap(shorten(line, _LONGEST_LABEL), tile.width, 1)
            self._lines(
                cut, tile.x, tile.y + tile.height + 2 + number * self.line, self.small, FAINT
            )

    def _lines(
        self, lines: list[str], x: int, y: int, letters: Lettering, colour: tuple[int, int, int]
    ) -> None:
        for number, line in enumerate(lines):
            self.pen.text((x, y + number * self.line), line, colour, letters.font_for(line))


def _legend(gallery: Gallery) -> dict[str, int]:
    """How the run went and what all its pictures have in common, with the lines to give each."""
    header, layout = gallery.header, gallery.layout
    counts = [f"{number:,} {word}" for number, word in header.counts]
    if header.missing:
        counts.append(f"{header.missing:,} {header.missing_word}")
    if gallery.hidden:
        counts.append(f"{gallery.hidden:,} not shown")
    facts = [header.when, *counts, header.cost and f"cost {header.cost}"]
    words = {layout.group: "sections", layout.rows: "rows", layout.columns: "columns"}
    rest = [f"{words.get(axis.key, 'in each cell')}: {axis.label}" for axis in gallery.axes]
    if layout.rows is None:
        rest = []
    rest += [f"{key} {value}" for key, value in header.fixed]
    paragraphs = [" · ".join(fact for fact in facts if fact), shorten(" · ".join(rest), 1000)]
    return {text: 1 if len(text) < 80 else 2 for text in paragraphs if text}

"""The contact sheet: the whole matrix as a picture, to mail, to print, to put into a paper."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.images import BadImage
from runner.record.paths import RunPaths
from runner.report.axes import IMAGE
from runner.report.gallery import Gallery
from runner.report.lettering import Colour, Lettering
from runner.report.png import png_chunks_of
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

_LONGEST_LABEL = 400
_BAND_BYTES = 5_000_000
"""Of a page, this much is drawn and encoded at once."""


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


def draw_sheets(root: Path, gallery: Gallery, thumbs: Thumbs) -> Iterator[Iterator[bytes]]:
    """Draw the pages of the sheet, one after the other.

    Args:
        root: The run folder.
        gallery: What the run holds.
        thumbs: Its small pictures.

    Yields:
        PNG files, each piece by piece. A picture that cannot be read is a tile with the reason.
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


@dataclass(frozen=True, slots=True)
class _Text:
    """Wrapped lines of text on a page."""

    lines: list[str]
    x: int
    y: int
    letters: Lettering
    colour: Colour


class _Sheet:
    """Draws one page, band by band. Positions are the page's; ``top`` is where its band begins."""

    def __init__(self, root: Path, gallery: Gallery, thumbs: Thumbs, page: Page, line: int) -> None:
        self.root, self.gallery, self.thumbs, self.page = root, gallery, thumbs, page
        self.line = line
        self.body = Lettering(letter_size(line))
        self.small = Lettering(letter_size(line) - 2)
        self.title = Lettering(round(line * 1.2))
        self.pictures: dict[Tile, Image | str] = {}

    def draw(self, title: str, legend: Mapping[str, int], caption_lines: int) -> Iterator[bytes]:
        """Draw everything and encode it.

        Args:
            title: First line of the legend.
            legend: The paragraphs below it, each with the lines that it may take.
            caption_lines: Lines below each picture.
        """
        self.caption_lines = caption_lines
        bands = self._bands([*self._texts(title, legend)])
        return png_chunks_of(bands, self.page.width, self.page.height)

    def _bands(self, texts: list[_Text]) -> Iterator[Image]:
        from PIL import Image, ImageDraw

        coming = deque(sorted(self.page.tiles, key=lambda tile: tile.y))
        tiles: list[Tile] = []
        below = (self.caption_lines + 1) * self.line
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="sheet") as pool:
            for top, end in self._cuts():
                fresh = []
                while coming and coming[0].y < end:
                    fresh.append(coming.popleft())
                # Several at once, but not beside the pen, whose many small strokes each give the
                # interpreter away. Let go of behind it: few are in memory.
                self.pictures |= zip(fresh, pool.map(self._load, fresh), strict=True)
                tiles += fresh
                self.top = top
                self.image = Image.new("RGB", (self.page.width, end - top), PAPER)
                self.pen = ImageDraw.Draw(self.image)
                for text in texts:
                    if text.y < end and text.y + (len(text.lines) + 1) * self.line > top:
                        self._lines(text)
                for tile in tiles:
                    if tile.y + tile.height > top:
                        self._tile(tile)
                    if self.caption_lines and tile.y + tile.height < end:
                        self._caption(tile)
                yield self.image
                for tile in tiles:
                    if tile.y + tile.height <= end:
                        self.pictures.pop(tile, None)
                tiles = [tile for tile in tiles if tile.y + tile.height + below > end]

    def _cuts(self) -> Iterator[tuple[int, int]]:
        """Top and end of each band; between rows of tiles where the bands are high enough."""
        height, most = self.page.height, max(32, _BAND_BYTES // (3 * self.page.width))
        rows = sorted({tile.y for tile in self.page.tiles})
        top = 0
        while top < height:
            at = bisect_right(rows, top + most) - 1
            end = rows[at] if at >= 0 and rows[at] > top else top + most
            yield top, min(end, height)
            top = end

    def _texts(self, title: str, legend: Mapping[str, int]) -> Iterator[_Text]:
        width, y = self.page.width - 2 * MARGIN, MARGIN - self.line // 2
        yield _Text(self.title.wrap(title, width, 1), MARGIN, y, self.title, INK)
        y += round(1.5 * self.line)
        for text, lines in legend.items():
            yield _Text(self.small.wrap(text, width, lines), MARGIN, y, self.small, FAINT)
            y += lines * self.line
        for label in self.page.labels:
            letters = self.small if label.faint else self.body
            wrapped = letters.wrap(shorten(label.text, _LONGEST_LABEL), label.width, label.lines)
            yield _Text(wrapped, label.x, label.y, letters, FAINT if label.faint else INK)

    def _tile(self, tile: Tile) -> None:
        picture = self.pictures[tile]
        if isinstance(picture, str):
            self._no_picture(tile, picture)
        else:
            at = (tile.x, tile.y - self.top)
            self.image.paste(picture, at, picture if picture.mode == "RGBA" else None)

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

    def _no_picture(self, tile: Tile, reason: str) -> None:
        """A hatched tile with the outcome, its cause and the provider's words."""
        gallery, entry = self.gallery, tile.entry
        status = gallery.text("status", entry)
        above = tile.y - self.top
        right, bottom = tile.x + tile.width - 1, above + tile.height - 1
        for start in range(-tile.height, tile.width, 12):
            first, last = max(0, -start), min(tile.height, tile.width - start) - 1
            line = (tile.x + start + first, above + first, tile.x + start + last, above + last)
            self.pen.line(line, HATCH)
        self.pen.rectangle((tile.x, above, right, bottom), outline=EDGE)
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
        self._lines(_Text(heading, x, y, self.small, colour))
        left = room - len(heading)
        if reason and left > 0:
            words = self.small.wrap(shorten(reason, _LONGEST_LABEL), tile.width - 2 * GAP, left)
            y += len(heading) * self.line
            self._lines(_Text(words, x, y, self.small, FAINT))

    def _caption(self, tile: Tile) -> None:
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
        if self.caption_lines > 1:
            text.insert(0, gallery.text("prompt", entry))
        for number, line in enumerate(text):
            cut = self.small.wrap(shorten(line, _LONGEST_LABEL), tile.width, 1)
            y = tile.y + tile.height + 2 + number * self.line
            self._lines(_Text(cut, tile.x, y, self.small, FAINT))

    def _lines(self, text: _Text) -> None:
        y = text.y - self.top
        for line in text.lines:
            text.letters.draw(self.pen, text.x, y, line, text.colour)
            y += self.line


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

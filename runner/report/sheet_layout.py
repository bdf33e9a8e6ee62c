"""Where everything stands on the contact sheet: pure geometry, in pixels.

Columns are as wide and rows as high as the largest picture in them, so that pictures of different
sizes stand in line without gaps. What does not fit one page goes to the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from runner.report.axes import VARIANT, Axis
from runner.report.gallery import Gallery
from runner.settings.cell import Scalar

MOST_PIXELS = 48_000_000
"""Pixels of one page: below Pillow's own guard."""

MOST_SIDE = 16_384
"""Longest side of one page: what image viewers take."""

TILES = (256, 192, 128, 96, 64)
"""Longest sides of a picture, tried in this order until all of it fits one page."""

MOST_IN_CELL = 64
"""Pictures drawn in one cell; the rest is counted."""

MARGIN = 28
GAP = 8
MOST_HEAD_LINES = 3

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Grid:
    """Which pictures stand where, without sizes.

    Attributes:
        rows: Label of each row; empty texts on a plain wall.
        columns: Label of each column.
        cells: Entries by row and column.
        caption_lines: Lines of text below each picture.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[int, int], Sequence[int]]
    caption_lines: int


@dataclass(frozen=True, slots=True)
class Tile:
    """A picture on a page: its entry, and the box that it may fill."""

    entry: int
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Label:
    """Text on a page, to be wrapped into a box.

    Attributes:
        text: The text.
        x: Left edge.
        y: Top edge.
        width: Pixels that a line may take.
        lines: Lines that there is room for.
        faint: Whether it is a side remark.
    """

    text: str
    x: int
    y: int
    width: int
    lines: int
    faint: bool = False


@dataclass(slots=True)
class Page:
    """One page of the sheet."""

    width: int
    height: int
    tiles: list[Tile] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Measured:
    """A grid with sizes.

    Attributes:
        tile: Longest side of a picture.
        widths: Width of a picture in each column.
        heights: Height of a picture in each row.
        abreast: Pictures side by side in the cells of each column.
        lines: Lines of pictures in the cells of each row.
        line: Height of a line of text.
        apart: Space between cells.
        head: Width of the row labels.
        top: Height of the column labels.
        caption: Height of the text below a picture.
    """

    tile: int
    widths: tuple[int, ...]
    heights: tuple[int, ...]
    abreast: tuple[int, ...]
    lines: tuple[int, ...]
    line: int
    apart: int
    head: int
    top: int
    caption: int

    def column_width(self, column: int) -> int:
        """Pixels of a column with the space after it."""
        count = self.abreast[column]
        return count * self.widths[column] + (count - 1) * GAP + self.apart

    def row_height(self, row: int) -> int:
        """Pixels of a row with the space after it."""
        count = self.lines[row]
        return count * (self.heights[row] + self.caption) + (count - 1) * GAP + self.apart


def letter_size(line: int) -> int:
    """Size of the letters that suit a line height."""
    return round(line * 0.82)


def value_text(axis: Axis, value: Scalar) -> str:
    """A value as a label: prompts and variants speak for themselves, others carry their key."""
    text = "null" if value is None else str(value)
    return text if axis.key in ("prompt", VARIANT) else f"{axis.label.replace('_', ' ')} {text}"


def arrange(gallery: Gallery) -> Grid:
    """Sort the entries into rows and columns, by the gallery's layout."""
    axes = {axis.key: axis for axis in gallery.axes}
    layout = gallery.layout
    rows, columns = axes.get(layout.rows or ""), axes.get(layout.columns or "")
    if rows is None or columns is None:
        return _wall(gallery)
    group = axes.get(layout.group or "")
    groups = [-1] * len(gallery) if group is None else group.at
    places = sorted(set(zip(groups, rows.at, strict=True)))
    row_of = {place: number for number, place in enumerate(places)}
    column_places = sorted(set(columns.at))
    column_of = {place: number for number, place in enumerate(column_places)}
    cells: dict[tuple[int, int], list[int]] = {}
    for entry in range(len(gallery)):
        row = row_of[groups[entry], rows.at[entry]]
        cells.setdefault((row, column_of[columns.at[entry]]), []).append(entry)
    labels = []
    for first, second in places:
        text = _label(rows, second)
        labels.append(text if group is None else f"{_label(group, first)} / {text}")
    return Grid(
        rows=tuple(labels),
        columns=tuple(_label(columns, place) for place in column_places),
        cells=cells,
        caption_lines=1 if len(axes) > 2 + (group is not None) else 0,
    )


def measure(grid: Grid, tile: int, size_of: Callable[[int, int], Size]) -> Measured:
    """Give the grid its sizes.

    Args:
        grid: The grid.
        tile: Longest side of a picture.
        size_of: Size at which an entry is drawn within such a tile.
    """
    columns, rows = range(len(grid.columns)), range(len(grid.rows))
    widths, heights = [1 for _ in columns], [1 for _ in rows]
    abreast, lines = [1 for _ in columns], [1 for _ in rows]
    for (row, column), entries in grid.cells.items():
        for entry in entries[:MOST_IN_CELL]:
            width, height = size_of(entry, tile)
            widths[column] = max(widths[column], width)
            heights[row] = max(heights[row], height)
        abreast[column] = max(abreast[column], _side_by_side(len(entries)))
    for (row, column), entries in grid.cells.items():
        needed = math.ceil(min(len(entries), MOST_IN_CELL) / abreast[column])
        lines[row] = max(lines[row], needed)
    line = 21 if tile > 128 else 17 if tile > 64 else 14
    apart = 20 if tile > 128 else 12
    whole = [n * width + (n - 1) * GAP for n, width in zip(abreast, widths, strict=True)]
    # An estimate, so that geometry needs no font: what does not fit ends with an ellipsis.
    filled = [
        math.ceil(len(text) * 0.6 * letter_size(line) / width)
        for text, width in zip(grid.columns, whole, strict=True)
    ]
    head_lines = min(MOST_HEAD_LINES, max(filled, default=0))
    return Measured(
        tile=tile,
        widths=tuple(widths),
        heights=tuple(heights),
        abreast=tuple(abreast),
        lines=tuple(lines),
        line=line,
        apart=apart,
        head=12 * line + apart if any(grid.rows) else 0,
        top=head_lines * line + GAP if head_lines else 0,
        caption=grid.caption_lines * line + 2 if grid.caption_lines else 0,
    )


def fit(grid: Grid, size_of: Callable[[int, int], Size], legend_lines: int) -> Measured:
    """The largest tile with which all of it fits one page; the smallest one where none does."""
    for tile in TILES:
        measured = measure(grid, tile, size_of)
        width = (
            2 * MARGIN + measured.head + sum(map(measured.column_width, range(len(grid.columns))))
        )
        height = 2 * MARGIN + legend_lines * measured.line + measured.top
        height += sum(map(measured.row_height, range(len(grid.rows))))
        if width * height <= MOST_PIXELS and max(width, height) <= MOST_SIDE:
            break
    return measured


def paginate(grid: Grid, measured: Measured, legend_lines: int) -> Iterator[Page]:
    """Lay the grid out on as many pages as it takes, row by row.

    Args:
        grid: The grid.
        measured: Its sizes.
        legend_lines: Lines of the legend at the head of each page.
    """
    legend = legend_lines * measured.line
    side = MOST_SIDE - 2 * MARGIN
    widths = [measured.column_width(column) for column in range(len(grid.columns))]
    heights = [measured.row_height(row) for row in range(len(grid.rows))]
    for columns in _chunks(widths, side - measured.head):
        width = max(2 * MARGIN + measured.head + sum(widths[at] for at in columns), 640)
        room = min(side, MOST_PIXELS // width - 2 * MARGIN) - legend - measured.top
        for rows in _chunks(heights, room):
            height = 2 * MARGIN + legend + measured.top + sum(heights[at] for at in rows)
            page = Page(width, height)
            _fill(page, grid, measured, rows, columns, MARGIN + legend)
            yield page


def _fill(
    page: Page, grid: Grid, measured: Measured, rows: range, columns: range, top: int
) -> None:
    x = MARGIN + measured.head
    lefts = {}
    for column in columns:
        lefts[column] = x
        width = measured.column_width(column) - measured.apart
        if measured.top:
            page.labels.append(
                Label(grid.columns[column], x, top, width, measured.top // measured.line)
            )
        x += width + measured.apart
    y = top + measured.top
    for row in rows:
        height = measured.row_height(row) - measured.apart
        if measured.head:
            width = measured.head - measured.apart
            page.labels.append(
                Label(grid.rows[row], MARGIN, y, width, max(1, height // measured.line))
            )
        for column in columns:
            _fill_cell(page, grid, measured, (row, column), (lefts[column], y))
        y += height + measured.apart


def _fill_cell(
    page: Page, grid: Grid, measured: Measured, at: tuple[int, int], corner: tuple[int, int]
) -> None:
    row, column = at
    entries = grid.cells.get(at, ())
    width, height = measured.widths[column], measured.heights[row]
    for number, entry in enumerate(entries[:MOST_IN_CELL]):
        down, across = divmod(number, measured.abreast[column])
        x = corner[0] + across * (width + GAP)
        y = corner[1] + down * (height + measured.caption + GAP)
        page.tiles.append(Tile(entry, x, y, width, height))
    more = len(entries) - MOST_IN_CELL
    if more > 0:
        y = corner[1] + measured.row_height(row) - measured.apart
        page.labels.append(Label(f"and {more:,} more", corner[0], y, width * 2, 1, faint=True))


def _chunks(sizes: Sequence[int], room: int) -> Iterator[range]:
    """Cut into runs whose sum is within the room; each has at least one member."""
    start, used = 0, 0
    for at, size in enumerate(sizes):
        if used + size > room and at > start:
            yield range(start, at)
            start, used = at, 0
        used += size
    yield range(start, len(sizes))


def _wall(gallery: Gallery) -> Grid:
    """No two axes: the pictures one after the other, a little wider than high."""
    count = len(gallery)
    abreast = count if 0 < count <= 5 else max(1, math.ceil(math.sqrt(count * 1.5)))
    cells = {divmod(entry, abreast): [entry] for entry in range(count)}
    prompts = gallery.table.columns.get("prompt")
    varied = prompts is not None and len(prompts.values) > 1
    return Grid(
        rows=("",) * math.ceil(count / abreast),
        columns=("",) * min(abreast, count),
        cells=cells,
        caption_lines=2 if varied else 1,
    )


def _label(axis: Axis, place: int) -> str:
    return "–" if place < 0 else value_text(axis, axis.values[place])


def _side_by_side(count: int) -> int:
    """Up to three pictures of a cell stand in one line, more in a square."""
    count = min(count, MOST_IN_CELL)
    return count if count <= 3 else math.ceil(math.sqrt(count))

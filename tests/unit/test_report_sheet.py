"""The contact sheet: what stands where, what is drawn, and what happens when it gets too big."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from runner.images import inspect
from runner.report import sheet_layout, write_contact_sheet
from runner.report.gallery import load
from runner.report.lettering import Lettering
from runner.report.png import png_chunks_of
from runner.report.sheet import EDGE, PAPER, draw_sheets, drawn_size, lay_out
from runner.report.sheet_layout import (
    MARGIN,
    MOST_IN_CELL,
    TILES,
    Grid,
    Page,
    Tile,
    arrange,
    fit,
    measure,
    paginate,
)
from runner.report.thumbs import Thumbs
from runner.settings.cell import Scalar
from tests.report_fixture import RunFolder, comparison, encode, single_wall

LEGEND = 4


def matrix(
    root: Path, rows: Sequence[Scalar], columns: Sequence[Scalar], colour: str = "red"
) -> Path:
    run = RunFolder(root)
    data = encode(Image.new("RGB", (64, 64), colour))
    for prompt, seed in itertools.product(rows, columns):
        run.add_image(data, axes={"prompt": prompt, "seed": seed}, prompt=str(prompt))
    return run.write()


def grid_of(rows: int, columns: int, per_cell: int = 1) -> Grid:
    numbers = itertools.count()
    cells = {
        (row, column): [next(numbers) for _ in range(per_cell)]
        for row, column in itertools.product(range(rows), range(columns))
    }
    names = [
        tuple(f"{word} {at}" for at in range(count))
        for word, count in (("r", rows), ("c", columns))
    ]
    return Grid(names[0], names[1], cells, caption_lines=0)


def square(entry: int, tile: int) -> tuple[int, int]:
    return tile, tile


def overlap(one: Tile, two: Tile) -> bool:
    across = one.x < two.x + two.width and two.x < one.x + one.width
    return across and one.y < two.y + two.height and two.y < one.y + one.height


# Geometry


def test_columns_and_rows_take_the_largest_picture_in_them() -> None:
    sizes = {0: (100, 40), 1: (30, 200), 2: (60, 60), 3: (10, 10)}
    measured = measure(grid_of(2, 2), 256, lambda entry, _: sizes[entry])
    assert measured.widths == (100, 30)
    assert measured.heights == (200, 60)


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_every_picture_stands_once_inside_its_page_and_on_no_other(
    rows: int, columns: int, per_cell: int
) -> None:
    grid = grid_of(rows, columns, per_cell)
    measured = fit(grid, square, LEGEND)
    (page,) = paginate(grid, measured, LEGEND)
    assert sorted(tile.entry for tile in page.tiles) == list(range(rows * columns * per_cell))
    for tile in page.tiles:
        assert tile.x >= MARGIN + measured.head
        assert tile.y >= MARGIN + LEGEND * measured.line + measured.top
        assert tile.x + tile.width <= page.width - MARGIN
        assert tile.y + tile.height <= page.height - MARGIN
    assert not any(overlap(*pair) for pair in itertools.combinations(page.tiles, 2))


def test_columns_stand_under_their_labels_and_rows_beside_theirs() -> None:
    grid = grid_of(3, 4)
    measured = measure(grid, 128, square)
    (page,) = paginate(grid, measured, LEGEND)
    labels = {label.text: label for label in page.labels}
    for (row, column), (entry,) in grid.cells.items():
        tile = next(tile for tile in page.tiles if tile.entry == entry)
        assert labels[f"c {column}"].x == tile.x
        assert labels[f"c {column}"].y < tile.y
        assert labels[f"r {row}"].y == tile.y
        assert labels[f"r {row}"].x < tile.x


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 3))
def test_no_page_is_beyond_the_budget_and_nothing_is_lost(
    rows: int, columns: int, per_cell: int
) -> None:
    grid = grid_of(rows, columns, per_cell)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sheet_layout, "MOST_PIXELS", 1_500_000)
        patch.setattr(sheet_layout, "MOST_SIDE", 1_600)
        measured = fit(grid, square, LEGEND)
        pages = list(paginate(grid, measured, LEGEND))
    seen: list[int] = []
    for page in pages:
        assert page.width * page.height <= 1_500_000
        assert max(page.width, page.height) <= 1_600
        seen += [tile.entry for tile in page.tiles]
    assert sorted(seen) == list(range(rows * columns * per_cell))
    if len(pages) > 1:
        assert measured.tile == TILES[-1], "pages come after smaller tiles, not before"


def test_tiles_shrink_before_pages_multiply() -> None:
    assert fit(grid_of(4, 4), square, LEGEND).tile == TILES[0]
    assert TILES[0] > fit(grid_of(40, 40), square, LEGEND).tile > TILES[-1]


def test_a_crowded_cell_says_how_many_it_leaves_out() -> None:
    grid = grid_of(1, 2, MOST_IN_CELL + 5)
    (page,) = paginate(grid, fit(grid, square, LEGEND), LEGEND)
    assert len(page.tiles) == 2 * MOST_IN_CELL
    assert sum(label.text == "and 5 more" for label in page.labels) == 2


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((64, 64), (256, 256)), ((100, 50), (200, 100)), ((300, 100), (256, 85)),
     ((1024, 1536), (171, 256)), ((256, 256), (256, 256)), ((5000, 1), (256, 1))],
)  # fmt: skip
def test_small_pictures_grow_by_whole_factors(
    size: tuple[int, int], drawn: tuple[int, int]
) -> None:
    assert drawn_size(size, (256, 256)) == drawn


def test_the_layout_of_the_page_is_the_layout_of_the_sheet(tmp_path: Path) -> None:
    grid = arrange(load(comparison(tmp_path / "run", large=32)))
    assert grid.columns == ("openai", "google_ai_studio", "diffusers")
    assert len(grid.rows) == 4
    assert {len(entries) for entries in grid.cells.values()} == {4}


# Pixels


def ink(image: Image.Image, box: tuple[int, int, int, int]) -> int:
    """Pixels of a box that are not paper."""
    part = image.crop(box)
    return sum(count for count, colour in part.getcolors(1 << 24) or [] if colour != PAPER)


def drawn(root: Path) -> tuple[Image.Image, Page]:
    gallery = load(root)
    (page,) = lay_out(gallery).pages
    (pieces,) = draw_sheets(root, gallery, Thumbs({}, {}))
    return Image.open(io.BytesIO(b"".join(pieces))), page


def test_labels_are_drawn_where_the_layout_wants_them(tmp_path: Path) -> None:
    image, page = drawn(matrix(tmp_path, ["a fox", "a cat"], [1, 2, 3]))
    assert (image.width, image.height) == (page.width, page.height)
    assert len(page.labels) == 5
    for label in page.labels:
        assert ink(image, (label.x, label.y, label.x + label.width, label.y + 21)) > 40, label.text
    assert ink(image, (0, 0, image.width, MARGIN // 3)) == 0
    assert ink(image, (MARGIN, MARGIN // 2, 400, MARGIN + 30)) > 100, "the legend"


def test_a_small_picture_fills_its_tile_in_its_own_colour(tmp_path: Path) -> None:
    image, page = drawn(matrix(tmp_path, ["a", "b"], [1, 2], colour="#c81e28"))
    for tile in page.tiles:
        part = image.crop((tile.x, tile.y, tile.x + 256, tile.y + 256))
        assert part.getcolors() == [(256 * 256, (0xC8, 0x1E, 0x28))]


def test_enlarging_keeps_hard_pixels(tmp_path: Path) -> None:
    board = Image.new("1", (64, 64))
    board.putdata([(x + y) % 2 * 255 for y in range(64) for x in range(64)])
    run = RunFolder(tmp_path)
    run.add_image(encode(board.convert("RGB")), axes={})
    image, page = drawn(run.write())
    (tile,) = page.tiles
    part = image.crop((tile.x, tile.y, tile.x + 256, tile.y + 256))
    colours = {colour: count for count, colour in part.getcolors() or []}
    assert colours == {(0, 0, 0): 32768, (255, 255, 255): 32768}


def test_a_failure_is_a_framed_tile_with_words(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    data = encode(Image.new("RGB", (64, 64), "green"))
    for prompt, seed in itertools.product("ab", (1, 2)):
        axes: dict[str, Scalar] = {"prompt": prompt, "seed": seed}
        if (prompt, seed) == ("b", 1):
            run.add_failure(axes=axes, prompt=prompt, provider="diffusers", model="builtin",
                            variant=2, kind="rate_limit", message="Too many requests.")  # fmt: skip
        else:
            run.add_image(data, axes=axes, prompt=prompt)
    image, page = drawn(run.write())
    tile = page.tiles[2]
    assert image.getpixel((tile.x, tile.y + 100)) == EDGE
    assert image.getpixel((tile.x + 255, tile.y + 100)) == EDGE
    part = image.crop((tile.x, tile.y, tile.x + 256, tile.y + 256))
    colours = [colour for _, colour in part.getcolors(1 << 16) or []]
    assert (0, 128, 0) not in colours
    heading = image.crop((tile.x + 4, tile.y + 4, tile.x + 250, tile.y + 28))
    reds = [colour for _, colour in heading.getcolors(1 << 16) or [] if colour[0] > colour[1] + 80]
    assert reds, "the heading is written in the colour of failures"


def test_a_broken_file_is_a_tile_and_not_an_error(tmp_path: Path) -> None:
    root = matrix(tmp_path, ["a", "b"], [1, 2])
    next((root / "images" / "0000").iterdir()).write_bytes(b"nothing")
    image, page = drawn(root)
    framed = [tile for tile in page.tiles if image.getpixel((tile.x, tile.y + 90)) == EDGE]
    assert len(framed) == 1


def test_transparent_pictures_lie_on_the_paper(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.add_image(encode(Image.new("RGBA", (64, 64), (255, 0, 0, 0))), axes={})
    image, page = drawn(run.write())
    (tile,) = page.tiles
    assert image.getpixel((tile.x + 128, tile.y + 128)) == PAPER


def test_pages_are_files_and_old_ones_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = matrix(tmp_path, [f"p{at}" for at in range(12)], list(range(6)))
    monkeypatch.setattr(sheet_layout, "MOST_PIXELS", 400_000)
    names = [path.name for path in write_contact_sheet(root)]
    assert names[:2] == ["contact_sheet.png", "contact_sheet-2.png"]
    for name in names:
        with Image.open(root / name) as page:
            assert page.width * page.height <= 400_000
    monkeypatch.undo()
    assert write_contact_sheet(root) == [root / "contact_sheet.png"]
    assert sorted(path.name for path in root.glob("contact_sheet*")) == ["contact_sheet.png"]


def test_a_wall_without_axes_has_captions(tmp_path: Path) -> None:
    image, page = drawn(single_wall(tmp_path, count=4))
    assert len({tile.y for tile in page.tiles}) == 1
    for tile in page.tiles:
        bottom = tile.y + tile.height
        assert ink(image, (tile.x, bottom + 2, tile.x + tile.width, bottom + 22)) > 30


def test_a_run_without_images_has_a_sheet(tmp_path: Path) -> None:
    RunFolder(tmp_path).write(cells=4, status="running", ended_at=None)
    (path,) = write_contact_sheet(tmp_path)
    with Image.open(path) as sheet:
        assert ink(sheet.convert("RGB"), (0, 0, *sheet.size)) > 100


@pytest.mark.parametrize("text", ["x" * 10_000, "漢字" * 300, "مرحبا", "🦊" * 40, "\x00\x1b", ""])
def test_any_label_can_be_drawn(tmp_path: Path, text: str) -> None:
    root = matrix(tmp_path, [text, "b"], [1, 2])
    (path,) = write_contact_sheet(root)
    with Image.open(path) as sheet:
        assert sheet.width < 2000


# Letters


@given(st.text(st.characters(codec="latin-1", categories=["L", "N", "P", "Zs"]), max_size=200),
       st.integers(60, 300), st.integers(1, 4))  # fmt: skip
def test_wrapped_lines_fit_and_lose_no_letter_but_at_the_end(
    text: str, width: int, lines: int
) -> None:
    letters = Lettering(14)
    wrapped = letters.wrap(text, width, lines)
    assert len(wrapped) <= lines
    for line in wrapped:
        assert letters.font_for(text).getlength(line) <= width + 1
    whole = "".join(text.split())
    joined = "".join("".join(wrapped).split())
    assert joined == whole or (joined.endswith("…") and whole.startswith(joined[:-1]))


def test_lines_break_between_words() -> None:
    wrapped = Lettering(14).wrap("a lighthouse on a cliff at dawn", 110, 5)
    assert " ".join(wrapped) == "a lighthouse on a cliff at dawn"
    assert len(wrapped) > 1


@pytest.mark.parametrize("heights", [(1,), (7, 5), (1, 1, 30)])
def test_a_file_of_bands_is_the_whole_picture(heights: tuple[int, ...]) -> None:
    whole = Image.effect_noise((23, sum(heights)), 90).convert("RGB")
    tops = [sum(heights[:at]) for at in range(len(heights))]
    bands = (
        whole.crop((0, top, 23, top + height)) for top, height in zip(tops, heights, strict=True)
    )
    data = b"".join(png_chunks_of(bands, *whole.size))
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        assert image.tobytes() == whole.tobytes()
    assert inspect(data).info.suffix == ".png"

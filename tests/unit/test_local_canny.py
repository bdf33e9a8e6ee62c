"""Canny's edges: where they are, that they are thin, and that colors of one brightness count."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from runner.providers.local.canny import canny


def square(inside: str, outside: str, side: int = 40, pixels: int = 64) -> Image.Image:
    image = Image.new("RGB", (pixels, pixels), outside)
    low = (pixels - side) // 2
    ImageDraw.Draw(image).rectangle((low, low, low + side - 1, low + side - 1), fill=inside)
    return image


@pytest.mark.parametrize("colors", [("white", "black"), ("#00ff00", "#ff4200")])
def test_a_square_gives_one_thin_closed_line_around_itself(colors: tuple[str, str]) -> None:
    edges = np.asarray(canny(square(*colors))) > 0
    rows, columns = np.nonzero(edges)
    assert {11, 12} >= {rows.min(), columns.min()}
    assert {51, 52} >= {rows.max(), columns.max()}
    # One line crossed on the way in, one on the way out.
    assert edges[32].sum() == edges[:, 32].sum() == 2
    assert 140 <= edges.sum() <= 170


def test_a_plain_picture_and_a_faint_one_have_no_edges() -> None:
    assert not np.asarray(canny(Image.new("RGB", (64, 48), "teal"))).any()
    assert not np.asarray(canny(square("#404040", "#444444"))).any()


def test_a_weak_line_counts_only_where_it_hangs_on_a_strong_one() -> None:
    image = np.zeros((40, 80), dtype=np.uint8)
    image[:, 40:] = np.interp(range(40), (20, 40), (60, 255)).astype(np.uint8)[:, None]
    hangs = np.asarray(canny(Image.fromarray(image), low=100, high=400))
    assert hangs.any(axis=1).all()
    image[8:12] = 0
    alone = np.asarray(canny(Image.fromarray(image), low=100, high=400))
    assert not alone[:10].any()
    assert alone[16:].any(axis=1).all()


def test_the_picture_keeps_its_size_and_is_black_and_white() -> None:
    edges = canny(square("red", "blue").resize((50, 90)))
    assert (edges.mode, edges.size) == ("L", (50, 90))
    assert set(np.unique(np.asarray(edges))) == {0, 255}

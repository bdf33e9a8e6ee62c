"""Thumbnails: small, made once, and a word instead of an error where there is no picture."""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from runner.images import MAX_PIXELS
from runner.report import write_report
from runner.report.gallery import load
from runner.report.thumbs import SIDE, make_thumbs, read_small
from tests.report_fixture import RunFolder, encode, picture, single_wall


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\x00"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def run_of(root: Path, data: bytes, size: tuple[int, int], **more: object) -> Path:
    run = RunFolder(root)
    run.add_image(data, axes={}, size=size, **more)
    return run.write()


def test_a_large_picture_gets_a_small_one_named_by_its_hash(tmp_path: Path) -> None:
    root = run_of(tmp_path, encode(picture("p", 1, (1200, 800))), (1200, 800))
    gallery = load(root)
    thumbs = make_thumbs(root, gallery)
    assert dict(thumbs.small) == {0: f"thumbs/{gallery.text('sha256', 0)}.webp"}
    with Image.open(root / thumbs.small[0]) as small:
        assert (small.format, small.size) == ("WEBP", (SIDE, SIDE * 2 // 3))


def test_a_small_picture_is_its_own_thumbnail(tmp_path: Path) -> None:
    root = single_wall(tmp_path)
    thumbs = make_thumbs(root, load(root))
    assert (dict(thumbs.small), dict(thumbs.problems)) == ({}, {})
    assert not (root / "thumbs").exists()


def test_a_thumbnail_is_made_once(tmp_path: Path) -> None:
    root = run_of(tmp_path, encode(picture("p", 1, (600, 600))), (600, 600))
    write_report(root)
    (thumb,) = (root / "thumbs").iterdir()
    thumb.write_bytes(b"not made again")
    write_report(root)
    assert thumb.read_bytes() == b"not made again"
    thumb.unlink()
    write_report(root)
    with Image.open(thumb) as made:
        assert made.size == (SIDE, SIDE)


def test_transparency_and_orientation_are_kept(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (500, 400), (200, 0, 0, 0))
    path = tmp_path / "clear.png"
    clear.save(path)
    assert read_small(path, 100).getchannel("A").getextrema() == (0, 0)
    turned = Image.new("RGB", (400, 200), "white")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert read_small(tmp_path / "turned.jpg", 100).size == (50, 100)


def cut(root: Path) -> None:
    file = next((root / "images" / "0000").iterdir())
    file.write_bytes(file.read_bytes()[:300])


def garble(root: Path) -> None:
    file = next((root / "images" / "0000").iterdir())
    file.write_bytes(b"<html>not an image</html>")


def drop(root: Path) -> None:
    next((root / "images" / "0000").iterdir()).unlink()


def swell(root: Path) -> None:
    side = int(MAX_PIXELS**0.5) + 1
    next((root / "images" / "0000").iterdir()).write_bytes(png_header(side, side))


def empty(root: Path) -> None:
    next((root / "images" / "0000").iterdir()).write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "does not decode"),
        (garble, "HTML"),
        (drop, "missing"),
        (swell, "more than 80,000,000"),
        (empty, "It is"),
    ],
)
def test_a_broken_file_is_a_problem_of_its_own(
    tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    root = run_of(tmp_path, encode(picture("p", 1, (900, 900))), (900, 900))
    damage(root)
    thumbs = make_thumbs(root, load(root))
    assert words in thumbs.problems[0]
    assert not thumbs.small
    write_report(root)
    assert words in (root / "index.html").read_text()
    with Image.open(root / "contact_sheet.png") as sheet:
        assert sheet.size[0] > 0


def test_a_mended_file_gets_its_thumbnail(tmp_path: Path) -> None:
    data = encode(picture("p", 1, (900, 900)))
    root = run_of(tmp_path, data, (900, 900))
    file = next((root / "images" / "0000").iterdir())
    file.write_bytes(b"")
    assert make_thumbs(root, load(root)).problems
    file.write_bytes(data)
    thumbs = make_thumbs(root, load(root))
    assert not thumbs.problems
    assert (root / thumbs.small[0]).is_file()


def test_equal_files_share_a_thumbnail(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    data = encode(picture("p", 1, (700, 700)))
    for number in range(3):
        run.add_image(data, axes={}, size=(700, 700), image_index=number)
    run.write()
    thumbs = make_thumbs(tmp_path, load(tmp_path))
    assert len(set(thumbs.small.values())) == 1
    assert len(list((tmp_path / "thumbs").iterdir())) == 1


def test_a_drawing_is_shown_as_it_is(tmp_path: Path) -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect/></svg>'
    run = RunFolder(tmp_path)
    row = run.add_image(svg, axes={}, suffix=".svg")
    run.images[0] = dataclasses.replace(row, mime="image/svg+xml", width=None, height=None)
    run.write()
    thumbs = make_thumbs(tmp_path, load(tmp_path))
    assert (dict(thumbs.small), dict(thumbs.problems)) == ({}, {})
    write_report(tmp_path)
    with Image.open(io.BytesIO((tmp_path / "contact_sheet.png").read_bytes())) as sheet:
        sheet.load()

"""What a file is, from its bytes alone."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from runner.images import MAX_PIXELS, BadImage, ImageInfo, check_whole, inspect, sniff
from tests.unit.records import picture

RASTERS = {
    "PNG": ("image/png", ".png"),
    "JPEG": ("image/jpeg", ".jpg"),
    "WEBP": ("image/webp", ".webp"),
    "GIF": ("image/gif", ".gif"),
    "AVIF": ("image/avif", ".avif"),
}


def png_header(width: int, height: int) -> bytes:
    """A PNG of any claimed size, with no pixels in it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    empty = chunk(b"IDAT", zlib.compress(b""))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + empty + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", RASTERS)
@pytest.mark.parametrize("size", [(1, 1), (12, 8), (301, 7)])
def test_type_and_size_are_read_from_the_header(kind: str, size: tuple[int, int]) -> None:
    data = picture(3, kind=kind, size=size)
    assert sniff(data) == ImageInfo(*RASTERS[kind], *size)
    check_whole(data, sniff(data))


@pytest.mark.parametrize(
    "options",
    [{"lossless": True}, {"exact": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}],
    ids=["VP8L", "VP8", "VP8X"],
)
def test_every_kind_of_webp_has_its_size(options: dict[str, object]) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (33, 17), "teal").save(buffer, "WEBP", **options)
    info = sniff(buffer.getvalue())
    assert (info.mime, info.width, info.height) == ("image/webp", 33, 17)


def test_a_progressive_jpeg_with_exif_has_its_size() -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[270] = "x" * 5000
    Image.new("RGB", (40, 30), "teal").save(buffer, "JPEG", progressive=True, exif=exif)
    info = sniff(buffer.getvalue())
    assert (info.width, info.height) == (40, 30)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ('<svg width="20" height="10.4px"></svg>', (20, 10)),
        ('\ufeff<?xml version="1.0"?>\n<!-- a > b --><svg viewBox="0,0 64 32"/>', (64, 32)),
        ('<!DOCTYPE svg PUBLIC "x">\n<svg width="100%" viewBox="0 0 7 9"><g/></svg>', (7, 9)),
        ("<svg><rect/></svg>", (None, None)),
        ('<svg width="0" height="0"></svg>', (None, None)),
    ],
)
def test_svg(text: str, size: tuple[int | None, int | None]) -> None:
    data = text.encode()
    info = sniff(data)
    assert (info.mime, info.suffix, (info.width, info.height)) == ("image/svg+xml", ".svg", size)
    assert inspect(data).pixel_sha256 is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body><svg></svg>", "an HTML page"),
        (b"\n  <HTML>", "an HTML page"),
        (b'{"error": "no"}', "JSON text"),
        (b"[1]", "JSON text"),
        (b"<error>no</error>", "XML or HTML text"),
        (b"<svgx></svgx>", "XML or HTML text"),
        (b"<!-- never closed", "XML or HTML text"),
        (b"BM" + bytes(60), "no known image type"),
        (b"%!PS-Adobe-3.0 EPSF", "no known image type"),
        (b"\x89PNG\r\n\x1a\n", "truncated header"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "truncated header"),
        (b"GIF89a\x01", "truncated header"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "truncated header"),
        (b"\0\0\0\x1cftypavif", "truncated header"),
        (png_header(0, 5), "0x5 pixels"),
        (b"GIF89a" + bytes(20), "0x0 pixels"),
        (png_header(40_000, 40_000), "40000x40000 pixels, more than"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason) as caught:
        sniff(data)
    assert caught.value.reason == str(caught.value)


def test_the_pixel_cap_is_below_pillows_guard() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert MAX_PIXELS < Image.MAX_IMAGE_PIXELS
    assert sniff(png_header(8192, 8192)).width == 8192


@pytest.mark.parametrize("kind", RASTERS)
def test_a_file_cut_anywhere_is_found_without_decoding(kind: str) -> None:
    data = picture(5, kind=kind, size=(40, 40))
    inspect(data, decode=False)
    for end in range(len(data) - 1):
        with pytest.raises(BadImage):
            inspect(data[:end], decode=False)


def test_a_cut_jpeg_is_found_behind_the_end_mark_of_its_thumbnail() -> None:
    data = picture(5, kind="JPEG", size=(40, 40))
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data
    whole = data[:2] + thumbnail + data[2:]
    inspect(whole, decode=False)
    with pytest.raises(BadImage, match="cut short"):
        inspect(whole[:-40], decode=False)


def test_padding_behind_the_end_is_allowed() -> None:
    for kind in ("PNG", "JPEG", "GIF", "WEBP"):
        data = picture(5, kind=kind)
        padded = inspect(data + b"\0\0", decode=False)
        assert padded.info == inspect(data, decode=False).info


@given(st.binary(max_size=200), st.sampled_from(list(RASTERS)), st.data())
def test_no_bytes_do_anything_but_give_an_info_or_a_bad_image(
    noise: bytes, kind: str, data: st.DataObject
) -> None:
    whole = picture(1, kind=kind)
    at = data.draw(st.integers(0, len(whole)))
    for candidate in (noise, whole[:at] + noise, whole[:at] + noise + whole[at + len(noise) :]):
        try:
            inspect(candidate, decode=False)
        except BadImage as error:
            assert error.reason

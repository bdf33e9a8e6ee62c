"""Whether images decode, the hash of their pixels, and how far apart they are."""

from __future__ import annotations

import hashlib
import io
import math
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from runner.images import BadImage, check_decodes, compare, inspect, pixel_sha256, sniff
from tests.unit.records import picture

LOSSLESS = ("PNG", "GIF")


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_one_look_gives_type_size_and_both_hashes() -> None:
    data = picture(4)
    seen = inspect(data)
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    expected = hashlib.sha256(b"12x8\n" + image.tobytes()).hexdigest()
    assert seen.sha256 == hashlib.sha256(data).hexdigest()
    assert seen.pixel_sha256 == expected == pixel_sha256(data)
    assert (seen.info.width, seen.info.height) == (12, 8)
    assert inspect(data, decode=False).pixel_sha256 is None


def test_the_pixel_hash_does_not_see_the_encoding() -> None:
    image = Image.open(io.BytesIO(picture(4)))
    text = PngInfo()
    text.add_text("parameters", "a fox")
    again = saved(image, compress_level=1, pnginfo=text)
    assert again != picture(4)
    assert pixel_sha256(again) == pixel_sha256(picture(4))


def test_the_pixel_hash_sees_size_and_alpha() -> None:
    wide, tall = saved(Image.new("RGB", (8, 2))), saved(Image.new("RGB", (2, 8)))
    opaque, clear = saved(Image.new("RGBA", (8, 2), (0, 0, 0, 255))), Image.new("RGBA", (8, 2))
    assert pixel_sha256(wide) == pixel_sha256(opaque)
    assert len({pixel_sha256(data) for data in (wide, tall, saved(clear))}) == 3


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    def grey(value: int) -> bytes:
        return saved(Image.new("I;16", (4, 4), value))

    assert pixel_sha256(grey(257 * 100)) == pixel_sha256(saved(Image.new("L", (4, 4), 100)))
    assert pixel_sha256(grey(30_000)) != pixel_sha256(grey(60_000))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_a_damaged_body_is_found(kind: str) -> None:
    data = picture(4, kind=kind, size=(64, 64))
    check_decodes(data, sniff(data))
    # A JPEG with a hole is a valid JPEG of another picture, so that one is cut instead.
    broken = data[: len(data) // 2] + (b"" if kind == "JPEG" else data[-12:])
    with pytest.raises(BadImage):
        inspect(broken)
    with pytest.raises(BadImage, match="does not decode"):
        check_decodes(broken, sniff(data))


def test_an_end_mark_does_not_hide_a_truncated_png() -> None:
    data = picture(4, size=(64, 64))
    body = data.index(b"IDAT")
    broken = data[: body + 40] + b"\0\0\0\0IEND\xaeB`\x82"
    for decode in (False, True):
        with pytest.raises(BadImage, match="damaged"):
            inspect(broken, decode=decode)


def test_a_wrong_bit_in_a_png_is_found_without_decoding() -> None:
    data = picture(4, size=(64, 64))
    body = data.index(b"IDAT") + 20
    broken = data[:body] + bytes([data[body] ^ 1]) + data[body + 1 :]
    with pytest.raises(BadImage, match="damaged"):
        inspect(broken, decode=False)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    # 194 kB of file, 1.6 billion pixels.
    row = zlib.compress(bytes(40_000 * 40_000 // 8 // 1000), 9)
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 1, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in ((b"IHDR", header), (b"IDAT", row), (b"IEND", b""))
    )
    with pytest.raises(BadImage, match="40000x40000"):
        inspect(data)


def test_a_text_chunk_that_unpacks_to_200_mb_is_refused() -> None:
    body = b"comment\0\0" + zlib.compress(bytes(200_000_000), 9)
    chunk = (
        struct.pack(">I", len(body))
        + b"zTXt"
        + body
        + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    )
    data = picture(4)
    at = data.index(b"IDAT") - 4
    with pytest.raises(BadImage, match="does not decode"):
        inspect(data[:at] + chunk + data[at:])


def test_only_the_sniffed_decoder_is_used() -> None:
    bmp = saved(Image.new("RGB", (4, 4)), "BMP")
    with pytest.raises(BadImage):
        inspect(bmp)
    with pytest.raises(BadImage):
        check_decodes(picture(1, kind="GIF"), sniff(picture(1)))


def test_the_same_picture() -> None:
    same = compare(picture(4), picture(4))
    assert (same.same_bytes, same.same_pixels, same.max_diff, same.psnr_db) == (
        True,
        True,
        0,
        math.inf,
    )
    again = saved(Image.open(io.BytesIO(picture(4))), compress_level=1)
    other = compare(picture(4), again)
    assert (other.same_bytes, other.same_pixels, other.max_diff) == (False, True, 0)


def test_another_size_has_no_distance() -> None:
    found = compare(picture(4), picture(4, size=(12, 9)))
    assert (found.same_pixels, found.max_diff, found.psnr_db) == (False, None, None)


def test_a_difference_that_is_known_by_hand() -> None:
    a, b = Image.new("RGB", (10, 10), (100, 100, 100)), Image.new("RGB", (10, 10), (100, 100, 100))
    b.putpixel((3, 3), (110, 100, 100))
    found = compare(saved(a), saved(b))
    assert found.max_diff == 10
    assert found.psnr_db == pytest.approx(10 * math.log10(255**2 / (100 / 300)))


def test_alpha_counts_where_there_is_any() -> None:
    a, b = Image.new("RGBA", (4, 4), (9, 9, 9, 255)), Image.new("RGBA", (4, 4), (9, 9, 9, 0))
    found = compare(saved(a), saved(b))
    assert (found.same_pixels, found.max_diff) == (False, 255)
    assert found.psnr_db == pytest.approx(10 * math.log10(4))


def test_two_svgs_cannot_be_compared() -> None:
    with pytest.raises(BadImage, match="svg"):
        compare(b"<svg></svg>", b"<svg/>")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 255), st.integers(0, 255), st.sampled_from(LOSSLESS))
def test_distance_is_symmetric_and_zero_only_for_itself(one: int, two: int, kind: str) -> None:
    a = saved(Image.new("RGB", (3, 3), (one, 0, 0)), kind)
    b = saved(Image.new("RGB", (3, 3), (two, 0, 0)), kind)
    there, back = compare(a, b), compare(b, a)
    assert there == back
    assert there.max_diff == abs(one - two)
    assert there.same_pixels == (one == two)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]), st.data())
def test_flipped_bytes_never_raise_anything_else(kind: str, data: st.DataObject) -> None:
    whole = bytearray(picture(7, kind=kind))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    try:
        inspect(bytes(whole))
    except BadImage as error:
        assert error.reason

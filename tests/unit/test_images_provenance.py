"""Provenance marks in real containers."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from runner.images import marks
from tests.unit.records import picture

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description Iptc4xmpExt:DigitalSourceType='
    b'"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/></x:xmpmeta>'
)


def png_with(name: bytes, body: bytes) -> bytes:
    data = picture(1)
    chunk = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return data[:33] + chunk + data[33:]


def jpeg_with(marker: int, body: bytes) -> bytes:
    data = picture(1, kind="JPEG")
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + data[2:]


def webp_with(name: bytes, body: bytes) -> bytes:
    body += b"\0" * (len(body) % 2)
    data = picture(1, kind="WEBP") + name + struct.pack("<I", len(body)) + body
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def infotext() -> bytes:
    text = PngInfo()
    text.add_text("parameters", "a fox\nSteps: 20")
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


AVIF_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (png_with(b"caBX", b"jumb"), ("c2pa",)),
        (jpeg_with(0xEB, b"JP\0\1\0\0\0\1"), ("c2pa",)),
        (webp_with(b"C2PA", b"jumb"), ("c2pa",)),
        (picture(1, kind="AVIF") + b"\0\0\0\x18uuid" + AVIF_UUID, ("c2pa",)),
        (png_with(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP), ("iptc",)),
        (jpeg_with(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP), ("iptc",)),
        (webp_with(b"XMP ", XMP), ("iptc",)),
        (infotext(), ("infotext",)),
    ],
)
def test_marks_are_found(data: bytes, found: tuple[str, ...]) -> None:
    assert marks(data) == found


@pytest.mark.parametrize(
    "data",
    [
        picture(1),
        picture(1, kind="JPEG"),
        picture(1, kind="WEBP"),
        picture(1, kind="GIF"),
        picture(1, kind="AVIF"),
        picture(1) + b"caBX DigitalSourceType parameters\0",
        png_with(b"tEXt", b"comment\0DigitalSourceType"),
        jpeg_with(0xEB, b"other"),
        jpeg_with(0xE1, b"Exif\0\0DigitalSourceType"),
        b"",
        b"<svg/>",
    ],
)
def test_nothing_is_found_where_nothing_is(data: bytes) -> None:
    assert marks(data) == ()


def test_several_marks_are_each_named_once_and_sorted() -> None:
    data = png_with(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
    chunk = b"\0\0\0\4caBXjumb" + struct.pack(">I", zlib.crc32(b"caBXjumb"))
    assert marks(data[:33] + chunk + chunk + data[33:]) == ("c2pa", "iptc")

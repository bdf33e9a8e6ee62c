"""Provenance marks that a file carries. Found, not validated: validation needs a trust list."""

from __future__ import annotations

from collections.abc import Iterator

from runner.images.containers import (
    PNG_SIGNATURE,
    boxes,
    jpeg_segments,
    png_chunks,
    riff_chunks,
)

_XMP_IN_PNG = b"XML:com.adobe.xmp\0"
_XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_DIGITAL_SOURCE = b"DigitalSourceType"


def marks(data: bytes) -> tuple[str, ...]:
    """Look for provenance marks in the metadata of an image; decodes nothing.

    Returns:
        Any of ``c2pa`` (a C2PA manifest store is embedded), ``iptc`` (the XMP states an IPTC
        digital source type) and ``infotext`` (a PNG text chunk named ``parameters``), sorted.
    """
    return tuple(sorted(set(_find(data))))


def _find(data: bytes) -> Iterator[str]:
    if data.startswith(PNG_SIGNATURE):
        yield from _in_png(data)
    elif data.startswith(b"\xff\xd8\xff"):
        yield from _in_jpeg(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        yield from _in_webp(data)
    elif data[4:8] == b"ftyp":
        for name, start, _ in boxes(data):
            if name == b"uuid" and data.startswith(_C2PA_UUID, start):
                yield "c2pa"


def _in_png(data: bytes) -> Iterator[str]:
    for name, start, end in png_chunks(data):
        if name == b"caBX":
            yield "c2pa"
        elif name == b"iTXt" and data.startswith(_XMP_IN_PNG, start):
            if data.find(_DIGITAL_SOURCE, start, end) > 0:
                yield "iptc"
        elif name in (b"tEXt", b"zTXt", b"iTXt") and data.startswith(b"parameters\0", start):
            yield "infotext"


def _in_jpeg(data: bytes) -> Iterator[str]:
    for name, start, end in jpeg_segments(data):
        if name == b"\xeb" and data.startswith(b"JP", start):
            yield "c2pa"
        elif (
            name == b"\xe1"
            and data.startswith(_XMP_IN_JPEG, start)
            and data.find(_DIGITAL_SOURCE, start, end) > 0
        ):
            yield "iptc"


def _in_webp(data: bytes) -> Iterator[str]:
    for name, start, end in riff_chunks(data):
        if name == b"C2PA":
            yield "c2pa"
        elif name == b"XMP " and data.find(_DIGITAL_SOURCE, start, end) > 0:
            yield "iptc"

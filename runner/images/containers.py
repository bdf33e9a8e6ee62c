"""Walks over the parts of image files, without decoding: chunks, segments, boxes.

Each walk yields ``(name, start, end)``, the range of the part's payload in the data, and stops
quietly where the data end or stop making sense: a truncated file simply has fewer parts.
"""

from __future__ import annotations

from collections.abc import Iterator

Part = tuple[bytes, int, int]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})


def png_chunks(data: bytes) -> Iterator[Part]:
    """The chunks of a PNG file, by their four-letter name."""
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            return
        yield data[at + 4 : at + 8], at + 8, end
        at = end + 4


def jpeg_segments(data: bytes) -> Iterator[Part]:
    """The segments of a JPEG file before its first scan, and the header of that scan.

    A name is the one byte of the marker: 0xE1 is APP1, 0xDA starts the scan.
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _JPEG_STANDALONE:
            at += 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data):
            return
        yield data[at + 1 : at + 2], at + 4, end
        if marker == 0xDA:
            return
        at = end


def gif_blocks(data: bytes) -> Iterator[Part]:
    """The blocks of a GIF file by their first byte: ``!`` extension, ``,`` frame, ``;`` the end."""
    at = 13 + _colour_table(data[10])
    while at < len(data):
        name, start = data[at : at + 1], at
        if name == b";":
            yield name, start, start + 1
            return
        if name == b",":
            if at + 10 > len(data):
                return
            # The frame's header, its own colours, one byte of code size.
            at += 10 + _colour_table(data[at + 9]) + 1
        elif name == b"!":
            at += 2
        else:
            return
        while at < len(data) and data[at]:
            at += 1 + data[at]
        if at >= len(data):
            return
        at += 1
        yield name, start, at


def _colour_table(flags: int) -> int:
    """Bytes of a colour table, which the flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def riff_chunks(data: bytes) -> Iterator[Part]:
    """The chunks of a RIFF file (WebP), by their four-letter name."""
    at = 12
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        if end > len(data):
            return
        yield data[at : at + 4], at + 8, end
        at = end + (end & 1)


def boxes(data: bytes) -> Iterator[Part]:
    """The top-level boxes of an ISO media file (AVIF), by their four-letter name."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        start = at + 8
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
            start = at + 16
        end = len(data) if size == 0 else at + size
        if not start <= end <= len(data):
            return
        yield data[at + 4 : at + 8], start, end
        at = end

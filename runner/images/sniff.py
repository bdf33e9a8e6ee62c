"""What a file is, from its own first bytes: never from a name or from what a server declared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from zlib import crc32

from runner.images.containers import (
    PNG_SIGNATURE,
    boxes,
    gif_blocks,
    jpeg_segments,
    png_chunks,
    riff_chunks,
)

MAX_PIXELS = 80_000_000
"""Largest picture that is accepted, in pixels. Below the 89,478,485 where Pillow starts to warn."""

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SVG_NUMBER = re.compile(rb"\s*([0-9.]+)\s*(?:px)?\s*\Z")


class BadImage(Exception):  # noqa: N818
    """The bytes are not a whole image of a known kind.

    Args:
        reason: What they are instead, as the end of a sentence: ``an HTML page``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the first bytes of an image say.

    Attributes:
        mime: Media type, such as ``image/png``.
        suffix: Ending of a file name, with its dot.
        width: Pixels, 1 or more; ``None`` for an SVG that states no size.
        height: Pixels, 1 or more; ``None`` for an SVG that states no size.
    """

    mime: str
    suffix: str
    width: int | None
    height: int | None


def sniff(data: bytes) -> ImageInfo:
    """Read type and size from magic bytes and headers. Decodes nothing.

    Raises:
        BadImage: Empty, of no known type, a truncated header, no pixels, or more than
            :data:`MAX_PIXELS` of them.
    """
    if data.startswith(PNG_SIGNATURE):
        return sized("image/png", ".png", _png_size(data))
    if data.startswith(b"\xff\xd8\xff"):
        return sized("image/jpeg", ".jpg", _jpeg_size(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return sized("image/webp", ".webp", _webp_size(data))
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return sized("image/gif", ".gif", _gif_size(data))
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return sized("image/avif", ".avif", _avif_size(data))
    tag = _svg_tag(data)
    if tag is not None:
        width, height = _svg_size(tag)
        return ImageInfo("image/svg+xml", ".svg", width, height)
    raise BadImage(_what_instead(data))


def check_whole(data: bytes, info: ImageInfo) -> None:
    """Look for the file's own end and its checksums, where it has some. Decodes nothing.

    Raises:
        BadImage: The end is missing, or a checksum is wrong.
    """
    if not _ENDS[info.suffix](data):
        raise BadImage(f"a {info.mime} file that is cut short or damaged")


def sized(mime: str, suffix: str, size: tuple[int, int] | None) -> ImageInfo:
    """Type and size, if the size is sane.

    Raises:
        BadImage: It is not.
    """
    if size is None:
        raise BadImage(f"a {mime} file with a broken or truncated header")
    width, height = size
    if width < 1 or height < 1:
        raise BadImage(f"a {mime} file of {width}x{height} pixels")
    if width * height > MAX_PIXELS:
        raise BadImage(f"a {mime} file of {width}x{height} pixels, more than {MAX_PIXELS:,}")
    return ImageInfo(mime, suffix, width, height)


def _png_size(data: bytes) -> tuple[int, int] | None:
    name, start, end = next(png_chunks(data), (b"", 0, 0))
    if name != b"IHDR" or end - start != 13:
        return None
    return int.from_bytes(data[start : start + 4], "big"), int.from_bytes(
        data[start + 4 : start + 8], "big"
    )


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    for name, start, end in jpeg_segments(data):
        if name[0] in _JPEG_FRAMES and end - start >= 6:
            return int.from_bytes(data[start + 3 : start + 5], "big"), int.from_bytes(
                data[start + 1 : start + 3], "big"
            )
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    # The first chunk decides, and its header is enough: the whole file is checked elsewhere.
    kind, head = data[12:16], data[20:30]
    if len(head) < 10:
        return None
    if kind == b"VP8 " and head[3:6] == b"\x9d\x01\x2a":
        width, height = head[6:8], head[8:10]
        return int.from_bytes(width, "little") & 0x3FFF, int.from_bytes(height, "little") & 0x3FFF
    if kind == b"VP8L" and head[0] == 0x2F:
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    return None


def _gif_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 13:
        return None
    return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")


def _avif_size(data: bytes) -> tuple[int, int] | None:
    # A file may hold thumbnails and tiles beside the picture: the largest one counts.
    sizes: list[tuple[int, int]] = []
    for name, start, end in boxes(data):
        if name != b"meta":
            continue
        at = data.find(b"ispe", start, end)
        while at >= 0 and at + 16 <= end:
            sizes.append(
                (
                    int.from_bytes(data[at + 8 : at + 12], "big"),
                    int.from_bytes(data[at + 12 : at + 16], "big"),
                )
            )
            at = data.find(b"ispe", at + 16, end)
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def _svg_tag(data: bytes) -> bytes | None:
    """The opening ``<svg …`` tag, if it is the root of the document."""
    at = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    while True:
        while data[at : at + 1].isspace():
            at += 1
        if data.startswith(b"<svg", at) and data[at + 4 : at + 5] in b" \t\r\n>/":
            end = data.find(b">", at)
            return data[at : end + 1] if end > 0 else None
        for opening, closing in ((b"<?xml", b"?>"), (b"<!--", b"-->"), (b"<!DOCTYPE svg", b">")):
            if data.startswith(opening, at):
                end = data.find(closing, at)
                break
        else:
            return None
        if end < 0:
            return None
        at = end + len(closing)


def _svg_size(tag: bytes) -> tuple[int | None, int | None]:
    width, height = _svg_length(tag, b"width"), _svg_length(tag, b"height")
    box = (_svg_attribute(tag, b"viewBox") or b"").replace(b",", b" ").split()
    if (width is None or height is None) and len(box) == 4:
        width, height = _svg_number(box[2]), _svg_number(box[3])
    return (None, None) if width is None or height is None else (width, height)


def _svg_attribute(tag: bytes, name: bytes) -> bytes | None:
    found = re.search(rb"\s" + name + rb"\s*=\s*[\"']([^\"']*)[\"']", tag)
    return found[1] if found else None


def _svg_length(tag: bytes, name: bytes) -> int | None:
    text = _svg_attribute(tag, name)
    return None if text is None else _svg_number(text)


def _svg_number(text: bytes) -> int | None:
    found = _SVG_NUMBER.match(text)
    try:
        return round(float(found[1])) or None if found else None
    except ValueError:
        return None


def _what_instead(data: bytes) -> str:
    if not data:
        return "empty"
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if start.startswith((b"{", b"[")):
        return "JSON text"
    if start.startswith(b"<"):
        return "XML or HTML text"
    return f"of no known image type (it begins with {data[:8].hex(' ')})"


def _png_ends(data: bytes) -> bool:
    pixels = False
    for name, start, end in png_chunks(data):
        # Only what the pixels hang on: decoders, too, forgive a wrong sum elsewhere.
        if name[:1].isupper() and crc32(data[start - 4 : end]) != int.from_bytes(
            data[end : end + 4], "big"
        ):
            return False
        if name == b"IEND":
            return pixels
        pixels = pixels or name == b"IDAT"
    return False


def _jpeg_ends(data: bytes) -> bool:
    # The end marker cannot occur inside a scan; before it, a thumbnail may hold one.
    scan = next((end for name, _, end in jpeg_segments(data) if name == b"\xda"), None)
    return scan is not None and data.rfind(b"\xff\xd9", scan) > 0


def _webp_ends(data: bytes) -> bool:
    body = int.from_bytes(data[4:8], "little")
    return body + 8 <= len(data) and any(
        name in (b"VP8 ", b"VP8L", b"ANMF") for name, _, _ in riff_chunks(data)
    )


def _gif_ends(data: bytes) -> bool:
    return any(name == b";" for name, _, _ in gif_blocks(data))


def _avif_ends(data: bytes) -> bool:
    parts = list(boxes(data))
    return parts[-1][2] == len(data) and any(name == b"mdat" for name, _, _ in parts)


def _svg_ends(data: bytes) -> bool:
    tag = _svg_tag(data) or b""
    return tag.endswith(b"/>") or data.rfind(b"</svg") > 0


_ENDS = {
    ".png": _png_ends,
    ".jpg": _jpeg_ends,
    ".webp": _webp_ends,
    ".gif": _gif_ends,
    ".avif": _avif_ends,
    ".svg": _svg_ends,
}

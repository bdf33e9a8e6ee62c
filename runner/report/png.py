"""A PNG file from bands of a picture, one below the other: the whole is never in memory."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from runner.images.containers import PNG_SIGNATURE

if TYPE_CHECKING:
    from PIL.Image import Image

_COMPRESSION = 4
_UP = b"\x02"
"""The filter of every line: its difference to the line above, which suits flat paper and text."""


def png_chunks_of(bands: Iterable[Image], width: int, height: int) -> Iterator[bytes]:
    """The chunks of an RGB PNG file, see https://www.w3.org/TR/png-3/.

    Args:
        bands: Pictures of mode RGB and of this width, whose heights add up.
        width: Pixels.
        height: Pixels.

    Yields:
        Bytes, to be written one after the other.
    """
    from PIL import Image, ImageChops

    yield PNG_SIGNATURE
    # 8 bits, RGB, the only methods of compression and filters, not interlaced.
    yield _chunk(b"IHDR", struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0))
    packer = zlib.compressobj(_COMPRESSION)
    last = Image.new("RGB", (width, 1))
    for band in bands:
        above = Image.new("RGB", band.size)
        above.paste(last, (0, 0))
        above.paste(band, (0, 1))
        last = band.crop((0, band.height - 1, width, band.height))
        lines = memoryview(ImageChops.subtract_modulo(band, above).tobytes())
        stride = 3 * width
        filtered = b"".join(
            part for at in range(0, len(lines), stride) for part in (_UP, lines[at : at + stride])
        )
        if packed := packer.compress(filtered):
            yield _chunk(b"IDAT", packed)
    yield _chunk(b"IDAT", packer.flush())
    yield _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return b"".join(
        [struct.pack("!I", len(data)), name, data, struct.pack("!I", zlib.crc32(name + data))]
    )

"""Whether an image decodes, the hash of its pixels, and how far two images are apart.

Pillow is told which decoders it may use, and pictures above :data:`~runner.images.sniff.MAX_PIXELS`
never reach it. SVG is never decoded: it is a document, not pixels.
"""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.images.sniff import BadImage, ImageInfo, check_whole, sized, sniff

if TYPE_CHECKING:
    from PIL.Image import Image

_DECODERS = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/avif": "AVIF",
}
_WITHOUT_SUMS = _DECODERS.keys() - {"image/png"}


@dataclass(frozen=True, slots=True)
class Inspected:
    """What is known of the bytes of an image.

    Attributes:
        info: Type and size.
        sha256: Hash of the bytes, 64 hex digits.
        pixel_sha256: Hash of the pixels, see :func:`pixel_sha256`; ``None`` if not decoded.
    """

    info: ImageInfo
    sha256: str
    pixel_sha256: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two images differ.

    Attributes:
        same_bytes: The files are the same.
        same_pixels: Size and every pixel are the same.
        max_diff: Largest difference of one 8-bit channel, 0 to 255; ``None`` if the sizes differ.
        psnr_db: Peak signal-to-noise ratio over the RGB channels (over RGBA where one image is not
            opaque); ``None`` if the sizes differ, infinite if nothing does.
    """

    same_bytes: bool
    same_pixels: bool
    max_diff: int | None
    psnr_db: float | None


def inspect(data: bytes, *, decode: bool = True) -> Inspected:
    """Check the bytes of an image and name them.

    Args:
        data: The whole file.
        decode: Decode it (one decode serves check and hash). Without, only the structure is
            checked, in microseconds: checksums, where the format has some; elsewhere what its
            decoder makes of the header.

    Raises:
        BadImage: Not a whole image of a known type and of a sane size.
    """
    info = sniff(data)
    check_whole(data, info)
    if info.mime in _WITHOUT_SUMS:
        info = _opened(data, info)
    pixels = _pixel_hash(_rgba(data, info)) if decode and info.mime in _DECODERS else None
    return Inspected(info, hashlib.sha256(data).hexdigest(), pixels)


def check_decodes(data: bytes, info: ImageInfo) -> None:
    """Decode the picture (the first frame) and throw it away; an SVG passes.

    Raises:
        BadImage: It does not decode.
    """
    if info.mime in _DECODERS:
        _rgba(data, info)


def upright(data: bytes, background: str = "white") -> Image:
    """The picture as a person sees it: turned as its EXIF says, nothing transparent; RGB.

    Args:
        data: The file.
        background: The color behind transparent parts.

    Raises:
        BadImage: It does not decode, or is an SVG.
    """
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(_rgba(data, sniff(data)))
    behind = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(behind, image).convert("RGB")


def pixel_sha256(data: bytes) -> str | None:
    """Hash of the decoded pixels: RGBA, 8 bit, first frame, with the size mixed in.

    Returns:
        64 hex digits; ``None`` for an SVG.

    Raises:
        BadImage: It does not decode.
    """
    info = sniff(data)
    return _pixel_hash(_rgba(data, info)) if info.mime in _DECODERS else None


def compare(a: bytes, b: bytes) -> Comparison:
    """Measure how far two images are apart.

    Raises:
        BadImage: One of them does not decode; two SVGs that are not the same file count as such.
    """
    if a == b:
        return Comparison(True, True, 0, math.inf)
    from PIL import ImageChops

    first, second = _rgba(a, sniff(a)), _rgba(b, sniff(b))
    if first.size != second.size:
        return Comparison(False, False, None, None)
    # A histogram of 256 bins per channel holds all that is needed, without numpy.
    counts = ImageChops.difference(first, second).histogram()
    opaque = all(image.getchannel("A").getextrema() == (255, 255) for image in (first, second))
    channels = 3 if opaque else 4
    max_diff = max((at % 256 for at, count in enumerate(counts) if count), default=0)
    squares = sum(count * (at % 256) ** 2 for at, count in enumerate(counts[: channels * 256]))
    if squares == 0:
        return Comparison(False, True, 0, math.inf)
    mean = squares / (first.width * first.height * channels)
    return Comparison(False, False, max_diff, 10 * math.log10(255**2 / mean))


def _opened(data: bytes, info: ImageInfo) -> ImageInfo:
    """What the decoder says of a file before it decodes: a damaged header is found, and cheaply."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=[_DECODERS[info.mime]]) as image:
            return sized(info.mime, info.suffix, image.size)
    except BadImage:
        raise
    except Exception as error:  # a decoder fed with foreign bytes may raise anything
        raise BadImage(f"a {info.mime} file with a damaged header") from error


def _rgba(data: bytes, info: ImageInfo) -> Image:
    """Decode the first frame into 8-bit RGBA."""
    decoder = _DECODERS.get(info.mime)
    if decoder is None:
        raise BadImage(f"a {info.mime} file, which has no pixels to compare")
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=[decoder]) as image:
            image.load()
            if not image.mode.startswith("I"):
                return image.convert("RGBA")
            # 16-bit grey: Pillow's own conversion would clip at 255 instead of scaling.
            grey = image.convert("I").point(lambda value: value * (1 / 257))
            return grey.convert("L").convert("RGBA")
    except Exception as error:  # a decoder fed with foreign bytes may raise anything
        raise BadImage(
            f"a {info.mime} file that does not decode ({type(error).__name__}: {error})"
        ) from error


def _pixel_hash(image: Image) -> str:
    name = hashlib.sha256(b"%dx%d\n" % image.size)
    name.update(image.tobytes())
    return name.hexdigest()

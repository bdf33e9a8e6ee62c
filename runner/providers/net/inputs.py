"""Input images and masks: read once, checked, turned into what an API wants."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.images import MAX_PIXELS, BadImage, sniff
from runner.settings.cell import CellParams, PipelineKind
from runner.settings.errors import RequestError

if TYPE_CHECKING:
    from PIL.Image import Image

    from runner.providers.net.http import Http

MAX_INPUT_BYTES = 64 * 1024 * 1024
_KEPT = 8
_READABLE = ("PNG", "JPEG", "WEBP", "GIF")


@dataclass(frozen=True, slots=True)
class InputImage:
    """An input image as it is on disk.

    Attributes:
        name: File name for the request: from its type, never from the user's path.
        data: The file's own bytes.
        mime: Sniffed from the bytes.
        width: Pixels; ``None`` for an SVG that states no size.
        height: Pixels; ``None`` for an SVG that states no size.
    """

    name: str
    data: bytes
    mime: str
    width: int | None
    height: int | None

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Width and height."""
        return self.width, self.height

    @property
    def part(self) -> tuple[str, bytes, str]:
        """Name, bytes and type, as SDKs take a file."""
        return self.name, self.data, self.mime


class Inputs:
    """Reads a variant's input images; the last few are kept, as many cells share one.

    Args:
        http: Downloads those that are https addresses, without any key.
    """

    def __init__(self, http: Http) -> None:
        self._http = http
        self._kept: dict[str, InputImage] = {}

    async def read(self, path: str, what: str = "pipeline.image") -> InputImage:
        """Read a file or an https address.

        Args:
            path: Where it is.
            what: Which setting named it, for the message.

        Raises:
            RequestError: It is not there, or no image.
            ProviderError: It could not be downloaded.
        """
        if path in self._kept:
            return self._kept[path]
        if "://" in path:
            image = as_input(await self._http.fetch(path, MAX_INPUT_BYTES), path, what)
        else:
            image = await asyncio.to_thread(read_input, path, what)
        while len(self._kept) >= _KEPT:
            self._kept.pop(next(iter(self._kept)), None)
        self._kept[path] = image
        return image

    async def mask(self, path: str, turned: Callable[[InputImage], InputImage]) -> InputImage:
        """Read ``pipeline.mask`` and turn it, on another thread, into what an API wants.

        Args:
            path: Where it is.
            turned: :func:`grey_mask`, or one of its kin.

        Raises:
            RequestError: It is not there, or no image that can be decoded.
            ProviderError: It could not be downloaded.
        """
        return await asyncio.to_thread(turned, await self.read(path, "pipeline.mask"))


def read_input(path: str, what: str = "pipeline.image") -> InputImage:
    """Read an input image from disk, with its type from its bytes.

    Raises:
        RequestError: It is not there, too large, or no image.
    """
    try:
        size = Path(path).stat().st_size
        data = Path(path).read_bytes() if size <= MAX_INPUT_BYTES else b""
    except OSError as error:
        raise RequestError(f"{what}={path}: cannot be read: {error.strerror}") from None
    if size > MAX_INPUT_BYTES:
        raise RequestError(f"{what}={path}: {size:,} bytes, more than {MAX_INPUT_BYTES:,}")
    return as_input(data, path, what)


def as_input(data: bytes, path: str, what: str = "pipeline.image") -> InputImage:
    """Name bytes that were read.

    Raises:
        RequestError: They are no image.
    """
    try:
        info = sniff(data)
    except BadImage as error:
        raise RequestError(f"{what}={path}: this is {error}, not an image") from None
    return InputImage(f"image{info.suffix}", data, info.mime, info.width, info.height)


def file_identity(path: str, what: str) -> str:
    """What a file of the options counts as in a cell's id: its content, or its address.

    Raises:
        RequestError: It cannot be read.
    """
    if "://" in path:
        return path
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise RequestError(f"{what}={path}: cannot be read: {error.strerror}") from None


NEEDED: dict[PipelineKind, tuple[str, ...]] = {
    "text2img": (),
    "img2img": ("image",),
    "inpaint": ("image", "mask"),
    "controlnet": ("control_image",),
}
"""Files that a kind of pipeline does not go without."""


def file_problems(pipeline: PipelineKind, params: CellParams) -> Iterator[str]:
    """What is wrong with the files of a cell, before anything is sent, one sentence each."""
    for key in NEEDED[pipeline]:
        if getattr(params, key) is None:
            white = " (white = repaint)" if key == "mask" else ""
            yield f"pipeline.{key}: pipeline={pipeline} needs one{white}: pipeline.{key}=FILE"
    if problem := size_problem(params.image, params.mask):
        yield problem


def pixels_of(path: str | None, what: str = "pipeline.image") -> tuple[int, int] | None:
    """Width and height of an input image on disk; ``None`` where that cannot be told here."""
    try:
        width, height = _measured(path, what) or (None, None)
    except RequestError:
        return None
    return None if width is None or height is None else (width, height)


def size_problem(image: str | None, mask: str | None) -> str | None:
    """What is wrong with an image and its mask on disk, before anything is sent.

    Returns:
        ``None`` if nothing is, or if a file cannot be looked at here: an address, or one that is
        not there, which the plan reports itself.
    """
    try:
        first, second = _measured(image, "pipeline.image"), _measured(mask, "pipeline.mask")
    except RequestError as error:
        return str(error)
    if first is None or second is None or first == second:
        return None
    return (
        f"pipeline.mask={mask}: {second[0]}x{second[1]} pixels, but the image has "
        f"{first[0]}x{first[1]}; both must be of one size"
    )


def _measured(path: str | None, what: str) -> tuple[int | None, int | None] | None:
    if path is None or "://" in path or not Path(path).is_file():
        return None
    return _size_of(path, Path(path).stat().st_mtime_ns, what)


@functools.lru_cache(maxsize=64)
def _size_of(path: str, _changed: int, what: str) -> tuple[int | None, int | None]:
    return read_input(path, what).size


@functools.lru_cache(maxsize=4)
def alpha_mask(mask: InputImage) -> InputImage:
    """Our mask (white = repaint) as a PNG whose alpha is 0 where the picture is repainted."""
    from PIL import Image, ImageChops

    grey = _grey(mask)
    clear = Image.new("RGBA", grey.size, (0, 0, 0, 255))
    clear.putalpha(ImageChops.invert(grey))
    return _png(clear)


@functools.lru_cache(maxsize=4)
def inverted_mask(mask: InputImage) -> InputImage:
    """Our mask (white = repaint) as a grey PNG that is black where the picture is repainted."""
    from PIL import ImageChops

    return _png(ImageChops.invert(_grey(mask)))


@functools.lru_cache(maxsize=4)
def grey_mask(mask: InputImage) -> InputImage:
    """Our mask (white = repaint) as a grey PNG, whatever kind of file it is."""
    return _png(_grey(mask))


@functools.lru_cache(maxsize=4)
def binary_mask(mask: InputImage) -> InputImage:
    """Our mask (white = repaint) as a grey PNG of nothing but black and white."""
    return _png(_grey(mask).point(lambda value: 255 if value >= 128 else 0))


def _grey(mask: InputImage) -> Image:
    """The mask as 8-bit grey; where it is transparent nothing is repainted."""
    from PIL import Image

    if (mask.width or 0) * (mask.height or 0) > MAX_PIXELS:
        raise RequestError(f"pipeline.mask: {mask.width}x{mask.height} pixels are too many")
    try:
        with Image.open(io.BytesIO(mask.data), formats=_READABLE) as image:
            rgba = image.convert("RGBA")
    except Exception as error:  # a decoder fed with foreign bytes may raise anything
        raise RequestError(f"pipeline.mask: this {mask.mime} file does not decode") from error
    black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, rgba).convert("L")


def _png(image: Image) -> InputImage:
    out = io.BytesIO()
    image.save(out, "PNG")
    return InputImage("mask.png", out.getvalue(), "image/png", image.width, image.height)

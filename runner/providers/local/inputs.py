"""Input images of a local pipeline: opened safely, resized, made into control images."""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from runner.images import BadImage
from runner.images.decode import upright
from runner.providers.contract import ProviderError
from runner.providers.local.preprocess import Preprocess
from runner.settings.cell import FILES_APART, CellParams, Json

Resize = Literal["fit", "fill", "stretch", "none"]
Size = tuple[int, int]

_KEPT = 16
_SAME_SHAPE = 0.02
"""Two pictures whose proportions differ by less are of one shape: rounding to whole pixels."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The pictures that go into one image.

    Attributes:
        size: Width and height of all of them, and of the image.
        image: The picture to start from.
        mask: White = repaint.
        control: One control image per ControlNet.
        facts: How they were made to fit, for the row.
    """

    size: Size
    image: Image.Image | None
    mask: Image.Image | None
    control: tuple[Image.Image, ...]
    facts: dict[str, Json]

    def control_files(self) -> dict[str, bytes]:
        """The control images as files, by the end of their names."""
        several = len(self.control) > 1
        return {
            f"control-{number}.png" if several else "control.png": png(image)
            for number, image in enumerate(self.control)
        }


class Pictures:
    """Makes :class:`Inputs` of cells, and keeps the last ones, as many cells share theirs.

    Args:
        read: Reads a file or an address; the second argument is the setting that named it.
        resize: What to do with a picture of another size than the one asked.
        multiple: What both sides must be multiples of.
        preprocess: One maker of control images per ControlNet; ``None``: given ready made.
    """

    def __init__(
        self,
        read: Callable[[str, str], Awaitable[bytes]],
        resize: Resize,
        multiple: int,
        preprocess: Sequence[Preprocess | None],
    ) -> None:
        self._read = read
        self._resize: Resize = resize
        self._multiple = multiple
        self._preprocess = preprocess
        self._kept: OrderedDict[tuple[str | None, ...], Inputs] = OrderedDict()

    async def of(self, params: CellParams, size: Size | None) -> Inputs | None:
        """The pictures of a cell; ``None`` if it has none.

        Args:
            params: What is asked of the cell.
            size: Its size, if one is asked.

        Raises:
            ProviderError: A picture cannot be read, or does not fit.
        """
        asked = (params.image, params.mask, params.control_image)
        if asked == (None, None, None):
            return None
        key = (*asked, str(size))
        if key not in self._kept:
            self._kept[key] = await self._make(params, size)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    async def _make(self, params: CellParams, size: Size | None) -> Inputs:
        facts: dict[str, Json] = {}
        image = await self._open(params.image, "pipeline.image", facts)
        mask = await self._open(params.mask, "pipeline.mask", facts)
        controls = [
            opened
            for path in (params.control_image or "").split(FILES_APART)
            if (opened := await self._open(path or None, "pipeline.control_image", {})) is not None
        ]
        first = image or next(iter(controls), None)
        if first is None:
            raise ProviderError("invalid", "pipeline.mask without pipeline.image")
        for name, other in (("mask", mask), *(("control_image", each) for each in controls)):
            if other is not None:
                _require_same_shape(name, other.size, first.size)
        target = size or first.size
        width, height = fitted(first.size, target, self._resize, self._multiple)
        facts |= {"resize": self._resize, "resized_from": f"{first.width}x{first.height}"}

        def placed(picture: Image.Image, kind: Image.Resampling) -> Image.Image:
            if picture.size == (width, height):
                return picture
            return _placed(picture, (width, height), self._resize, kind)

        smooth, sharp = Image.Resampling.LANCZOS, Image.Resampling.NEAREST
        images = image and placed(image.convert("RGB"), smooth)
        masks = mask and placed(mask.convert("L"), Image.Resampling.BILINEAR)
        made: list[Image.Image] = []
        # One control image is for all ControlNets.
        each = controls if len(controls) > 1 else controls * len(self._preprocess)
        for control, make in zip(each, self._preprocess, strict=bool(controls)):
            plain = control.convert("RGB")
            # Lines are made at the final size: resized ones would be grey and broken.
            fitting = placed(plain, sharp if make is None and _is_drawn(plain) else smooth)
            made.append(fitting if make is None else make(fitting).convert("RGB"))
        return Inputs((width, height), images, masks, tuple(made), facts)

    async def _open(
        self, path: str | None, what: str, facts: dict[str, Json]
    ) -> Image.Image | None:
        if path is None:
            return None
        try:
            background = "black" if what == "pipeline.mask" else "white"
            data = await self._read(path, what)
            if "://" in path:
                # Of files the run keeps a copy; an address may show another picture next time.
                key = f"{what.removeprefix('pipeline.')} sha256"
                facts[key] = hashlib.sha256(data).hexdigest()
            return upright(data, background)
        except BadImage as error:
            raise ProviderError("invalid", f"{what}={path}: {error}", code="bad_input") from None


def fitted(source: Size, target: Size, resize: Resize, multiple: int) -> Size:
    """The size that an image gets.

    Raises:
        ProviderError: With ``none``, if the picture is not of the asked size already.
    """
    if resize == "none":
        if source != target or source[0] % multiple or source[1] % multiple:
            wanted = f"{target[0]}x{target[1]}" if source != target else f"multiples of {multiple}"
            raise ProviderError(
                "invalid",
                f"the input is {source[0]}x{source[1]} pixels, but {wanted} is needed and "
                "pipeline.resize=none; take fit, fill or stretch",
                code="input_size",
            )
        return source
    width, height = target
    if resize == "fit":
        scale = min(width / source[0], height / source[1])
        width, height = round(source[0] * scale), round(source[1] * scale)

    def rounded(side: int) -> int:
        return max(multiple, round(side / multiple) * multiple)

    return rounded(width), rounded(height)


def png(image: Image.Image) -> bytes:
    """A picture as a PNG; the same pixels always give the same bytes."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _placed(
    picture: Image.Image, size: Size, resize: Resize, kind: Image.Resampling
) -> Image.Image:
    if resize != "fill":
        return picture.resize(size, kind)
    scale = min(picture.width / size[0], picture.height / size[1])
    width, height = size[0] * scale, size[1] * scale
    left, top = (picture.width - width) / 2, (picture.height - height) / 2
    return picture.resize(size, kind, box=(left, top, left + width, top + height))


def _require_same_shape(name: str, size: Size, image: Size) -> None:
    ratio = size[0] * image[1] / (size[1] * image[0])
    if abs(ratio - 1) > _SAME_SHAPE:
        raise ProviderError(
            "invalid",
            f"pipeline.{name} is {size[0]}x{size[1]}, but pipeline.image is {image[0]}x{image[1]}: "
            "both must have the same proportions",
            code="input_size",
        )


def _is_drawn(picture: Image.Image) -> bool:
    """Whether a picture is black and white only, like the lines of an edge map."""
    counts = picture.convert("L").histogram()
    return sum(counts[1:255]) == 0

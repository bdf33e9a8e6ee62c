"""The contact sheet in other shapes: as PDF or WebP, one strip per value of an axis, or moving."""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from runner.record.atomic import put_durably
from runner.record.paths import RunPaths
from runner.report.axes import Axis, choose_layout
from runner.report.gallery import Gallery, load
from runner.report.sheet import PAPER, draw_sheets
from runner.report.thumbs import Thumbs, make_thumbs
from runner.settings.errors import RequestError, did_you_mean, listed

if TYPE_CHECKING:
    from PIL.Image import Image

SheetFormat = Literal["png", "webp", "pdf"]
SHEET_FORMATS: tuple[SheetFormat, ...] = get_args(SheetFormat)

Motion = Literal["webp", "gif"]

_FRAME_MS = 900
_WEBP_SIDE = 16_383
"""Longest side that the format has room for."""


def write_sheet_as(root: Path, form: SheetFormat) -> list[Path]:
    """Write the contact sheet as one PDF, or page by page as WebP or PNG.

    Args:
        root: The run folder.
        form: File format.

    Returns:
        The files.
    """
    gallery = load(root)
    sheets = draw_sheets(root, gallery, make_thumbs(root, gallery))
    pages = [_opened(b"".join(page)) for page in sheets]
    first = RunPaths(root).contact_sheet.with_suffix(f".{form}")
    if form == "pdf":
        buffer = io.BytesIO()
        pages[0].save(buffer, "PDF", save_all=True, append_images=pages[1:], resolution=144)
        put_durably(first, buffer.getvalue())
        return [first]
    written = []
    for number, page in enumerate(pages, start=1):
        path = first if number == 1 else first.with_stem(f"{first.stem}-{number}")
        put_durably(path, _encoded(page, form))
        written.append(path)
    return written


def write_strips(root: Path, key: str) -> list[Path]:
    """Write one sheet for each value of an axis: ``strips/prompt-000.png`` ….

    Args:
        root: The run folder.
        key: The axis, as it is called in the page.

    Raises:
        RequestError: The run has no such axis.
    """
    gallery = load(root)
    axis, thumbs = _axis(gallery, key), make_thumbs(root, gallery)
    folder = root / "strips"
    folder.mkdir(exist_ok=True)
    written = []
    for place, page in enumerate(_first_pages(root, gallery, thumbs, axis)):
        path = folder / f"{axis.label}-{place:03d}.png"
        put_durably(path, page)
        written.append(path)
    return written


def write_animation(root: Path, key: str, form: Motion = "webp") -> Path:
    """Write the sheet as frames, one for each value of an axis: ``animation-seed.webp``.

    Args:
        root: The run folder.
        key: The axis, as it is called in the page.
        form: ``webp`` or ``gif``.

    Raises:
        RequestError: The run has no such axis.
    """
    gallery = load(root)
    axis, thumbs = _axis(gallery, key), make_thumbs(root, gallery)
    pages = [_opened(page) for page in _first_pages(root, gallery, thumbs, axis)]
    frames = list(_same_size(pages))
    buffer = io.BytesIO()
    frames[0].save(
        buffer, form.upper(), save_all=True, append_images=frames[1:], duration=_FRAME_MS, loop=0
    )
    path = root / f"animation-{axis.label}.{form}"
    put_durably(path, buffer.getvalue())
    return path


def _axis(gallery: Gallery, key: str) -> Axis:
    for axis in gallery.axes:
        if key in (axis.key, axis.label):
            return axis
    names = [axis.label for axis in gallery.axes]
    known = listed(names) or "none"
    raise RequestError(f"{key}: no such axis here{did_you_mean(key, names)}; this run has {known}")


def _first_pages(root: Path, gallery: Gallery, thumbs: Thumbs, axis: Axis) -> Iterator[bytes]:
    for place in range(len(axis.values)):
        part, kept = _cut(gallery, axis, place)
        small = {new: thumbs.small[old] for new, old in enumerate(kept) if old in thumbs.small}
        problems = {
            new: thumbs.problems[old] for new, old in enumerate(kept) if old in thumbs.problems
        }
        yield b"".join(next(draw_sheets(root, part, Thumbs(small, problems))))


def _cut(gallery: Gallery, axis: Axis, place: int) -> tuple[Gallery, Sequence[int]]:
    """The cells that have one value of an axis, and which entries they were."""
    kept = [entry for entry, at in enumerate(axis.at) if at == place]
    axes = tuple(
        replace(other, at=array("i", (other.at[entry] for entry in kept)))
        for other in gallery.axes
        if other is not axis
    )
    fixed = (*gallery.header.fixed, (axis.label, str(axis.values[place])))
    part = replace(
        gallery,
        header=replace(gallery.header, fixed=fixed),
        order=array("i", (gallery.order[entry] for entry in kept)),
        axes=axes,
        layout=choose_layout(axes),
        hidden=0,
    )
    return part, kept


def _same_size(pages: Sequence[Image]) -> Iterator[Image]:
    from PIL import Image

    size = max(page.width for page in pages), max(page.height for page in pages)
    for page in pages:
        frame = Image.new("RGB", size, PAPER)
        frame.paste(page)
        yield frame


def _opened(data: bytes) -> Image:
    from PIL import Image

    return Image.open(io.BytesIO(data), formats=["PNG"]).convert("RGB")


def _encoded(page: Image, form: SheetFormat) -> bytes:
    if form == "webp" and max(page.size) > _WEBP_SIDE:
        raise RequestError(
            f"--sheet webp: a page of {page.width}x{page.height} pixels is larger than WebP takes; "
            "--sheet pdf has room"
        )
    buffer = io.BytesIO()
    page.save(buffer, form.upper(), quality=90)
    return buffer.getvalue()

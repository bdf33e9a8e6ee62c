"""Small copies of the images, for the page and the contact sheet.

They lie in ``thumbs/`` of the run folder and are named by the hash of the file they show, so that a
page written again and again while a run goes on makes each only once.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.images import BadImage, sniff
from runner.record.paths import RunPaths, temp_path
from runner.report.gallery import Gallery

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 384
"""Longest side of a thumbnail, in pixels: sharp at 192 on a screen with two pixels for each."""

_LIGHT_BYTES = 150_000
_QUALITY = 80
_WEBP_EFFORT = 2
WORKERS = min(4, os.cpu_count() or 1)
"""Threads that decode: Pillow gives the interpreter free meanwhile."""

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")
_SVG = "image/svg+xml"
_BROWSERS_SHOW = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif", "image/avif"})
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Thumbs:
    """What can be shown of each entry.

    Attributes:
        small: Path of the small picture by entry, relative to the run folder, where it is not the
            file itself.
        problems: Why an entry's file cannot be shown, as the end of a sentence.
    """

    small: Mapping[int, str]
    problems: Mapping[int, str]


def thumbs_folder(root: Path) -> Path:
    """Folder of the thumbnails."""
    return root / "thumbs"


def make_thumbs(root: Path, gallery: Gallery) -> Thumbs:
    """Make the thumbnails that are missing. Never fails for a picture: that is a problem of it.

    Args:
        root: The run folder.
        gallery: Its cells.
    """
    paths, folder = RunPaths(root), thumbs_folder(root)
    there = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
    small: dict[int, str] = {}
    problems: dict[int, str] = {}
    wanted: dict[str, list[int]] = {}
    for entry in range(len(gallery)):
        if gallery.get("status", entry) != "done":
            continue
        problem = _file_problem(paths, gallery.text("file_name", entry))
        if problem:
            problems[entry] = problem
            continue
        name = f"{gallery.text('sha256', entry)}.webp"
        if _is_light(gallery, entry) or not _SHA256.match(name):
            continue
        small[entry] = f"{folder.name}/{name}"
        if name not in there:
            wanted.setdefault(name, []).append(entry)
    if wanted:
        folder.mkdir(exist_ok=True)
    sources = [paths.image(gallery.text("file_name", first)) for first, *_ in wanted.values()]
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="thumbs") as pool:
        targets = [folder / name for name in wanted]
        for entries, reason in zip(wanted.values(), pool.map(_make, sources, targets), strict=True):
            if reason:
                problems |= dict.fromkeys(entries, reason)
    return Thumbs({entry: path for entry, path in small.items() if entry not in problems}, problems)


def read_small(path: Path, side: int) -> Image:
    """Decode a picture (its first frame), upright, no larger than ``side`` pixels.

    Args:
        path: The file.
        side: Longest side in pixels; smaller pictures stay as they are.

    Returns:
        A picture of mode RGB or RGBA.

    Raises:
        BadImage: There is no picture to be had.
    """
    from PIL import Image, ImageOps

    try:
        data = path.read_bytes()
        # Reads the size from the header: a picture above the cap is refused before it is decoded.
        if sniff(data).mime == _SVG:
            raise BadImage("an SVG drawing, which is shown in a browser only")
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            image.draft("RGB", (2 * side, 2 * side))
            image.load()
            upright = ImageOps.exif_transpose(image)
            picture = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        picture.thumbnail((side, side), reducing_gap=2.0)
    except BadImage:
        raise
    except Exception as error:  # a decoder fed with foreign bytes may raise anything
        raise BadImage(f"a file that does not decode ({type(error).__name__})") from error
    return picture


def _file_problem(paths: RunPaths, file_name: str) -> str:
    try:
        path = paths.image(file_name)
    except ValueError:
        return "The name in its row is not one of this folder."
    return "" if path.is_file() else "The file is missing."


def _is_light(gallery: Gallery, entry: int) -> bool:
    """Whether the file itself serves: small, or a drawing, and known to browsers."""
    mime = gallery.get("mime", entry)
    sides = (gallery.get("width", entry), gallery.get("height", entry))
    size = gallery.get("bytes", entry)
    fits = all(isinstance(side, int) and side <= SIDE for side in sides)
    light = fits and isinstance(size, int) and size <= _LIGHT_BYTES
    return mime == _SVG or (light and mime in _BROWSERS_SHOW)


def _make(source: Path, target: Path) -> str:
    """Write one thumbnail; the reason if there can be none."""
    try:
        picture = read_small(source, SIDE)
        temp = temp_path(target)
        # Without fsync, which the record pays for: a lost thumbnail is made again.
        picture.save(temp, "WEBP", quality=_QUALITY, method=_WEBP_EFFORT)
        temp.replace(target)
    except BadImage as error:
        return f"It is {error.reason}."
    except OSError as error:
        # Another process that reports on the same run may have been first.
        return "" if target.is_file() else f"Its thumbnail was not written ({error.strerror})."
    return ""

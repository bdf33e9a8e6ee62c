"""Looking at a run: the gallery page, the thumbnails and the contact sheet. All of it derived."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner.record.atomic import put_durably, replacing
from runner.record.paths import RunPaths
from runner.report.gallery import MOST_ENTRIES, Gallery, load
from runner.report.plots import Plot, plots
from runner.report.thumbs import Thumbs, make_thumbs

__all__ = ["load", "write_contact_sheet", "write_page", "write_report"]

MOST_LIVE_ENTRIES = 5_000
"""Cells on the page of a run that goes on: it is soon replaced, and must not slow the run down."""


def write_report(root: Path) -> None:
    """Write ``index.html``, ``thumbs/``, ``plots/`` and the pages of ``contact_sheet.png``.

    May be called again and again, also while the run goes on: thumbnails are made once, files are
    replaced atomically. A picture that cannot be read is a tile that says so.

    Args:
        root: The run folder.

    Raises:
        RequestError: It has no manifest that can be read.
        OSError: The disk is full or gone.
    """
    gallery = load(root)
    thumbs = make_thumbs(root, gallery)
    # The page first, with its link: it is what people wait for.
    _put_page(root, gallery, thumbs, sheet=True)
    _put_sheet(root, gallery, thumbs)


def write_page(root: Path, most: int = MOST_ENTRIES) -> None:
    """Write ``index.html`` and ``thumbs/`` alone: what a run that goes on has time for.

    Args:
        root: The run folder.
        most: Cells to show, the first ones; the totals count all.

    Raises:
        RequestError: It has no manifest that can be read.
        OSError: The disk is full or gone.
    """
    gallery = load(root, most)
    sheet = RunPaths(root).contact_sheet.is_file()
    _put_page(root, gallery, make_thumbs(root, gallery), sheet=sheet)


def write_contact_sheet(root: Path) -> list[Path]:
    """Write ``contact_sheet.png``, and ``contact_sheet-2.png`` … where one page has not the room.

    Args:
        root: The run folder.

    Returns:
        The files.

    Raises:
        RequestError: It has no manifest that can be read.
        OSError: The disk is full or gone.
    """
    gallery = load(root)
    return _put_sheet(root, gallery, make_thumbs(root, gallery))


def _put_page(root: Path, gallery: Gallery, thumbs: Thumbs, *, sheet: bool) -> None:
    from runner.report.page import render_page

    paths = RunPaths(root)
    drawn = plots(gallery)
    _put_plots(root, drawn)
    known = [paths.manifest, paths.plan, paths.metadata, paths.failures]
    files = [path for path in known if path.is_file()]
    if sheet:
        files.insert(0, paths.contact_sheet)
    links = tuple(path.relative_to(root).as_posix() for path in files)
    with replacing(paths.gallery) as file:
        file.writelines(render_page(gallery, thumbs, links, drawn))


def _put_plots(root: Path, drawn: Sequence[Plot]) -> None:
    folder = root / "plots"
    if drawn:
        folder.mkdir(exist_ok=True)
    for plot in drawn:
        put_durably(folder / f"{plot.name}.svg", plot.svg.encode("utf-8", "replace"))
    if folder.is_dir():
        for old in folder.glob("*.svg"):
            if old.stem not in {plot.name for plot in drawn}:
                old.unlink()


def _put_sheet(root: Path, gallery: Gallery, thumbs: Thumbs) -> list[Path]:
    from runner.report.sheet import draw_sheets

    first = RunPaths(root).contact_sheet
    written = []
    for number, page in enumerate(draw_sheets(root, gallery, thumbs), start=1):
        path = first if number == 1 else first.with_stem(f"{first.stem}-{number}")
        with replacing(path) as file:
            file.writelines(page)
        written.append(path)
    for old in root.glob(f"{first.stem}-*{first.suffix}"):
        if old not in written:
            old.unlink()
    return written

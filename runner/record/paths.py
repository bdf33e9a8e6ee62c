"""Where everything in a run folder lies. No other module joins these paths by hand."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHARD = 1000
"""Cells whose images share a folder: small enough for every file system and file browser."""

TEMP_SUFFIX = ".tmp"

_IMAGE_NAME = re.compile(r"(\d{4,})/(\d{7,})-([0-9a-f]{12})\.[a-z0-9]{1,8}", re.ASCII)
_TEMP_IMAGE = re.compile(r"\.\d{7,}-[0-9a-f]{12}\.[a-z0-9]{1,8}\.tmp", re.ASCII)


def image_name(index: int, cell_id: str, suffix: str) -> str:
    """Name an image by its cell, never by text: ``0003/0003127-5f0c….png``.

    The start of the id keeps names apart when a folder is used again with another plan.

    Args:
        index: Place in the plan.
        cell_id: 64 hex digits.
        suffix: Ending with its dot, as sniffed from the bytes.

    Returns:
        A path under ``images/``, with ``/`` on every system.
    """
    return f"{index // SHARD:04d}/{index:07d}-{cell_id[:12]}{suffix}"


def parse_image_name(file_name: str) -> tuple[int, str] | None:
    """The index and the first 12 digits of the cell id, if the name is one of ours."""
    found = _IMAGE_NAME.fullmatch(file_name)
    if found is None or int(found[1]) != int(found[2]) // SHARD:
        return None
    return int(found[2]), found[3]


def check_image_name(file_name: str) -> None:
    """Make sure that a name is one that :func:`image_name` makes.

    Raises:
        ValueError: It is not, so it may lead anywhere.
    """
    if parse_image_name(file_name) is None:
        raise ValueError(f"'{file_name}' is not the name of an image of a run")


def temp_path(path: Path) -> Path:
    """Where a file is written before it takes its name: hidden, in the same folder."""
    return path.with_name(f".{path.name}{TEMP_SUFFIX}")


_EXTRA = re.compile(r"[a-z0-9][a-z0-9_.-]{0,60}")


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The paths of one run.

    Attributes:
        root: The run folder.
    """

    root: Path

    @property
    def manifest(self) -> Path:
        """The run: ``manifest.json``."""
        return self.root / "manifest.json"

    @property
    def plan(self) -> Path:
        """What defines the plan: ``plan.json``."""
        return self.root / "plan.json"

    @property
    def lock(self) -> Path:
        """Who writes here: ``run.lock``."""
        return self.root / "run.lock"

    @property
    def journal(self) -> Path:
        """Folder of the journal files."""
        return self.root / "journal"

    @property
    def images(self) -> Path:
        """Folder of the image files: an ``imagefolder`` dataset."""
        return self.root / "images"

    @property
    def metadata(self) -> Path:
        """One row per image: ``images/metadata.jsonl``."""
        return self.images / "metadata.jsonl"

    @property
    def failures(self) -> Path:
        """One row per cell without an image: ``failures.jsonl``."""
        return self.root / "failures.jsonl"

    @property
    def inputs(self) -> Path:
        """Folder for copies of prompt files and input images."""
        return self.root / "inputs"

    @property
    def gallery(self) -> Path:
        """The gallery page: ``index.html``."""
        return self.root / "index.html"

    @property
    def contact_sheet(self) -> Path:
        """The contact sheet: ``contact_sheet.png``."""
        return self.root / "contact_sheet.png"

    @property
    def hydra(self) -> Path:
        """What Hydra writes: ``.hydra``."""
        return self.root / ".hydra"

    def extra(self, file_name: str, name: str) -> Path:
        """A further file of an image, such as a partial one: ``extras/<image's stem>-<name>``.

        Outside ``images/``, so that the data set holds finished images only.

        Raises:
            ValueError: A name may lead anywhere.
        """
        if not _EXTRA.fullmatch(name):
            raise ValueError(f"'{name}' is not the name of a further file of an image")
        return self.root / "extras" / f"{self.image(file_name).stem}-{name}"

    def image(self, file_name: str) -> Path:
        """The file of an image.

        Raises:
            ValueError: The name is not one that :func:`image_name` makes, so it may lead anywhere.
        """
        check_image_name(file_name)
        return self.images / file_name

    def journal_files(self) -> list[Path]:
        """The journal files, oldest first."""
        return sorted(self.journal.glob("*.jsonl"))

    def shards(self) -> Iterator[Path]:
        """The folders under ``images/``, in order."""
        if self.images.is_dir():
            yield from sorted(path for path in self.images.iterdir() if path.is_dir())

    def temp_files(self) -> Iterator[Path]:
        """Files of ours that a killed process left half written. Foreign names never match."""
        derived = (self.manifest, self.plan, self.failures, self.metadata, self.gallery)
        for path in map(temp_path, (*derived, self.contact_sheet)):
            if path.is_file():
                yield path
        for shard in self.shards():
            with os.scandir(shard) as entries:
                left = [entry.name for entry in entries if entry.name.endswith(TEMP_SUFFIX)]
            yield from (shard / name for name in left if _TEMP_IMAGE.fullmatch(name))

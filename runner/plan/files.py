"""Input files of a plan: hashed once, copied into the run folder, read from there afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.settings.cell import FILES_APART
from runner.settings.errors import RequestError, did_you_mean

INPUTS = "inputs"
"""Folder of a run that holds the copies."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file that a plan reads.

    Attributes:
        path: The path as the user wrote it.
        sha256: Hash of its content when the plan was made.
        source: Where it is now.
    """

    path: str
    sha256: str
    source: Path

    @property
    def copy(self) -> str:
        """Where its copy belongs, relative to the run folder: ``inputs/<sha16>-<name>``."""
        # 50 characters of at most 4 bytes each stay below the 255 bytes of a file name.
        return f"{INPUTS}/{self.sha256[:16]}-{Path(self.path).name[-50:]}"


class InputFiles:
    """The images that cells name: path as written → content hash and where to read it.

    Args:
        root: Run folder whose copies are read; ``None`` reads the user's own files.
        pinned: Hashes from plan.json, by path as written.
    """

    def __init__(self, root: Path | None = None, pinned: Mapping[str, str] | None = None) -> None:
        self._root = root
        self._known: dict[str, tuple[str, str]] = {}  # path as written → (sha256, path to read)
        self._several: dict[str, tuple[str, str]] = {}
        for path, sha256 in (pinned or {}).items():
            source = Path(path) if root is None else root / InputFile(path, sha256, root).copy
            expect(source, sha256, path)
            self._known[path] = (sha256, str(source) if root else path)

    def sha256(self, path: str) -> str:
        """What stands for a path in a cell's id: its content's hash; an https address itself."""
        return self._look(path)[0]

    def readable(self, path: str) -> str:
        """The path to open."""
        return self._look(path)[1]

    def all(self) -> tuple[InputFile, ...]:
        """Every local file that was looked at so far."""
        return tuple(
            InputFile(path, sha256, Path(source))
            for path, (sha256, source) in self._known.items()
            if not is_address(path)
        )

    def _look(self, path: str) -> tuple[str, str]:
        known = self._known.get(path) or self._several.get(path)
        if known is None:
            if FILES_APART in path and not Path(path).is_file():
                shas, readable = zip(*map(self._look, path.split(FILES_APART)), strict=True)
                known = FILES_APART.join(shas), FILES_APART.join(readable)
                self._several[path] = known
                return known
            if "://" in path and not is_address(path):
                raise RequestError(f"input {path}: give a file or an https address")
            known = (path if is_address(path) else file_sha256(Path(path), "file"), path)
            self._known[path] = known
        return known


def is_address(path: str) -> bool:
    """Whether an input is fetched by the provider and not read from a disk."""
    return path.startswith("https://")


def file_sha256(path: Path, what: str) -> str:
    """Hash a file.

    Raises:
        RequestError: It is not there or cannot be read; the sentence begins with ``what``.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise RequestError(f"{what} {path} does not exist{did_you_mean(path.name, near)}") from None
    except OSError as error:
        raise RequestError(f"{what} {path} cannot be read: {error.strerror}") from None
    except ValueError:  # a NUL, or half a surrogate pair
        raise RequestError(f"{what} {str(path)!r}: no file can have such a name") from None


def expect(source: Path, sha256: str, path: str) -> None:
    """Make sure that a file is still the one that the plan was made with.

    Raises:
        RequestError: It is gone or its content has changed.
    """
    found = file_sha256(source, "input file")
    if found != sha256:
        raise RequestError(
            f"input file {source} has changed since the plan was made ({path}: sha256 "
            f"{sha256[:16]}… expected, {found[:16]}… found); put it back or start a new run"
        )

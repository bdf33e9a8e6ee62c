"""Whether a run folder still holds what its journal says: every file, every byte, every count."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from runner.images import BadImage, pixel_sha256
from runner.record.derive import read_failures, read_rows
from runner.record.manifest import read_manifest
from runner.record.paths import RunPaths, parse_image_name
from runner.record.reader import JournalReader, Places
from runner.record.rows import FailureRow, ImageRow
from runner.record.state import RunState, load_state

_LISTED = 1000
_WANTED_IN_IMAGES = frozenset({"metadata.jsonl"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        file: Path under the run folder.
        problem: What differs, as a sentence without its subject.
    """

    file: str
    problem: str

    def __str__(self) -> str:
        return f"{self.file} {self.problem}"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What :func:`verify` looked at and found.

    Attributes:
        checked: Rows of images that were checked.
        problems: How many findings there are.
        findings: The first thousand of them.
    """

    checked: int
    problems: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether everything is as it should be."""
        return self.problems == 0


def verify(paths: RunPaths, *, pixels: bool = False, places: Places | None = None) -> VerifyReport:
    """Check every image against its row, the derived files and counts against the journal.

    Args:
        paths: The run. A run that is being written shows its unfinished files as findings.
        pixels: Decode every image too, and compare the hash of its pixels.
        places: Where the cells stand now, if the plan was amended.

    Raises:
        RequestError: It is not a run folder, or a later version wrote it.
    """
    state = load_state(paths)
    findings: list[Finding] = []
    problems = 0
    for finding in _findings(paths, state, pixels, places):
        problems += 1
        if len(findings) < _LISTED:
            findings.append(finding)
    return VerifyReport(state.counts["done"], problems, tuple(findings))


def _findings(
    paths: RunPaths, state: RunState, pixels: bool, places: Places | None
) -> Iterator[Finding]:
    yield from _manifest(paths, state)
    for sentence in state.damaged:
        name, _, problem = sentence.partition(": ")
        yield Finding(f"journal/{name}", problem)
    with JournalReader(paths, state, places) as reader:
        for row in reader.images():
            yield from _image(paths, row, pixels)
        yield from _rows("images/metadata.jsonl", reader.images(), read_rows(paths))
        yield from _rows("failures.jsonl", reader.failures(), read_failures(paths))
    yield from _strangers(paths, state)


def _manifest(paths: RunPaths, state: RunState) -> Iterator[Finding]:
    manifest = read_manifest(paths)
    if manifest.status == "running":
        yield Finding("manifest.json", "says that the run still goes on, or it was killed")
        return
    claimed: dict[str, int] = manifest.counts.model_dump()
    for outcome, found in state.counts.items():
        if claimed[outcome] != found:
            problem = f"counts {claimed[outcome]:,} {outcome}, and the journal {found:,}"
            yield Finding("manifest.json", problem)


def _image(paths: RunPaths, row: ImageRow, pixels: bool) -> Iterator[Finding]:
    name = f"images/{row.file_name}"
    path = paths.image(row.file_name)
    try:
        size = path.stat().st_size
        if size != row.bytes:
            yield Finding(name, f"has {size:,} bytes, and its row says {row.bytes:,}")
            return
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        yield Finding(name, "is missing")
        return
    except OSError as error:
        yield Finding(name, f"cannot be read ({error.strerror})")
        return
    if found != row.sha256:
        yield Finding(name, f"has sha256 {found[:12]}…, and its row says {row.sha256[:12]}…")
    elif pixels and row.pixel_sha256 is not None:
        yield from _pixels(name, path, row.pixel_sha256)


def _pixels(name: str, path: Path, expected: str) -> Iterator[Finding]:
    try:
        found = pixel_sha256(path.read_bytes())
    except BadImage as error:
        yield Finding(name, f"is {error.reason}")
        return
    if found != expected:
        yield Finding(name, "decodes to other pixels than its row says")


def _rows(
    file: str,
    journal: Iterator[ImageRow | FailureRow],
    derived: Iterator[ImageRow | FailureRow],
) -> Iterator[Finding]:
    """Both are sorted by index, so the first difference is where they part."""
    for number, (wanted, found) in enumerate(itertools.zip_longest(journal, derived), start=1):
        if wanted is None or found is None:
            more = "more" if wanted is None else "fewer"
            yield Finding(file, f"has {more} rows than the journal")
            return
        if wanted != found:
            names = _difference(wanted, found)
            yield Finding(file, f"line {number} differs from the journal in {names}")
            return


def _difference(wanted: ImageRow | FailureRow, found: ImageRow | FailureRow) -> str:
    theirs = asdict(found)
    return ", ".join(name for name, value in asdict(wanted).items() if theirs.get(name) != value)


def _strangers(paths: RunPaths, state: RunState) -> Iterator[Finding]:
    """Files under ``images/`` that no record names. Copies in other formats share a name."""
    if not paths.images.is_dir():
        return
    with os.scandir(paths.images) as entries:
        top = sorted(entry.name for entry in entries if not entry.is_dir())
    for name in top:
        if name not in _WANTED_IN_IMAGES:
            yield Finding(f"images/{name}", "belongs to no row")
    for shard in paths.shards():
        with os.scandir(shard) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            cell = parse_image_name(f"{shard.name}/{name}")
            if cell is None or not state.has_image(*cell):
                yield Finding(f"images/{shard.name}/{name}", "belongs to no row")

"""Files that are either old or new, never half.

Write = temporary file in the same folder, fsync, rename, fsync of the folder. The fsync of the file
makes sure that the new name never shows less than the whole content after a power cut; the fsync of
the folder, that the new name itself is there. Without them a rename is only atomic for other
processes. The price is a few milliseconds per file and it is always paid: an image costs seconds.

The temporary name is fixed (``.NAME.tmp``), not random: only the holder of the run's lock writes,
and what a killed process left is overwritten by the next one or found by its name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal

from runner.record.crash import crash, crash_point, due
from runner.record.paths import temp_path

Kind = Literal["image", "file"]

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def write_all(descriptor: int, data: bytes | memoryview, point: str) -> None:
    """Write every byte; ``os.write`` may take fewer.

    Args:
        descriptor: Open file.
        data: What to write.
        point: Crash point at which only half is written.
    """
    if due(point):
        os.write(descriptor, data[: len(data) // 2])
        crash()
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def put(path: Path, data: bytes | memoryview, kind: Kind = "file") -> None:
    """Write, fsync and rename a file; the caller makes the folder durable.

    Raises:
        OSError: The disk is full or gone. The old file is as it was, the new one is not there.
    """
    temp = temp_path(path)
    try:
        descriptor = os.open(temp, _NEW, 0o666)
        try:
            crash_point(f"{kind}.before_write")
            write_all(descriptor, data, f"{kind}.torn")
            crash_point(f"{kind}.before_fsync")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        crash_point(f"{kind}.before_rename")
        temp.replace(path)
    except BaseException:
        with suppress(OSError):
            temp.unlink()
        raise
    crash_point(f"{kind}.after_rename")


def put_link(path: Path, source: Path) -> None:
    """:func:`put` of another file's content: a hard link, or a copy where there can be none.

    Raises:
        OSError: The disk is full or gone, or the source is. Nothing has changed.
    """
    temp = temp_path(path)
    temp.unlink(missing_ok=True)
    try:
        os.link(source, temp, follow_symlinks=False)
    except OSError:
        put(path, source.read_bytes(), "image")
        return
    crash_point("image.before_rename")
    temp.replace(path)
    # If the name was a link to this very file before, the rename has left both.
    temp.unlink(missing_ok=True)
    crash_point("image.after_rename")


def put_durably(path: Path, data: bytes) -> None:
    """:func:`put`, and the folder's fsync."""
    put(path, data)
    fsync_folder(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to stream into; it takes its name, durably, when the block ends without an error.

    Raises:
        OSError: The disk is full or gone. The old file is as it was.
    """
    temp = temp_path(path)
    try:
        with temp.open("wb", buffering=1 << 20) as file:
            yield file
            file.flush()
            crash_point("file.before_fsync")
            os.fsync(file.fileno())
        crash_point("file.before_rename")
        temp.replace(path)
    except BaseException:
        with suppress(OSError):
            temp.unlink()
        raise
    crash_point("file.after_rename")
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Points at which a test may kill this process, as a power cut would.

``RUNNER_CRASH_AT=journal.before_fsync:3`` sends SIGKILL to the own process, and to the run whose
folder it writes, at the third passage of that point; without ``:N`` at the first. The points, in
the order in which a commit passes them, are :data:`POINTS`; a ``torn`` point writes half of the
data first.
"""

from __future__ import annotations

import itertools
import os
import signal

POINTS = (
    "image.before_write",
    "image.torn",
    "image.before_fsync",
    "image.before_rename",
    "image.after_rename",
    "journal.before_write",
    "journal.torn",
    "journal.before_fsync",
    "journal.after_fsync",
    "file.before_write",
    "file.torn",
    "file.before_fsync",
    "file.before_rename",
    "file.after_rename",
)
"""``image``: an image file. ``journal``: a group of records. ``file``: any other file."""

_armed = ""
_with = 0
_passages = itertools.count()


def arm(wish: str) -> None:
    """Choose the point and the passage at which this process dies; an empty text: none."""
    global _armed, _passages
    _armed, _, nth = wish.partition(":")
    _passages = itertools.count(1 - int(nth or 1))


def take_along(process: int) -> None:
    """Let another process die with this one."""
    global _with
    _with = process


def due(point: str) -> bool:
    """Whether this passage of the point is the last thing this process does."""
    return point == _armed and next(_passages) == 0


def crash() -> None:
    """Die at once, as by SIGKILL from outside: nothing is flushed, nothing is cleaned up."""
    if _with:
        os.kill(_with, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def crash_point(point: str) -> None:
    """Die here if it was asked for."""
    if due(point):
        crash()


arm(os.environ.get("RUNNER_CRASH_AT", ""))

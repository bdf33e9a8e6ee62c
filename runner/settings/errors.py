"""The errors that end a command, each with its exit code and one sentence for the user."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

LONGEST = 2000
"""Characters of one sentence: a value that is longer is shown without its middle."""


class RunnerError(Exception):
    """An error that a user can cause and mend: printed as a sentence, without a traceback."""

    exit_code: int = 1


class RequestError(RunnerError):
    """The request is wrong: config, input or an unsupported parameter. Exit code 2.

    Args:
        problems: One sentence each: the bad value, the allowed ones, where it was set, the fix.
    """

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        self.problems: tuple[str, ...] = tuple(map(_readable, problems))
        super().__init__("\n".join(self.problems))


class PrerequisiteError(RunnerError):
    """Something outside the request is missing: a key, an extra, a server, budget. Exit code 3."""

    exit_code = 3


def _readable(text: str) -> str:
    """A sentence that any stream takes, of a length that one reads; its end, the fix, is kept."""
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest known name, or an empty text."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def listed(names: Sequence[str], limit: int = 24) -> str:
    """The names as a readable list, cut after ``limit`` of them."""
    shown = ", ".join(names[:limit])
    return f"{shown} … ({len(names)} in all)" if len(names) > limit else shown


def is_text(text: str) -> bool:
    """Whether all of it is characters: half a surrogate pair is none, and no file can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

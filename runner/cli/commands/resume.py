"""``runner resume RUN_DIR``: only what is missing, failed or unknown."""

from __future__ import annotations

from typing import get_args

from runner.cli.batch import run_saved
from runner.cli.saved import read_saved, run_folder
from runner.record.outcomes import CellOutcome
from runner.settings.errors import RequestError, listed

_CHOICES = tuple(name for name in get_args(CellOutcome) if name != "done")


def command(argv: list[str]) -> int:
    """Go on with a run; nothing that is done is made again.

    ``--include OUTCOME`` (several times, or with commas) says which earlier outcomes are tried
    again besides what is missing; default: failed and unknown, as far as that is worth it. A
    request that its provider called invalid is sent again only by ``--include failed``. Jobs that
    may still be there are asked for first; those that cannot be asked are made again only by
    ``--include unknown``.
    """
    rest, include = _split_include(argv)
    paths = run_folder(rest, "resume", overrides=True)
    saved = read_saved(paths, [text for text in rest if "=" in text])
    return run_saved(saved, include=include, command=("resume", *argv))


def _split_include(argv: list[str]) -> tuple[list[str], frozenset[CellOutcome]]:
    rest: list[str] = []
    chosen: set[CellOutcome] = set()
    words = iter(argv)
    for word in words:
        flag, separator, value = word.partition("=")
        if flag != "--include":
            rest.append(word)
            continue
        for name in (value if separator else next(words, "")).split(","):
            if name not in _CHOICES:
                raise RequestError(f"--include {name}: choose from {listed(_CHOICES)}")
            chosen |= {choice for choice in get_args(CellOutcome) if choice == name}
    return rest, frozenset(chosen)

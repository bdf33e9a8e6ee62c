"""Which command was meant, and which exit code came of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from runner.engine.garbage import collect_rarely
from runner.settings.errors import (
    PrerequisiteError,
    RequestError,
    RunnerError,
    did_you_mean,
    is_text,
    listed,
)

COMMANDS: dict[str, tuple[str, str]] = {
    "plan": ("plan", "cells, calls, price range, time and warnings; sends nothing"),
    "resume": ("resume", "make what is missing, failed or unknown in a run folder"),
    "rerun": ("rerun", "make a run again from its saved config and compare"),
    "verify": ("verify", "check the files of a run folder against its record"),
    "report": ("report", "rebuild the page and the contact sheet; several runs: side by side"),
    "show": ("show", "a run in the terminal: totals, failures with what helps, extremes"),
    "export": ("export", "a run as webdataset, parquet, huggingface, croissant, ro-crate, mlflow"),
    "providers": ("providers", "who can make images, and what each takes"),
    "doctor": ("doctor", "what this machine has: extras, devices, keys by name"),
}
"""Name to module and what it does."""

EXIT_INTERRUPTED = 130


def run(argv: Sequence[str]) -> int:
    """Run one command line.

    Returns:
        0 every cell done; 1 some failed or were refused; 2 the request is wrong; 3 a prerequisite
        is missing; 130 interrupted, resumable.
    """
    if int(os.environ.get("RANK") or 0) > 0:
        # `accelerate launch` starts one process per GPU; the first plans, and starts the workers.
        return 0
    try:
        _refuse_what_is_no_text(argv)
        return _dispatch(list(argv))
    except RequestError as error:
        _raise_if_wanted()
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return error.exit_code
    except RunnerError as error:
        _raise_if_wanted()
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain again while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        _raise_if_wanted()
        print(f"error: {error.strerror or error}: {error.filename or 'a file'}", file=sys.stderr)
        return PrerequisiteError.exit_code


def _refuse_what_is_no_text(argv: Sequence[str]) -> None:
    """Bytes that are no text in the terminal's encoding would come as something else."""
    encoding = sys.getfilesystemencoding()
    for word in argv:
        if "=" not in word or is_text(word):
            continue
        fix = "" if encoding == "utf-8" else "; start with PYTHONUTF8=1 if it is UTF-8"
        raise RequestError(f"{word!r}: this is no text in the terminal's encoding, {encoding}{fix}")


def _dispatch(argv: list[str]) -> int:
    first = argv[0] if argv else ""
    if first in {"-h", "--help"} or (first in COMMANDS and {"-h", "--help"} & set(argv[1:])):
        from runner.cli.help import help_text

        print(help_text(argv))
        return 0
    if first == "--version":
        from runner import __version__

        print(__version__)
        return 0
    if not first or first.startswith("-") or "=" in first:
        from runner.cli.hydra_app import run_hydra

        return run_hydra(argv)
    if first not in COMMANDS:
        raise RequestError(
            f"{first}: no such command{did_you_mean(first, COMMANDS)}; "
            f"commands: {listed(list(COMMANDS))}; overrides look like key=value"
        )
    collect_rarely()
    module = import_module(f"runner.cli.commands.{COMMANDS[first][0]}")
    command: Callable[[list[str]], int] = module.command
    return command(argv[1:])


def _raise_if_wanted() -> None:
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        raise

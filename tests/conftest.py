"""Shared fixtures: the real command line in a child process, a home of its own for every test."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.figures import Figures, counted

REPOSITORY = Path(__file__).resolve().parent.parent


def wait_for_writer(run: Path) -> None:
    """Wait until all is written that a killed run has handed over."""
    with suppress(FileNotFoundError), (run / "run.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)


@dataclass(frozen=True)
class Finished:
    """A child process that has ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


RunCli = Callable[..., Finished]


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the real home, and none reaches a model hub."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    # A child process that compiles every module anew takes a fifth longer.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)


@pytest.fixture(scope="session")
def figures() -> Iterator[Figures]:
    """Counts what the torture tests do."""
    yield from counted()


def cli_command(*arguments: str) -> list[str]:
    """The command line of ``python -m runner``."""
    return [sys.executable, "-m", "runner", *arguments]


@pytest.fixture
def run_cli(tmp_path: Path) -> RunCli:
    """Run ``python -m runner`` in ``tmp_path`` and return what it said."""

    def run(
        *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Finished:
        done = subprocess.run(
            cli_command(*arguments),
            cwd=cwd or tmp_path,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run

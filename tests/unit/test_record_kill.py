"""SIGKILL at every named point of a commit, and at any other time: nothing confirmed is lost.

After the child's death the folder must hold all that was confirmed to it, whole; what was in flight
may be lost, and then counts as unknown; and the next process must be able to finish the run.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.record.crash import POINTS
from runner.record.derive import read_rows
from runner.record.manifest import Manifest, write_manifest
from runner.record.paths import RunPaths
from runner.record.reader import JournalReader
from runner.record.state import RunState, load_state
from runner.record.verify import verify
from tests.conftest import wait_for_writer
from tests.unit.record_child import CELLS, outcome_of, work_off
from tests.unit.records import NOW, PLAN, picture

REPOSITORY = Path(__file__).resolve().parents[2]


def run_child(
    root: Path, *, crash_at: str = "", kill_after: float | None = None
) -> tuple[int, list[str]]:
    """Exit code and lines of a child that dies by itself, or after some seconds of work."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.record_child", str(root)],
        cwd=REPOSITORY,
        env={**os.environ, "RUNNER_CRASH_AT": crash_at},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    said: list[str] = []
    if kill_after is not None:
        said.append(child.stdout.readline().strip())
        time.sleep(kill_after)
        child.kill()
    out, _ = child.communicate(timeout=60)
    wait_for_writer(root)
    return child.returncode, said + out.splitlines()


def check(root: Path, said: list[str]) -> RunState:
    """Whatever happened: what was confirmed is there, and what is there is whole."""
    paths = RunPaths(root)
    state = load_state(paths)
    assert state.damaged == []
    for line in said:
        word, _, number = line.partition(" ")
        if word in ("done", "refused"):
            assert state.outcome(int(number)) == word
        elif word == "sent":
            assert state.outcome(int(number)) in (outcome_of(int(number)), "unknown")
    with JournalReader(paths, state) as reader:
        for row in reader.images():
            data = paths.image(row.file_name).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (row.bytes, row.sha256)
    # A name of ours is only ever given to a whole file, journalled or not; so are derived files.
    for path in paths.images.glob("*/*.png"):
        assert path.read_bytes() == picture(int(path.name[:7]))
    assert all(paths.image(row.file_name).exists() for row in read_rows(paths))
    return state


def finish(root: Path) -> None:
    """The next process makes what is missing; then the folder is as if nothing had happened."""
    paths = RunPaths(root)
    state = asyncio.run(work_off(root))
    manifest = {
        "run_id": "r",
        "status": "incomplete",
        "started_at": NOW,
        "plan_hash": PLAN,
        "cells": CELLS,
        "counts": state.counts,
        "code": {"version": "0"},
        "machine": {"python": "3", "platform": "x"},
    }
    write_manifest(paths, Manifest.model_validate(manifest))
    report = verify(paths, pixels=True)
    assert report.ok, report.findings
    assert [state.outcome(index) for index in range(CELLS)] == [outcome_of(i) for i in range(CELLS)]
    assert not list(paths.temp_files())
    # Everything that was ever sent is accounted for: answered, or lost in a crash and counted.
    check(root, [])


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_and_finished_by_the_next_process(tmp_path: Path, point: str) -> None:
    # The first passage is the special one (a new folder, a new journal); a later one has company.
    # Derived files are passed once or twice a run: the later passage is another kind of file.
    for passage in (1, 2 if point.startswith("file.") else 9):
        code, said = run_child(tmp_path, crash_at=f"{point}:{passage}")
        if (code, said[-1:]) == (0, [f"finished {CELLS}"]):
            break
        assert code == -signal.SIGKILL
        check(tmp_path, said)
    else:
        finish(tmp_path)
        return
    # Only the points of `put` are passed by one derived file alone.
    assert point in ("file.before_write", "file.torn")
    assert passage == 2


def test_killed_at_any_time_again_and_again(tmp_path: Path) -> None:
    moments = random.Random(20260102)
    for _ in range(5):
        code, said = run_child(tmp_path, kill_after=moments.uniform(0, 0.05))
        check(tmp_path, said)
        if code == 0:
            break
    finish(tmp_path)

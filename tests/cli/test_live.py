"""Rows and page of a run that goes on, written by a process beside it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.cli.runs import manifest, rows
from tests.conftest import RunCli, cli_command


def test_a_run_that_goes_on_shows_what_is_there(tmp_path: Path) -> None:
    run = tmp_path / "run"
    child = subprocess.Popen(
        cli_command(
            "provider=fake", "prompt=a star", "n=400", "size=16x16", "hydra.run.dir=run",
            "provider.options.images_per_call=1", "provider.options.latency_s=0.5",
            "limits.max_concurrency=2", "output.quiet=true",
        ),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while not (run / "index.html").is_file() and time.monotonic() < end:
            time.sleep(0.1)
        assert child.poll() is None
        assert manifest(run)["status"] == "running"
        assert 0 < len(rows(run)) < 400
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


def test_without_the_run_nothing_is_written(run_cli: RunCli, tmp_path: Path) -> None:
    assert run_cli("provider=fake", "prompt=a star", "hydra.run.dir=run").code == 0
    page = tmp_path / "run/index.html"
    page.unlink()
    alone = subprocess.run(
        [sys.executable, "-m", "runner.cli.live", "run"],
        cwd=tmp_path, stdin=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip
    assert alone.returncode == 1
    assert not page.exists()

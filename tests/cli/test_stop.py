"""Stopping the real command line in a terminal: once, twice, by SIGTERM, whatever it is doing."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runner.engine.stop import GRACE_S
from runner.record.paths import RunPaths
from tests.cli.runs import attempts, image_files, manifest, pixels, rows
from tests.conftest import RunCli, cli_command

FAKE = ("provider=fake", "size=64x64", "prompt=a star", "provider.options.images_per_call=1")
CTRL_C = b"\x03"


@dataclass
class Terminal:
    """A child whose terminal we are: what it prints, and keys that we press."""

    child: subprocess.Popen[bytes]
    screen: int
    seen: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", bytes(self.seen))
        return plain.decode("utf-8", "replace").replace("\r", "")

    def press(self, key: bytes) -> None:
        os.write(self.screen, key)

    def read(self, seconds: float = 0.05) -> bool:
        """Take in what was printed; ``False`` when the terminal is closed."""
        if not select.select([self.screen], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.screen, 65536)
        except OSError:
            return False
        self.seen += data
        return bool(data)

    def until(self, happened: Callable[[], bool], seconds: float = 60) -> None:
        """Go on reading until something is so."""
        end = time.monotonic() + seconds
        while not happened():
            if not self.read():
                assert happened(), f"it ended before: {self.text}"
            assert time.monotonic() < end, self.text

    def end(self, seconds: float = 60) -> int:
        """Read to the end; the exit code."""
        end = time.monotonic() + seconds
        while self.read(0.2):
            assert time.monotonic() < end, self.text
        return self.child.wait(10)


@contextmanager
def terminal(cwd: Path, command: list[str]) -> Iterator[Terminal]:
    """Run a command in a pseudo-terminal of its own, so that Ctrl-C reaches it as a signal."""
    screen, inside = pty.openpty()
    child = subprocess.Popen(
        command,
        cwd=cwd,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        preexec_fn=_take_terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )
    os.close(inside)
    try:
        yield Terminal(child, screen)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        os.close(screen)


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # A script's background jobs inherit that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pictures(run: Path) -> int:
    return len(list(run.glob("images/0*/*.png")))


def assert_whole(run: Path, run_cli: RunCli, cells: int) -> None:
    """Every file is whole, resume makes the rest, and no picture was made twice."""
    assert manifest(run)["status"] in {"interrupted", "done", "running"}
    assert list(RunPaths(run).temp_files()) == []
    resumed = run_cli("resume", str(run))
    assert resumed.code == 0, resumed.text
    made = [row["cell_id"] for record in attempts(run) for row in record["images"]]
    assert len(made) == len(set(made)) == cells
    assert len(rows(run)) == len(pixels(run)) == len(image_files(run)) == cells
    assert run_cli("verify", str(run)).code == 0


def test_once_finishes_what_is_in_flight_and_says_how_to_go_on(
    run_cli: RunCli, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    job = (*FAKE, "n=60", "seed=1", "provider.options.latency_s=0.4", f"hydra.run.dir={run}")
    with terminal(tmp_path, cli_command(*job, "limits.max_concurrency=4")) as one:
        one.until(lambda: pictures(run) >= 4)
        one.press(CTRL_C)
        assert one.end() == 130, one.text
    assert "stopping: calls in flight are finished" in one.text
    assert f"python -m runner resume {run}" in one.text
    assert "Traceback" not in one.text
    assert manifest(run)["status"] == "interrupted"
    assert manifest(run)["counts"]["unknown"] == 0
    assert 4 <= len(rows(run)) < 60
    assert_whole(run, run_cli, 60)


def test_twice_gives_up_what_is_in_flight_and_counts_it_as_unknown(
    run_cli: RunCli, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ("provider.options.latency_s=30", "provider.options.price_usd=0.5")
    job = (*FAKE, "n=4", "seed=1", *options, f"hydra.run.dir={run}")
    with terminal(tmp_path, cli_command(*job)) as one:
        one.until(lambda: sum(b'"sent"' in line for line in journal(run)) == 4)
        one.press(CTRL_C)
        one.until(lambda: "once more stops at once" in one.text)
        one.press(CTRL_C)
        assert one.end(15) == 130, one.text
    assert f"python -m runner resume {run}" in one.text
    assert "Traceback" not in one.text
    found = manifest(run)
    assert (found["status"], found["counts"]["unknown"]) == ("interrupted", 4)
    assert found["cost_unknown_worst_usd"] == 2.0


def test_sigterm_gives_calls_in_flight_some_seconds_and_no_more(tmp_path: Path) -> None:
    assert GRACE_S < 10
    run = tmp_path / "run"
    job = (*FAKE, "n=4", "seed=1", "provider.options.latency_s=600", f"hydra.run.dir={run}")
    with terminal(tmp_path, cli_command(*job)) as one:
        one.until(lambda: sum(b'"sent"' in line for line in journal(run)) == 4)
        one.child.terminate()
        start = time.monotonic()
        assert one.end() == 130, one.text
        assert time.monotonic() - start > GRACE_S / 2, "calls in flight had no time to end"
    assert f"python -m runner resume {run}" in one.text
    assert manifest(run)["counts"]["unknown"] == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_planning_nothing_is_written(tmp_path: Path, number: signal.Signals) -> None:
    prompts = tmp_path / "many.jsonl"
    with prompts.open("w") as file:
        for row in range(1_500_000):
            file.write(f'{{"prompt": "star number {row}", "seed": {row}}}\n')
    run = tmp_path / "run"
    job = ("provider=fake", "prompts=many.jsonl", f"hydra.run.dir={run}")
    with terminal(tmp_path, cli_command(*job)) as one:
        # It reads the file: so many rows take it seconds.
        one.until(lambda: _opened(one.child.pid, prompts))
        one.child.send_signal(number)
        assert one.end() == 130, one.text
    assert "Traceback" not in one.text
    assert not run.exists()


@pytest.mark.parametrize("pause", [0.0, 0.15, 0.4])
def test_while_writing_the_folder_stays_whole(
    run_cli: RunCli, tmp_path: Path, pause: float
) -> None:
    run = tmp_path / "run"
    job = (*FAKE, "n=150", "seed=1", f"hydra.run.dir={run}")
    with terminal(tmp_path, cli_command(*job)) as one:
        one.until(lambda: pictures(run) > 0)
        time.sleep(pause)
        one.press(CTRL_C)
        assert one.end() in {0, 130}, one.text
    assert "Traceback" not in one.text
    assert_whole(run, run_cli, 150)


def test_twice_while_writing_the_folder_stays_whole(run_cli: RunCli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = (*FAKE, "n=150", "seed=1", f"hydra.run.dir={run}")
    with terminal(tmp_path, cli_command(*job)) as one:
        one.until(lambda: pictures(run) > 0)
        one.press(CTRL_C)
        time.sleep(0.01)
        one.press(CTRL_C)
        assert one.end() in {0, 130}, one.text
    assert "Traceback" not in one.text
    assert_whole(run, run_cli, 150)


def test_local_computing_stops_between_two_steps(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    run = tmp_path / "run"
    job = ("n=2", "seed=1", "steps=2000", f"hydra.run.dir={run}", "device.threads=1")
    with terminal(tmp_path, cli_command(*job)) as one:
        one.until(lambda: run.joinpath("manifest.json").exists(), 120)
        time.sleep(1)
        one.press(CTRL_C)
        one.until(lambda: "once more stops at once" in one.text)
        one.press(CTRL_C)
        assert one.end(60) == 130, one.text
    assert "Traceback" not in one.text
    assert manifest(run)["status"] == "interrupted"
    assert f"python -m runner resume {run}" in one.text


def journal(run: Path) -> list[bytes]:
    return [line for file in run.glob("journal/*.jsonl") for line in file.read_bytes().split(b"\n")]


def _opened(pid: int, path: Path) -> bool:
    """Whether a process has a file open."""
    if sys.platform != "linux":
        pytest.skip("only /proc tells what a process has open")
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if link.readlink() == path:
                return True
        except OSError:
            continue
    return False

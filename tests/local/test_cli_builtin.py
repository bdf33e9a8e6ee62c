"""The built-in model through the real command line: the first minutes of a newcomer."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

from tests.cli.runs import manifest, only_run, pixels, rows
from tests.conftest import RunCli, cli_command

SWEEP = (
    "-m",
    "prompt=a large red circle on a blue background,a small yellow star on a black background",
    "seed=range(0,4)", "guidance_scale=1,3", "device.batch_size=3",
)  # fmt: skip


def test_the_default_job_repeats_itself_exactly(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli()
    assert done.code == 0, done.text
    run = only_run(tmp_path)
    assert len(rows(run)) == 4
    assert manifest(run)["variants"][0]["model_identity"]
    (recipe,) = manifest(run)["recipes"].values()
    assert recipe["dtype"] == "float32"
    again = run_cli("rerun", str(run))
    assert again.code == 0, again.text
    assert "4 identical-bytes" in again.out


def test_killed_and_resumed_has_the_same_pixels(run_cli: RunCli, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "a", tmp_path / "b"
    assert run_cli(*SWEEP, f"hydra.sweep.dir={undisturbed}").code == 0
    child = subprocess.Popen(
        cli_command(*SWEEP, f"hydra.sweep.dir={killed}"), cwd=tmp_path, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not any(killed.glob("images/0000/*.png")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.Random(0).uniform(0, 1))
    child.send_signal(signal.SIGKILL)
    child.wait()
    resumed = run_cli("resume", str(killed))
    assert resumed.code == 0, resumed.text
    assert pixels(killed) == pixels(undisturbed)
    assert len(pixels(killed)) == 16
    assert run_cli("verify", str(killed)).code == 0

"""A killed run and its job, the whole way: submitted once, taken up again by ``resume``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from runner.providers.leonardo import KEY_VARIABLES
from tests.servers.leonardo import LeonardoServer
from tests.servers.loopback import Seen


def wait_for(server: LeonardoServer, path: str) -> Seen:
    """The first request of a path."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for seen in server.requests:
            if seen.path.endswith(path):
                return seen
        time.sleep(0.01)
    raise AssertionError(f"nobody asked for {path}: {[seen.path for seen in server.requests]}")


def test_killed_while_a_job_runs(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    server = LeonardoServer()
    with server:
        server.script("stuck")
        environment = {**os.environ, KEY_VARIABLES[0]: server.key}
        command = [
            *(sys.executable, "-m", "runner", "provider=leonardo", "prompt=a fox", "n=2", "seed=3"),
            f"provider.base_url={server.base_url}",
            f"hydra.run.dir={folder}",
        ]
        process = subprocess.Popen(command, cwd=tmp_path, env=environment)
        try:
            wait_for(server, "/generations/job-0001")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert not list(folder.glob("images/**/*.png"))

        server.board.jobs["job-0001"].situation = "ok"  # meanwhile the job is done
        again = subprocess.run(
            [sys.executable, "-m", "runner", "resume", str(folder)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert again.returncode == 0, again.stdout + again.stderr
        assert len(server.calls()) == 1, "sent again"
        assert server.problems == []
    rows = [
        json.loads(line) for line in (folder / "images" / "metadata.jsonl").read_text().splitlines()
    ]
    assert [row["image_index"] for row in rows] == [0, 1]
    assert {row["request_id"] for row in rows} == {"job-0001"}
    assert {row["seed_sent"] for row in rows} == {3}
    assert {row["cost_basis"] for row in rows} == {"reported"}

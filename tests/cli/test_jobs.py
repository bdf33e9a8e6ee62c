"""Jobs of an API survive the process that sent them: a real kill, then resume."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

from tests.cli.runs import failures, manifest, rows
from tests.conftest import RunCli, cli_command

JOB = (
    "provider=fake", "size=32x32", "prompt=a star", "n=3", "seed=1",
    "provider.options.images_per_call=1", "provider.options.jobs=true",
    "provider.options.price_usd=0.5", "limits.budget_usd=1.5",
)  # fmt: skip


def records(run: Path, kind: str) -> list[dict[str, object]]:
    """Whole records of one kind; the last line of a killed run may be torn."""
    found = []
    for file in sorted(run.glob("journal/*.jsonl")):
        for line in file.read_text(errors="replace").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            found += [record] if record["kind"] == kind else []
    return found


def killed_while_waiting(cwd: Path, run: Path, latency_s: float) -> None:
    command = cli_command(*JOB, f"provider.options.latency_s={latency_s}", f"hydra.run.dir={run}")
    child = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while len(records(run, "note")) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()


def test_a_killed_run_takes_its_jobs_up_and_sends_nothing_again(
    run_cli: RunCli, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    killed_while_waiting(tmp_path, run, latency_s=5)
    sent = {record["call_id"] for record in records(run, "sent")}
    assert len(sent) == 3
    # The budget holds these three calls and no other: a second submission would not start.
    resumed = run_cli("resume", str(run))
    assert resumed.code == 0, resumed.text
    assert {record["call_id"] for record in records(run, "sent")} == sent
    assert {record["call_id"] for record in records(run, "attempt")} == sent
    assert [row["attempts"] for row in rows(run)] == [1, 1, 1]
    found = manifest(run)
    assert (found["cost_usd"], found["cost_unknown_worst_usd"]) == (1.5, 0)
    assert found["cost_by_basis"] == {"reported": 1.5}
    assert run_cli("verify", str(run)).code == 0


def test_a_job_beyond_its_deadline_is_unknown_then_taken_up(
    run_cli: RunCli, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    late = ("provider.options.latency_s=4", "limits.timeout_s=0.5", f"hydra.run.dir={run}")
    done = run_cli(*JOB, *late)
    assert done.code == 1, done.text
    assert {row["outcome"] for row in failures(run)} == {"unknown"}
    assert manifest(run)["cost_unknown_worst_usd"] == 1.5
    resumed = run_cli("resume", str(run), "limits.timeout_s=60")
    assert resumed.code == 0, resumed.text
    assert len(records(run, "sent")) == 3
    assert manifest(run)["cost_unknown_worst_usd"] == 0
    assert failures(run) == []

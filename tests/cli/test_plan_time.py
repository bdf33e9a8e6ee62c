"""``runner plan`` tells how long it will take, once there is a run that knows."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import RunCli

LATENCY_S = 0.3
SLOW = (
    "provider=fake",
    f"provider.options.latency_s={LATENCY_S}",
    "provider.options.images_per_call=2",
    "size=32x32",
    "n=2",
)


def test_the_time_of_a_plan_is_that_of_the_last_run(run_cli: RunCli, tmp_path: Path) -> None:
    before = run_cli("plan", *SLOW, "prompt=a star", "limits.max_concurrency=1")
    assert before.code == 0, before.text
    assert "unknown" in before.out
    assert not (tmp_path / "outputs").exists()
    first = run_cli(*SLOW, "prompt=a star")
    assert first.code == 0, first.text
    assert "as fast as before" not in first.err

    three = run_cli("plan", "-m", *SLOW, "prompt=a moon,a hut,a fox", "limits.max_concurrency=1")
    assert three.code == 0, three.text
    (time,) = re.findall(r"free +([\d.]+) s", three.out)
    assert float(time) >= 3 * LATENCY_S
    assert "unknown" not in three.out

    for other in ("size=64x64", "provider.options.latency_s=9", "hydra.run.dir=elsewhere/run"):
        assert "unknown" in run_cli("plan", *SLOW, "prompt=a star", other).out

    again = run_cli(*SLOW, "prompt=a star", "limits.max_concurrency=1", "hydra.run.dir=outputs/two")
    (time,) = re.findall(r"free · ([\d.]+) s, as fast as before", again.err)
    assert float(time) >= LATENCY_S
    more = run_cli(*SLOW, "prompt=a moon", "hydra.run.dir=outputs/two")
    assert "as fast as before" not in more.err, "what is missing of a run takes less than all of it"

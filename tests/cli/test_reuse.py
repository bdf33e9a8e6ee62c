"""``reuse=true``: what an earlier run has made is linked, not made again."""

from __future__ import annotations

from pathlib import Path

from tests.cli.runs import attempts, manifest, pixels, rows
from tests.conftest import RunCli

FAKE = ("-m", "provider=fake", "size=64x64", "prompt=a star,a moon")


def test_cells_of_earlier_runs_are_not_made_again(run_cli: RunCli, tmp_path: Path) -> None:
    first, second = tmp_path / "outputs/one", tmp_path / "outputs/two"
    paid = "provider.options.price_usd=0.5"
    assert run_cli(*FAKE, "seed=1,2", paid, f"hydra.sweep.dir={first}").code == 0
    more = run_cli(*FAKE, "seed=0,1,2", paid, "reuse=true", f"hydra.sweep.dir={second}")
    assert more.code == 0, more.text
    assert "2 images made, 4 reused from earlier runs, 6 of 6 there" in more.out
    made = rows(second)
    assert [row["seed"] for row in made] == [0, 1, 2, 0, 1, 2]
    taken = [row for row in made if row["reused_from"]]
    assert [row["seed"] for row in taken] == [1, 2, 1, 2]
    for row in taken:
        assert row["reused_from"].startswith("one/images/")
        old = first / row["reused_from"].removeprefix("one/")
        assert (second / "images" / row["file_name"]).samefile(old)
    assert manifest(second)["cost_usd"] == 1.0
    assert pixels(first).items() <= pixels(second).items()
    assert run_cli("verify", str(second)).code == 0
    # What was asked for without it is made.
    third = tmp_path / "outputs/three"
    assert run_cli(*FAKE, "seed=1", f"hydra.sweep.dir={third}").code == 0
    assert [row["reused_from"] for row in rows(third)] == [None, None]
    assert len(attempts(third)) == 2


def test_a_run_that_was_cut_off_is_finished_from_others(run_cli: RunCli, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    broken = ("provider.options.error_rate=1", "retry.max_attempts=1")
    assert run_cli(*FAKE, "seed=1", f"hydra.sweep.dir={whole}").code == 0
    assert run_cli(*FAKE, "seed=1", *broken, f"hydra.sweep.dir={part}").code == 1
    assert rows(part) == []
    resumed = run_cli("resume", str(part), "reuse=true")
    assert resumed.code == 0, resumed.text
    assert pixels(part) == pixels(whole)

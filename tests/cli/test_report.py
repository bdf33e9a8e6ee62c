"""``runner report`` as people type it."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import RunCli


def test_two_runs_in_one_page(run_cli: RunCli, tmp_path: Path) -> None:
    for name, seed in (("one", "1,2"), ("two", "2,3")):
        done = run_cli(
            "-m", "provider=fake", "prompt=a fox", f"seed={seed}", f"hydra.sweep.dir={name}"
        )
        assert done.code == 0, done.text
    done = run_cli("report", "one", "two")
    assert done.code == 0, done.text
    page = tmp_path / done.out.strip().splitlines()[-1]
    assert page == tmp_path / "outputs/comparisons/one+two/index.html"
    text = page.read_text()
    assert '"values":["one","two"]' in text or '"label":"run"' in text
    assert run_cli("report", "one", "two", "--out", "mine").code == 0
    assert run_cli("report", "one", "two", "--out", "one").code == 2
    assert run_cli("report").code == 2


def test_flags_may_stand_anywhere(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("provider=fake", "prompt=a fox", "-m", "seed=1,2", "hydra.sweep.dir=run")
    assert done.code == 0, done.text
    assert len((tmp_path / "run/images/metadata.jsonl").read_text().splitlines()) == 2


def test_the_sheet_in_other_shapes(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("-m", "provider=fake", "prompt=a fox,a cat", "seed=1,2", "hydra.sweep.dir=run")
    assert done.code == 0, done.text
    done = run_cli("report", "run", "--sheet", "pdf", "--strips=prompt", "--animate", "seed")
    assert done.code == 0, done.text
    for name in ("contact_sheet.pdf", "strips/prompt-001.png", "animation-seed.webp"):
        assert (tmp_path / "run" / name).is_file()
        assert name in done.out
    assert run_cli("report", "run", "--sheet", "bmp").code == 2
    assert run_cli("report", "run", "--animate", "sed").code == 2

"""The way of a user through the real command line, on the fake provider: quick and offline."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.runs import attempts, failures, image_files, manifest, only_run, pixels, rows
from tests.conftest import RunCli, cli_command

FAKE = ("provider=fake", "size=64x64")
SWEEP = ("-m", *FAKE, "prompt=a red star,a blue star", "seed=range(0,4)", "guidance_scale=1,3,5")


def test_a_run_leaves_pictures_rows_a_manifest_and_a_page(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli(*FAKE, "prompt=a red fox, in the snow; it's cold", "seed=7", "n=3")
    assert done.code == 0, done.text
    run = only_run(tmp_path)
    assert str(run.relative_to(tmp_path)) in done.out
    made = rows(run)
    assert [row["seed"] for row in made] == [7, 8, 9]
    assert [row["image_index"] for row in made] == [0, 1, 2]
    assert {row["prompt"] for row in made} == {"a red fox, in the snow; it's cold"}
    assert len(set(pixels(run).values())) == 3
    assert manifest(run)["status"] == "done"
    assert manifest(run)["counts"]["done"] == 3
    for name in ("plan.json", "index.html", "contact_sheet.png", ".hydra/config.yaml"):
        assert (run / name).is_file(), name
    assert next(iter(made[0])) == "file_name"


def test_a_sweep_is_one_plan_one_folder_one_page(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli(*SWEEP)
    assert done.code == 0, done.text
    run = only_run(tmp_path)
    made = rows(run)
    assert len(made) == 24 == len(image_files(run))
    assert [row["index"] for row in made] == list(range(24))
    points = {(row["prompt"], row["seed"], row["guidance_scale"]) for row in made}
    assert len(points) == 24
    assert made[0]["axes"] == {"prompt": "a red star", "seed": 0, "guidance_scale": 1}


def test_groups_become_variants_side_by_side(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli(
        "-m", "provider=fake", "model.name=fake/card,fake/other", "seed=1,2", "prompt=a star",
        "style=none,flat",
    )  # fmt: skip
    assert done.code == 0, done.text
    made = rows(only_run(tmp_path))
    assert len(made) == 8
    assert {row["model"] for row in made} == {"fake/card", "fake/other"}
    assert {row["prompt"] for row in made if row["axes"]["style"] == "none"} == {"a star"}
    assert all("vector" in row["prompt"] for row in made if row["axes"]["style"] == "flat")


def test_a_group_that_a_file_sweeps_is_composed_for_each_value(run_cli: RunCli) -> None:
    done = run_cli("plan", "prompt=a star", "sweep.axes.provider=[fake,diffusers]")
    assert done.code == 0, done.text
    assert "fake/card" in done.out
    assert "builtin/shapes" in done.out


def test_hydras_own_sweeper_is_still_there(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("-m", *FAKE, "hydra/sweeper=basic", "prompt=a star", "seed=1,2")
    assert done.code == 0, done.text
    runs = sorted(path.parent for path in tmp_path.glob("outputs/*/*/*/manifest.json"))
    assert [run.name for run in runs] == ["0", "1"]
    assert [rows(run)[0]["seed"] for run in runs] == [1, 2]


def test_an_unset_seed_is_drawn_once_and_pinned(run_cli: RunCli, tmp_path: Path) -> None:
    fixed = f"hydra.run.dir={tmp_path / 'run'}"
    assert run_cli(*FAKE, "prompt=[a star,a moon]", "n=2", fixed).code == 0
    seeds = [row["seed"] for row in rows(tmp_path / "run")]
    assert seeds[1] == seeds[0] + 1
    assert seeds[2:] == seeds[:2]
    assert run_cli(*FAKE, "prompt=[a star,a moon]", "n=2", fixed).code == 0
    assert [row["seed"] for row in rows(tmp_path / "run")] == seeds
    assert len(attempts(tmp_path / "run")) == 2


def test_the_same_command_on_a_fixed_folder_makes_only_what_is_missing(
    run_cli: RunCli, tmp_path: Path
) -> None:
    fixed = "hydra.sweep.dir=run"
    run = tmp_path / "run"
    assert run_cli("-m", *FAKE, "prompt=a star", "seed=1,2", fixed).code == 0
    first = pixels(run)
    calls = len(attempts(run))
    again = run_cli("-m", *FAKE, "prompt=a star", "seed=1,2", fixed)
    assert again.code == 0
    assert (pixels(run), len(attempts(run))) == (first, calls)
    amended = run_cli("-m", *FAKE, "prompt=a star", "seed=0,1,2,3", fixed)
    assert amended.code == 0, amended.text
    made = rows(run)
    assert [row["seed"] for row in made] == [0, 1, 2, 3]
    assert [row["index"] for row in made] == [0, 1, 2, 3]
    assert first.items() <= pixels(run).items()
    made_now = [row for record in attempts(run)[calls:] for row in record["images"]]
    assert sorted(row["seed"] for row in made_now) == [0, 3]
    assert "kept" not in amended.out
    fewer = run_cli("-m", *FAKE, "prompt=a star", "seed=2,4", fixed)
    assert fewer.code == 0, fewer.text
    kept = "images of earlier plans that this one does not ask for are kept: 3"
    assert f"note: {kept}\n" in fewer.out
    assert manifest(run)["warnings"] == [kept]
    assert len(rows(run)) == 5


def test_a_run_that_has_nothing_to_do_loads_no_engine_and_changes_nothing(
    run_cli: RunCli, tmp_path: Path
) -> None:
    job = (*FAKE, "prompt=a star", "seed=1", "provider.options.price_usd=0.5", "hydra.run.dir=run")
    assert run_cli(*job).code == 0
    run = tmp_path / "run"
    names = (
        "manifest.json",
        "plan.json",
        "index.html",
        "images/metadata.jsonl",
        ".hydra/overrides.yaml",
    )
    before = {name: (run / name).stat().st_mtime_ns for name in names}
    again = run_cli(*job, env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert again.code == 0, again.text
    assert "0 images made, 1 of 1 there" in again.out
    assert "$0.5000" in again.out
    assert {name: (run / name).stat().st_mtime_ns for name in names} == before
    assert re.search(r"\| +runner.cli.batch$", again.err, re.MULTILINE), "no imports were listed"
    for heavy in ("runner.engine.run", "asyncio", "runner.record.manifest"):
        assert not re.search(rf"\| +{heavy}$", again.err, re.MULTILINE), heavy
    (run / "index.html").unlink()
    assert run_cli(*job).code == 0
    assert (run / "index.html").is_file()


def test_a_refusal_is_a_row_and_an_exit_code(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli(*FAKE, "prompt=a star", "n=20", "seed=1", "provider.options.refusal_rate=0.5")
    assert done.code == 1
    run = only_run(tmp_path)
    refused = failures(run)
    assert 0 < len(refused) < 20
    assert len(refused) + len(rows(run)) == 20
    assert {row["outcome"] for row in refused} == {"refused"}
    assert manifest(run)["counts"]["refused"] == len(refused)
    assert f"said no: {len(refused)} images; all the same: python -m runner resume" in done.out
    assert "go on with" not in done.out
    resumed = run_cli("resume", str(run))
    assert resumed.code == 1
    assert len(failures(run)) == len(refused)


def test_a_fault_that_passes_is_tried_again(run_cli: RunCli, tmp_path: Path) -> None:
    options = ("provider.options.rate_limit_rate=0.6", "provider.options.images_per_call=1")
    done = run_cli(*FAKE, "prompt=a star", "n=12", "seed=1", "retry.max_wait_s=0.05", *options)
    assert done.code == 0, done.text
    run = only_run(tmp_path)
    assert len(rows(run)) == 12
    assert any(row["attempts"] > 1 for row in rows(run))
    assert failures(run) == []


def test_what_failed_is_made_by_resume(run_cli: RunCli, tmp_path: Path) -> None:
    options = ("provider.options.error_rate=0.9", "provider.options.images_per_call=1")
    done = run_cli(*FAKE, "prompt=a star", "n=8", "seed=1", "retry.max_attempts=1", *options)
    assert done.code == 1
    run = only_run(tmp_path)
    before = len(failures(run))
    assert before > 0
    codes = [run_cli("resume", str(run)).code for _ in range(1)]
    assert codes in ([0], [1])
    assert len(failures(run)) + len(rows(run)) == 8
    assert {row["attempts"] for row in failures(run)} <= {2}


def test_a_budget_is_never_overstepped(run_cli: RunCli, tmp_path: Path) -> None:
    options = ("provider.options.price_usd=1", "provider.options.images_per_call=1")
    done = run_cli(*FAKE, "prompt=a star", "n=8", "seed=1", "limits.budget_usd=3.5", *options)
    assert done.code == 3, done.text
    assert "budget" in done.text
    run = only_run(tmp_path)
    assert len(rows(run)) == 3
    assert manifest(run)["cost_usd"] == pytest.approx(3)


def test_an_unknown_price_and_a_budget_do_not_start(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli(*FAKE, "limits.budget_usd=3", "provider.options.price_usd=null")
    assert done.code == 3
    assert "limits.allow_unknown_price=true" in done.err
    assert list(tmp_path.iterdir()) == []


def test_an_unsupported_key_is_an_error_that_lists_what_is_taken(run_cli: RunCli) -> None:
    done = run_cli(*FAKE, "background=transparent")
    assert done.code == 2
    assert "background" in done.err
    assert "guidance_scale" in done.err
    assert run_cli(*FAKE, "background=transparent", "unsupported=warn").code == 0


def test_a_dropped_key_is_in_the_row(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli(
        "provider=fake", "provider.options.seeds=none", "seed=3", "unsupported=drop", "prompt=x"
    )
    assert done.code == 0, done.text
    (row,) = rows(only_run(tmp_path))
    assert row["params_dropped"] == ["seed"]
    assert row["seed"] is None
    assert row["seed_sent"] is None


def test_plan_shows_a_table_and_sends_nothing(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("plan", *SWEEP, "provider.options.price_usd=0.04")
    assert done.code == 0, done.text
    assert "24" in done.out
    assert "0.96" in done.out
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_file_streams_in(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "animals.csv").write_text('animal,seed\nfox,1\n"cat, small",2\n')
    done = run_cli(*FAKE, "prompts=animals.csv", "prompt=a photo of a {animal}")
    assert done.code == 0, done.text
    run = only_run(tmp_path)
    assert [(row["prompt"], row["seed"]) for row in rows(run)] == [
        ("a photo of a fox", 1),
        ("a photo of a cat, small", 2),
    ]
    (tmp_path / "animals.csv").unlink()
    rerun = run_cli("rerun", str(run))
    assert rerun.code == 0, rerun.text


def test_a_terminal_that_knows_only_ascii_and_no_home(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    (tmp_path / "prompts.txt").write_text("ein Löwe 🦁\n", encoding="utf-8")
    done = run_cli(*FAKE, "prompts=prompts.txt", "hydra.run.dir=run", env=ascii_only)
    assert done.code == 0, done.text
    assert [row["prompt"] for row in rows(tmp_path / "run")] == ["ein Löwe 🦁"]
    shown = run_cli("show", "run", env=ascii_only)
    assert shown.code == 0, shown.text
    refused = run_cli(*FAKE, "prompt=ein Löwe", "hydra.run.dir=other", env=ascii_only)
    assert refused.code == 2, refused.text
    assert "PYTHONUTF8=1" in refused.err
    assert refused.err.count("\n") == 1
    assert not (tmp_path / "other").exists()


def test_verify_names_the_file_that_changed(run_cli: RunCli, tmp_path: Path) -> None:
    run_cli(*FAKE, "prompt=a star", "n=3", "seed=1")
    run = only_run(tmp_path)
    assert run_cli("verify", str(run)).code == 0
    victim = image_files(run)[1]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    done = run_cli("verify", str(run))
    assert done.code == 1
    assert victim.name in done.text
    assert image_files(run)[0].name not in done.text


def test_rerun_proves_that_a_run_repeats(run_cli: RunCli, tmp_path: Path) -> None:
    run_cli(*FAKE, "prompt=a star", "n=3", "seed=1")
    run = only_run(tmp_path)
    done = run_cli("rerun", str(run))
    assert done.code == 0, done.text
    assert "3 identical-bytes" in done.out
    runs = [path.parent for path in tmp_path.glob("outputs/*/*/manifest.json")]
    assert len(runs) == 2


def test_a_run_without_seeds_says_that_it_cannot_repeat(run_cli: RunCli, tmp_path: Path) -> None:
    run_cli("provider=fake", "provider.options.seeds=none", "prompt=a star")
    done = run_cli("rerun", str(only_run(tmp_path)))
    assert done.code == 0
    assert "1 not-reproducible-by-contract" in done.out


def test_the_folder_loads_as_a_dataset(run_cli: RunCli, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    run_cli("-m", *FAKE, "prompt=a star,a moon", "seed=1,2")
    run = only_run(tmp_path)
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(run / "images"), split="train", cache_dir=str(tmp_path / "c")
    )
    assert len(loaded) == 4
    assert {row["prompt"] for row in loaded} == {"a star", "a moon"}
    assert loaded[0]["image"].size == (64, 64)


@pytest.mark.parametrize("trial", range(3))
def test_killed_and_resumed_is_as_if_nothing_had_happened(
    run_cli: RunCli, tmp_path: Path, trial: int
) -> None:
    job = (*SWEEP, "provider.options.latency_s=0.05", "limits.max_concurrency=3")
    undisturbed, killed = tmp_path / "a", tmp_path / "b"
    assert run_cli(*job, f"hydra.sweep.dir={undisturbed}").code == 0
    child = subprocess.Popen(
        cli_command(*job, f"hydra.sweep.dir={killed}"), cwd=tmp_path, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(killed.glob("journal/*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.Random(trial).uniform(0.0, 0.4))
    child.send_signal(signal.SIGKILL)
    child.wait()
    done_before = {row["cell_id"] for record in attempts_of_torn(killed) for row in record}
    resumed = run_cli("resume", str(killed))
    assert resumed.code == 0, resumed.text
    assert pixels(killed) == pixels(undisturbed)
    stable = ("index", "cell_id", "prompt", "seed", "guidance_scale", "sha256", "axes")
    assert [[row[key] for key in stable] for row in rows(killed)] == [
        [row[key] for key in stable] for row in rows(undisturbed)
    ]
    done = [row["cell_id"] for record in attempts(killed) for row in record["images"]]
    assert len(done) == len(set(done)) == 24
    assert done_before <= set(done)
    assert run_cli("verify", str(killed)).code == 0


def attempts_of_torn(run: Path) -> list[list[dict[str, str]]]:
    """Image rows of every whole journal line; the last line may be torn."""
    found = []
    for file in (run / "journal").glob("*.jsonl"):
        for line in file.read_text(errors="replace").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            found.append(record.get("images", []))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_once_finishes_what_is_in_flight(
    run_cli: RunCli, tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    job = (*SWEEP, "provider.options.latency_s=0.2", "limits.max_concurrency=2")
    child = subprocess.Popen(
        cli_command(*job, f"hydra.sweep.dir={run}"), cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not any(run.glob("images/0000/*.png")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, number)
    text, _ = child.communicate(timeout=60)
    assert child.returncode == 130, text
    assert f"resume {run}" in text
    assert manifest(run)["status"] == "interrupted"
    made = len(rows(run))
    assert 0 < made < 24
    assert len(pixels(run)) == made
    assert run_cli("resume", str(run)).code == 0
    assert len(rows(run)) == 24


def test_two_processes_do_not_share_a_folder(run_cli: RunCli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = (*FAKE, "prompt=a star", "n=4", "provider.options.latency_s=20", f"hydra.run.dir={run}")
    child = subprocess.Popen(
        cli_command(*job), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not list(run.glob("journal/*.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.01)
        second = run_cli(*job)
        assert second.code == 3
        assert str(child.pid) in second.err
    finally:
        child.kill()
        child.wait()

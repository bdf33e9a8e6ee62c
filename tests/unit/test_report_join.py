"""Several runs in one page: cells meet where their axes agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.record.derive import read_failures, read_rows
from runner.record.manifest import read_manifest
from runner.record.paths import RunPaths
from runner.report import write_report
from runner.report.gallery import load
from runner.report.join import join
from runner.settings.errors import RequestError
from tests.report_fixture import RunFolder, encode, picture


def run(root: Path, provider: str, seeds: range, *, fails: bool = False) -> Path:
    folder = RunFolder(root)
    for seed in seeds:
        folder.add_image(
            encode(picture(provider, seed, (32, 32))),
            axes={"prompt": "a fox", "seed": seed},
            prompt="a fox",
            provider=provider,
            seed=seed,
            cost_usd=0.5,
            cost_basis="price_book",
        )
    if fails:
        failed = {"prompt": "a fox", "provider": provider, "variant": 2, "model": "builtin"}
        folder.add_failure(axes={"prompt": "a fox", "seed": 9}, **failed)
    return folder.write()


def test_cells_of_two_runs_meet_in_one_matrix(tmp_path: Path) -> None:
    first = run(tmp_path / "first", "openai", range(3))
    second = run(tmp_path / "second", "diffusers", range(1, 4), fails=True)
    out = tmp_path / "both"
    join([first, second], out)
    gallery = load(out)
    assert len(gallery) == 7
    axes = {axis.label: axis.values for axis in gallery.axes}
    assert axes["provider"] == ("openai", "diffusers")
    assert axes["seed"] == (0, 1, 2, 3, 9)
    manifest = read_manifest(RunPaths(out))
    assert manifest.cost_usd == 3.0
    assert manifest.counts.model_dump() == {"done": 6, "refused": 0, "failed": 1, "unknown": 0}
    assert manifest.status == "incomplete"
    paths = RunPaths(out)
    for row in read_rows(paths):
        assert paths.image(row.file_name).read_bytes().startswith(b"\x89PNG")
    assert [row.provider for row in read_failures(paths)] == ["diffusers"]
    write_report(out)
    assert (out / "index.html").is_file()
    assert (out / "contact_sheet.png").is_file()


def test_two_runs_of_one_model_are_told_apart_by_their_names(tmp_path: Path) -> None:
    yesterday = run(tmp_path / "yesterday", "openai", range(2))
    today = run(tmp_path / "today", "openai", range(2))
    join([yesterday, today], tmp_path / "both")
    axes = {axis.label: axis.values for axis in load(tmp_path / "both").axes}
    assert axes["run"] == ("yesterday", "today")


def test_a_joined_folder_is_made_anew_and_nothing_else_is_replaced(tmp_path: Path) -> None:
    first = run(tmp_path / "first", "openai", range(2))
    second = run(tmp_path / "second", "diffusers", range(2))
    out = tmp_path / "both"
    join([first, second], out)
    join([second, first], out)
    assert load(out).axes[0].values == ("diffusers", "openai")
    for other in (first, tmp_path):
        with pytest.raises(RequestError, match="--out"):
            join([first, second], other)
    assert (first / "images").is_dir()


def test_an_image_that_is_gone_is_a_tile(tmp_path: Path) -> None:
    first = run(tmp_path / "first", "openai", range(2))
    gone = next(read_rows(RunPaths(first)))
    RunPaths(first).image(gone.file_name).unlink()
    join([first, run(tmp_path / "second", "diffusers", range(2))], tmp_path / "both")
    write_report(tmp_path / "both")
    assert "The file is missing" in (tmp_path / "both" / "index.html").read_text()

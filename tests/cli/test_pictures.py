"""Input pictures from folders, patterns, earlier runs, prompt files and lists, through a plan."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from runner.plan.pictures import every_picture, stands_for_many
from runner.settings.errors import RequestError
from tests.cli.runs import only_run, rows
from tests.conftest import RunCli


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, color in ((1, "red"), (2, "green"), (10, "blue")):
        Image.new("RGB", (64, 64), color).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_a_folder_and_a_pattern_are_their_pictures_as_people_count(photos: Path) -> None:
    wanted = tuple(str(photos / f"{number}.png") for number in (1, 2, 10))
    assert every_picture([str(photos)], "pipeline.image") == wanted
    assert every_picture([f"{photos}/*"], "pipeline.image") == wanted
    assert every_picture([f"{photos}/1*.png", "x.png"], "k") == (wanted[0], wanted[2], "x.png")
    assert not stands_for_many(wanted[0])
    assert not stands_for_many("https://example.com/a?b=[c]*")


def test_nothing_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for value, words in (
        (str(tmp_path / "empty"), "no picture there"),
        (f"{tmp_path}/*.png", "no picture there"),
        (f"run:{tmp_path}", "is no run folder"),
    ):
        with pytest.raises(RequestError, match=words):
            every_picture([value], "pipeline.image")


def test_a_folder_then_its_run_then_a_list(run_cli: RunCli, tmp_path: Path, photos: Path) -> None:
    model = ("pipeline=img2img", "pipeline.strength=0.5", "steps=2", "seed=3", "prompt=a red star")
    done = run_cli(*model, f"pipeline.image={photos}")
    assert done.code == 0, done.text
    first = only_run(tmp_path)
    assert [Path(row["input_image"]).name[17:] for row in rows(first)] == [
        "1.png",
        "2.png",
        "10.png",
    ]
    second = tmp_path / "second"
    done = run_cli(*model, f"pipeline.image=run:{first}", f"hydra.run.dir={second}")
    assert done.code == 0, done.text
    assert len(rows(second)) == 3
    assert len({row["pixel_sha256"] for row in rows(second)}) == 3
    table = tmp_path / "table.csv"
    table.write_text("photo,what\nphotos/1.png,a star\nphotos/2.png,a ring\n")
    done = run_cli(
        "plan", "pipeline=img2img", "prompts=table.csv", "prompt='a red {what}'",
        "pipeline.image='{photo}'",
    )  # fmt: skip
    assert done.code == 0, done.text
    assert re.search(r"provider=diffusers +2 +2 ", done.text)
    done = run_cli(
        "plan", "pipeline=img2img", "pipeline.image=[photos/1.png,photos/2.png]", "prompt=x"
    )
    assert done.code == 0, done.text
    assert re.search(r"provider=diffusers +2 +2 ", done.text)

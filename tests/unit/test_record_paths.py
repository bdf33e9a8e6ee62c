"""Names of files come from ids only, and lead nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.record.paths import RunPaths, image_name, parse_image_name, temp_path
from tests.unit.records import cell_id


def test_a_name_is_index_and_id() -> None:
    name = image_name(3127, "5f0c" + "a" * 60, ".png")
    assert name == "0003/0003127-5f0caaaaaaaa.png"
    assert parse_image_name(name) == (3127, "5f0caaaaaaaa")


@given(st.integers(0, 10**10), st.sampled_from([".png", ".jpg", ".webp", ".svg"]))
def test_every_name_is_parsed_back(index: int, suffix: str) -> None:
    name = image_name(index, cell_id(index), suffix)
    assert parse_image_name(name) == (index, cell_id(index)[:12])
    assert RunPaths(Path("run")).image(name) == Path("run/images") / name


@pytest.mark.parametrize(
    "name",
    [
        "../0003127-5f0caaaaaaaa.png",
        "0003/../../x.png",
        "/etc/passwd",
        "0004/0003127-5f0caaaaaaaa.png",
        "0003/0003127-5F0CAAAAAAAA.png",
        "0003/0003127-5f0caaaaaaaa.png\n",
        "0003/0003127-5f0caaaaaaaa",
        "0003/.0003127-5f0caaaaaaaa.png.tmp",
        "٠٠٠٣/0003127-5f0caaaaaaaa.png",
        "metadata.jsonl",
        "",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    assert parse_image_name(name) is None
    with pytest.raises(ValueError, match="not the name of an image"):
        RunPaths(Path("run")).image(name)


def test_one_place_in_two_plans_has_two_names() -> None:
    assert image_name(5, cell_id(1), ".png") != image_name(5, cell_id(2), ".png")


def test_only_our_own_temporary_files_are_found(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    shard = paths.images / "0000"
    shard.mkdir(parents=True)
    image = paths.image(image_name(1, cell_id(1), ".png"))
    ours = [temp_path(paths.manifest), temp_path(paths.metadata), temp_path(image)]
    theirs = [shard / "notes.tmp", shard / ".swp.tmp", paths.root / ".other.tmp", image]
    for path in ours + theirs:
        path.write_bytes(b"x")
    assert sorted(paths.temp_files()) == sorted(ours)

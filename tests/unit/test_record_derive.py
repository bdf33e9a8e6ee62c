"""The derived files, read by the library that they are made for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from runner.record.derive import derive, flat, read_failures, read_rows, write_state
from runner.record.paths import image_name
from runner.record.reader import CUT_OFF
from runner.record.state import load_state
from runner.record.store import RunStore
from tests.unit.records import (
    attempt,
    cell_id,
    done,
    failed,
    failure_row,
    image_row,
    picture,
    sent,
    with_store,
    write_run,
)


def test_rows_are_sorted_flat_and_come_back_as_they_were(tmp_path: Path) -> None:
    records = [done(1007), failed(4, "refused"), done(2), failed(3), done(3), sent(9)]
    paths = write_run(tmp_path, records)
    state = derive(paths)
    assert state.counts == {"done": 3, "refused": 1, "failed": 0, "unknown": 1}
    lines = [json.loads(line) for line in paths.metadata.read_text().splitlines()]
    assert [next(iter(line)) for line in lines] == ["file_name"] * 3
    assert [line["index"] for line in lines] == [2, 3, 1007]
    assert not any(isinstance(value, dict) for line in lines for value in line.values())
    assert [line["file_name"] for line in lines] == [
        path.relative_to(paths.images).as_posix() for path in sorted(paths.images.rglob("*.png"))
    ]
    assert list(read_rows(paths)) == [image_row(index, picture(index)) for index in (2, 3, 1007)]
    refused, lost = read_failures(paths)
    assert refused == failure_row(4, "refused")
    assert (lost.outcome, lost.index, lost.cell_id) == ("unknown", 9, cell_id(9))
    assert (lost.provider, lost.message, lost.cost_usd) == ("fake", CUT_OFF, 0.5)


def test_a_run_that_goes_on_lists_no_call_in_flight(tmp_path: Path) -> None:
    paths = write_run(tmp_path, [done(1), sent(2)])
    state = load_state(paths, live=True)
    write_state(paths, state)
    assert state.counts["unknown"] == 0
    assert list(read_failures(paths)) == []


def test_images_of_one_call_are_found_each(tmp_path: Path) -> None:
    images = tuple(image_row(index, picture(index)) for index in (5, 3, 4))
    paths = write_run(
        tmp_path, [attempt(1, outcome="partial", images=images, failures=(failure_row(2),))]
    )
    derive(paths)
    assert [row.index for row in read_rows(paths)] == [3, 4, 5]
    assert [row.index for row in read_failures(paths)] == [2]


def test_no_run_no_rows(tmp_path: Path) -> None:
    paths = write_run(tmp_path, [])
    assert list(read_rows(paths)) == []
    derive(paths)
    assert list(read_rows(paths)) == list(read_failures(paths)) == []


def test_deriving_twice_changes_nothing(tmp_path: Path) -> None:
    paths = write_run(tmp_path, [done(1), failed(2)])
    derive(paths)
    first = paths.metadata.read_bytes(), paths.failures.read_bytes()
    derive(paths)
    assert (paths.metadata.read_bytes(), paths.failures.read_bytes()) == first


def test_text_that_is_not_unicode_does_not_break_the_file(tmp_path: Path) -> None:
    record = done(1, prompt="größe 🦊", revised_prompt="half a \ud83e character")
    paths = write_run(tmp_path, [record])
    derive(paths)
    assert "größe 🦊" in paths.metadata.read_text(encoding="utf-8")
    (row,) = read_rows(paths)
    assert row.revised_prompt == "half a ? character"


def test_the_input_image_does_not_take_the_place_of_the_picture() -> None:
    row = flat(image_row(1, picture(1), image="in.png"))
    assert "image" not in row
    assert row["input_image"] == "in.png"


def test_the_folder_is_an_imagefolder_whatever_providers_send(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    odd = {
        0: {"params_sent": {"quality": "high"}, "axes": {"seed": 1}},
        1: {"params_sent": {"quality": 80}, "axes": {"seed": None, "style": "x"}},
        2: {"params_sent": {"quality": [1, {"a": 2}]}, "image": "in.png", "mask": "m.png"},
        3: {"params_effective": {"seed": 2**70}, "warnings": ("cut",), "marks": ("c2pa",)},
        4: {"guidance_scale": 7, "cost_usd": None, "seed": None, "params_dropped": ("seed",)},
        5: {"guidance_scale": 7.5, "cost_usd": 0.04, "seed": 2**63 - 1, "revised_prompt": "fox"},
    }
    paths = write_run(tmp_path / "run", [done(index, **more) for index, more in odd.items()])
    derive(paths)
    folder = datasets.load_dataset(
        "imagefolder", data_dir=str(paths.images), cache_dir=str(tmp_path / "cache"), split="train"
    )
    assert len(folder) == 6
    first = folder[1]
    assert first["image"].size == (12, 8)
    file = paths.image(image_name(1, cell_id(1), ".png"))
    assert first["image"].convert("RGB").tobytes() == Image.open(file).tobytes()
    assert json.loads(first["params_sent"]) == {"quality": 80}
    assert folder[2]["input_image"] == "in.png"
    assert folder[5]["seed"] == 2**63 - 1


def test_rows_of_a_later_process_win(tmp_path: Path) -> None:
    write_run(tmp_path, [failed(1), failed(2, "unknown")])
    paths = write_run(tmp_path, [done(1), failed(2, "refused")])
    derive(paths)
    assert [row.index for row in read_rows(paths)] == [1]
    assert [row.outcome for row in read_failures(paths)] == ["refused"]


def test_an_adopted_image_has_its_row(tmp_path: Path) -> None:
    paths = write_run(tmp_path, [sent(1)])
    image = paths.image(image_name(1, cell_id(1), ".png"))
    image.parent.mkdir()
    image.write_bytes(picture(1))

    async def adopt(store: RunStore) -> None:
        await store.commit(done(1), {})

    with_store(tmp_path, adopt)
    state = derive(paths)
    assert state.unanswered == {}
    assert [row.sha256 for row in read_rows(paths)] == [image_row(1, picture(1)).sha256]

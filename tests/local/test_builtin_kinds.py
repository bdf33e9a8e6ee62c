"""The built-in model with pictures that go in: strength, mask and edges do what they should."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("diffusers")

from runner.cli.main import run
from runner.providers.local import load
from runner.providers.local.builtin.measure import load_pipeline, reconstruct
from runner.providers.local.canny import canny
from tests.cli.runs import only_run, rows
from tests.conftest import RunCli
from tests.local.drawings import SIDE, Drawings, Pixels, distance, pixels, scene
from tests.local.driver import Driver, cell, opened

STEPS = 16
SETTINGS: dict[str, Any] = {
    "components": {"text_encoder_3": None, "tokenizer_3": None},
    "traits": {"call": {"max_sequence_length": 32}, "controlnet": "builtin/edges"},
}
PROMPT = "a large red heart on a blue background"
EDGE_BAR = 0.7
"""Least share of edges that lie within a pixel of the wanted ones, and of wanted ones found."""


def drawn(driver: Driver, seed: int = 3, prompt: str = PROMPT, **keys: Any) -> Pixels:
    asked = {"steps": STEPS, "guidance_scale": 4.0} | keys
    return pixels(driver.files(cell(prompt, seed, **asked))[0])


@pytest.fixture(scope="module")
def through_vae(drawings: Drawings) -> Pixels:
    """The input after the autoencoder: what a picture that was not changed looks like."""
    made = reconstruct(load_pipeline(), Image.open(drawings.image))
    return np.asarray(made).astype(np.float32)


@pytest.fixture(scope="module")
def repaint(drawings: Drawings) -> Iterator[Driver]:
    with opened("builtin/shapes", model=SETTINGS, pipeline="img2img", batch_size=1) as driver:
        yield driver


def test_strength_is_how_far_a_picture_goes(
    repaint: Driver, drawings: Drawings, through_vae: Pixels
) -> None:
    far = [
        distance(drawn(repaint, image=drawings.image, strength=strength), through_vae)
        for strength in (0.1, 0.6, 1.0)
    ]
    assert far[0] < 8
    assert far[0] < far[1] < far[2]
    assert far[2] > 60


def test_outside_the_mask_only_the_autoencoder_changes_anything(
    drawings: Drawings, through_vae: Pixels
) -> None:
    before = pixels(drawings.image)
    vae_error = distance(through_vae, before)
    kept = slice(0, SIDE // 2 - 6)  # A latent is four pixels wide, and the decoder looks around.
    with opened("builtin/shapes", model=SETTINGS, pipeline="inpaint", batch_size=1) as driver:
        made = drawn(driver, image=drawings.image, mask=drawings.mask, strength=1.0)
    assert distance(made[:, kept], before[:, kept]) < 2 * vae_error + 1
    assert distance(made[:, SIDE // 2 :], before[:, SIDE // 2 :]) > 60


def test_a_black_mask_changes_nothing_and_a_white_one_everything(
    drawings: Drawings, through_vae: Pixels, tmp_path: Path
) -> None:
    masks = {name: str(tmp_path / f"{name}.png") for name in ("black", "white")}
    for name, path in masks.items():
        Image.new("L", (SIDE, SIDE), name).save(path)
    with opened("builtin/shapes", model=SETTINGS, pipeline="inpaint", batch_size=1) as driver:
        keys = {"image": drawings.image, "strength": 1.0}
        black, white = (drawn(driver, mask=masks[name], **keys) for name in ("black", "white"))
    assert distance(black, through_vae) < 3
    assert distance(white, through_vae) > 60


def test_edges_are_followed(drawings: Drawings) -> None:
    wanted = np.asarray(Image.open(drawings.edges)) > 0
    prompt = "a large red star on a white background"
    with opened("builtin/shapes", model=SETTINGS, pipeline="controlnet", batch_size=1) as driver:
        scores = [
            overlap(wanted, drawn(driver, seed, prompt, control_image=drawings.edges))
            for seed in range(4)
        ]
        loose = overlap(
            wanted, drawn(driver, 0, prompt, control_image=drawings.edges, control_scale=0.0)
        )
    assert sum(score > EDGE_BAR for score in scores) >= 3, scores
    assert loose < min(sorted(scores)[1:])


def overlap(wanted: np.ndarray[Any, Any], picture: Pixels) -> float:
    """Edges of a picture against those that were wanted, within one pixel: F1 score."""
    found = np.asarray(canny(Image.fromarray(picture.astype(np.uint8)))) > 0
    if not found.any():
        return 0.0
    precise = (found & near(wanted)).sum() / found.sum()
    complete = (wanted & near(found)).sum() / wanted.sum()
    return float(2 * precise * complete / max(precise + complete, 1e-9))


def near(lines: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    grown = lines.copy()
    for axis in (0, 1):
        grown |= np.roll(grown, 1, axis) | np.roll(grown, -1, axis)
    return grown


def test_the_command_line_repeats_an_inpainted_picture(
    tmp_path: Path,
    drawings: Drawings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.png").write_bytes(Path(drawings.image).read_bytes())
    Path("mask.png").write_bytes(Path(drawings.mask).read_bytes())
    words = ["pipeline=inpaint", "pipeline.image=in.png", "pipeline.mask=mask.png"]
    assert run([*words, "pipeline.strength=1", f"prompt={PROMPT}", "n=2", "device.threads=1"]) == 0
    made = only_run(tmp_path)
    assert [row["pipeline"] for row in rows(made)] == ["inpaint"] * 2
    Path("in.png").unlink()  # The run keeps its own copy.
    capsys.readouterr()
    assert run(["rerun", str(made)]) == 0
    assert "2 identical-bytes" in capsys.readouterr().out
    load.forget()


def test_missing_pictures_and_steps_are_told_before_anything_is_loaded(
    run_cli: RunCli, tmp_path: Path
) -> None:
    scene("ring", "red", "white").save(tmp_path / "in.png")
    done = run_cli("pipeline=inpaint", "pipeline.image=in.png", "pipeline.strength=0.01")
    assert done.code == 2
    assert "pipeline=inpaint needs pipeline.mask=FILE" in done.text
    assert "pipeline.strength=0.01 of 16 steps is less than one step" in done.text
    done = run_cli("pipeline=controlnet", "pipeline.control_image=in.png", "model.controlnet=none/")
    assert done.code == 2
    assert "model.controlnet='none/': no such folder" in done.text

"""What goes wrong with one image costs no other one, and the next call finds all in order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")

import torch

from runner.cli.main import run
from runner.providers.contract import Call, Missing, Picture, ProviderError
from runner.providers.local import load
from tests import tiny
from tests.cli.runs import failures, manifest, rows
from tests.local.drawings import Drawings
from tests.local.driver import Notebook, cell, opened

Folder = Callable[[tiny.Family], Path]
FULL = "CUDA out of memory. Tried to allocate 2.00 GiB."
FOX, CAT, SEA = "a red fox", "a black cat", "the blue sea"


def spoil_decoding(pipe: Any, slot: int) -> None:
    """Let the autoencoder compute NaN for one image of every batch."""
    decode = pipe.vae.decode

    def spoilt(*args: Any, **kwargs: Any) -> Any:
        decoded = decode(*args, **kwargs)
        decoded[0][slot] = float("nan")
        return decoded

    pipe.vae.decode = spoilt


def refuse_more_than(images: int, network: torch.nn.Module, argument: str, after: int = 0) -> None:
    """Let a network run out of memory on larger batches, after so many that it can still do."""
    calls = itertools.count()

    def weigh(_: object, __: object, arguments: dict[str, Any]) -> None:
        if len(arguments[argument]) > images and next(calls) >= after:
            raise torch.OutOfMemoryError(FULL)

    network.register_forward_pre_hook(weigh, with_kwargs=True)


def test_nan_of_one_image_is_its_own(tiny_folder: Folder) -> None:
    cells = [cell(FOX, 1), cell(CAT, 2), cell(SEA, 3)]
    with opened(tiny_folder("sd15")) as driver:
        wanted = driver.files(*cells)
        spoil_decoding(driver.pipe, 1)
        fox, cat, sea = driver.answer(*cells).outputs
    assert isinstance(cat, Missing)
    assert (cat.outcome, cat.kind) == ("failed", "nan")
    assert [getattr(output, "data", None) for output in (fox, sea)] == [wanted[0], wanted[2]]


def test_an_error_that_one_image_causes_is_its_own(tiny_folder: Folder) -> None:
    cells = [cell(FOX, 1), cell(CAT, 2), cell(SEA, 3)]
    with opened(tiny_folder("sd15")) as driver:
        wanted = driver.files(*cells)
        check = driver.pipe.check_inputs

        def choosy(prompt: list[str], *args: Any, **kwargs: Any) -> None:
            if CAT in prompt:
                raise ValueError("no cats\nhere")
            check(prompt, *args, **kwargs)

        driver.pipe.check_inputs = choosy
        fox, cat, sea = driver.answer(*cells).outputs
        assert cat == Missing(outcome="failed", kind="invalid", message="ValueError: no cats")
        assert [getattr(output, "data", None) for output in (fox, sea)] == [wanted[0], wanted[2]]
        with pytest.raises(ValueError, match="no cats"):
            driver.answer(cells[1], cell(CAT, 5))


def test_a_picture_that_cannot_be_read_is_its_own(
    tiny_folder: Folder, drawings: Drawings, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(drawings.image).read_bytes()[:100])
    good, bad = (cell(FOX, 1, image=str(path)) for path in (drawings.image, broken))
    with opened(tiny_folder("sd15"), pipeline="img2img") as driver:
        (wanted,) = driver.files(good)
        first, second, third = driver.answer(bad, good, bad).outputs
        with pytest.raises(ProviderError, match=r"broken\.png"):
            driver.answer(bad)
    assert isinstance(second, Picture)
    assert second.data == wanted
    for output in (first, third):
        assert isinstance(output, Missing)
        assert (output.outcome, output.code) == ("failed", "bad_input")


def test_a_gpu_that_failed_ends_the_call(tiny_folder: Folder) -> None:
    with opened(tiny_folder("sd15")) as driver:
        calls = []

        def fail(*_: object) -> None:
            calls.append(1)
            raise RuntimeError("CUDA error: device-side assert triggered")

        driver.pipe.unet.register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="CUDA error"):
            driver.answer(cell(FOX, 1), cell(CAT, 2))
        assert len(calls) == 1


def test_images_of_a_size_that_does_not_fit_are_halved_and_no_others(tiny_folder: Folder) -> None:
    small = [cell(FOX, seed) for seed in range(4)]
    large = [cell(FOX, seed, size="64x96") for seed in range(4)]
    with opened(tiny_folder("flux"), batch_size=4) as driver:

        def weigh(_: object, __: object, arguments: dict[str, Any]) -> None:
            if arguments["hidden_states"].shape[:2].numel() > 64:
                raise torch.OutOfMemoryError(FULL)

        driver.pipe.transformer.register_forward_pre_hook(weigh, with_kwargs=True)
        for cells, size in ((small, 4), (large, 2), (small, 4), (large, 2)):
            answer = driver.answer(*cells)
            assert answer.recipe is not None
            assert answer.recipe["batch_size"] == size
            for output in answer.outputs:
                assert isinstance(output, Picture)
                assert [text[:22] for text in output.warnings] == (
                    ["computed in batches of"] if size == 2 else []
                )


def test_what_is_kept_between_steps_is_forgotten_with_a_broken_call(tiny_folder: Folder) -> None:
    class Breaking(Notebook):
        def progress(self, call: Call, done: int, total: int) -> None:
            if done == 2:
                raise RuntimeError("broken off")

    options = {"step_cache": "first_block", "step_cache_threshold": 0.9}
    with opened(tiny_folder("flux"), batch_size=1, options=options) as driver:
        wanted = driver.files(cell(FOX, 7, steps=4))
        with pytest.raises(RuntimeError, match="broken off"):
            driver.answer(cell(CAT, 3, steps=4), listener=Breaking())
        assert driver.files(cell(FOX, 7, steps=4)) == wanted


def test_a_run_with_little_memory_and_a_bad_image(
    tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_pipeline = load.load_pipeline

    def loaded(*args: Any) -> Any:
        pipe = load_pipeline(*args)
        refuse_more_than(4, pipe.unet, "encoder_hidden_states")  # two, with and without the prompt
        spoil_decoding(pipe, 1)
        return pipe

    monkeypatch.setattr(load, "load_pipeline", loaded)
    monkeypatch.chdir(tmp_path)
    model = ["model=hub/sd15", "model.variant=null", f"model.name={tiny_folder('sd15')}"]
    sizes = ["size=64x64", "steps=2", "device=cpu", "device.threads=1", "device.batch_size=4"]
    code = run(["-m", *model, *sizes, "prompt=a fox", "seed=range(0,6)", "hydra.sweep.dir=run"])
    load.forget()
    assert code == 1
    made = rows(tmp_path / "run")
    assert [row["seed"] for row in made] == [0, 2, 4]
    text = "computed in batches of 2: device.batch_size=4 does not fit into the memory"
    assert all(row["warnings"] == [text] for row in made)
    (recipe,) = manifest(tmp_path / "run")["recipes"].values()
    assert recipe["batch_size"] == 2
    missing = failures(tmp_path / "run")
    assert [(row["index"], row["outcome"], row["kind"]) for row in missing] == [
        (index, "failed", "nan") for index in (1, 3, 5)
    ]


def test_images_of_smaller_batches_are_made_again_as_they_were(
    tiny_folder: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    load_pipeline = load.load_pipeline

    def loaded(*args: Any) -> Any:
        pipe = load_pipeline(*args)
        refuse_more_than(4, pipe.unet, "encoder_hidden_states", after=2)  # the steps of one call
        return pipe

    monkeypatch.chdir(tmp_path)
    model = ["model=hub/sdxl", "model.variant=null", f"model.name={tiny_folder('sdxl')}"]
    sizes = ["size=64x64", "steps=2", "device=cpu", "device.threads=1", "device.batch_size=4"]
    with monkeypatch.context() as short:
        short.setattr(load, "load_pipeline", loaded)
        load.forget()
        assert not run(
            ["-m", *model, *sizes, "prompt=a fox", "seed=range(0,9)", "hydra.sweep.dir=run"]
        )
        load.forget()

    def batches(folder: Path) -> list[Any]:
        recipes = manifest(folder)["recipes"]
        return [recipes[row["recipe"]]["batch_size"] for row in rows(folder)]

    assert batches(tmp_path / "run") == [4] * 4 + [2] * 5
    capsys.readouterr()
    assert run(["rerun", "run"]) == 0
    assert "9 identical-bytes" in capsys.readouterr().out
    (again,) = (tmp_path / "outputs").glob("*/*")
    assert batches(again) == [4] * 4 + [2] * 5
    assert not any(row["warnings"] for row in rows(again))
    # What is set anew is what is done, and then some are not the same any more.
    run(["rerun", "run", "device.batch_size=4"])
    assert "9 identical-bytes" not in capsys.readouterr().out
    load.forget()

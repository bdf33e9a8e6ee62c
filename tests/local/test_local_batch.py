"""``device.batch_size=auto``: what the trial decides, and that a run keeps what was decided."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")

from runner.cli.main import run
from runner.providers.contract import Call
from runner.providers.local.device import Weights
from runner.providers.local.trial import best_size, fits, gains_nothing, trial_steps
from tests import tiny
from tests.cli.runs import manifest, rows
from tests.local.driver import Notebook, cell, opened

Folder = Callable[[tiny.Family], Path]

FLAT = {size: float(size) for size in (1, 2, 4, 8, 16)}
LATENCY = dict.fromkeys((1, 2, 4, 8, 16), 1.0)


@pytest.mark.parametrize(
    ("took", "calls", "size", "tried"),
    [
        (FLAT, [16], 1, [1, 2]),
        ({1: 1.0, 2: 1.95}, [16], 1, [1, 2]),
        (LATENCY, [16, 16], 16, [1, 2, 4, 8, 16]),
        ({1: 1.0, 2: 1.2, 4: 1.5}, [16], 4, [1, 2, 4, 8]),
        ({1: 1.0, 2: 1.2, 4: 1.5, 8: 2.95}, [16], 4, [1, 2, 4, 8]),
        # What is filled up is computed too.
        ({1: 1.0, 2: 1.2, 4: 1.5, 8: 2.4, 16: 4.0}, [12], 4, [1, 2, 4, 8]),
        (LATENCY, [1] * 50, 1, [1]),
        (LATENCY, [3] * 50, 2, [1, 2]),
        ({}, [16], 1, [1]),
    ],
)
def test_the_size_that_makes_all_images_soonest(
    took: dict[int, float], calls: list[int], size: int, tried: list[int]
) -> None:
    asked: list[int] = []

    def seconds(size: int) -> float | None:
        asked.append(size)
        return took.get(size)

    assert best_size(seconds, calls) == size
    assert asked == tried


def test_what_a_trial_costs_and_when_there_is_none() -> None:
    assert trial_steps(30, None) == 4
    assert trial_steps(30, 0.1) == 30
    assert trial_steps(30, 0.5) == 8
    assert trial_steps(2, 1) == 2
    assert trial_steps(None, None) is None
    assert gains_nothing("cpu", Weights(800_000_000, 1_000_000_000))
    assert not gains_nothing("cpu", Weights(1_000_000, 2_000_000))
    assert not gains_nothing("cuda:0", Weights(800_000_000, 1_000_000_000))
    assert fits(10**12, None)
    assert fits(8 * 2**30, 10 * 2**30)
    assert not fits(10 * 2**30, 10 * 2**30)


def test_a_size_that_does_not_fit_is_not_taken(tiny_folder: Folder) -> None:
    import torch

    cells = [cell("a red fox", seed) for seed in range(5)]
    with opened(tiny_folder("sd3"), batch_size="auto") as driver:
        seen: list[int] = []

        def weigh(_: object, __: object, arguments: dict[str, Any]) -> None:
            images = len(arguments["hidden_states"]) // 2  # with and without the prompt
            seen.append(images)
            if images > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        hook = driver.pipe.transformer.register_forward_pre_hook(weigh, with_kwargs=True)
        assert driver.provider.images_per_call(cells[0].params) == 16
        settled = asyncio.run(driver.provider.settle(iter([cells, cells[:3]])))
        hook.remove()
        size = settled["device.batch_size"]
        assert size in {1, 2}
        assert max(seen) <= 4, "nothing beyond the first size that does not fit"
        assert driver.provider.images_per_call(cells[0].params) == size
        answer = driver.answer(*cells)
        assert answer.recipe is not None
        assert answer.recipe["batch_size"] == size
        files = [getattr(output, "data", None) for output in answer.outputs]
        assert [getattr(output, "warnings", None) for output in answer.outputs] == [()] * 5
    with opened(tiny_folder("sd3"), batch_size=size) as driver:
        assert driver.files(*cells) == files


def test_a_trial_that_is_cancelled_leaves_the_pipeline_usable(tiny_folder: Folder) -> None:
    cells = [cell("a red fox", seed, steps=500) for seed in range(16)]

    async def main() -> None:
        trial = asyncio.ensure_future(driver.provider.settle(iter([cells])))
        await asyncio.sleep(0.1)
        trial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trial
        driver.provider.compute_together(1)
        again = Call("again", (cell("a red fox", 7),))
        outputs.extend((await driver.provider.generate(again, Notebook())).outputs)

    outputs: list[object] = []
    with opened(tiny_folder("sd15"), batch_size="auto") as driver:
        asyncio.run(main())
    assert len(outputs) == 1


def test_a_run_decides_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["-m", "device=cpu", "device.batch_size=auto", "device.threads=1", "steps=1",
             "prompt=a red star,a blue ring", "seed=range(0,3)", "hydra.sweep.dir=run"]  # fmt: skip
    assert run(asked) == 0
    made = manifest(tmp_path / "run")
    (variant,) = made["variants"]
    assert variant["config"]["device"]["batch_size"] == "auto"
    decided = variant["settled"]["device.batch_size"]
    assert [recipe["batch_size"] for recipe in made["recipes"].values()] == [decided]

    # Five is a size that no trial tries: whatever has it took it from the record.
    shutil.copytree("run", "kept")
    variant["settled"]["device.batch_size"] = 5
    Path("kept/manifest.json").write_text(json.dumps(made))
    for old in Path("kept/journal").iterdir():
        old.unlink()
    assert run([*asked[:-1], "hydra.sweep.dir=kept"]) == 0
    again = manifest(tmp_path / "kept")
    assert again["variants"][0]["settled"] == {"device.batch_size": 5}
    assert 5 in [recipe["batch_size"] for recipe in again["recipes"].values()]
    assert run(["rerun", "kept"]) == 0
    (rerun,) = (tmp_path / "outputs").glob("*/*")
    assert manifest(rerun)["variants"][0]["settled"] == {"device.batch_size": 5}
    assert [recipe["batch_size"] for recipe in manifest(rerun)["recipes"].values()] == [5]
    assert {row["cell_id"] for row in rows(rerun)} == {
        row["cell_id"] for row in rows(tmp_path / "run")
    }


def test_a_plan_says_that_it_will_be_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["plan", "device.batch_size=auto", "n=7", "prompt=a fox"]) == 0
    assert "a trial of a few seconds" in capsys.readouterr().out
    assert run(["plan", "device.batch_size=4", "n=7", "prompt=a fox"]) == 0
    assert "trial" not in capsys.readouterr().out

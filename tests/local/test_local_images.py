"""Pixels: what they depend on, what they do not, and what is said about them."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")

import numpy as np
from PIL import Image

from runner.providers.contract import Answer, Call, Missing, Picture, ProviderError
from tests import tiny, tiny_files
from tests.local.driver import STEPS, Driver, Notebook, cell, distinct, opened

Folder = Callable[[tiny.Family], Path]
OpenDriver = Callable[[tiny.Family], Driver]

TAKES_NEGATIVE: dict[tiny.Family, bool] = {
    "sd15": True,
    "sdxl": True,
    "sd3": True,
    "sd3_no_t5": True,
    "flux": False,
}
FOX, CAT, SEA, SKY = "a red fox", "a black cat", "the blue sea", "the old moon"


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_neighbours_slot_order_and_filling_change_no_byte(
    family: tiny.Family, tiny_driver: OpenDriver
) -> None:
    driver = tiny_driver(family)
    fox = cell(FOX, 7)
    alone = driver.files(fox)
    first = driver.files(fox, cell(CAT, 1), cell(SEA, 2), cell(SKY, 3))
    last = driver.files(cell(FOX, 8), cell(SKY, 3), cell(SKY, 2), fox)
    assert alone[0] == first[0] == last[3]
    assert first[3] == last[1]
    assert distinct([*first, last[0], last[2]])


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_pixels_equal_those_of_a_plain_diffusers_loop(
    family: tiny.Family, tiny_driver: OpenDriver, tiny_folder: Folder
) -> None:
    import diffusers
    import torch

    torch.set_num_threads(1)  # As many as the driver's; torch keeps the number per thread.
    absent = {"text_encoder_3": None, "tokenizer_3": None} if family == "sd3_no_t5" else {}
    pipe = diffusers.DiffusionPipeline.from_pretrained(tiny_folder(family), **absent)
    pipe.set_progress_bar_config(disable=True)
    prompts = [FOX, CAT, FOX, SKY]
    guided = {"negative_prompt": [SEA, CAT, SEA, ""]} if TAKES_NEGATIVE[family] else {}
    plain = pipe(
        prompt=prompts,
        generator=[torch.Generator().manual_seed(seed) for seed in range(4)],
        num_inference_steps=STEPS,
        guidance_scale=4.5,
        height=64,
        width=64,
        **guided,
    ).images
    cells = [
        cell(
            prompt,
            seed,
            guidance_scale=4.5,
            **({"negative_prompt": guided["negative_prompt"][seed]} if guided else {}),
        )
        for seed, prompt in enumerate(prompts)
    ]
    driver = tiny_driver(family)
    new, remembered = driver.files(*cells), driver.files(*cells)
    assert new == remembered
    for data, image in zip(new, plain, strict=True):
        assert np.array_equal(pixels(data), np.asarray(image))


def test_image_i_has_seed_s_plus_i_and_zero_is_a_seed(tiny_driver: OpenDriver) -> None:
    driver = tiny_driver("sd15")
    third, seventh, zeroth, largest = driver.pictures(
        cell(FOX, 5, image_index=2), cell(FOX, 7), cell(FOX, 0), cell(FOX, 2**63 - 1)
    )
    assert third.data == seventh.data
    assert [third.seed_sent, zeroth.seed_sent, largest.seed_sent] == [7, 0, 2**63 - 1]
    assert distinct([seventh.data, zeroth.data, largest.data])


def test_noise_that_a_scheduler_draws_follows_the_seed(tmp_path: Path) -> None:
    folder = tiny.build("sd3_no_t5", tmp_path / "stochastic", stochastic=True)
    with opened(folder) as driver:
        alone = driver.files(cell(FOX, 7))
        among = driver.files(cell(CAT, 1), cell(SEA, 2), cell(FOX, 7))
        assert alone[0] == among[2]
        assert distinct(among)


def test_half_precision_is_as_repeatable(tiny_folder: Folder) -> None:
    with opened(tiny_folder("sd3"), dtype="bfloat16") as driver:
        answer = driver.answer(cell(FOX, 7))
        among = driver.files(cell(CAT, 1), cell(SEA, 2), cell(FOX, 7))
        assert answer.recipe is not None
        assert answer.recipe["dtype"] == "bfloat16"
        assert getattr(answer.outputs[0], "data", None) == among[2]


def test_no_negative_prompt_beside_one_in_the_same_call(tiny_driver: OpenDriver) -> None:
    driver = tiny_driver("sdxl")
    none, empty, cat = (cell(FOX, 7, negative_prompt=text) for text in (None, "", CAT))
    alone = [driver.files(each)[0] for each in (none, empty, cat)]
    assert driver.files(none, empty, cat) == alone
    assert distinct(alone)


def test_what_is_sent_used_and_recorded(tiny_driver: OpenDriver) -> None:
    driver = tiny_driver("sd15")
    answer = driver.answer(cell(FOX, 7, guidance_scale=3), cell(CAT, 9, guidance_scale=3))
    assert answer.params_sent == {
        "num_inference_steps": STEPS,
        "guidance_scale": 3,
        "width": 64,
        "height": 64,
    }
    assert (answer.cost_usd, answer.cost_basis) == (0.0, "free")
    assert answer.recipe is not None
    assert set(answer.recipe) == {
        "device",
        "device_name",
        "dtype",
        "batch_size",
        "threads",
        "cpu_capability",
        "scheduler",
        "torch",
        "diffusers",
        "transformers",
    }
    assert answer.recipe["batch_size"] == 4
    assert answer.recipe["scheduler"] == "DDIMScheduler"
    default = driver.pictures(cell(FOX, 7, size=None))[0]
    assert default.seed_sent == 7
    assert default.effective["guidance_scale"] == 7.5
    assert (default.effective["width"], default.effective["height"]) == (64, 64)
    tall = driver.pictures(cell(FOX, 7, size="64x96"))[0]
    assert Image.open(io.BytesIO(tall.data)).size == (64, 96)


def test_webp_keeps_every_pixel(tiny_folder: Folder, tiny_driver: OpenDriver) -> None:
    with opened(tiny_folder("sd15"), output="webp") as driver:
        data = driver.files(cell(FOX, 7))[0]
    reference = tiny_driver("sd15").files(cell(FOX, 7))[0]
    assert reference.startswith(b"\x89PNG")
    assert (data[:4], data[8:12]) == (b"RIFF", b"WEBP")
    assert np.array_equal(pixels(data), pixels(reference))


def test_jpeg_is_near(tiny_folder: Folder, tiny_driver: OpenDriver) -> None:
    with opened(tiny_folder("sd15"), output="jpeg") as driver:
        data = driver.files(cell(FOX, 7))[0]
    reference = pixels(tiny_driver("sd15").files(cell(FOX, 7))[0]).astype(int)
    assert data.startswith(b"\xff\xd8\xff")
    assert 0 < np.abs(pixels(data).astype(int) - reference).mean() < 12


def test_a_cut_prompt_is_said_of_its_own_image_only(tiny_driver: OpenDriver) -> None:
    driver = tiny_driver("sdxl")
    long = cell("a big red star " * 40 + "lighthouse", 1)
    for _ in range(2):  # The second time it comes from the memo.
        fox, cut, cat = driver.pictures(cell(FOX, 1), long, cell(CAT, 1))
        assert (fox.warnings, cat.warnings) == ((), ())
        assert len(cut.warnings) == 1
        assert "truncated" in cut.warnings[0]
        assert cut.warnings[0].count("lighthouse") == 1


def test_a_negative_prompt_without_guidance_is_said_to_do_nothing(tiny_driver: OpenDriver) -> None:
    driver = tiny_driver("sd15")
    idle, works = (
        driver.pictures(cell(FOX, 1, negative_prompt=CAT, guidance_scale=scale))[0]
        for scale in (1, 2)
    )
    assert "no effect" in idle.warnings[0]
    assert works.warnings == ()


@pytest.mark.parametrize("family", ["sd15", "flux"])
def test_progress_counts_every_step(family: tiny.Family, tiny_driver: OpenDriver) -> None:
    heard = Notebook()
    tiny_driver(family).answer(cell(FOX, 1), cell(CAT, 2), listener=heard)
    assert heard.steps == [(step, STEPS) for step in range(1, STEPS + 1)]


def test_cancel_ends_within_a_step_and_the_pipeline_stays_usable(tiny_driver: OpenDriver) -> None:
    driver = tiny_driver("sd3")
    before = driver.files(cell(FOX, 7))
    cancelled = threading.Event()

    class CancelAtFirstStep(Notebook):
        def progress(self, call: Call, done: int, total: int) -> None:
            super().progress(call, done, total)
            loop.call_soon_threadsafe(task.cancel)
            assert cancelled.wait(60)

    async def main() -> None:
        nonlocal loop, task
        loop = asyncio.get_running_loop()
        call = Call("call", (cell(FOX, 7, steps=50),))
        task = asyncio.ensure_future(driver.provider.generate(call, heard))
        with pytest.raises(asyncio.CancelledError):
            await task
        cancelled.set()

    loop: asyncio.AbstractEventLoop
    task: asyncio.Future[Answer]
    heard = CancelAtFirstStep()
    asyncio.run(main())
    assert driver.files(cell(FOX, 7)) == before
    assert heard.steps == [(1, 50)]


def test_a_second_call_computes_while_the_first_is_encoded(tiny_driver: OpenDriver) -> None:
    driver = tiny_driver("sd15")
    alone = [driver.files(cell(FOX, seed)) for seed in (1, 2, 3)]

    async def main() -> list[Answer]:
        calls = (Call(str(seed), (cell(FOX, seed),)) for seed in (1, 2, 3))
        return await asyncio.gather(*(driver.provider.generate(c, Notebook()) for c in calls))

    together = asyncio.run(main())
    assert [[getattr(answer.outputs[0], "data", None)] for answer in together] == alone


@pytest.mark.parametrize("bias", [float("nan"), -1e4])
def test_nan_is_no_image_and_black_is_one(bias: float, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny.build("sd15", tmp_path / "broken")
    weights = folder / "vae/diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["decoder.conv_out.bias"].fill_(bias)
    save_file(tensors, weights, metadata={"format": "pt"})
    with opened(folder) as driver:
        (output,) = driver.answer(cell(FOX, 1)).outputs
    if bias < 0:
        assert isinstance(output, Picture)
        assert not pixels(output.data).any()
        assert "every pixel is black" in output.warnings[0]
    else:
        assert isinstance(output, Missing)
        assert (output.outcome, output.kind) == ("failed", "nan")
        assert "dtype" in output.message


@pytest.mark.parametrize("threshold", [-2.0, 2.0])
def test_the_safety_checker_refuses(threshold: float, tmp_path: Path) -> None:
    folder = tiny.build("sd15", tmp_path / "checked")
    tiny.add_safety_checker(folder, threshold)
    with opened(folder) as driver:
        (output,) = driver.answer(cell(FOX, 1)).outputs
    if threshold > 0:
        assert not isinstance(output, Missing)
    else:
        assert isinstance(output, Missing)
        assert (output.outcome, output.kind) == ("refused", "content_filter")


def test_out_of_memory_halves_the_batch_and_says_so(
    tiny_folder: Folder, tiny_driver: OpenDriver
) -> None:
    import torch

    cells = [cell(prompt, seed) for seed, prompt in enumerate((FOX, CAT, SEA))]
    with opened(tiny_folder("flux"), batch_size=2) as driver:
        pairs = driver.files(*cells[:2]) + driver.files(cells[2])
    with opened(tiny_folder("flux"), batch_size=4) as driver:
        fits = 2

        def weigh(_: object, __: object, arguments: dict[str, Any]) -> None:
            if len(arguments["hidden_states"]) > fits:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        driver.pipe.transformer.register_forward_pre_hook(weigh, with_kwargs=True)
        answer = driver.answer(*cells)
        assert answer.recipe is not None
        assert answer.recipe["batch_size"] == 2
        assert [getattr(output, "data", None) for output in answer.outputs] == pairs
        fits = 0
        with pytest.raises(ProviderError, match=r"device\.dtype=bfloat16") as caught:
            driver.answer(*cells)
        assert (caught.value.kind, caught.value.code) == ("invalid", "out_of_memory")
        fits = 1
        assert len(driver.files(*cells)) == 3


def test_an_error_of_the_pipeline_is_one_sentence(tiny_driver: OpenDriver) -> None:
    provider = tiny_driver("sd15").provider
    with pytest.raises(ValueError, match="divisible by 8") as caught:
        tiny_driver("sd15").answer(cell(FOX, 1, size="60x60"))
    fault = provider.classify(caught.value)
    assert fault.kind == "invalid"
    assert "\n" not in fault.message
    assert provider.classify(TimeoutError()).kind == "invalid"
    assert provider.classify(RuntimeError("CUDA error: device-side assert\nmore")).kind == "gone"


def test_keys_that_the_pipeline_does_not_take_are_refused(tiny_driver: OpenDriver) -> None:
    with pytest.raises(ProviderError, match="negative_prompt"):
        tiny_driver("flux").answer(cell(FOX, 1, negative_prompt=CAT))


def test_extra_arguments_reach_the_pipeline(tiny_folder: Folder, tiny_driver: OpenDriver) -> None:
    plain = tiny_driver("flux").files(cell(FOX, 7))
    with opened(tiny_folder("flux"), extra_body={"true_cfg_scale": 3.0}) as driver:
        answer = driver.answer(cell(FOX, 7, negative_prompt=CAT))
        among = driver.files(
            *(cell(SEA, 1, negative_prompt=SKY), cell(FOX, 7, negative_prompt=CAT))
        )
    assert answer.params_sent["true_cfg_scale"] == 3.0
    assert getattr(answer.outputs[0], "data", None) == among[1] != plain[0]


def test_a_single_file_makes_the_same_image(
    tmp_path: Path, tiny_folder: Folder, tiny_driver: OpenDriver
) -> None:
    folder = tiny_folder("sd15")
    file = tiny_files.save_single_file(folder, tmp_path / "one.safetensors")
    configs = tmp_path / "configs"
    for path in (*folder.glob("*.json"), *folder.glob("*/*.json")):
        copy = configs / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    with opened(file, model={"config": str(configs)}) as driver:
        assert driver.files(cell(FOX, 7)) == tiny_driver("sd15").files(cell(FOX, 7))
        known = driver.provider.model_identity()
    assert known["file"] == driver.provider.identity()["model"]["file"]  # type: ignore[index,call-overload]


def test_components_can_be_left_out_and_replaced(
    tmp_path: Path, tiny_folder: Folder, tiny_driver: OpenDriver
) -> None:
    dropped = {"components": {"text_encoder_3": None, "tokenizer_3": None}}
    other = tiny.build("sd3", tmp_path / "other", weights_seed=1)
    replaced = {"components": {"vae": str(other / "vae")}}
    images = tiny_driver("sd3").files(cell(FOX, 7))
    identities = [tiny_driver("sd3").provider.identity()]
    for model in (dropped, replaced):
        with opened(tiny_folder("sd3"), model=model) as driver:
            images += driver.files(cell(FOX, 7))
            identities.append(driver.provider.identity())
    assert distinct(images)
    assert identities[0] != identities[1] != identities[2] != identities[0]

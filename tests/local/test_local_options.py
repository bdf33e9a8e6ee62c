"""Options of local pipelines: each does something, or is refused with a word on which model can."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("diffusers")

from runner.cli.main import run
from runner.providers.contract import Picture
from runner.providers.local.device import suited
from runner.providers.local.schedulers import choose
from runner.settings.errors import PrerequisiteError, RequestError
from tests import tiny, tiny_files
from tests.local.drawings import Drawings, distance, pixels
from tests.local.driver import Driver, Notebook, cell, distinct, make_provider, opened
from tests.tiny_more import build_more

Folder = Callable[[tiny.Family], Path]
OpenDriver = Callable[[tiny.Family], Driver]

FOX = cell("a red fox", 7, steps=4)
NOISE = ("ddim", "euler_a", "heun", "dpm++2m_karras", "dpm++2m_sde", "dpm2_a", "unipc", "deis")
NOISE += ("lcm", "euler_exponential", "euler_beta", "dpm++2s", "ddim_trailing", "DPM++ 2M Karras")
DRAWING = ("euler_a", "dpm++2m_sde", "dpm2_a", "lcm")
"""They draw noise in every step."""
RARE = ("ddpm", "pndm", "dpm2", "lms", "tcd", "sa_solver", "ipndm")
FLOW = ("flow_euler", "flow_heun", "dpm++2m", "unipc")
RARE_FLOW = ("flow_lcm", "deis")


def made(folder: Path, options: dict[str, Any], *cells: Any, **settings: Any) -> list[bytes]:
    with opened(folder, options=options, **{"batch_size": 2} | settings) as driver:
        return driver.files(*(cells or (FOX,)))


def refused(folder: Path, **options: Any) -> str:
    with pytest.raises(RequestError) as caught:
        make_provider(folder, options=options).capabilities()
    return str(caught.value)


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("sd15", NOISE),
        ("sd3", FLOW),
        pytest.param("sd15", RARE, marks=pytest.mark.long),
        pytest.param("sd3", RARE_FLOW, marks=pytest.mark.long),
    ],
)
def test_schedulers_by_their_friendly_names(
    family: tiny.Family, names: tuple[str, ...], tiny_folder: Folder
) -> None:
    files = {}
    for name in names:
        if name.endswith("beta"):
            pytest.importorskip("scipy")
        with opened(tiny_folder(family), batch_size=1, options={"scheduler": name}) as driver:
            files[name] = driver.files(FOX)[0]
            if name in DRAWING:
                assert driver.files(FOX)[0] == files[name], name
    names_alike = {"DPM++ 2M Karras"}
    assert distinct([data for name, data in files.items() if name not in names_alike])
    if "DPM++ 2M Karras" in files:
        assert files["DPM++ 2M Karras"] == files["dpm++2m_karras"]


def test_a_scheduler_of_the_other_kind_is_refused(tiny_folder: Folder) -> None:
    assert "follows a flow and takes flow_euler" in refused(tiny_folder("flux"), scheduler="ddim")
    assert "predicts noise" in refused(tiny_folder("sd15"), scheduler="flow_euler")
    assert "did you mean 'euler_a'" in refused(tiny_folder("sd15"), scheduler="eulr_a")
    assert "ddim has no karras sigmas" in refused(tiny_folder("sd15"), scheduler="ddim_karras")
    if importlib.util.find_spec("torchsde") is None:
        with pytest.raises(PrerequisiteError, match="pip install torchsde"):
            choose("dpm++sde", "DDIMScheduler")


def test_what_changes_pictures_changes_ids_and_what_does_not_does_not(tiny_folder: Folder) -> None:
    folder = tiny_folder("sd15")

    def identity(**options: Any) -> str:
        return json.dumps(make_provider(folder, options=options).identity(), sort_keys=True)

    plain = identity()
    for options in ({"scheduler": "ddim"}, {"clip_skip": 1}, {"guidance_rescale": 0.7}):
        assert identity(**options) != plain
    for options in (
        {"offload": "model"},
        {"vae_slicing": True},
        {"channels_last": True},
        {"prompt_memo_mb": 1},
    ):
        assert identity(**options) == plain


@pytest.mark.parametrize(
    "options",
    [{"offload": "model"}, {"offload": "group"}, {"vae_tiling": True}],
    ids=lambda options: "-".join(map(str, next(iter(options.items())))),
)
@pytest.mark.parametrize("family", ["sd15", "sd3"])
def test_memory_options_change_no_pixel_here(
    family: tiny.Family, options: dict[str, Any], tiny_folder: Folder
) -> None:
    folder = tiny_folder(family)
    assert made(folder, options) == made(folder, {})


def test_slicing_decodes_as_a_batch_of_one_does(tiny_folder: Folder) -> None:
    plain, sliced = (
        made(tiny_folder("sd3"), options)[0] for options in ({}, {"vae_slicing": True})
    )
    assert abs(pixels(plain) - pixels(sliced)).max() <= 1


@pytest.mark.parametrize("kind", ["text2img", "img2img"])
def test_an_image_of_several_tiles_is_near_the_one_in_a_piece(
    kind: str, drawings: Drawings
) -> None:
    large = {"size": "128x96"} | ({"image": drawings.image} if kind == "img2img" else {})
    star = cell("a red star on a white background", 7, steps=4, **large)
    whole, tiled = (
        pixels(made(Path("builtin"), {"vae_tiling": yes}, star, pipeline=kind, batch_size=1)[0])
        for yes in (False, True)
    )
    assert 0 < distance(whole, tiled) < 6


def test_sequential_offload_needs_a_gpu(tiny_folder: Folder) -> None:
    with (
        pytest.raises(RequestError, match="offload=sequential needs a GPU"),
        opened(tiny_folder("sd15"), options={"offload": "sequential"}),
    ):
        pass


def test_what_was_picked_is_recorded(tiny_folder: Folder) -> None:
    options = {"vae_slicing": True, "scheduler": "euler"}
    with opened(
        tiny_folder("sd15"), options=options, device={"memory": "low"}, batch_size=1
    ) as driver:
        answer = driver.answer(FOX)
        identity = driver.provider.model_identity()
    assert answer.recipe is not None
    assert answer.recipe["offload"] == "model"
    assert answer.recipe["vae_tiling"] is True
    assert answer.recipe["vae_slicing"] is True
    scheduler: Any = identity["scheduler"]
    assert scheduler["class"] == "EulerDiscreteScheduler"
    assert scheduler["beta_end"] == 0.012


@pytest.mark.parametrize(
    ("memory", "free", "picked"),
    [
        ("auto", None, ("none", False)),
        ("auto", 20, ("none", False)),
        ("auto", 12, ("model", True)),
        ("auto", 4, ("sequential", True)),
        ("high", 4, ("none", False)),
        ("low", 80, ("model", True)),
    ],
)
def test_free_memory_picks_the_offload(memory: str, free: int | None, picked: Any) -> None:
    weights = (6 * 2**30, 14 * 2**30)
    assert suited(memory, None if free is None else free * 2**30, weights) == picked


def test_clip_skip_and_guidance_rescale(tiny_folder: Folder) -> None:
    folder = tiny_folder("sd15")
    assert distinct(
        [*made(folder, {}), *made(folder, {"clip_skip": 1}), *made(folder, {"guidance_rescale": 1})]
    )
    assert "those of Stable Diffusion take it" in refused(tiny_folder("flux"), clip_skip=1)
    assert "1, 2 and XL take it" in refused(tiny_folder("sd3"), guidance_rescale=0.5)


def test_dropping_t5_is_what_a_folder_without_it_is(tiny_folder: Folder) -> None:
    assert made(tiny_folder("sd3"), {"drop_t5": True}) != made(tiny_folder("sd3"), {})
    assert "Stable Diffusion 3 can" in refused(tiny_folder("flux"), drop_t5=True)


def test_a_step_cache_is_near_and_only_where_it_works(tiny_folder: Folder) -> None:
    slow = cell("a red fox", 7, steps=8)
    plain = made(tiny_folder("flux"), {}, slow)[0]
    for cache in (
        {"step_cache": "first_block", "step_cache_threshold": 0.9},
        {"step_cache": "taylorseer"},
        {"step_cache": "pyramid"},
    ):
        cached = made(tiny_folder("flux"), cache, slow)[0]
        assert cached != plain
        assert distance(pixels(cached), pixels(plain)) < 60
    message = refused(tiny_folder("sd15"), step_cache="first_block")
    assert "UNet2DConditionModel cannot do that" in message
    assert "FluxTransformer2DModel" in message


def test_an_attention_backend_is_chosen_only_where_it_counts(tiny_folder: Folder) -> None:
    plain, other = (
        made(tiny_folder("flux"), {"attention": name}) for name in ("native", "_native_math")
    )
    assert distance(pixels(plain[0]), pixels(other[0])) < 2
    assert "FluxTransformer2DModel" in refused(tiny_folder("sd3"), attention="native")
    with (
        pytest.raises(RequestError, match=r"options\.attention=nonsense"),
        opened(tiny_folder("flux"), options={"attention": "nonsense"}),
    ):
        pass


def test_compiling_is_for_networks_with_repeated_blocks(
    tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import FluxTransformer2DModel

    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(
        FluxTransformer2DModel,
        "compile_repeated_blocks",
        lambda self, **options: calls.append(options),
    )
    assert made(tiny_folder("flux"), {"compile": True}) == made(tiny_folder("flux"), {})
    assert calls == [{"fullgraph": True}]
    assert "SD3Transformer2DModel cannot do that" in refused(tiny_folder("sd3"), compile=True)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_blocks_paint_the_same(tiny_folder: Folder) -> None:
    plain, compiled = (made(tiny_folder("flux"), {"compile": yes})[0] for yes in (False, True))
    assert distance(pixels(plain), pixels(compiled)) < 2


@pytest.mark.parametrize("how", ["torchao_int8", "quanto_int8"])
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_quantized_weights_are_near(
    family: tiny.Family, how: str, tiny_folder: Folder, tiny_driver: OpenDriver
) -> None:
    plain = tiny_driver(family).files(FOX)[0]
    with opened(tiny_folder(family), options={"quantization": how}) as driver:
        few = driver.files(FOX)[0]
        assert driver.files(cell("a cat", 1, steps=4), FOX)[1] == few
    assert few != plain
    assert distance(pixels(few), pixels(plain)) < 2


def test_a_quantized_transformer_in_one_file(
    tiny_folder: Folder, tiny_driver: OpenDriver, tmp_path: Path
) -> None:
    folder = tiny_folder("flux")
    file = tiny_files.save_gguf(folder, tmp_path / "q8.gguf")
    model = {"components": {"transformer": str(file)}}
    plain = tiny_driver("flux").files(FOX)[0]
    with opened(folder, model=model) as driver:
        few = driver.files(FOX)[0]
        assert type(driver.pipe.transformer.proj_out).__name__ == "GGUFLinear"
        asked = driver.provider.identity()
    assert few != plain
    assert distance(pixels(few), pixels(plain)) < 2
    with (
        pytest.raises(RequestError, match="not those of a single file"),
        opened(folder, model=model, options={"quantization": "torchao_int8"}),
    ):
        pass
    moved = file.rename(tmp_path / "moved.gguf")
    same = {"components": {"transformer": str(moved)}}
    assert make_provider(folder, model=same).identity() == asked
    for component, path, words in (
        ("transformer", file, "no such file"),
        ("text_encoder", moved, "CLIPTextModel is not read from one file"),
        ("transformer", tmp_path / "a.ckpt", "can run code"),
    ):
        with pytest.raises(RequestError, match=words):
            make_provider(folder, model={"components": {component: str(path)}}).check_ready()


def test_a_quantized_transformer_with_the_names_of_its_authors(
    tiny_folder: Folder, tiny_driver: OpenDriver, tmp_path: Path
) -> None:
    file = tiny_files.save_gguf(tiny_folder("sd3"), tmp_path / "q8.gguf")
    plain = tiny_driver("sd3").files(FOX)[0]

    def few(family: tiny.Family) -> bytes:
        model = {"components": {"transformer": str(file)}}
        with opened(tiny_folder(family), model=model) as driver:
            return driver.files(FOX)[0]

    made_of_it = few("sd3")
    assert made_of_it != plain
    assert distance(pixels(made_of_it), pixels(plain)) < 2
    with pytest.raises(RequestError, match="not those of FluxTransformer2DModel"):
        few("flux")


def test_bitsandbytes_needs_a_gpu(tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: find_spec("json" if name == "bitsandbytes" else name, *more),
    )
    with (
        pytest.raises(RequestError, match="bitsandbytes_4bit needs a GPU; take torchao_int8"),
        opened(tiny_folder("sd3"), options={"quantization": "bitsandbytes_4bit"}),
    ):
        pass


def test_channels_last_is_as_good_as_the_same(tiny_folder: Folder) -> None:
    plain, turned = (
        made(tiny_folder("sd15"), {}),
        made(tiny_folder("sd15"), {"channels_last": True}),
    )
    assert distance(pixels(plain[0]), pixels(turned[0])) < 2


@pytest.mark.parametrize(
    ("family", "parts"),
    [
        ("sd15", {"emb_params": 32}),
        ("sdxl", {"clip_l": 32, "clip_g": 32}),
        ("flux", {"clip_l": 32, "t5": 64}),
    ],
)
def test_a_learned_word(
    family: tiny.Family, parts: dict[str, int], tiny_folder: Folder, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import save_file

    def word(**vectors: int) -> dict[str, Any]:
        path = tmp_path / f"{'-'.join(vectors)}.safetensors"
        save_file({name: torch.full((2, width), 0.5) for name, width in vectors.items()}, path)
        return {"textual_inversions": [{"name": str(path), "token": "<toy>"}]}

    folder, options = tiny_folder(family), word(**parts)
    cells = cell("a red fox", 7), cell("a red <toy>", 7)
    without, with_word = made(folder, {}, *cells), made(folder, options, *cells)
    assert with_word[0] == without[0]
    assert with_word[1] != without[1]
    if len(parts) > 1:  # Each encoder reads its own.
        first = dict(list(parts.items())[:1])
        assert distinct([with_word[1], made(folder, word(**first), *cells)[1], without[1]])
    for wrong, reason in (
        (word(clip_l=48), "vectors of 32 numbers, not of 48"),
        (word(clip_g=32, other=32), "clip_g, other, not the vectors of one word"),
    ):
        with pytest.raises(RequestError, match=reason), opened(folder, options=wrong):
            pass


def test_what_the_hub_does_not_give_is_one_sentence(
    tiny_folder: Folder, tmp_path: Path, drawings: Drawings
) -> None:
    folder = tiny.build_ip_adapter(tmp_path / "ip")
    lora = {"name": "owner/lora", "file": "a.safetensors"}
    adapter = {"name": str(folder), "file": "ip.safetensors", "subfolder": "models"}
    adapter |= {"image": drawings.image, "image_encoder": "owner/eye"}
    for options, name in (({"loras": [lora]}, "lora"), ({"ip_adapter": adapter}, "eye")):
        with (
            pytest.raises(PrerequisiteError, match=f"'owner/{name}': could not be fe") as caught,
            opened(tiny_folder("sd15"), options=options),
        ):
            pass
        assert "\n" not in str(caught.value)


def test_learned_words_are_files_and_not_for_every_family(tiny_folder: Folder) -> None:
    options = {"textual_inversions": [{"name": "owner/toy", "token": "<toy>"}]}
    assert "no file owner/toy" in refused(tiny_folder("sd15"), **options)
    assert "1, 2, XL and of FLUX do" in refused(tiny_folder("sd3"), **options)


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3", "flux"])
def test_an_ip_adapter_shows_its_picture(
    family: tiny.Family, tiny_folder: Folder, tmp_path: Path, drawings: Drawings
) -> None:
    folder = tiny.build_ip_adapter(tmp_path / "ip", family)

    def adapter(image: str, **more: Any) -> dict[str, Any]:
        own = {"name": str(folder), "file": "ip.safetensors", "subfolder": "models", "scale": 1.0}
        return {"ip_adapter": {**own, "image": image, **more}}

    base, cells = tiny_folder(family), [cell("a red fox", 7), cell("a cat", 3)]
    shown = made(base, adapter(drawings.image), *cells)
    others = (adapter(drawings.image, scale=0.3), adapter(drawings.other), {})
    assert distinct([*shown, *(made(base, each, *cells)[0] for each in others)])
    # The encoder may be elsewhere; with a pickle in its place nothing is loaded.
    elsewhere = (folder / "models/image_encoder").rename(tmp_path / "encoder")
    moved = adapter(drawings.image, image_encoder=str(elsewhere))
    assert made(base, moved, *cells)[0] == shown[0]
    weights = elsewhere / "model.safetensors"
    weights.rename(elsewhere / "pytorch_model.bin")
    with pytest.raises(RequestError, match="does not fit"), opened(base, options=moved):
        pass


def test_an_option_that_a_family_has_not_names_those_that_have(
    tiny_folder: Folder, tmp_path: Path, drawings: Drawings
) -> None:
    kandinsky = build_more("kandinsky22", tmp_path / "kandinsky")
    tiling = refused(kandinsky, vae_tiling=True)
    assert "vae_tiling: the autoencoder of KandinskyV22CombinedPipeline cannot" in tiling
    folder = build_more("pixart", tmp_path / "pixart")
    lora = tiny.build_lora(tmp_path / "style.safetensors", 1)
    image = {"name": "a", "file": "b.safetensors", "image": drawings.image}
    message = refused(folder, loras=[{"name": str(lora)}], ip_adapter=image)
    assert "loras: PixArtSigmaPipeline takes no LoRAs; pipelines of Stable Diffusion" in message
    assert "ip_adapter: PixArtSigmaPipeline takes none; pipelines of Stable Diffusion" in message
    few = refused(tiny_folder("sdxl"), ip_adapter=image, quantization="torchao_int8")
    assert "a quantized UNet takes none" in few
    few = refused(tiny_folder("flux"), loras=[{"name": str(lora)}], quantization="quanto_int8")
    assert "take torchao_int8" in few


def test_pickles_and_missing_files_are_told(tiny_folder: Folder) -> None:
    folder = tiny_folder("sdxl")
    message = refused(folder, loras=[{"name": "style.ckpt"}], drop_t5=True)
    assert "style.ckpt can run code when it is read" in message
    assert "cannot do without its text encoder" in message
    assert "no file gone.safetensors" in refused(folder, loras=[{"name": "gone.safetensors"}])
    lost = refused(folder, loras=[{"name": str(folder), "file": "gone.safetensors"}])
    assert f"no file gone.safetensors in {folder}" in lost
    adapter = {"name": "h94/IP-Adapter", "file": "ip.safetensors", "image": "gone.png"}
    assert "ip_adapter.image: no file gone.png" in refused(folder, ip_adapter=adapter)
    unnamed = refused(folder, loras=[{"name": "owner/lora"}])
    assert "say which file of owner/lora it is" in unnamed


@pytest.mark.parametrize(
    ("package", "options"),
    [
        ("peft", {"loras": [{"name": "owner/lora", "file": "a.safetensors"}]}),
        ("compel", {"prompt_weighting": "compel"}),
        ("torchao", {"quantization": "torchao_int8"}),
        ("optimum-quanto", {"quantization": "quanto_int8"}),
        ("bitsandbytes", {"quantization": "bitsandbytes_4bit"}),
        ("gguf", {}),
    ],
)
def test_a_missing_package_is_told_with_the_command_that_installs_it(
    package: str,
    options: dict[str, Any],
    tiny_folder: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "a.gguf"
    file.touch()
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == package.partition("-")[0] else find_spec(name),
    )
    asked: dict[str, Any] = {"options": options}
    if package == "gguf":
        asked = {"model": {"components": {"transformer": str(file)}}}
    with pytest.raises(PrerequisiteError, match=f"pip install {package}$"):
        make_provider(tiny_folder("flux"), **asked).capabilities()


@pytest.fixture(scope="module")
def refiner(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tiny.build_refiner(tmp_path_factory.mktemp("refiner"))
    return {"name": str(folder), "high_noise_frac": 0.6}


def test_a_refiner_does_the_last_steps(tiny_folder: Folder, refiner: dict[str, Any]) -> None:
    import diffusers
    import torch

    folder = tiny_folder("sdxl")
    base = diffusers.DiffusionPipeline.from_pretrained(folder, add_watermarker=False)
    by_hand = diffusers.StableDiffusionXLImg2ImgPipeline.from_pretrained(
        refiner["name"],
        text_encoder_2=base.text_encoder_2,
        vae=base.vae,
        add_watermarker=False,
    )
    call = {"prompt": ["a red fox"] * 2, "num_inference_steps": 5, "output_type": "latent"}
    call["generator"] = [torch.Generator("cpu").manual_seed(seed) for seed in (7, 1)]
    rough = base(**call, height=64, width=64, denoising_end=0.6).images
    done = by_hand(**call | {"output_type": "np"}, image=rough, denoising_start=0.6).images
    asked = [cell("a red fox", seed, steps=5) for seed in (7, 1)]
    heard = Notebook()
    with opened(folder, batch_size=2, options={"refiner": refiner}) as driver:
        answer = driver.answer(*asked, listener=heard)
        files = driver.files(*asked)
        assert driver.files(cell("a cat", 3, steps=5), asked[0])[1] == files[0]
        recorded: Any = driver.provider.model_identity()["refiner"]
        lent = driver.refiner
        assert (lent.vae, lent.text_encoder_2) == (driver.pipe.vae, driver.pipe.text_encoder_2)
    assert [output.data for output in answer.outputs if isinstance(output, Picture)] == files
    # We encode each prompt alone, the loop above both at once: that is one level at most.
    assert np.abs(pixels(files[0]) - (done[0] * 255).round()).max() <= 1
    assert heard.steps == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert "unet/diffusion_pytorch_model.safetensors" in recorded["files"]
    assert "vae/diffusion_pytorch_model.safetensors" not in recorded["files"]


@pytest.mark.parametrize("more", [{"offload": "model"}, {"scheduler": "ddim"}])
def test_a_refiner_goes_with_other_options(
    more: dict[str, Any], tiny_folder: Folder, refiner: dict[str, Any], drawings: Drawings
) -> None:
    asked = cell("a red fox", 7, steps=6, image=drawings.image, strength=0.9)
    plain, refined = (
        made(tiny_folder("sdxl"), options, asked, pipeline="img2img")[0]
        for options in ({"refiner": refiner}, {"refiner": refiner, **more})
    )
    assert (plain == refined) == ("offload" in more)


def test_a_refiner_is_named_by_its_content_and_only_sdxl_takes_one(
    tiny_folder: Folder, refiner: dict[str, Any], tmp_path: Path
) -> None:
    def identity(**more: Any) -> str:
        options = {"refiner": refiner | more}
        return json.dumps(make_provider(tiny_folder("sdxl"), options=options).identity())

    copy = tmp_path / "copy"
    shutil.copytree(refiner["name"], copy)
    assert identity() == identity(name=str(copy))
    assert identity() != identity(high_noise_frac=0.7)
    (copy / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"other")
    assert identity() != identity(name=str(copy))
    assert "Stable Diffusion XL do" in refused(tiny_folder("sd15"), refiner=refiner)
    weighed = refused(tiny_folder("sdxl"), refiner=refiner, prompt_weighting="compel")
    assert "reads no weights" in weighed
    for name, words in (("sd15", "has no such component"), ("no/such/folder", "no such folder")):
        folder = str(tiny_folder("sd15")) if name == "sd15" else name
        message = refused(tiny_folder("sdxl"), refiner={"name": folder})
        assert message.startswith(f"provider.options.refiner={folder!r}: ")
        assert words in message


def test_base_and_refiner_have_a_step_at_least(
    tiny_folder: Folder, refiner: dict[str, Any], drawings: Drawings
) -> None:
    options = {"refiner": refiner | {"high_noise_frac": 0.8}, "scheduler": "euler_trailing"}
    with opened(tiny_folder("sdxl"), batch_size=1, options=options, pipeline="img2img") as driver:

        def problems(steps: int, strength: float) -> str:
            asked = cell("a red fox", 7, steps=steps, image=drawings.image, strength=strength)
            found = driver.provider.check(asked.params)
            if not found:
                driver.files(asked)
                assert driver.pipe.num_timesteps >= 1
                assert driver.refiner.num_timesteps >= 1
            return " ".join(found)

        assert problems(5, 1.0) == ""
        assert "less than one of them is the refiner's; take at least 5" in problems(4, 1.0)
        assert "all of them are the refiner's; take more, a greater" in problems(5, 0.3)


@pytest.mark.parametrize("family", ["sd15", "sdxl", "flux"])
def test_words_are_weighed_and_long_prompts_read_to_their_end(
    family: tiny.Family, tiny_folder: Folder, tiny_driver: OpenDriver
) -> None:
    tail = ", ".join(["a small old photo of the sea at the sun"] * 9)
    texts = {
        "plain": "a red fox",
        "more": "a (red)1.5 fox",
        "less": "a red- fox",
        "long": f"{tail}, a cat",
        "long too": f"{tail}, a dog",
    }
    with opened(
        tiny_folder(family), options={"prompt_weighting": "compel"}, batch_size=4
    ) as driver:
        encoded: list[str] = []
        weighting = driver.pipe.encode_prompt._encode
        embed = weighting._compel.__call__
        weighting._compel = lambda texts: encoded.extend(texts) or embed(texts)
        made_now = driver.files(*(cell(text, 7) for text in texts.values()))
        assert len(encoded) == len(set(encoded))
        files = dict(zip(texts, made_now, strict=True))
        assert driver.files(cell("a (red:1.5) fox", 7))[0] == files["more"]
        # Neither what is beside a prompt nor how long that is changes a bit.
        mixed = driver.files(cell(texts["long"], 7), cell(texts["more"], 7), cell("a cat", 1))
        assert mixed[:2] == [files["long"], files["more"]]
        if family != "flux":
            assert driver.files(cell("a red fox", 7, negative_prompt=tail))[0] != files["plain"]
    assert files["plain"] == tiny_driver(family).files(cell("a red fox", 7))[0]
    assert distinct(list(files.values()))
    cut = [tiny_driver(family).files(cell(texts[name], 7))[0] for name in ("long", "long too")]
    assert (cut[0] == cut[1]) == (family != "flux")


def test_weighting_is_part_of_the_id_and_refused_where_it_does_nothing(
    tiny_folder: Folder,
) -> None:
    weighed = {"prompt_weighting": "compel"}
    plain, other = (
        make_provider(tiny_folder("sd15"), options=options).identity() for options in ({}, weighed)
    )
    assert plain != other
    assert "1, 2, XL and of FLUX can" in refused(tiny_folder("sd3"), **weighed)
    assert "clip_skip" in refused(tiny_folder("sd15"), clip_skip=1, **weighed)


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3", "flux"])
def test_loras_add_up_by_their_weights(
    family: tiny.Family, tiny_folder: Folder, tmp_path: Path
) -> None:
    one, two = (tiny.build_lora(tmp_path / f"{seed}.safetensors", seed, family) for seed in (1, 2))

    def loras(*weights: float, **more: Any) -> dict[str, Any]:
        named = [
            {"name": str(file), "weight": weight}
            for file, weight in zip((one, two), weights, strict=False)
        ]
        return {"loras": named, **more}

    def identity(options: dict[str, Any]) -> str:
        return json.dumps(make_provider(base, options=options).identity(), sort_keys=True)

    def paint(options: dict[str, Any]) -> list[bytes]:
        return made(base, options, cell("a red fox", 7), batch_size=1)

    base = tiny_folder(family)
    plain = paint({})[0]
    asked = [loras(0.5), loras(1.0, 1.0), loras(1.0, 0.5)]
    files = [paint(options)[0] for options in asked]
    assert distinct([plain, *files])
    assert paint(loras(0.0, 0.0))[0] == plain
    fused = paint(loras(1.0, 1.0, fuse_loras=True))[0]
    assert distance(pixels(fused), pixels(files[1])) < 2
    # Ids follow the weights in the file and the weight that is asked, not the path.
    ids = [identity(options) for options in ({}, *asked)]
    assert len(set(ids)) == 4
    copy = tmp_path / "elsewhere.safetensors"
    copy.write_bytes(one.read_bytes())
    assert identity({"loras": [{"name": str(copy), "weight": 0.5}]}) == ids[1]
    copy.write_bytes(two.read_bytes())
    assert identity({"loras": [{"name": str(copy), "weight": 0.5}]}) not in ids


@pytest.mark.parametrize(
    ("family", "reason"), [("sdxl", "Error(s) in loading"), ("flux", "none of its weights are")]
)
def test_a_lora_of_another_family_is_told_by_its_name(
    family: tiny.Family, reason: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    lora = tiny.build_lora(tmp_path / "style.safetensors", 1)
    with (
        pytest.raises(RequestError) as caught,
        opened(tiny_folder(family), options={"loras": [{"name": str(lora)}]}),
    ):
        pass
    assert "provider.options.loras: " in str(caught.value)
    assert "style.safetensors does not fit" in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_lora_of_another_family_ends_the_command_with_one_sentence(
    tiny_folder: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    lora = tiny.build_lora(tmp_path / "style.safetensors", 1)
    code = run(
        [
            *("model=hub/sdxl", f"model.name={tiny_folder('sdxl')}", "model.variant=null"),
            *(f"provider.options.loras=[{{name:{lora}}}]", "size=64x64", "device=cpu"),
            *("device.threads=1", "prompt=a fox", "seed=1"),
        ]
    )
    said = capsys.readouterr().err
    assert code == 3, said
    assert said.count("does not fit StableDiffusionXLPipeline") == 1
    assert "Traceback" not in said

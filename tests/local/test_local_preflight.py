"""What is known, named and refused of a model from its files alone, without torch."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")

from runner.providers.local.families import family_of
from runner.providers.local.signature import pipeline_names, read_signature
from runner.settings.cell import CellParams
from runner.settings.errors import PrerequisiteError, RequestError, RunnerError
from tests.local.driver import make_provider

SDXL = {
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "image_encoder": [None, None],
}
FLUX = {
    "vae": ["diffusers", "AutoencoderKL"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
}


def write_model(
    folder: Path,
    class_name: Any = "StableDiffusionXLPipeline",
    components: dict[str, list[str | None]] = SDXL,
    *,
    suffix: str = ".safetensors",
    **configs: dict[str, Any],
) -> Path:
    """A folder with everything but real weights, which nothing here reads."""
    index = {"_class_name": class_name, "_diffusers_version": "0.42.1", **components}
    for name, (library, _) in components.items():
        if library is None:
            continue
        part = folder / name
        part.mkdir(parents=True)
        config = {"vae": {"block_out_channels": [8, 8, 8, 8]}} | configs
        (part / "config.json").write_text(json.dumps(config.get(name, {})))
        if name not in {"tokenizer", "scheduler"}:
            (part / f"model{suffix}").write_bytes(name.encode())
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def refusal(kind: type[RunnerError], ask: Callable[[], object]) -> str:
    """The one sentence of a refusal."""
    with pytest.raises(kind) as caught:
        ask()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is taken


def test_parameters_are_those_of_the_pipeline_class(tmp_path: Path) -> None:
    capabilities = make_provider(write_model(tmp_path / "xl"), batch_size=6).capabilities()
    assert set(capabilities.params) == {
        "prompt",
        "negative_prompt",
        "seed",
        "size",
        "steps",
        "guidance_scale",
    }
    assert capabilities.params["steps"].native == "num_inference_steps"
    assert capabilities.params["steps"].default == 50
    assert capabilities.params["guidance_scale"].default == 5.0
    assert capabilities.params["seed"].maximum == 2**63 - 1
    assert capabilities.shared_call_keys == {"prompt", "negative_prompt", "seed"}
    assert capabilities.max_images_per_call == 6
    assert capabilities.seed_per_image
    assert capabilities.reproducible
    assert capabilities.resend_safe
    assert not capabilities.billed


def test_a_negative_prompt_that_would_do_nothing_is_not_taken(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "flux", "FluxPipeline", FLUX)
    assert "negative_prompt" not in make_provider(folder).capabilities().params
    guided = make_provider(folder, extra_body={"true_cfg_scale": 4})
    assert "negative_prompt" in guided.capabilities().params


def test_a_model_that_ignores_its_guidance_input_gets_the_real_one(tmp_path: Path) -> None:
    folder = write_model(
        tmp_path / "schnell", "FluxPipeline", FLUX, transformer={"guidance_embeds": False}
    )
    param = make_provider(folder).capabilities().params["guidance_scale"]
    assert (param.native, param.default) == ("true_cfg_scale", 1.0)


def test_other_families_share_a_batch_only_among_seeds(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "qwen", "QwenImagePipeline", FLUX)
    assert make_provider(folder).capabilities().shared_call_keys == {"seed"}


@pytest.mark.parametrize(
    ("name", "channels", "kind", "said"),
    [
        ("StableDiffusionXLPipeline", 9, "text2img", "made for inpainting and has no pipeline"),
        ("StableDiffusionXLPipeline", 9, "inpaint", None),
        ("StableDiffusionXLPipeline", 4, "inpaint", None),
        ("KandinskyV22CombinedPipeline", 4, "text2img", None),
        ("KandinskyV22CombinedPipeline", 4, "inpaint", "take one that was, such as kandinsky-com"),
        ("KandinskyV22CombinedPipeline", 9, "inpaint", None),
    ],
)
def test_a_network_that_is_shown_a_mask_only_inpaints_and_kandinsky_needs_one(
    name: str, channels: int, kind: str, said: str | None, tmp_path: Path
) -> None:
    folder = write_model(tmp_path, name, unet={"in_channels": channels})
    provider = make_provider(folder, pipeline=kind)
    if said is None:
        provider.check_ready()
    else:
        with pytest.raises(RequestError, match=said):
            provider.check_ready()


def test_classes_are_found_by_name_and_by_family() -> None:
    names = pipeline_names()
    assert len(names) > 200
    assert read_signature("NoSuchPipeline") is None
    xl = family_of("StableDiffusionXLInpaintPipeline")
    assert xl.class_for("text2img", False) == "StableDiffusionXLPipeline"
    assert xl.class_for("controlnet", True) == "StableDiffusionXLControlNetPipeline"
    assert xl.class_for("inpaint", True) == "StableDiffusionXLControlNetInpaintPipeline"
    assert xl.kinds == {"text2img", "img2img", "inpaint", "controlnet"}
    assert family_of("FluxImg2ImgPipeline").name == "flux"
    assert family_of("QwenImageEditPipeline").kinds == {"img2img", "inpaint"}
    assert family_of("StableDiffusion3Pipeline").class_for("img2img", True) is None
    assert family_of("ZImageTurboPipeline").plain == {"text2img": "ZImageTurboPipeline"}
    combined = read_signature("KandinskyV22CombinedPipeline")
    assert combined is not None
    assert combined.call["num_inference_steps"] == 100


@pytest.mark.parametrize(
    ("class_name", "multiple"),
    [
        ("StableDiffusionPipeline", 8),
        ("StableDiffusionXLPipeline", 8),
        ("StableDiffusion3Pipeline", 16),
        ("FluxPipeline", 16),
        ("QwenImagePipeline", 16),
        ("ZImagePipeline", 16),
        ("SanaPipeline", 32),
        ("StableCascadeCombinedPipeline", None),
    ],
)
def test_sizes_must_be_what_the_class_itself_divides_by(
    class_name: str, multiple: int | None
) -> None:
    signature = read_signature(class_name)
    assert signature is not None
    configs = {"vae": {"block_out_channels": [1, 2, 4, 8]}, "transformer": {"patch_size": 2}}
    assert signature.size_multiple(configs) == multiple


def test_a_size_that_diffusers_would_change_is_refused(tmp_path: Path) -> None:
    provider = make_provider(write_model(tmp_path / "xl"))
    assert provider.check(CellParams(size="1024x768")) == ()
    assert provider.check(CellParams()) == ()
    (odd,) = provider.check(CellParams(size="1020x768"))
    assert "multiples of 8" in odd
    assert "1024x768" in odd or "1016x768" in odd
    (named,) = provider.check(CellParams(size="16:9"))
    assert "WIDTHxHEIGHT" in named


def test_questions_before_a_run_import_no_torch(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "xl")
    script = f"""
import sys
from tests.local.driver import make_provider
from runner.settings.cell import CellParams
provider = make_provider({str(folder)!r})
provider.capabilities(), provider.check_ready(), provider.identity(), provider.versions()
provider.check(CellParams(size="64x64")), provider.estimate(CellParams()), provider.quota_key()
heavy = {{"torch", "diffusers", "transformers", "accelerate", "numpy", "PIL", "huggingface_hub"}}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[]"


# What is refused


def test_missing_libraries_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = make_provider(write_model(tmp_path / "xl"))
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else find_spec(name)
    )
    assert "pip install 'image-batch-runner[local]'" in refusal(
        PrerequisiteError, provider.check_ready
    )


@pytest.mark.parametrize("name", ["no such folder", "./missing", "a/b/c", "/nowhere/at/all"])
def test_an_unknown_folder(name: str) -> None:
    sentence = refusal(RequestError, make_provider(name).check_ready)
    assert repr(name) in sentence
    assert "owner/name" in sentence


def test_an_uncached_hub_id_while_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    provider = make_provider("owner/name")
    assert "hf download owner/name" in refusal(PrerequisiteError, provider.check_ready)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    hopeful = make_provider("owner/name")
    hopeful.check_ready()
    assert {"prompt", "seed", "size", "steps"} <= set(hopeful.capabilities().params)
    assert hopeful.capabilities().shared_call_keys == {"seed"}


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.bin", "MODEL.PTH"])
def test_a_pickle_by_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    sentence = refusal(RequestError, make_provider(tmp_path / name).check_ready)
    assert "can run code" in sentence


def test_a_folder_with_only_pickles(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "old", suffix=".bin")
    sentence = refusal(RequestError, make_provider(folder).check_ready)
    assert "model.bin" in sentence
    assert "can run code" in sentence


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_class_name": ["pipeline", "MyPipeline"]}, "custom pipeline"),
        ({"_class_name": "StableDifusionXLPipeline"}, "did you mean 'StableDiffusionXLPipeline'?"),
        ({"_class_name": "AudioLDM2UNet"}, "has no pipeline"),
        ({"_class_name": "StableDiffusionUpscalePipelineX"}, "written by diffusers 0.42.1"),
        ({"unet": ["subprocess", "Popen"]}, "'subprocess'"),
        ({"unet": ["my_module", "MyUNet"]}, "'my_module'"),
        ({"unet": ["../evil", "MyUNet"]}, "'../evil'"),
        ({"unet": [3, "MyUNet"]}, "comes from 3"),
    ],
)
def test_an_index_that_asks_for_foreign_code(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "xl")
    index = json.loads((folder / "model_index.json").read_text()) | change
    (folder / "model_index.json").write_text(json.dumps(index))
    assert words in refusal(RequestError, make_provider(folder).check_ready)


def test_a_component_that_brings_code(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "xl")
    (folder / "unet" / "diffusers.py").write_text("raise SystemExit")
    assert "Python code" in refusal(RequestError, make_provider(folder).check_ready)


def test_a_folder_that_is_no_pipeline(tmp_path: Path) -> None:
    write_model(tmp_path / "inner")
    assert "one is in 'inner'" in refusal(RequestError, make_provider(tmp_path).check_ready)
    (tmp_path / "notes.txt").write_text("")
    assert "neither a folder" in refusal(
        RequestError, make_provider(tmp_path / "notes.txt").check_ready
    )
    (tmp_path / "model_index.json").write_text("{")
    assert "JSON" in refusal(RequestError, make_provider(tmp_path).check_ready)


def test_missing_weights_say_which_and_how_to_do_without(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "xl")
    shutil.rmtree(folder / "text_encoder")
    sentence = refusal(RequestError, make_provider(folder).check_ready)
    assert "model.components.text_encoder=null" in sentence
    make_provider(folder, model={"components": {"text_encoder": None}}).check_ready()


def test_an_unknown_component_or_variant_or_argument(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "xl")
    typo = make_provider(folder, model={"components": {"text_encodr": None}})
    assert "did you mean 'text_encoder'?" in refusal(RequestError, typo.check_ready)
    half = make_provider(folder, model={"variant": "fp16"})
    assert "model.variant=null" in refusal(RequestError, half.check_ready)
    argument = make_provider(folder, extra_body={"guidence_rescale": 1})
    assert "did you mean 'guidance_rescale'?" in refusal(RequestError, argument.check_ready)
    ours = make_provider(folder, extra_body={"generator": 1})
    assert "passes this argument itself" in refusal(RequestError, ours.check_ready)
    assert "prompt_memo_mb" in refusal(
        RequestError, lambda: make_provider(folder, options={"promt_memo_mb": 1})
    )


def test_variant_files_are_found_and_needed(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "xl", suffix=".fp16.safetensors")
    make_provider(folder, model={"variant": "fp16"}).check_ready()
    assert "it has fp16" in refusal(RequestError, make_provider(folder).check_ready)


def test_a_single_file_needs_its_configs(tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    assert "no such file" in refusal(RequestError, make_provider(file).check_ready)
    file.write_bytes(b"weights")
    assert "model.config" in refusal(RequestError, make_provider(file).check_ready)
    configs = write_model(tmp_path / "xl", suffix=".unused")
    provider = make_provider(file, model={"config": str(configs)})
    provider.check_ready()
    assert "negative_prompt" in provider.capabilities().params


# What a model is called


def test_a_folder_is_named_by_its_content_not_by_its_path(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "xl")
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(folder, copy)
    (copy / "README.md").write_text("not part of a picture")
    identity = make_provider(folder).identity()
    assert identity == make_provider(copy).identity()
    assert str(tmp_path) not in json.dumps(identity)
    (copy / "unet" / "model.safetensors").write_bytes(b"other")
    assert identity != make_provider(copy).identity()


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"components": {"text_encoder": None}}},
        {"extra_body": {"guidance_rescale": 0.5}},
    ],
)
def test_what_changes_the_picture_changes_the_name(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "xl")
    assert make_provider(folder).identity() != make_provider(folder, **settings).identity()


def test_what_changes_no_picture_is_not_in_the_name(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "xl")
    plain = make_provider(folder).identity()
    assert plain == make_provider(folder, batch_size=7, dtype="bfloat16").identity()
    assert plain == make_provider(folder, output="webp").identity()
    assert plain == make_provider(folder, options={"prompt_memo_mb": 0}).identity()
    absent = {"components": {"image_encoder": None}}
    assert plain == make_provider(folder, model=absent).identity()


def test_a_variant_reads_and_names_its_own_files(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "xl")
    plain = make_provider(folder).identity()
    (folder / "unet" / "model.fp16.safetensors").write_bytes(b"half")
    assert make_provider(folder).identity() == plain
    half = make_provider(folder, model={"variant": "fp16"}).identity()
    (folder / "unet" / "model.fp16.safetensors").write_bytes(b"another half")
    assert make_provider(folder, model={"variant": "fp16"}).identity() != half
    assert half["model"] != plain["model"]


def test_the_built_in_model_goes_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path / "xl")
    monkeypatch.setattr("runner.providers.local.builtin.MODEL_DIR", folder)
    names = ("builtin", "builtin/shapes", str(folder))
    identities = [make_provider(name).identity() for name in names]
    assert identities[0] == identities[1] == identities[2]
    monkeypatch.setattr("runner.providers.local.builtin.MODEL_DIR", tmp_path / "gone")
    assert "weights are missing" in refusal(PrerequisiteError, make_provider("builtin").check_ready)


def test_a_hub_model_goes_by_id_and_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--owner--name"
    write_model(repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    latest = make_provider("owner/name")
    pinned = make_provider("owner/name", model={"revision": commit})
    for provider in (latest, pinned):
        provider.check_ready()
        assert "negative_prompt" in provider.capabilities().params
    assert latest.identity()["model"] == {
        "variant": None,
        "hub": "owner/name",
        "revision": None,
    }
    assert latest.identity() != pinned.identity()
    shutil.rmtree(repo / "snapshots" / commit / "unet")
    torn = make_provider("owner/name")
    assert "hf download owner/name" in refusal(PrerequisiteError, torn.check_ready)


def test_large_files_are_hashed_once(tmp_path: Path) -> None:
    from runner.providers.local.identity import file_hashes

    large, small = tmp_path / "large.safetensors", tmp_path / "small.json"
    large.write_bytes(bytes(2 << 20))
    small.write_bytes(b"{}")
    first = file_hashes([large, small], tmp_path)
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "image-batch-runner" / "sha256.json"
    known = json.loads(cache.read_text())
    assert list(known) == [str(large)]
    # A mark in the cache shows when a hash comes from there.
    known[str(large)][3] = "remembered"
    cache.write_text(json.dumps(known))
    assert file_hashes([large, small], tmp_path) == first | {"large.safetensors": "remembered"}
    os.utime(large, ns=(1, 1))
    assert file_hashes([large, small], tmp_path) == first
    cache.write_text("[not json")
    assert file_hashes([large, small], tmp_path) == first


def test_a_blob_of_the_hub_bears_its_hash(tmp_path: Path) -> None:
    from runner.providers.local.identity import file_hashes

    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"not read")
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    assert file_hashes([link], tmp_path) == {"model.safetensors": "ab" * 32}

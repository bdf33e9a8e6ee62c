"""Every kind of pipeline of every tiny family: what pictures that go in change, and what not."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("diffusers")

from runner.cli.main import run
from runner.providers.contract import Picture, ProviderError
from runner.providers.local import load
from runner.providers.local.options import DiffusersOptions
from runner.providers.local.pose import JOINTS, draw_poses
from runner.providers.local.preprocess import make_preprocessor
from runner.providers.net.http import Http
from runner.settings.cell import CellParams
from runner.settings.errors import PrerequisiteError
from tests import tiny, tiny_files, tiny_more
from tests.cli.runs import manifest, rows
from tests.conftest import RunCli
from tests.local.drawings import Drawings, distance, pixels
from tests.local.driver import Driver, cell, distinct, make_provider, opened

Folder = Callable[[tiny.Family], Path]

FAMILIES: tuple[tiny.Family, ...] = ("sd15", "sdxl", "sd3", "flux")
CONTROLLED = {"sd15", "sdxl", "flux"}
"""Families that take a ControlNet in img2img and inpaint too."""


def asked(kind: str, drawings: Drawings, **more: Any) -> dict[str, Any]:
    """The pictures that a kind needs."""
    keys: dict[str, Any] = {}
    if kind in {"img2img", "inpaint"}:
        keys |= {"image": drawings.image, "strength": 0.6}
    if kind == "inpaint":
        keys["mask"] = drawings.mask
    if kind == "controlnet":
        keys["control_image"] = drawings.edges
    return keys | {"steps": 4} | more


def one(driver: Driver, seed: int = 7, prompt: str = "a red fox", **keys: Any) -> Picture:
    return driver.pictures(cell(prompt, seed, **keys))[0]


@pytest.mark.parametrize("kind", ["img2img", "inpaint", "controlnet"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_of_every_family(
    family: tiny.Family,
    kind: str,
    tiny_folder: Folder,
    tiny_controlnet: Folder,
    drawings: Drawings,
) -> None:
    model = {"controlnet": str(tiny_controlnet(family))} if kind == "controlnet" else {}
    with opened(tiny_folder(family), pipeline=kind, model=model, batch_size=2) as driver:
        assert kind in driver.provider.capabilities().pipelines
        keys = asked(kind, drawings)
        picture = one(driver, **keys)
        assert pixels(picture.data).shape == (64, 64, 3)
        # The seed counts, neighbours and slot do not, and neither does when it is made.
        beside = driver.files(cell("a cat", 1, **keys), cell("a red fox", 7, **keys))
        assert beside[1] == picture.data
        assert one(driver, seed=8, **keys).data != picture.data
        # Every picture that goes in counts.
        given = {key for key in ("image", "control_image") if key in keys}
        for key in given:
            assert one(driver, **keys | {key: drawings.other}).data != picture.data
        assert picture.effective["resize"] == "fit"
        assert ("control.png" in picture.extras) == (kind == "controlnet")


@pytest.mark.parametrize("family", ["sd15", "flux"])
@pytest.mark.parametrize("kind", ["img2img", "inpaint"])
def test_a_controlnet_steers_the_other_kinds_too(
    family: tiny.Family,
    kind: str,
    tiny_folder: Folder,
    tiny_controlnet: Folder,
    drawings: Drawings,
) -> None:
    model = {"controlnet": str(tiny_controlnet(family))}
    with opened(tiny_folder(family), pipeline=kind, model=model, batch_size=1) as driver:
        keys = asked(kind, drawings, control_image=drawings.edges)
        files = [
            one(driver, **keys).data,
            one(driver, **keys | {"control_image": drawings.other}).data,
            one(driver, **keys | {"control_scale": 0.1}).data,
            one(driver, **keys | {"image": drawings.other}).data,
        ]
        assert distinct(files)
        assert one(driver, **keys).data == files[0]


def test_two_controlnets_work_together(
    tiny_folder: Folder, tiny_controlnet: Folder, drawings: Drawings
) -> None:
    net = str(tiny_controlnet("sd3"))
    job = {"name": "controlnet", "preprocessor": ["canny", "softedge"], "control_end": 0.9}
    with opened(
        tiny_folder("sd3"), pipeline=job, model={"controlnet": [net, net]}, batch_size=2
    ) as driver:
        picture = one(driver, control_image=drawings.image)
        assert set(picture.extras) == {"control-0.png", "control-1.png"}
        drawn = {name: pixels(data) for name, data in picture.extras.items()}
        assert set(np.unique(drawn["control-0.png"])) == {0, 255}
        assert len(np.unique(drawn["control-1.png"])) > 20
        among = driver.files(
            cell("a cat", 1, control_image=drawings.other),
            cell("a red fox", 7, control_image=drawings.image),
        )
        assert among[1] == picture.data
        assert picture.effective["control_guidance_end"] == 0.9


def test_each_controlnet_has_its_own_image_weight_and_window(
    tiny_folder: Folder, tiny_controlnet: Folder, drawings: Drawings
) -> None:
    net = str(tiny_controlnet("sdxl"))
    two = f"{drawings.edges}|{drawings.other}"

    def made(image: str, nets: int = 2, **job: Any) -> Picture:
        asked = {"name": "controlnet", **job}
        with opened(
            tiny_folder("sdxl"), pipeline=asked, model={"controlnet": [net] * nets}, batch_size=1
        ) as driver:
            return one(driver, control_image=image, steps=4)

    pair = made(two)
    assert set(pair.extras) == {"control-0.png", "control-1.png"}
    turned = made(f"{drawings.other}|{drawings.edges}")
    assert turned.extras["control-1.png"] == pair.extras["control-0.png"]
    alone = made(drawings.edges, nets=1)
    others = [
        made(two, control_weights=[0.5, 1.0]),
        made(two, control_start=[0.0, 0.5], control_end=[0.5, 1.0]),
        made(drawings.edges),
    ]
    assert distinct([pair.data, alone.data, *(other.data for other in others)])
    # A net that counts for nothing is as if it were not there.
    silent = made(two, control_weights=[1.0, 0.0]).data
    assert distance(pixels(silent), pixels(alone.data)) < 1
    assert distance(pixels(silent), pixels(pair.data)) > 1
    provider = make_provider(
        tiny_folder("sdxl"),
        model={"controlnet": [net] * 2},
        pipeline={"name": "controlnet", "control_start": [0.1]},
    )
    problems = provider.check(CellParams(control_image="a|b|c"))
    assert "control_image has 3 values, but there are 2 ControlNets" in problems[0]
    assert "control_start has 1 values" in problems[1]


def test_where_and_how_much_the_control_image_counts(
    tiny_folder: Folder, tiny_controlnet: Folder, drawings: Drawings
) -> None:
    folder, net = tiny_folder("sd15"), {"controlnet": str(tiny_controlnet("sd15"))}
    keys = {"control_image": drawings.edges, "steps": 4}
    made = []
    for window in ({}, {"control_start": 0.5}, {"control_end": 0.5}):
        with opened(folder, pipeline={"name": "controlnet", **window}, model=net) as driver:
            made.append(one(driver, **keys).data)
            if not window:
                made.append(one(driver, **keys, control_scale=0.5).data)
                off = one(driver, **keys, control_scale=0.0).data
    assert distinct([*made, off])
    with opened(folder) as driver:
        assert one(driver, steps=4).data == off


@pytest.mark.parametrize(
    ("resize", "size", "made"),
    [
        ("fit", "64x64", (64, 32)),
        ("fill", "64x64", (64, 64)),
        ("stretch", "64x64", (64, 64)),
        ("fit", None, (128, 64)),
        ("none", "128x64", (128, 64)),
    ],
)
def test_input_pictures_are_made_to_fit_as_asked(
    resize: str, size: str | None, made: tuple[int, int], tiny_folder: Folder, drawings: Drawings
) -> None:
    job = {"name": "img2img", "resize": resize}
    with opened(tiny_folder("sd15"), pipeline=job, batch_size=1) as driver:
        picture = one(driver, image=drawings.wide, strength=0.9, size=size)
    assert pixels(picture.data).shape == (made[1], made[0], 3)
    assert (picture.effective["resize"], picture.effective["resized_from"]) == (resize, "128x64")


def test_the_same_folder_makes_text_to_image_from_either_side(
    tiny_folder: Folder, drawings: Drawings
) -> None:
    with opened(tiny_folder("sdxl"), pipeline="inpaint", batch_size=1) as driver:
        data = one(driver, **asked("inpaint", drawings, strength=1.0)).data
    with opened(
        tiny_folder("sdxl"), pipeline="inpaint", batch_size=1, options={"keep_unmasked": True}
    ) as driver:
        kept = one(driver, **asked("inpaint", drawings, strength=1.0)).data
    before = pixels(drawings.image)
    assert np.array_equal(pixels(kept)[:, :32], before[:, :32])
    assert np.array_equal(pixels(kept)[:, 32:], pixels(data)[:, 32:])
    assert distance(pixels(data)[:, 32:], before[:, 32:]) > 20


def test_pipelines_of_one_model_share_their_networks(
    tiny_folder: Folder, drawings: Drawings
) -> None:
    folder = tiny_folder("sd3")
    cold = {}
    for kind in ("text2img", "img2img", "inpaint"):
        with opened(folder, pipeline=kind, batch_size=1) as driver:
            cold[kind] = one(driver, **asked(kind, drawings)).data
    load.forget()
    networks = []
    for kind in ("inpaint", "text2img", "img2img", "inpaint"):
        driver = Driver(make_provider(folder, pipeline=kind, batch_size=1))
        assert one(driver, **asked(kind, drawings)).data == cold[kind]
        networks.append(next(driver.pipe.transformer.parameters()))
        asyncio.run(driver.provider.close())
    assert len({id(weight) for weight in networks}) == 1
    load.forget()


ALL = ("text2img", "img2img", "inpaint", "controlnet")
STEERED = ("img2img+net", "inpaint+net")
MATRIX: dict[str, tuple[str, ...]] = {
    "sd15": ALL + STEERED,
    "sd2": ALL + STEERED,
    "sdxl": ALL + STEERED,
    "sd3": (*ALL, "inpaint+net"),
    "flux": ALL + STEERED,
    "qwenimage": ALL,
    "zimage": ALL,
    "sana": ("text2img",),
    "pixart": ("text2img",),
    "kandinsky22": ("text2img", "img2img"),
    "kandinsky22_inpaint": ("inpaint",),
}
"""Family to the kinds of pipelines that it has; ``+net``: steered by a ControlNet."""


WITHOUT_STRENGTH = {("sd3", "inpaint+net"), ("kandinsky22_inpaint", "inpaint")}
CALL = {"sana": {"use_resolution_binning": False}, "pixart": {"use_resolution_binning": False}}
"""Without it they make a picture of one of their own sizes and resize that one."""


def write_matrix(
    folder: Path, tiny_folder: Folder, tiny_controlnet: Folder, drawings: Drawings
) -> list[str]:
    """One experiment per family and kind, and some with options; returns their names."""
    (folder / "experiment").mkdir(parents=True)
    lora = {"name": str(tiny.build_lora(folder / "style.safetensors", 1)), "weight": 0.8}
    refiner = {"name": str(tiny.build_refiner(folder / "refiner")), "high_noise_frac": 0.6}
    gguf = str(tiny_files.save_gguf(tiny_folder("flux"), folder / "q8.gguf"))
    two = [str(tiny_controlnet("sdxl"))] * 2
    extras: dict[str, tuple[tiny.Family, dict[str, Any], dict[str, Any]]] = {
        "lora": ("sd15", {"loras": [lora]}, {}),
        "weighted": ("sdxl", {"prompt_weighting": "compel"}, {}),
        "refined": ("sdxl", {"refiner": refiner}, {}),
        "quantized": ("sd3", {"quantization": "torchao_int8"}, {}),
        "gguf": ("flux", {}, {"components": {"transformer": gguf}}),
        "two_nets": ("sdxl", {}, {"controlnet": two}),
    }
    names: list[str] = []

    def write(
        name: str, model: dict[str, Any], job: dict[str, Any], options: dict[str, Any] | None = None
    ) -> None:
        content = {
            "defaults": [{"override /model": "hub/sd15"}],
            "prompt": "a (red:1.5) fox" if name == "weighted" else "a red fox",
            "model": model,
            "pipeline": job,
            "provider": {"options": options or {}},
        }
        file = folder / "experiment" / f"{name}.yaml"
        file.write_text(f"# @package _global_\n{json.dumps(content)}")
        names.append(name)

    for family, kinds in MATRIX.items():
        built, net = tiny_folder, tiny_controlnet
        if family not in FAMILIES:
            built = lambda name: tiny_more.build_more(name, folder / name)  # noqa: E731
            net = lambda name: tiny_more.build_more_controlnet(name, folder / f"{name}-net")  # noqa: E731
        model: dict[str, Any] = {"name": str(built(family)), "variant": None, "preset": {}}
        model["traits"] = {"call": CALL.get(family, {})}
        steers = str(net(family)) if "controlnet" in kinds else None
        for kind in kinds:
            name = kind.removesuffix("+net")
            job: dict[str, Any] = {"name": name}
            if name in {"img2img", "inpaint"}:
                job |= {"image": drawings.image, "strength": 0.6}
            if name == "inpaint":
                job["mask"] = drawings.mask
            if (family, kind) in WITHOUT_STRENGTH:
                del job["strength"]
            steered, own = "net" in kind, steers
            if (family, kind) == ("sd3", "inpaint+net"):
                # It is shown the picture itself.
                own = str(tiny.build_controlnet("sd3", folder / "masked", masked=True))
            elif steered:
                job["control_image"] = drawings.edges
            write(f"{family}_{kind}", model | {"controlnet": own if steered else None}, job)
    for name, (family, options, more) in extras.items():
        model = {"name": str(tiny_folder(family)), "variant": None, "preset": {}}
        job = {"name": "text2img"}
        if "controlnet" in more:
            job = {"name": "controlnet", "control_image": f"{drawings.edges}|{drawings.other}"}
        write(name, model | more, job, options)
    return names


@pytest.fixture
def matrix(
    run_cli: RunCli,
    tmp_path: Path,
    tiny_folder: Folder,
    tiny_controlnet: Folder,
    drawings: Drawings,
) -> Path:
    """The run of all of them."""
    names = write_matrix(tmp_path / "conf", tiny_folder, tiny_controlnet, drawings)
    done = run_cli(
        "--config-dir", str(tmp_path / "conf"), "-m", f"experiment={','.join(names)}",
        "size=64x64", "steps=3", "seed=3", "device=cpu",
        f"hydra.sweep.dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert done.code == 0, done.text
    assert len(names) == 48
    return tmp_path / "run"


def test_every_kind_of_every_family_in_one_command(matrix: Path) -> None:
    made = rows(matrix)
    assert len(made) == 48
    assert distinct([row["pixel_sha256"].encode() for row in made])


@pytest.mark.long
def test_every_kind_of_every_family_is_made_again_to_the_byte(
    matrix: Path, run_cli: RunCli
) -> None:
    again = run_cli("rerun", str(matrix))
    assert again.code == 0, again.text
    assert "48 identical-bytes" in again.out


def test_what_options_make_is_made_again_to_the_byte(
    tiny_folder: Folder,
    drawings: Drawings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    lora = tiny.build_lora(tmp_path / "style.safetensors", 1, "sdxl")
    shown = tiny.build_ip_adapter(tmp_path / "ip", "sdxl")
    options = (
        f"loras=[{{name:{lora},weight:0.8}}]",
        f"ip_adapter={{name:{shown},subfolder:models,file:ip.safetensors,image:{drawings.image}}}",
        "prompt_weighting=compel",
    )
    code = run(
        [
            *("model=hub/sdxl", "model.variant=null", f"model.name={tiny_folder('sdxl')}"),
            *("size=64x64", "steps=3", "seed=3", "device=cpu", "device.threads=1"),
            *(f"provider.options.{option}" for option in options),
            *('prompt="a (red:1.5) fox"', "hydra.run.dir=run"),
        ]
    )
    assert code == 0, capsys.readouterr().err
    (variant,) = manifest(tmp_path / "run")["variants"]
    assert {"loras", "ip_adapter"} <= variant["model_identity"].keys()
    assert "warnings" not in variant["model_identity"]
    assert run(["rerun", "run"]) == 0
    assert "1 identical-bytes" in capsys.readouterr().out
    load.forget()


def test_a_picture_at_an_address_is_recorded_by_its_hash_and_none_inside_the_network_is_fetched(
    tiny_folder: Folder, drawings: Drawings, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(drawings.image).read_bytes()
    with opened(tiny_folder("sd15"), pipeline="img2img", batch_size=1) as driver:
        with pytest.raises(ProviderError) as caught:
            one(driver, image="https://127.0.0.1/secret.png", strength=0.6)
        assert caught.value.code == "address_refused"

        async def download(self: Http, url: str, limit: int) -> bytes:
            assert url == "https://example.com/a.png"
            return data

        monkeypatch.setattr(Http, "_download", download)
        fetched = one(driver, image="https://example.com/a.png", strength=0.6)
        read = one(driver, image=drawings.image, strength=0.6)
    assert fetched.data == read.data
    found = {"image sha256": hashlib.sha256(data).hexdigest()}
    assert fetched.effective == read.effective | found


def test_depth_is_read_by_a_network_of_safetensors(tmp_path: Path) -> None:
    from PIL import Image
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessorPil

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 4}
    config = DPTConfig(
        **sizes,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[4, 4, 8, 8],
        fusion_hidden_size=8,
        is_hybrid=False,
    )
    DPTForDepthEstimation(config).save_pretrained(tmp_path)
    DPTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    options = DiffusersOptions(depth_model=str(tmp_path))
    depth = make_preprocessor("depth", options, {})(Image.new("RGB", (48, 40), "red"))
    assert (depth.mode, depth.size) == ("L", (48, 40))
    with pytest.raises(PrerequisiteError, match=r"hf download|depth_model"):
        make_preprocessor("depth", DiffusersOptions(depth_model=str(tmp_path / "none")), {})


def test_poses_are_read_by_networks_of_safetensors(tmp_path: Path) -> None:
    from PIL import Image
    from transformers import (
        RTDetrConfig,
        RTDetrForObjectDetection,
        RTDetrImageProcessorPil,
        RTDetrResNetConfig,
        VitPoseBackboneConfig,
        VitPoseConfig,
        VitPoseForPoseEstimation,
        VitPoseImageProcessorPil,
    )

    # One class alone, of which a network without training is half sure everywhere.
    finder = RTDetrConfig(
        backbone_config=RTDetrResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 8, 8, 8],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        ),
        encoder_in_channels=[8, 8, 8],
        encoder_hidden_dim=16,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        d_model=16,
        decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        num_queries=3,
        num_denoising=0,
        id2label={0: "person"},
    )
    RTDetrForObjectDetection(finder).save_pretrained(tmp_path / "finder")
    RTDetrImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(tmp_path / "finder")
    reader = VitPoseConfig(
        backbone_config=VitPoseBackboneConfig(
            image_size=[64, 48],
            patch_size=[16, 16],
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
        ),
        num_labels=len(JOINTS),
    )
    VitPoseForPoseEstimation(reader).save_pretrained(tmp_path / "reader")
    VitPoseImageProcessorPil(size={"height": 64, "width": 48}).save_pretrained(tmp_path / "reader")
    options = DiffusersOptions(
        person_model=str(tmp_path / "finder"), pose_model=str(tmp_path / "reader")
    )
    pose = make_preprocessor("pose", options, {})(Image.new("RGB", (80, 60), "red"))
    assert (pose.mode, pose.size) == ("RGB", (80, 60))
    nowhere = options.model_copy(update={"pose_model": str(tmp_path / "none")})
    with pytest.raises(PrerequisiteError, match=r"hf download|pose_model"):
        make_preprocessor("pose", nowhere, {})


def test_a_body_is_drawn_as_openpose_draws_it() -> None:
    person = {
        "nose": (64.0, 20.0),
        "left shoulder": (84.0, 40.0),
        "right shoulder": (44.0, 40.0),
        "right elbow": (34.0, 70.0),
    }
    picture = draw_poses([person], (128, 128))
    assert picture.getpixel((64, 20)) == (255, 0, 0)
    assert picture.getpixel((64, 40)) == (255, 85, 0), "the neck, between the shoulders"
    assert picture.getpixel((44, 40)) == (255, 170, 0)
    assert picture.getpixel((34, 70)) == (255, 255, 0)
    assert picture.getpixel((54, 40)) == (153, 0, 0), "from the neck to the right shoulder"
    assert picture.getpixel((39, 55)) == (153, 102, 0), "the right upper arm"
    assert picture.getpixel((84, 70)) == (0, 0, 0), "there is no left arm"
    assert draw_poses([], (8, 8)).getbbox() is None

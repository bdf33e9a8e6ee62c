"""Every kind of pipeline of every tiny family: what pictures that go in change, and what not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("diffusers")

from runner.providers.contract import Picture
from tests import tiny
from tests.local.drawings import Drawings, distance, pixels
from tests.local.driver import Driver, cell, distinct, opened

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

"""Models whose files say what they take: every rule that such a file can hold."""

from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import Field

from runner.providers.contract import Call
from runner.providers.hosted import Hosted, as_base64, as_data_url
from runner.providers.net import Http
from runner.settings.cell import CellParams, PipelineKind
from runner.settings.errors import RequestError
from runner.settings.schema import (
    ModelSettings,
    PipelineSettings,
    ProviderSettings,
    Section,
    VariantSettings,
)
from tests.contract.support import cells

TRAITS: dict[str, Any] = {
    "routes": {
        "text2img": {"path": "make"},
        "img2img": {
            "path": "edit",
            "without": ["size"],
            "image": "image_1",
            "more_images": "image_{}",
            "most_images": 3,
            "keep_strength": True,
            "keys": {"strength": {"native": "fidelity", "minimum": 0, "maximum": 1}},
            "fields": {"mode": "edit"},
        },
        "inpaint": {"path": "fill", "image": "image", "mask": "mask", "mask_polarity": "black"},
    },
    "keys": {"seed": {"native": "noise"}, "steps": {"native": "rounds", "default": 20}},
    "sizes": {"ratios": ["1:1", "16:9"], "words": ["auto"], "multiple_of": 16, "min_side": 256},
    "size_as": "ratio_or_pixels",
    "count": "how_many",
    "max_n": 4,
    "options": ["glow", "tint"],
    "needs": ["tint"],
    "defaults": {"glow": 0.5, "mode": "make"},
    "max_prompt": 20,
}
PRICE = {
    "as_of": "2026-11-24",
    "source": "a test",
    "megapixels": [
        {"usd": 0.02, "first_usd": 0.05, "pipeline": ["text2img"]},
        {"usd": 0.03, "whole": False},
    ],
}


class Options(Section):
    """Of no provider."""

    images: tuple[str, ...] = Field(())
    glow: float | None = None
    tint: str | None = None
    haze: float | None = None


def hosted(kind: PipelineKind = "text2img", **options: Any) -> Hosted:
    settings = VariantSettings(
        provider=ProviderSettings(name="example", extra_body={"x_extra": 1}),
        model=ModelSettings(name="model-1", traits=TRAITS, price=PRICE),
        pipeline=PipelineSettings(name=kind),
    )
    return Hosted(settings, Http(settings, base_url="https://example.com"), Options(**options))


def fields(model: Hosted, count: int = 1, **params: Any) -> dict[str, Any]:
    call = Call("call", cells(CellParams(prompt="a fox", **params), count))
    return dict(model.fields(call))


def drawn(path: Path, size: tuple[int, int] = (64, 48)) -> Path:
    Image.new("L", size, 255).save(path)
    return path


def test_fields_by_native_name() -> None:
    found = fields(hosted(tint="red"), 2, seed=0, steps=7)
    expected = {"how_many": 2, "noise": 0, "rounds": 7, "glow": 0.5, "mode": "make"}
    assert found == {**expected, "tint": "red", "x_extra": 1}


def test_an_option_wins_over_what_the_model_is_sent_otherwise() -> None:
    assert fields(hosted(tint="red", glow=0.9))["glow"] == 0.9


def test_sizes_as_a_ratio_or_as_pixels() -> None:
    model = hosted(tint="red")
    assert fields(model, size="16:9")["aspect_ratio"] == "16:9"
    assert fields(model, size="auto")["aspect_ratio"] == "auto"
    found = fields(model, size="512x256")
    assert (found["aspect_ratio"], found["width"], found["height"]) == ("custom", 512, 256)
    assert model.check(CellParams(prompt="a fox", size="500x500"))


def test_what_an_endpoint_does_not_take() -> None:
    model = hosted("img2img", tint="red")
    assert "size" not in model.capabilities().params
    assert "aspect_ratio" not in fields(model, size="16:9")
    assert fields(model)["mode"] == "edit"


def test_a_strength_that_keeps_is_turned_round() -> None:
    assert fields(hosted("img2img", tint="red"), strength=0.7)["fidelity"] == 0.3


def test_a_mask_that_is_black_where_it_repaints(tmp_path: Path) -> None:
    model = hosted("inpaint", tint="red")
    assert model.capabilities().mask_polarity == "black"
    params = CellParams(
        image=str(drawn(tmp_path / "in.png")), mask=str(drawn(tmp_path / "mask.png"))
    )
    sent = asyncio.run(model.files(params, as_base64))
    with Image.open(io.BytesIO(base64.b64decode(str(sent["mask"])))) as mask:
        assert mask.getextrema() == (0, 0)


def test_further_inputs_have_numbered_names(tmp_path: Path) -> None:
    paths = [str(drawn(tmp_path / f"{at}.png", (8 + at, 8))) for at in range(3)]
    model = hosted("img2img", tint="red", images=tuple(paths[1:]))
    sent = asyncio.run(model.files(CellParams(image=paths[0]), as_data_url))
    assert list(sent) == ["image_1", "image_2", "image_3"]
    assert model.check(CellParams(image=paths[0])) == []
    too_many = hosted("img2img", tint="red", images=tuple(paths))
    assert "at most 2" in too_many.check(CellParams(image=paths[0]))[0]


def test_options_that_a_model_needs_or_does_not_take() -> None:
    assert "tint: model model-1 needs it" in hosted().check(CellParams(prompt="a fox"))[0]
    with pytest.raises(RequestError, match="haze: model model-1 does not take it for text2img"):
        hosted(haze=0.1)
    with pytest.raises(RequestError, match="images: model model-1 does not take it"):
        hosted("inpaint", images=("in.png",))


def test_prompts() -> None:
    model = hosted(tint="red")
    assert model.prompt(CellParams(prompt="a fox")) == {"prompt": "a fox"}
    assert model.prompt(CellParams(prompt="")) == {}
    assert "at most 20" in model.check(CellParams(prompt="a" * 21))[0]


def test_prices_by_the_size_that_is_made(tmp_path: Path) -> None:
    model = hosted(tint="red")
    assert model.estimate(CellParams(size="1024x1024")).high_usd == pytest.approx(0.05)
    assert model.estimate(CellParams(size="1536x1024")).high_usd == pytest.approx(0.07)
    assert model.estimate(CellParams()).basis == "unknown", "nobody knows the model's own size"
    edit = hosted("img2img", tint="red")
    large = str(drawn(tmp_path / "large.png", (1000, 2000)))
    assert edit.estimate(CellParams(image=large)).high_usd == pytest.approx(0.06)
    assert edit.estimate(CellParams(image="https://example.com/in.png")).basis == "unknown"


def test_files_of_options_count_by_content(tmp_path: Path) -> None:
    found = [
        hosted("img2img", images=(str(drawn(tmp_path / name)),)).identity()
        for name in ("a.png", "b.png")
    ]
    assert found[0] == found[1]
    assert "a.png" not in str(found[0])

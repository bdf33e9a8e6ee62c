"""The comparison of our price book with litellm's price file, on a small file of its form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.providers import price_check
from runner.providers.price_check import compare, main, read_listed, read_models
from runner.settings.schema import Lifecycle, ModelSettings

IMAGE = {"mode": "image_generation", "litellm_provider": "openai"}
SAMPLE: dict[str, dict[str, Any]] = {
    "sample_spec": {"mode": "one of: chat, image_generation"},
    "gpt-4o": {"mode": "chat", "litellm_provider": "openai", "input_cost_per_token": 1e-6},
    "tokens-1": {
        **IMAGE,
        "input_cost_per_token": 5e-6,
        "output_cost_per_image_token": 32e-6,
        "deprecation_date": "2026-12-01",
    },
    "low/1024-x-1024/tokens-1": {**IMAGE, "input_cost_per_image": 0.009},
    "high/1024-x-1024/tokens-1": {**IMAGE, "input_cost_per_image": 0.133},
    "unheard/1024-x-1024/tokens-1": {**IMAGE, "input_cost_per_image": 9.0},
    "openai/flat-1": {**IMAGE, "output_cost_per_image": 0.04},
    "nscale/some/flux": {**IMAGE, "litellm_provider": "nscale", "input_cost_per_pixel": 1.3e-9},
    "512-x-512/50-steps/flat-1": {**IMAGE, "output_cost_per_image": 7.0},
    "azure/flat-1": {**IMAGE, "litellm_provider": "azure", "output_cost_per_image": 5.0},
}
PRICED = {"as_of": "2026-11-20", "source": "a page"}


def model(name: str, date: str | None = None, **price: Any) -> ModelSettings:
    lifecycle = Lifecycle.model_validate({"date": date})
    book = {**PRICED, **price} if price else {}
    return ModelSettings(name=name, price=book, lifecycle=lifecycle)


def tokens(image_out: float, low: int = 272, high: int = 4160) -> dict[str, Any]:
    table = {"low": {"1024x1024": low}, "high": {"1024x1024": high}}
    return {
        "tokens": {"text_in": 5, "image_out": image_out},
        "output_tokens": {"table": table},
    }


def differences(choice: str, settings: ModelSettings) -> list[str]:
    return [str(found) for found in compare([(choice, settings)], read_listed(json.dumps(SAMPLE)))]


def test_the_same_figures_are_no_difference() -> None:
    assert differences("openai/x", model("tokens-1", "2026-12-01", **tokens(32))) == []
    assert differences("openai/x", model("flat-1", images=[{"usd": 0.04}])) == []
    assert differences("nscale/x", model("some/flux", megapixel_usd=0.0013)) == []


@pytest.mark.parametrize(
    ("choice", "settings", "said"),
    [
        (
            "openai/x",
            model("tokens-1", "2027-01-01", **tokens(32)),
            ["openai/x: end of life: ours 2027-01-01, litellm 2026-12-01"],
        ),
        (
            "openai/x",
            model("tokens-1", "2026-12-01", **tokens(32, low=900)),
            ["openai/x: an image (low, 1024x1024): ours $0.0288 to $0.02883, litellm $0.009"],
        ),
        (
            "openai/x",
            model("flat-1", images=[{"usd": 0.03}]),
            ["openai/x: an image: ours $0.03, litellm $0.04"],
        ),
        ("openai/x", model("flat-1"), ["openai/x: an image: ours nothing, litellm $0.04"]),
        (
            "nscale/x",
            model("some/flux", megapixel_usd=0.002),
            ["nscale/x: a million pixels: ours $0.002, litellm $0.0013"],
        ),
        ("azure_openai/x", model("tokens-1"), []),
        ("openai/x", model("unheard-of", images=[{"usd": 1}]), []),
    ],
)
def test_differences(choice: str, settings: ModelSettings, said: list[str]) -> None:
    found = differences(choice, settings)
    assert found == said


def test_a_rate_that_differs() -> None:
    found = differences("openai/x", model("tokens-1", "2026-12-01", **tokens(30)))
    assert "openai/x: image_out per million tokens: ours $30, litellm $32" in found


def test_model_files_are_read_with_what_they_build_on() -> None:
    found = dict(read_models())
    base, snapshot = found["openai/gpt_image_2"], found["openai/gpt_image_2_2026_04_21"]
    assert snapshot.price == base.price
    assert snapshot.name != base.name
    assert found["azure_openai/gpt_image_2"].lifecycle.date != base.lifecycle.date


def test_the_whole_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "prices.json"
    name = "black-forest-labs/FLUX.1-schnell"
    pixel = {"mode": "image_generation", "litellm_provider": "nscale"}
    file.write_text(json.dumps({f"nscale/{name}": {**pixel, "input_cost_per_pixel": 1.3e-9}}))
    assert main(["--litellm", str(file)]) == 0
    assert "1 of them in litellm's file, 0 differences" in capsys.readouterr().out
    file.write_text(json.dumps({f"nscale/{name}": {**pixel, "input_cost_per_pixel": 9e-9}}))
    assert main(["--litellm", str(file)]) == 1
    assert "nscale/flux_schnell: a million pixels" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[]", "7"])
def test_files_of_another_kind(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prices.json"
    file.write_text(text)
    assert main(["--litellm", str(file)]) == 2
    assert capsys.readouterr().err.startswith("error: --litellm")
    assert main(["--litellm", str(tmp_path / "none.json")]) == 2


def test_without_litellm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(_: str) -> None:
        raise price_check.PackageNotFoundError

    monkeypatch.setattr(price_check, "distribution", missing)
    assert main([]) == 3
    assert "pip install litellm" in capsys.readouterr().err

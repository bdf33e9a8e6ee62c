"""The contract for ``provider=recraft``, and what only Recraft has."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from runner.images import inspect
from runner.providers.contract import Call
from runner.providers.recraft import KEY_VARIABLES, choose_size
from runner.providers.recraft_options import TASKS, RecraftOptions
from runner.providers.registry import make_provider
from runner.providers.sizes import SizeError
from runner.settings.cell import CellParams
from runner.settings.confdir import conf_dir
from runner.settings.errors import RequestError
from tests.contract.suite import ProviderContract
from tests.contract.support import Listening, ask, ask_all, cells, opened, variant
from tests.servers.loopback import Loopback, picture
from tests.servers.recraft import RecraftServer

STYLE = "229b2a75-05e4-4580-85f9-b47ee521a00d"
MODELS = sorted(path.stem for path in Path(conf_dir(), "model", "recraft").glob("*.yaml"))


class TestRecraft(ProviderContract):
    provider = "recraft"
    server_type = RecraftServer
    variables = KEY_VARIABLES
    families = ("recraft",)
    cost_basis = "reported"
    samples: ClassVar[Mapping[str, Any]] = {"size": "16:9", "seed": 7, "output_format": "png"}
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1536x1024"}  # OpenAI's, not V4's

    # ------------------------------------------------------------------ generations

    def test_what_is_sent(self, server: Loopback) -> None:
        answer = self.ask(server, n=3, **self.samples).answer
        assert answer is not None
        assert answer.params_sent == {
            "response_format": "b64_json",
            "model": "recraftv4_1",
            "n": 3,
            "size": "16:9",
            "random_seed": 7,
            "image_format": "png",
        }
        assert server.calls()[0].json == {**answer.params_sent, "prompt": "a red lighthouse"}
        assert answer.cost_usd == pytest.approx(3 * 0.035)

    def test_calls_of_one_point_do_not_begin_alike(self, server: Loopback) -> None:
        every = cells(self.params(seed=2**32 - 3), 8)

        async def run() -> list[Any]:
            async with opened(self.settings(server)) as provider:
                parts = (every[:6], every[6:])
                answers = [
                    await provider.generate(Call("call", part), Listening()) for part in parts
                ]
                return [[out.seed_sent for out in answer.outputs] for answer in answers]

        assert asyncio.run(run()) == [[2**32 - 3] * 6, [3] * 2]

    @pytest.mark.parametrize("model", [name for name in MODELS if name != "tools"])
    def test_every_model(self, server: Loopback, model: str) -> None:
        style = [f"+provider.options.style_id={STYLE}"] if "styles" in model else []
        settings = self.settings(server, f"model=recraft/{model}", *style)
        taken = make_provider(settings).capabilities().params
        old = model.startswith(("v2", "v3"))
        assert ({"style", "negative_prompt"} <= set(taken)) == old
        assert ("output_format" in taken) == ("vector" not in model)
        samples = {"style": "Photorealism", "negative_prompt": "rain", "size": "3:4", "seed": 0}
        params = self.params(**{key: samples[key] for key in samples if key in taken})
        asked = ask(settings, params, 2)
        assert len(asked.pictures) == 2, asked.fault
        mime = inspect(asked.pictures[0].data).info.mime
        assert mime == ("image/svg+xml" if "vector" in model else "image/webp")
        assert server.calls()[0].path == "/v1/images/generations"

    @pytest.mark.parametrize(
        ("model", "sizes"),
        [
            ("v4_1", {"1024x1024": "1024x1024", "1K": "1024x1024", "16:10": "1280x832"}),
            ("v4_1_pro", {"2K": "2048x2048", "16:9@2K": "2688x1536", "16:9": "16:9"}),
            ("v3", {"1536x1024": "1536x1024", "3:5": "6:10", "1820x1024": "1820x1024"}),
            ("v3_vector", {"1024x1024": "1:1", "9:16": "9:16", "1820x1024": "16:9"}),
        ],
    )
    def test_sizes_and_ratios(self, server: Loopback, model: str, sizes: dict[str, str]) -> None:
        settings = self.settings(server, f"model=recraft/{model}")
        for asked, sent in sizes.items():
            answer = ask(settings, self.params(size=asked)).answer
            assert answer is not None
            assert answer.params_sent["size"] == sent
        traits = make_provider(settings).traits  # type: ignore[attr-defined]
        for refused in ("4K", "3000x600", "21:5", "huge"):
            with pytest.raises(SizeError):
                choose_size(traits.sizes, refused)

    def test_style_and_where_words_stand(self, server: Loopback) -> None:
        layout = "[{text: Recraft, bbox: [[0,0],[1,0],[1,0.5],[0,0.5]]}]"
        settings = self.settings(
            server,
            "model=recraft/v3",
            "+provider.options.substyle=pixel_art",
            "+provider.options.controls.colors=[{rgb: [255, 0, 10], weight: 0.5}]",
            "+provider.options.controls.artistic_level=3",
            "+provider.options.controls.no_text=true",
            f"+provider.options.text_layout={layout}",
            "+provider.options.block_nsfw=true",
        )
        params = self.params(style="digital_illustration", negative_prompt="rain")
        assert ask(settings, params).pictures
        body = server.calls()[0].json
        assert body["controls"] == {
            "colors": [{"rgb": [255, 0, 10], "weight": 0.5}],
            "artistic_level": 3,
            "no_text": True,
        }
        assert body["text_layout"][0]["bbox"] == [[0, 0], [1, 0], [1, 0.5], [0, 0.5]]
        assert (body["style"], body["substyle"]) == ("digital_illustration", "pixel_art")
        assert (body["negative_prompt"], body["block_nsfw"]) == ("rain", True)

    def test_style_of_pictures(self, server: Loopback, tmp_path: Path) -> None:
        reference = tmp_path / "style.png"
        reference.write_bytes(picture(5))
        settings = self.settings(
            server,
            "model=recraft/v4_styles",
            f"+provider.options.style_references=['{reference}']",
            "+provider.options.style_match=flexible",
        )
        asked = ask(settings, self.params())
        assert asked.answer is not None, asked.fault
        (url,) = server.calls()[0].json["style_reference_urls"]
        assert base64.b64decode(url.partition(",")[2]) == reference.read_bytes()
        # To be used as provider.options.style_id: making a style costs.
        assert asked.pictures[0].effective == {"style_id": STYLE}
        assert "style_reference_urls" not in asked.answer.params_sent

    # ------------------------------------------------------------------ edits and tools

    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        path = tmp_path / "in.png"
        path.write_bytes(picture(3, size=(320, 256)))
        return path

    def test_strength_is_never_left_out(self, server: Loopback, image: Path) -> None:
        settings = self.settings(server, "pipeline.name=img2img")
        answer = ask(settings, self.params(image=str(image))).answer
        assert answer is not None
        assert answer.params_sent["strength"] == 0.5
        assert ask(settings, self.params(image=str(image), strength=0.0)).pictures
        assert server.calls()[1].json["strength"] == 0.0

    def test_masks_hold_two_values(self, server: Loopback, image: Path, tmp_path: Path) -> None:
        drawn = Image.new("L", (320, 256), 0)
        drawn.paste(200, (0, 0, 30, 256))
        drawn.paste(100, (30, 0, 40, 256))
        drawn.save(tmp_path / "mask.png")
        settings = self.settings(server, "model=recraft/v3", "pipeline.name=inpaint")
        params = self.params(image=str(image), mask=str(tmp_path / "mask.png"))
        assert ask(settings, params).pictures
        assert server.calls()[0].path == "/v1/images/inpaint"
        assert server.repainted[0].tobytes() == drawn.point(lambda v: 255 * (v > 127)).tobytes()

    @pytest.mark.parametrize(
        ("task", "options", "params", "path"),
        [
            ("outpaint", {"expand_left": 256, "expand_top": 0}, {}, "outpaint"),
            ("outpaint", {"zoom_out_percentage": 30.5}, {"size": "16:9"}, "outpaint"),
            ("replace_background", {}, {"style": "Photorealism"}, "replaceBackground"),
            ("variate", {}, {"size": "9:16", "prompt": "", "seed": 4}, "variateImage"),
        ],
    )
    def test_tasks_of_a_model(
        self,
        server: Loopback,
        image: Path,
        task: str,
        options: dict[str, Any],
        params: dict[str, Any],
        path: str,
    ) -> None:
        settings = self.settings(
            server,
            "model=recraft/v3",
            "pipeline.name=img2img",
            f"+provider.options.task={task}",
            *(f"+provider.options.{name}={value}" for name, value in options.items()),
        )
        asked_params = self.params(image=str(image), **params)
        provider = make_provider(settings)
        assert list(provider.check(asked_params)) == []
        assert provider.estimate(asked_params).high_usd == 0.04
        asked = ask(settings, asked_params, 2)
        assert len(asked.pictures) == 2, asked.fault
        seen = server.calls()[0]
        assert seen.path == f"/v1/images/{path}"
        assert {name: seen.json[name] for name in options} == options

    @pytest.mark.parametrize(
        ("task", "path", "usd"),
        [
            ("vectorize", "vectorize", 0.01),
            ("remove_background", "removeBackground", 0.01),
            ("crisp_upscale", "crispUpscale", 0.004),
            ("creative_upscale", "creativeUpscale", 0.25),
        ],
    )
    def test_tools(self, server: Loopback, image: Path, task: str, path: str, usd: float) -> None:
        settings = self.settings(
            server,
            "model=recraft/tools",
            "pipeline.name=img2img",
            f"+provider.options.task={task}",
        )
        params = self.params(image=str(image), prompt="")
        provider = make_provider(settings)
        assert set(provider.capabilities().params) == {"image"}
        assert provider.estimate(params).high_usd == usd
        (asked, _) = ask_all(settings, params, 2)
        assert len(asked.pictures) == 1, asked.fault
        assert asked.answer is not None
        assert asked.answer.cost_usd == pytest.approx(usd)
        seen = server.calls()[0]
        assert seen.path == f"/v1/images/{path}"
        assert set(seen.json) == {"response_format", "image_url"}

    @pytest.mark.parametrize("situation", ["empty", "text"])
    def test_a_tool_without_an_answer(self, server: Loopback, image: Path, situation: Any) -> None:
        server.script(situation)
        settings = self.settings(
            server,
            "model=recraft/tools",
            "pipeline.name=img2img",
            "+provider.options.task=vectorize",
        )
        asked = ask(settings, self.params(image=str(image), prompt=""))
        assert asked.answer is not None
        assert asked.pictures == []

    def test_masked_tasks(self, server: Loopback, image: Path, tmp_path: Path) -> None:
        Image.new("L", (320, 256), 255).save(tmp_path / "mask.png")
        files = {"image": str(image), "mask": str(tmp_path / "mask.png")}
        for model, options, prompt in (
            ("v3", ["+provider.options.task=generate_background"], "a beach"),
            ("tools", [], ""),  # the only task with a mask is taken without being named
        ):
            settings = self.settings(
                server, f"model=recraft/{model}", "pipeline.name=inpaint", *options
            )
            assert ask(settings, self.params(prompt=prompt, **files)).pictures
        assert [seen.path.rpartition("/")[2] for seen in server.calls()] == [
            "generateBackground",
            "eraseRegion",
        ]

    def test_inputs_that_are_too_large(
        self, server: Loopback, image: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("runner.providers.recraft.MOST_INPUT_BYTES", 10)
        settings = self.settings(server, "pipeline.name=img2img")
        fault = ask(settings, self.params(image=str(image))).fault
        assert fault is not None
        assert fault.kind == "invalid"
        assert server.requests == []

    def test_inputs_that_it_does_not_take(self, tmp_path: Path) -> None:
        (tmp_path / "small.png").write_bytes(picture(1))
        provider = recraft("pipeline.name=img2img")
        (problem,) = provider.check(self.params(image=str(tmp_path / "small.png")))
        assert "16x12" in problem

    # ------------------------------------------------------------------ errors

    def test_errors_that_are_plain_text(self, server: Loopback) -> None:
        fault = self.ask(server, "no_credit").fault
        assert fault is not None
        assert "not enough credits" in fault.message


def recraft(*overrides: str) -> Any:
    return make_provider(variant("provider=recraft", *overrides))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("+provider.options.substyle=x",), ("substyle", "recraftv4_1")),
        (("+provider.options.task=outpaint", "pipeline.name=img2img"), ("outpaint", "v4_1")),
        (("model=recraft/v3", "+provider.options.task=outpaint"), ("pipeline=img2img",)),
        (("+provider.options.controls.no_text=true",), ("controls.no_text",)),
        (("model=recraft/v3", "+provider.options.expand_left=5"), ("expand_left", "generate")),
        (
            (
                f"+provider.options.style_id={STYLE}",
                "+provider.options.style_references=[https://example.com/a.png]",
            ),
            ("exclude",),
        ),
        (("+provider.options.style_match=precise",), ("style_match",)),
        (("model=recraft/v4_1_flash", f"+provider.options.style_id={STYLE}"), ("style_id",)),
        (
            (
                "model=recraft/v3",
                "pipeline.name=inpaint",
                "+provider.options.controls.no_text=true",
            ),
            ("controls", "inpaint"),
        ),
    ],
)
def test_options_that_do_not_fit(overrides: tuple[str, ...], words: tuple[str, ...]) -> None:
    with pytest.raises(RequestError) as caught:
        recraft(*overrides)
    assert len(caught.value.problems) == 1, caught.value.problems
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "params", "word"),
    [
        (("model=recraft/v3",), {"prompt": "x" * 1001}, "1,001"),
        ((), {"prompt": ""}, "prompt"),
        ((), {"prompt": "x", "size": "1536x1024"}, "1536x1024"),
        (("model=recraft/v4_styles",), {"prompt": "x"}, "style_id"),
        (
            ("model=recraft/v3", f"+provider.options.style_id={STYLE}"),
            {"prompt": "x", "style": "Photorealism"},
            "style",
        ),
        (("model=recraft/tools", "pipeline.name=img2img"), {"image": "a.png"}, "vectorize"),
        (("pipeline.name=img2img",), {"prompt": "x"}, "pipeline.image"),
        (
            ("model=recraft/v3", "pipeline.name=inpaint"),
            {"prompt": "x", "image": "a.png"},
            "pipeline.mask",
        ),
        (
            ("model=recraft/v3", "pipeline.name=img2img", "+provider.options.task=outpaint"),
            {"prompt": "x", "image": "a.png"},
            "zoom_out_percentage",
        ),
        (
            (
                "model=recraft/v3",
                "pipeline.name=img2img",
                "+provider.options.task=outpaint",
                "+provider.options.expand_top=9",
            ),
            {"prompt": "x", "image": "a.png", "size": "1:1"},
            "expand",
        ),
        (
            ("model=recraft/v3", "pipeline.name=img2img", "+provider.options.task=variate"),
            {"image": "a.png"},
            "size",
        ),
    ],
)
def test_cells_that_do_not_fit(
    overrides: tuple[str, ...], params: dict[str, str], word: str
) -> None:
    problems = recraft(*overrides).check(CellParams(**params))
    assert len(problems) == 1, problems
    assert word in problems[0]


def test_prices_that_nobody_published_are_unknown() -> None:
    params = CellParams(prompt="x")
    assert recraft().estimate(params).high_usd == 0.035
    assert recraft("pipeline.name=img2img").estimate(params).basis == "unknown"
    assert recraft("model=recraft/v4_styles").estimate(params).basis == "unknown"
    assert recraft("model=recraft/v4_pro").estimate(params).high_usd == 0.25
    assert recraft("model=recraft/v3_vector").estimate(params).high_usd == 0.08


def test_every_task_and_option_is_taken_by_some_model() -> None:
    traits = [recraft(f"model=recraft/{name}").traits for name in MODELS]
    assert {task for found in traits for task in found.tasks} == set(TASKS)
    options = {option for found in traits for option in found.options}
    assert options == set(RecraftOptions.model_fields) - {"task"}
    assert options == {option for task in TASKS.values() for option in task.options}


def test_identity_counts_style_pictures_by_content(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    for path, number in ((one, 1), (same, 1), (other, 2)):
        path.write_bytes(picture(number))

    def identity(*options: str) -> object:
        return recraft(*options).identity()

    first, second, third = (
        identity(f"+provider.options.style_references=['{path}']") for path in (one, same, other)
    )
    assert first == second != third
    assert identity("+provider.options.expire=true") == identity()

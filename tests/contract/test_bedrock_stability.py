"""The contract for ``provider=bedrock_stability``, and what only Stability's models have."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web

from runner.providers.contract import Answer, Call, Missing, Picture
from runner.providers.registry import make_provider
from runner.settings.errors import RequestError
from tests.contract.aws import VARIABLES, aws_environment
from tests.contract.bedrock_files import (
    CONTROLLED,
    FROM_IMAGE,
    MASKED,
    Files,
    b64,
    checked,
    problems,
)
from tests.contract.suite import ProviderContract
from tests.contract.support import Listening, cells, opened
from tests.servers.bedrock_stability import RANDOM_SEED, StabilityServer
from tests.servers.loopback import Loopback, image_base64, picture

__all__ = ["aws_environment"]


class TestBedrockStability(ProviderContract):
    provider = "bedrock_stability"
    server_type = StabilityServer
    variables = VARIABLES
    families = ("bedrock_stability",)
    retired = "bedrock_stability/core_v1_0"
    count_field = None
    cost_basis = "price_book"
    returns_urls = False
    input_size = (96, 64)
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "16:9",
        "negative_prompt": "rain",
        "output_format": "webp",
        "seed": 7,
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "5:1"}
    operations: ClassVar[Mapping[str, str]] = {
        "image_to_image": f"{FROM_IMAGE} pipeline.strength=0.4",
        "inpaint": f"model=bedrock_stability/inpaint {MASKED}",
        "outpaint": f"model=bedrock_stability/outpaint {FROM_IMAGE} provider.options.left=200",
        "erase": f"model=bedrock_stability/erase {MASKED} prompt=",
        "search_replace": f"model=bedrock_stability/search_replace {FROM_IMAGE} "
        "provider.options.search_prompt=dog",
        "control_sketch": f"model=bedrock_stability/control_sketch {CONTROLLED}",
        "style_transfer": f"model=bedrock_stability/style_transfer {FROM_IMAGE} "
        "provider.options.style_image=OTHER",
    }

    # ------------------------------------------------------------------ text to image, from images

    def test_one_image_per_call_with_a_seed_of_its_own(self, server: Loopback) -> None:
        params = self.params(seed=7, size="16:9", output_format="jpeg")
        capabilities = make_provider(self.settings(None)).capabilities()
        assert (capabilities.max_images_per_call, capabilities.seed_per_image) == (1, True)

        async def run() -> list[Answer]:
            async with opened(self.settings(server)) as provider:
                return [
                    await provider.generate(Call("call", (cell,)), Listening())
                    for cell in cells(params, 3)
                ]

        answers = asyncio.run(run())
        assert [seen.json["seed"] for seen in server.calls()] == [7, 8, 9]
        assert server.calls()[0].json == {
            "prompt": "a red lighthouse",
            "mode": "text-to-image",
            "aspect_ratio": "16:9",
            "output_format": "jpeg",
            "seed": 7,
        }
        for at, answer in enumerate(answers):
            (found,) = answer.outputs
            assert isinstance(found, Picture)
            assert (found.seed_sent, found.effective) == (7 + at, {"seed": 7 + at})

    def test_zero_is_no_seed_here(self, server: Loopback, tmp_path: Path) -> None:
        """The API takes 0 for a random one, so it is refused before it is sent."""
        assert make_provider(self.settings(None)).capabilities().params["seed"].minimum == 1
        done = self.run(server, tmp_path / "run", "seed=0")
        assert done.returncode == 2, done.stderr
        assert "seed cannot be 0" in done.stderr
        assert "random" in done.stderr
        assert server.requests == []

    def test_the_seed_that_the_server_took_is_told(self, server: Loopback) -> None:
        asked = self.ask(server)
        assert "seed" not in server.calls()[0].json
        assert asked.pictures[0].effective == {"seed": RANDOM_SEED}
        assert asked.pictures[0].seed_sent is None

    @pytest.mark.parametrize("model", ["sd3_5_large", "ultra"])
    def test_image_to_image(self, server: Loopback, tmp_path: Path, model: str) -> None:
        settings = self.settings(
            server, "pipeline.name=img2img", f"model=bedrock_stability/{model}"
        )
        assert "size" not in make_provider(settings).capabilities().params
        image = Files(tmp_path).image
        checked(settings, self.params(image=image, strength=0.75))
        assert server.calls()[0].json == {
            "prompt": "a red lighthouse",
            "image": b64(image),
            "strength": 0.75,
            **({"mode": "image-to-image"} if model == "sd3_5_large" else {}),
        }

    # ------------------------------------------------------------------ image services

    @pytest.mark.parametrize(
        ("model", "pipeline", "options", "asked_for", "sent"),
        [
            ("inpaint", "inpaint", {"grow_mask": 0}, {"style": "anime"}, {"style_preset": "anime"}),
            ("inpaint", "img2img", {}, {"negative_prompt": "rain"}, {"negative_prompt": "rain"}),
            ("erase", "inpaint", {"grow_mask": 20}, {"prompt": ""}, {"grow_mask": 20}),
            ("erase", "img2img", {}, {"prompt": ""}, {}),
            (
                "outpaint",
                "img2img",
                {"left": 200, "down": 10, "creativity": 0.3},
                {"style": "origami"},
                {"left": 200, "down": 10, "creativity": 0.3, "style_preset": "origami"},
            ),
            ("outpaint", "img2img", {"up": 5}, {"prompt": ""}, {"up": 5}),
            ("search_replace", "img2img", {"search_prompt": "dog"}, {}, {"search_prompt": "dog"}),
            ("search_recolor", "img2img", {"select_prompt": "car"}, {}, {"select_prompt": "car"}),
            ("remove_background", "img2img", {}, {"prompt": ""}, {}),
            (
                "control_sketch",
                "controlnet",
                {},
                {"control_scale": 0.2},
                {"control_strength": 0.2},
            ),
            ("control_structure", "controlnet", {}, {"style": "cinematic"}, {}),
            (
                "style_guide",
                "img2img",
                {"fidelity": 0.9},
                {"size": "21:9"},
                {"aspect_ratio": "21:9", "fidelity": 0.9},
            ),
            (
                "style_transfer",
                "img2img",
                {"style_image": True, "style_strength": 0.5, "composition_fidelity": 1},
                {"strength": 0.4, "prompt": ""},
                {"change_strength": 0.4, "style_strength": 0.5, "composition_fidelity": 1},
            ),
            ("fast_upscale", "img2img", {}, {"prompt": ""}, {}),
            ("conservative_upscale", "img2img", {"creativity": 0.5}, {}, {"creativity": 0.5}),
            ("creative_upscale", "img2img", {}, {"style": "3d-model"}, {}),
        ],
    )
    def test_services(
        self,
        server: Loopback,
        tmp_path: Path,
        model: str,
        pipeline: str,
        options: dict[str, object],
        asked_for: dict[str, object],
        sent: dict[str, object],
    ) -> None:
        files = Files(tmp_path)
        if "style_image" in options:
            options = {**options, "style_image": files.write("s.png", picture(9, size=(70, 70)))}
        settings = self.settings(
            server,
            f"pipeline.name={pipeline}",
            f"model=bedrock_stability/{model}",
            *(f"+provider.options.{name}='{value}'" for name, value in options.items()),
        )
        given: dict[str, object] = {"output_format": "webp", **asked_for}
        if pipeline == "controlnet":
            given["control_image"] = files.image
        else:
            given["image"] = files.image
        if pipeline == "inpaint":
            given["mask"] = files.mask(left=255, right=60)
        asked = checked(settings, self.params(**given))
        assert len(asked.pictures) == 1
        (seen,) = server.calls()
        assert seen.path == f"/model/{settings.model.name}/invoke"
        assert settings.model.name.startswith("us.stability.")
        assert sent.items() <= seen.json.items()
        assert seen.json["output_format"] == "webp"
        assert ("prompt" in seen.json) == bool(given.get("prompt", "as usual"))
        image = "init_image" if model == "style_transfer" else "image"
        assert seen.json[image] == b64(files.image)
        answer = asked.answer
        assert answer is not None
        assert answer.cost_basis == "price_book"
        assert {"prompt", "image", "init_image", "mask", "style_image"}.isdisjoint(
            answer.params_sent
        )
        if pipeline == "inpaint":
            drawn = server.repainted[0]
            assert [drawn.getpixel((0, 0)), drawn.getpixel((95, 0))] == [255, 60]

    def test_every_service_has_its_test(self) -> None:
        ids = {
            self.settings(None, f"model=bedrock_stability/{path.stem}").model.name
            for path in Path("conf/model/bedrock_stability").glob("*.yaml")
        }
        assert ids == set(StabilityServer.models)

    @pytest.mark.parametrize(
        ("model", "pipeline", "options", "words"),
        [
            ("core", "text2img", {"left": 5}, ["left", "core"]),
            ("creative_upscale", "img2img", {"creativity": 0.6}, ["creativity=0.6", "0.5"]),
            ("outpaint", "img2img", {"left": 2001}, ["left", "2000"]),
            ("style_guide", "img2img", {"style_strength": 0.5}, ["style_strength", "fidelity"]),
        ],
    )
    def test_options_that_do_not_fit(
        self, model: str, pipeline: str, options: dict[str, object], words: list[str]
    ) -> None:
        with pytest.raises(RequestError) as caught:
            make_provider(
                self.settings(
                    None,
                    f"pipeline.name={pipeline}",
                    f"model=bedrock_stability/{model}",
                    *(f"+provider.options.{name}={value}" for name, value in options.items()),
                )
            )
        assert len(caught.value.problems) == 1
        assert all(word in str(caught.value) for word in words)

    def test_cells_that_do_not_fit(self, tmp_path: Path) -> None:
        files = Files(tmp_path)
        narrow = files.write("narrow.png", picture(1, size=(300, 100)))
        small = files.write("small.png", picture(1, size=(63, 200)))
        for model, pipeline, params, words in (
            ("core", "text2img", {"prompt": ""}, ["prompt"]),
            ("core", "text2img", {"prompt": "x" * 10_001}, ["10,001"]),
            ("inpaint", "inpaint", {"prompt": "x", "image": files.image}, ["pipeline.mask"]),
            ("search_replace", "img2img", {"prompt": "x", "image": files.image}, ["search_prompt"]),
            ("style_transfer", "img2img", {"image": files.image}, ["style_image"]),
            ("outpaint", "img2img", {"image": files.image}, ["left", "down"]),
            ("fast_upscale", "img2img", {}, ["pipeline.image"]),
            ("control_sketch", "controlnet", {"prompt": "x"}, ["control_image"]),
            ("erase", "img2img", {"image": narrow}, ["300x100", "2.5:1"]),
            ("erase", "img2img", {"image": small}, ["63x200", "64"]),
        ):
            settings = self.settings(
                None, f"pipeline.name={pipeline}", f"model=bedrock_stability/{model}"
            )
            found = problems(settings, **params)
            assert len(found) == 1, (model, found)
            assert all(word in found[0] for word in words), found

    def test_style_images_count_by_content(self, tmp_path: Path) -> None:
        files = Files(tmp_path)
        same, other = files.write("same.png", picture(3, size=files.size)), files.mask()
        found = [
            make_provider(
                self.settings(
                    None,
                    "pipeline.name=img2img",
                    "model=bedrock_stability/style_transfer",
                    f"+provider.options.style_image='{path}'",
                )
            ).identity()
            for path in (files.image, same, other)
        ]
        assert found[0] == found[1] != found[2]

    # ------------------------------------------------------------------ refusals with HTTP 200

    @pytest.mark.parametrize(
        ("body", "outcome", "kind"),
        [
            ({"finish_reasons": ["Filter reason: prompt"]}, "refused", "content_filter"),
            (
                {
                    "seeds": [5],
                    "finish_reasons": ["Filter reason: output image"],
                    "images": [image_base64("ok")],
                },
                "refused",
                "content_filter",
            ),
            ({"finish_reasons": ["Inference error"], "images": []}, "failed", "inference_error"),
            ({"finish_reasons": [None], "seeds": [1]}, "failed", "no_image"),
            ({"finish_reasons": [None], "seeds": "x", "images": {}}, "failed", "no_image"),
        ],
    )
    def test_reasons(
        self, server: Loopback, body: dict[str, object], outcome: str, kind: str
    ) -> None:
        server.script(lambda _: web.json_response(body))
        answer = self.ask(server).answer
        assert answer is not None
        (missing,) = answer.outputs
        assert isinstance(missing, Missing)
        assert (missing.outcome, missing.kind) == (outcome, kind)
        assert answer.cost_basis == "unknown"

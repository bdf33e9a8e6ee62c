"""The contract for ``provider=bedrock_titan``, and what only Titan Image Generator has."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from runner.providers.contract import Call, Missing, Picture, Provider
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
from tests.contract.support import Listening, ask, cells
from tests.contract.support import opened as open_provider
from tests.servers.bedrock_amazon import TitanServer, opened
from tests.servers.loopback import Loopback, picture

__all__ = ["aws_environment"]


class TestBedrockTitan(ProviderContract):
    provider = "bedrock_titan"
    server_type = TitanServer
    variables = VARIABLES
    families = ("bedrock_titan",)
    retired = "bedrock_titan/v1"
    count_field = "numberOfImages"
    cost_basis = "price_book"
    returns_urls = False
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "1152x768",
        "quality": "premium",
        "negative_prompt": "rain",
        "guidance_scale": 7.5,
        "seed": 7,
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1000x1000"}
    operations: ClassVar[Mapping[str, str]] = {
        "conditioning": f"{CONTROLLED} provider.options.control_mode=SEGMENTATION",
        "variation": f"{FROM_IMAGE} pipeline.strength=0.4",
        "inpaint": MASKED,
        "outpaint": f"{MASKED} provider.options.task=OUTPAINTING",
        "colors": "provider.options.task=COLOR_GUIDED_GENERATION "
        "\"provider.options.colors=['#ff0000']\"",
        "background_removal": f"{FROM_IMAGE} provider.options.task=BACKGROUND_REMOVAL prompt=",
    }

    # ------------------------------------------------------------------ bodies

    def test_text_image(self, server: Loopback) -> None:
        settings = self.settings(server)
        params = self.params(
            size="16:9", quality="premium", guidance_scale=5, seed=0, negative_prompt="rain"
        )
        answer = checked(settings, params, 3).answer
        assert answer is not None
        (seen,) = server.calls()
        assert seen.path == "/model/amazon.titan-image-generator-v2:0/invoke"
        assert seen.json == {
            "taskType": "TEXT_IMAGE",
            "textToImageParams": {"text": "a red lighthouse", "negativeText": "rain"},
            "imageGenerationConfig": {
                "numberOfImages": 3,
                "quality": "premium",
                "cfgScale": 5,
                "width": 1152,
                "height": 640,
                "seed": 0,
            },
        }
        assert answer.params_sent == {
            "model": "amazon.titan-image-generator-v2:0",
            "taskType": "TEXT_IMAGE",
            "negativeText": "rain",
            **seen.json["imageGenerationConfig"],
        }
        assert answer.request_id == "aws-request-10"

    def test_a_second_call_for_one_point_has_another_seed(self, server: Loopback) -> None:
        """With the same seed it would bring the same images again."""
        params = self.params(seed=2_147_483_644)

        async def run() -> None:
            async with open_provider(self.settings(server)) as provider:
                eight = cells(params, 8)
                for part in (eight[:5], eight[5:]):
                    await provider.generate(Call("call", part), Listening())

        asyncio.run(run())
        sent = [seen.json["imageGenerationConfig"] for seen in server.calls()]
        # The greatest seed is 2147483646; after it come 0, 1, 2.
        assert [config["seed"] for config in sent] == [2_147_483_644, 2]

    def test_conditioning(self, server: Loopback, tmp_path: Path) -> None:
        edges = Files(tmp_path).image
        settings = self.settings(
            server, "pipeline.name=controlnet", "+provider.options.control_mode=SEGMENTATION"
        )
        answer = checked(settings, self.params(control_image=edges, control_scale=0.4)).answer
        assert server.calls()[0].json["textToImageParams"] == {
            "text": "a red lighthouse",
            "conditionImage": b64(edges),
            "controlMode": "SEGMENTATION",
            "controlStrength": 0.4,
        }
        assert answer is not None
        assert answer.params_sent["controlStrength"] == 0.4
        assert "conditionImage" not in answer.params_sent

    def test_variation_turns_the_strength_around(self, server: Loopback, tmp_path: Path) -> None:
        files = Files(tmp_path)
        second = files.write("second.jpg", picture(9, "JPEG", (80, 80)))
        settings = self.settings(
            server, "pipeline.name=img2img", f"+provider.options.images=['{second}']"
        )
        checked(settings, self.params(image=files.image, strength=0.3))
        checked(settings, self.params(prompt="", image=files.image, strength=0.8))
        first, last = (seen.json["imageVariationParams"] for seen in server.calls())
        assert first == {
            "text": "a red lighthouse",
            "images": [b64(files.image), b64(second)],
            "similarityStrength": 0.7,
        }
        assert last["similarityStrength"] == 0.2
        assert "text" not in last

    def test_inpainting_by_mask_and_by_words(self, server: Loopback, tmp_path: Path) -> None:
        files = Files(tmp_path)
        mask = files.mask(left=200, right=90)  # greys, which the API refuses
        settings = self.settings(
            server, "pipeline.name=inpaint", "+provider.options.return_mask=true"
        )
        asked = checked(settings, self.params(image=files.image, mask=mask))
        drawn = server.repainted[0]
        assert [drawn.getpixel((0, 0)), drawn.getpixel((95, 0))] == [255, 0]
        assert opened(server.calls()[0].json["inPaintingParams"]["maskImage"]).getpixel((0, 0)) == 0
        assert asked.pictures[0].extras == {"mask.png": picture(7)}
        settings = self.settings(
            server, "pipeline.name=inpaint", "+provider.options.mask_prompt=the tower"
        )
        checked(settings, self.params(prompt="", image=files.image))
        assert server.calls()[1].json["inPaintingParams"] == {
            "image": b64(files.image),
            "maskPrompt": "the tower",
        }

    def test_outpainting_has_the_opposite_mask(self, server: Loopback, tmp_path: Path) -> None:
        files = Files(tmp_path)
        settings = self.settings(
            server,
            "pipeline.name=inpaint",
            "+provider.options.task=OUTPAINTING",
            "+provider.options.outpainting_mode=PRECISE",
        )
        checked(settings, self.params(image=files.image, mask=files.mask()), 2)
        body = server.calls()[0].json
        assert body["taskType"] == "OUTPAINTING"
        assert body["outPaintingParams"]["outPaintingMode"] == "PRECISE"
        assert body["imageGenerationConfig"]["numberOfImages"] == 2
        assert opened(body["outPaintingParams"]["maskImage"]).getpixel((0, 0)) == 255
        assert server.repainted[0].getpixel((0, 0)) == 255

    @pytest.mark.parametrize("pipeline", ["text2img", "img2img"])
    def test_colors(self, server: Loopback, tmp_path: Path, pipeline: str) -> None:
        image = Files(tmp_path).image if pipeline == "img2img" else None
        settings = self.settings(
            server,
            f"pipeline.name={pipeline}",
            "+provider.options.task=COLOR_GUIDED_GENERATION",
            "+provider.options.colors=['#ff8800','#001122']",
        )
        checked(settings, self.params(image=image))
        body = server.calls()[0].json
        assert body["taskType"] == "COLOR_GUIDED_GENERATION"
        assert body["colorGuidedGenerationParams"] == {
            "text": "a red lighthouse",
            "colors": ["#ff8800", "#001122"],
            **({"referenceImage": b64(image)} if image else {}),
        }

    def test_background_removal_takes_nothing_else(self, server: Loopback, tmp_path: Path) -> None:
        image = Files(tmp_path).image
        settings = self.settings(
            server, "pipeline.name=img2img", "+provider.options.task=BACKGROUND_REMOVAL"
        )
        provider = make_provider(settings)
        assert set(provider.capabilities().params) == {"image"}
        assert provider.images_per_call(self.params()) == 1
        checked(settings, self.params(prompt="", image=image))
        assert server.calls()[0].json == {
            "taskType": "BACKGROUND_REMOVAL",
            "backgroundRemovalParams": {"image": b64(image)},
        }

    def test_the_first_version(self, server: Loopback, tmp_path: Path) -> None:
        """Its shapes are the same; it has no conditioning, colors and background removal."""
        settings = self.settings(None, "model=bedrock_titan/v1")
        pipelines = make_provider(settings).capabilities().pipelines
        assert pipelines == {"text2img", "img2img", "inpaint"}
        with pytest.raises(RequestError, match="BACKGROUND_REMOVAL"):
            self.made("model=bedrock_titan/v1", "+provider.options.task=BACKGROUND_REMOVAL")

    def test_extra_body_is_laid_over_the_sections(self, server: Loopback) -> None:
        settings = self.settings(server, "+provider.extra_body.imageGenerationConfig.cfgScale=3.5")
        ask(settings, self.params(seed=7))
        assert server.calls()[0].json["imageGenerationConfig"] == {
            "numberOfImages": 1,
            "cfgScale": 3.5,
            "seed": 7,
        }

    # ------------------------------------------------------------------ refusals

    def test_refusals_come_with_http_200(self, server: Loopback) -> None:
        answer = self.ask(server, "refused", n=2).answer
        assert answer is not None
        for missing in answer.outputs:
            assert isinstance(missing, Missing)
            assert (missing.outcome, missing.kind) == ("refused", "content_filter")
            assert "blocked" in missing.message
        assert (answer.cost_usd, answer.cost_basis) == (None, "unknown")

    def test_some_blocked(self, server: Loopback) -> None:
        answer = self.ask(server, "partial", n=3, size="512x512").answer
        assert answer is not None
        assert [isinstance(found, Picture) for found in answer.outputs] == [True, True, False]
        missing = answer.outputs[2]
        assert isinstance(missing, Missing)
        assert missing.outcome == "refused"
        assert answer.cost_usd == pytest.approx(2 * 0.008)

    # ------------------------------------------------------------------ what does not fit

    def made(self, *overrides: str) -> Provider:
        return make_provider(self.settings(None, *overrides))

    @pytest.mark.parametrize(
        ("overrides", "words"),
        [
            (("+provider.options.task=OUTPAINTING",), ("pipeline=inpaint",)),
            (("+provider.options.task=COLOR_GUIDED_GENERATION",), ("colors",)),
            (("+provider.options.colors=['#ffffff']",), ("COLOR_GUIDED_GENERATION",)),
            (("+provider.options.control_mode=CANNY_EDGE",), ("controlnet",)),
            (("+provider.options.mask_prompt=tower",), ("INPAINTING", "OUTPAINTING")),
            (("+provider.options.return_mask=true",), ("INPAINTING",)),
            (("+provider.options.images=[a.png]", "pipeline.name=inpaint"), ("IMAGE_VARIATION",)),
            (("+provider.options.outpainting_mode=PRECISE", "pipeline.name=inpaint"), ("OUTP",)),
            (("+provider.options.task=VIRTUAL_TRY_ON",), ("task",)),
            (
                (
                    "+provider.options.task=COLOR_GUIDED_GENERATION",
                    "+provider.options.colors=[red]",
                ),
                ("colors",),
            ),
        ],
    )
    def test_options_that_do_not_fit(
        self, overrides: tuple[str, ...], words: tuple[str, ...]
    ) -> None:
        with pytest.raises(RequestError) as caught:
            self.made(*overrides)
        assert len(caught.value.problems) == 1
        assert all(word in str(caught.value) for word in words)

    def test_cells_that_do_not_fit(self, tmp_path: Path) -> None:
        files = Files(tmp_path)
        webp = files.write("in.webp", picture(1, "WEBP"))
        small = files.write("small.png", picture(1))
        plain, inpaint = self.settings(None), self.settings(None, "pipeline.name=inpaint")
        for settings, params, words in (
            (plain, {"prompt": "x" * 513}, ["513"]),
            (plain, {"prompt": "x", "negative_prompt": "y" * 600}, ["600"]),
            (plain, {"prompt": ""}, ["prompt"]),
            (inpaint, {"image": files.image}, ["mask_prompt"]),
            (inpaint, {"mask": files.mask()}, ["pipeline.image"]),
            (inpaint, {"image": small, "mask": files.mask()}, ["16x12"]),
            (self.settings(None, "pipeline.name=img2img"), {"image": webp}, ["image/webp"]),
            (
                self.settings(None, "pipeline.name=controlnet"),
                {"prompt": "x"},
                ["pipeline.control_image"],
            ),
        ):
            found = problems(settings, **params)
            assert len(found) == 1, found
            assert all(word in found[0] for word in words)

    def test_prices(self) -> None:
        provider = self.made()
        for size, quality, usd in (
            (None, None, 0.01),
            ("1024x1024", "premium", 0.012),
            ("512x512", None, 0.008),
            ("320x704", "premium", 0.01),
        ):
            price = provider.estimate(self.params(size=size, quality=quality))
            assert (price.low_usd, price.high_usd) == (usd, usd)
        edit = self.made("pipeline.name=inpaint").estimate(self.params(image="in.png"))
        assert (edit.low_usd, edit.high_usd, edit.basis) == (0.008, 0.01, "estimate")

    def test_files_of_options_count_by_content(self, tmp_path: Path) -> None:
        files = Files(tmp_path)
        same, other = files.write("same.png", picture(3, size=files.size)), files.mask()
        found = [
            self.made("pipeline.name=img2img", f"+provider.options.images=['{path}']").identity()
            for path in (files.image, same, other)
        ]
        assert found[0] == found[1] != found[2]

    def test_a_retired_model_is_warned_of_and_sent_all_the_same(
        self, server: Loopback, tmp_path: Path
    ) -> None:
        done = self.run(server, tmp_path / "run", "n=6", "seed=7")
        assert done.returncode == 0, done.stderr
        assert "2026-06-30" in done.stdout + done.stderr
        assert "provider=bedrock_stability" in done.stdout + done.stderr
        sent = [seen.json["imageGenerationConfig"] for seen in server.calls()]
        found = sorted((config["numberOfImages"], config["seed"]) for config in sent)
        assert found == [(1, 12), (5, 7)]
        assert len({path.read_bytes() for path in (tmp_path / "run").rglob("*.png")}) >= 6

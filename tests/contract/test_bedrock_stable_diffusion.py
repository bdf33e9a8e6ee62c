"""The contract for ``provider=bedrock_stable_diffusion``, and what only SDXL's body has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web

from runner.providers.contract import Missing
from runner.providers.registry import make_provider
from runner.settings.errors import RequestError
from tests.contract.aws import VARIABLES, aws_environment
from tests.contract.bedrock_files import FROM_IMAGE, MASKED, Files, b64, checked, problems
from tests.contract.suite import ProviderContract
from tests.servers.bedrock_stability import StableDiffusionServer
from tests.servers.loopback import Loopback, image_base64, picture

__all__ = ["aws_environment"]


class TestBedrockStableDiffusion(ProviderContract):
    provider = "bedrock_stable_diffusion"
    server_type = StableDiffusionServer
    variables = VARIABLES
    families = ("bedrock_stable_diffusion",)
    retired = "bedrock_stable_diffusion/xl_v0"
    count_field = "samples"
    cost_basis = "price_book"
    returns_urls = False
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "1344x768",
        "negative_prompt": "rain",
        "style": "photographic",
        "steps": 20,
        "guidance_scale": 5.5,
        "seed": 7,
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1000x1000"}
    operations: ClassVar[Mapping[str, str]] = {
        "image_to_image": f"{FROM_IMAGE} pipeline.strength=0.4",
        "inpaint": f"{MASKED} provider.options.sampler=DDIM",
    }

    # ------------------------------------------------------------------ bodies

    def test_weighted_prompts(self, server: Loopback) -> None:
        settings = self.settings(
            server,
            "+provider.options.prompt_weight=0.8",
            "+provider.options.negative_weight=-0.5",
            "+provider.options.text_prompts=[{text: fog, weight: 0.3}]",
            "+provider.options.clip_guidance_preset=SLOWER",
            "+provider.options.sampler=K_DPMPP_2M",
            "+provider.options.extras={experiment: a}",
        )
        params = self.params(
            negative_prompt="rain", seed=7, steps=20, guidance_scale=0, size="16:9", style="anime"
        )
        answer = checked(settings, params).answer
        body = server.calls()[0].json
        prompts = [
            {"text": "a red lighthouse", "weight": 0.8},
            {"text": "rain", "weight": -0.5},
            {"text": "fog", "weight": 0.3},
        ]
        rest = {
            "samples": 1,
            "seed": 7,
            "steps": 20,
            "cfg_scale": 0,
            "style_preset": "anime",
            "width": 1344,
            "height": 768,
            "clip_guidance_preset": "SLOWER",
            "sampler": "K_DPMPP_2M",
            "extras": {"experiment": "a"},
        }
        assert body == {"text_prompts": prompts, **rest}
        assert answer is not None
        assert answer.params_sent == {
            "model": "stability.stable-diffusion-xl-v1",
            "text_prompts": [{"weight": 0.8}, *prompts[1:]],
            **rest,
        }

    def test_strength_is_turned_around(self, server: Loopback, tmp_path: Path) -> None:
        image = Files(tmp_path).image
        settings = self.settings(server, "pipeline.name=img2img")
        assert "size" not in make_provider(settings).capabilities().params
        checked(settings, self.params(image=image, strength=0.7))
        body = server.calls()[0].json
        assert (body["init_image"], body["init_image_mode"]) == (b64(image), "IMAGE_STRENGTH")
        assert body["image_strength"] == 0.3  # 1 keeps the image
        settings = self.settings(
            server,
            "pipeline.name=img2img",
            "+provider.options.init_image_mode=STEP_SCHEDULE",
            "+provider.options.step_schedule_end=0.1",
        )
        checked(settings, self.params(image=image, strength=0.7))
        body = server.calls()[1].json
        assert (body["step_schedule_start"], body["step_schedule_end"]) == (0.7, 0.1)
        assert "image_strength" not in body

    def test_masks_are_white(self, server: Loopback, tmp_path: Path) -> None:
        files = Files(tmp_path)
        settings = self.settings(server, "pipeline.name=inpaint")
        checked(settings, self.params(image=files.image, mask=files.mask(left=255, right=60)))
        body = server.calls()[0].json
        assert body["mask_source"] == "MASK_IMAGE_WHITE"
        drawn = server.repainted[0]
        assert [drawn.getpixel((0, 0)), drawn.getpixel((95, 0))] == [255, 60]

    def test_zero_is_no_seed_here(self) -> None:
        seed = make_provider(self.settings(None)).capabilities().params["seed"]
        assert (seed.minimum, seed.maximum) == (1, 4_294_967_295)

    # ------------------------------------------------------------------ refusals with HTTP 200

    @pytest.mark.parametrize(
        ("reason", "outcome", "kind"),
        [
            ("CONTENT_FILTERED", "refused", "content_filter"),
            ("ERROR", "failed", "inference_error"),
        ],
    )
    def test_an_image_that_is_none(
        self, server: Loopback, reason: str, outcome: str, kind: str
    ) -> None:
        """A filtered artifact holds an image all the same: a blurred one."""
        artifact = {"seed": 5, "base64": image_base64("ok"), "finishReason": reason}
        server.script(lambda _: web.json_response({"result": "success", "artifacts": [artifact]}))
        answer = self.ask(server).answer
        assert answer is not None
        (missing,) = answer.outputs
        assert isinstance(missing, Missing)
        assert (missing.outcome, missing.kind, missing.code) == (outcome, kind, reason)

    @pytest.mark.parametrize("artifacts", [None, "text", [None], [[]], [{"base64": 7}]])
    def test_odd_answers_are_no_images(self, server: Loopback, artifacts: object) -> None:
        server.script(lambda _: web.json_response({"artifacts": artifacts}))
        asked = self.ask(server)
        assert asked.answer is not None, asked.fault
        assert asked.pictures == []

    # ------------------------------------------------------------------ what does not fit

    @pytest.mark.parametrize(
        ("overrides", "words"),
        [
            (("+provider.options.init_image_mode=STEP_SCHEDULE",), ["img2img"]),
            (
                ("pipeline.name=img2img", "+provider.options.step_schedule_end=0.5"),
                ["STEP_SCHEDULE"],
            ),
            (("+provider.options.negative_weight=1",), ["negative_weight"]),
        ],
    )
    def test_options_that_do_not_fit(self, overrides: tuple[str, ...], words: list[str]) -> None:
        with pytest.raises(RequestError) as caught:
            make_provider(self.settings(None, *overrides))
        assert len(caught.value.problems) == 1
        assert all(word in str(caught.value) for word in words)

    def test_cells_that_do_not_fit(self, tmp_path: Path) -> None:
        files = Files(tmp_path)
        small = files.write("small.png", picture(1))
        for kind, params, words in (
            ("text2img", {"prompt": ""}, ["prompt"]),
            ("text2img", {"prompt": "x" * 2001}, ["2,001"]),
            ("img2img", {"prompt": "x"}, ["pipeline.image"]),
            ("inpaint", {"prompt": "x", "image": files.image}, ["pipeline.mask"]),
            ("inpaint", {"prompt": "x", "image": small, "mask": files.mask()}, ["16x12"]),
        ):
            found = problems(self.settings(None, f"pipeline.name={kind}"), **params)
            assert len(found) == 1, found
            assert all(word in found[0] for word in words)

    def test_prices(self) -> None:
        old = make_provider(self.settings(None, "model=bedrock_stable_diffusion/xl_v0"))
        price = old.estimate(self.params(size="512x512"))
        assert (price.low_usd, price.high_usd, price.basis) == (0.018, 0.036, "estimate")

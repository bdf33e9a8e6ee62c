"""The contract for ``provider=gpustack`` on both of its engines, and what GPUStack adds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from runner.providers.contract import Call
from runner.providers.gpustack import KEY_VARIABLES
from runner.providers.registry import make_provider
from runner.settings.cell import Cell
from runner.settings.errors import RequestError
from runner.settings.schema import VariantSettings
from tests.contract.suite import ProviderContract
from tests.contract.support import Listening, ask, cells, opened, variant
from tests.servers.gpustack import GPUStackSglangServer, GPUStackVllmServer
from tests.servers.loopback import Loopback, picture


class TestGPUStack(ProviderContract):
    """A deployment on SGLang."""

    provider = "gpustack"
    server_type = GPUStackSglangServer
    variables = KEY_VARIABLES
    families = ("gpustack",)
    cost_basis = "free"
    tells_credit = False
    tells_refusals = False
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "1024x768",
        "seed": 7,
        "negative_prompt": "rain",
        "steps": 20,
        "guidance_scale": 4.5,
        "quality": "high",
        "background": "opaque",
        "output_format": "png",
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1001x1000"}

    def test_the_images_of_a_point_have_their_own_seeds(self, server: Loopback) -> None:
        """The engine counts up from the seed of a call; the next call begins where it ended."""

        every = cells(self.params(seed=5), 8)
        parts = (every[:4], every[4:], (every[1], every[3]))
        found = asyncio.run(seeds_sent(self.settings(server), *parts))
        assert found == [[5, 6, 7, 8], [9, 10, 11, 12], [6, 8]]
        sent = [(seen.json["seed"], seen.json["n"]) for seen in server.calls()]
        assert sent == [(5, 4), (9, 4), (6, 1), (8, 1)]

    def test_the_engines_own_parameters(self, server: Loopback) -> None:
        settings = self.settings(
            server,
            "+provider.options.true_cfg_scale=4",
            "+provider.options.generator_device=cpu",
            "+provider.options.enable_teacache=true",
        )
        answer = ask(settings, self.params()).answer
        assert answer is not None
        body = server.calls()[0].json
        assert (body["true_cfg_scale"], body["generator_device"]) == (4, "cpu")
        assert body["response_format"] == "b64_json"
        assert answer.request_id == "gpustack-1"

    def test_one_input_image_as_several_may_be_lost(self) -> None:
        settings = self.settings(
            None,
            "provider.base_url=https://127.0.0.1/v1",
            "pipeline.name=img2img",
            "+provider.options.images=[b.png]",
        )
        with pytest.raises(RequestError, match="takes 1 in all"):
            make_provider(settings)

    def test_a_mask_that_the_engine_ignores_is_refused(self) -> None:
        address = "provider.base_url=https://127.0.0.1/v1"
        taken = make_provider(self.settings(None, address)).capabilities().pipelines
        assert taken == {"text2img", "img2img"}


class TestGPUStackVllm(ProviderContract):
    """A deployment on vLLM-Omni."""

    provider = "gpustack"
    overrides = ("model=gpustack/vllm_omni",)
    server_type = GPUStackVllmServer
    variables = KEY_VARIABLES
    cost_basis = "free"
    tells_credit = False
    tells_refusals = False
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "1024x768",
        "seed": 7,
        "negative_prompt": "rain",
        "steps": 20,
        "guidance_scale": 4.5,
        "output_format": "webp",
    }

    def test_a_mask_and_a_strength(self, server: Loopback, tmp_path: Path) -> None:
        image = tmp_path / "in.png"
        image.write_bytes(picture(1, size=(64, 48)))
        settings = self.settings(server, "pipeline.name=inpaint")
        params = self.params(image=str(image), mask=str(image), strength=0.6)
        assert ask(settings, params).pictures
        (seen,) = server.calls()
        assert [name for name, _ in seen.files] == ["image", "mask_image"]
        assert dict(seen.fields)["strength"] == "0.6"

    def test_calls_of_one_seed_do_not_begin_alike(self, server: Loopback) -> None:
        every = cells(self.params(seed=3), 12)
        assert asyncio.run(seeds_sent(self.settings(server), every[:10], every[10:])) == [
            [3] * 10,
            [13] * 2,
        ]


async def seeds_sent(settings: VariantSettings, *parts: tuple[Cell, ...]) -> list[list[Any]]:
    found = []
    async with opened(settings) as provider:
        for part in parts:
            answer = await provider.generate(Call("call", part), Listening())
            found.append([output.seed_sent for output in answer.outputs])
    return found


def test_an_address_must_be_given() -> None:
    with pytest.raises(RequestError, match="base_url"):
        make_provider(variant("provider=gpustack"))

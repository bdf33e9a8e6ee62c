"""The contract for ``provider=together``, and what only Together has."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web

from runner.providers.registry import make_provider
from runner.providers.together import KEY_VARIABLES
from tests.contract.suite import ProviderContract
from tests.contract.support import ask
from tests.servers.loopback import Loopback, image_base64, picture
from tests.servers.together import TogetherServer

FAMILY = "model=together"


class TestTogether(ProviderContract):
    provider = "together"
    server_type = TogetherServer
    variables = KEY_VARIABLES
    families = ("together",)
    cost_basis = "unknown"
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "1024x768",
        "seed": 7,
        "steps": 20,
        "output_format": "png",
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "2048x2048"}
    operations: ClassVar[Mapping[str, str]] = {
        "edit": "pipeline=img2img pipeline.image=IMAGE +provider.options.images=[OTHER]",
    }

    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        path = tmp_path / "in.png"
        path.write_bytes(picture(3, size=(64, 48)))
        return path

    def test_what_is_sent(self, server: Loopback) -> None:
        answer = self.ask(server, n=2, size="16:9").answer
        assert answer is not None
        assert answer.params_sent == {
            "model": "black-forest-labs/FLUX.2-dev",
            "n": 2,
            "width": 1280,
            "height": 720,
            "response_format": "base64",
        }
        assert answer.request_id == "together-2"

    def test_another_model_is_said(self, server: Loopback) -> None:
        body = {
            "id": "id-1",
            "model": "black-forest-labs/FLUX.2-pro",
            "data": [{"index": 0, "b64_json": image_base64("ok"), "type": "b64_json"}],
        }
        server.script(lambda _: web.json_response(body))
        asked = self.ask(server)
        assert asked.answer is not None
        assert asked.answer.model_reported == "black-forest-labs/FLUX.2-pro"
        assert "another model" in asked.pictures[0].warnings[0]

    def test_reference_images(self, server: Loopback, image: Path, tmp_path: Path) -> None:
        second = tmp_path / "second.jpg"
        second.write_bytes(picture(4, "JPEG"))
        settings = self.settings(
            server, "pipeline.name=img2img", f"+provider.options.images=['{second}']"
        )
        assert ask(settings, self.params(image=str(image))).pictures
        sent = server.calls()[0].json["reference_images"]
        assert [base64.b64decode(url.partition(",")[2]) for url in sent] == [
            image.read_bytes(),
            second.read_bytes(),
        ]

    def test_kontext_takes_one_image_and_a_ratio(self, server: Loopback, image: Path) -> None:
        settings = self.settings(server, f"{FAMILY}/flux_1_kontext_pro", "pipeline.name=img2img")
        assert ask(settings, self.params(image=str(image), size="3:2")).pictures
        body = server.calls()[0].json
        assert body["aspect_ratio"] == "3:2"
        assert body["image_url"].startswith("data:image/png;base64,")

    def test_more_steps_cost_more(self, server: Loopback) -> None:
        settings = self.settings(server, f"{FAMILY}/flux_1_schnell")
        provider = make_provider(settings)
        found = [provider.estimate(self.params(steps=steps)).high_usd for steps in (None, 2, 4, 8)]
        assert found == pytest.approx([0.0027, 0.0027, 0.0027, 0.0054])
        params = self.params(steps=8, guidance_scale=5.0, negative_prompt="rain")
        answer = ask(settings, params, 2).answer
        assert answer is not None
        assert answer.cost_usd == pytest.approx(0.0108)
        assert answer.cost_basis == "price_book"

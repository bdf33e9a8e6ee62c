"""The contract for ``provider=fal``, and what only fal has."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from runner.providers.contract import Missing
from runner.providers.fal import KEY_VARIABLES
from runner.providers.registry import make_provider
from runner.settings.errors import RequestError
from tests.contract.suite import ProviderContract
from tests.contract.support import ask, attach
from tests.servers.fal import FalServer
from tests.servers.loopback import Loopback, picture


class TestFal(ProviderContract):
    provider = "fal"
    server_type = FalServer
    variables = KEY_VARIABLES
    families = ("fal",)
    count_field = "num_images"
    cost_basis = "price_book"
    has_jobs = True
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "1024x576",
        "seed": 7,
        "steps": 20,
        "guidance_scale": 4.0,
        "output_format": "png",
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1000x100"}
    operations: ClassVar[Mapping[str, str]] = {
        "img2img": "pipeline=img2img pipeline.image=IMAGE pipeline.strength=0.9",
        "inpaint": "model=fal/flux_general pipeline=inpaint pipeline.image=IMAGE "
        "pipeline.mask=MASK pipeline.strength=0.8",
        "controlnet": "model=fal/flux_canny pipeline=controlnet pipeline.control_image=OTHER "
        "pipeline.control_scale=0.7",
    }

    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        path = tmp_path / "in.png"
        path.write_bytes(picture(3, size=(64, 48)))
        return path

    def test_sizes_by_pixels_and_by_name(self, server: Loopback) -> None:
        self.ask(server, size="1:1")
        self.ask(server, size="portrait_16_9")
        sent = [seen.json["image_size"] for seen in server.calls()]
        assert sent == [{"width": 1024, "height": 1024}, "portrait_16_9"]

    def test_price_by_the_megapixel(self, server: Loopback) -> None:
        answer = self.ask(server, n=2, size="1024x1024").answer
        assert answer is not None
        assert answer.cost_usd == pytest.approx(0.05)
        answer = self.ask(server, size="1536x1024").answer
        assert answer is not None
        assert answer.cost_usd == pytest.approx(0.05), "a begun megapixel counts as a whole one"

    def test_strength_and_the_price_of_an_edit(self, server: Loopback, image: Path) -> None:
        settings = self.settings(server, "pipeline.name=img2img")
        answer = ask(settings, self.params(image=str(image), strength=0.7)).answer
        assert answer is not None
        assert server.calls()[0].path == "/fal-ai/flux/dev/image-to-image"
        assert answer.params_sent["strength"] == 0.7
        assert "image_url" not in answer.params_sent
        assert answer.cost_usd == pytest.approx(0.03), "by the size of the input"
        (problem,) = make_provider(settings).check(self.params())
        assert problem.startswith("pipeline.image: ")

    def test_several_inputs(self, server: Loopback, image: Path, tmp_path: Path) -> None:
        second = tmp_path / "second.webp"
        second.write_bytes(picture(4, "WEBP"))
        settings = self.settings(
            server,
            "model=fal/flux_2",
            "pipeline.name=img2img",
            f"+provider.options.images=['{second}']",
        )
        assert ask(settings, self.params(image=str(image))).pictures
        sent = server.calls()[0].json["image_urls"]
        assert [base64.b64decode(url.partition(",")[2]) for url in sent] == [
            image.read_bytes(),
            second.read_bytes(),
        ]
        assert [url.partition(";")[0] for url in sent] == ["data:image/png", "data:image/webp"]

    def test_inpaint(self, server: Loopback, image: Path, tmp_path: Path) -> None:
        drawn = Image.new("L", (64, 48), 0)
        drawn.paste(255, (0, 0, 20, 48))
        drawn.save(tmp_path / "mask.png")
        settings = self.settings(server, "model=fal/flux_general", "pipeline.name=inpaint")
        params = self.params(image=str(image), mask=str(tmp_path / "mask.png"), strength=0.5)
        assert ask(settings, params).pictures
        assert [found.tobytes() for found in server.repainted] == [drawn.tobytes()]

    def test_controlnet(self, server: Loopback, image: Path) -> None:
        settings = self.settings(server, "model=fal/flux_canny", "pipeline.name=controlnet")
        asked = ask(settings, self.params(control_image=str(image), control_scale=0.6))
        assert asked.pictures, asked.fault
        assert server.calls()[0].json["control_lora_strength"] == 0.6

    def test_options_are_those_of_the_model(self, server: Loopback) -> None:
        settings = self.settings(
            server, "model=fal/flux_2_pro", "+provider.options.safety_tolerance='5'"
        )
        assert ask(settings, self.params()).pictures
        assert server.calls()[0].json["safety_tolerance"] == "5"
        with pytest.raises(RequestError, match="raw: model fal-ai/flux/dev does not take it"):
            make_provider(self.settings(None, "+provider.options.raw=true"))

    def test_a_blacked_out_picture_is_a_refusal(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert isinstance(server, FalServer)
        made = server._result

        def flagged(job: Any) -> dict[str, Any]:
            return {**made(job), "has_nsfw_concepts": [True, False]}

        monkeypatch.setattr(server, "_result", flagged)
        answer = self.ask(server, n=2).answer
        assert answer is not None
        refused, kept = answer.outputs
        assert isinstance(refused, Missing)
        assert refused.outcome == "refused"
        assert not isinstance(kept, Missing)
        settings = self.settings(server, "+provider.options.enable_safety_checker=false")
        (first, second) = ask(settings, self.params(), 2).pictures
        assert "not safe" in first.warnings[0]
        assert second.warnings == ()

    def test_addresses_of_other_hosts_do_not_get_the_key(self, server: Loopback) -> None:
        first = self.ask(server)
        elsewhere = "https://queue.example.com/requests/1"
        fact = {**first.listener.notes[0], "status_url": elsewhere, "response_url": elsewhere}
        again = attach(self.settings(server), self.params(), fact)
        assert [found.data for found in again.pictures] == [found.data for found in first.pictures]

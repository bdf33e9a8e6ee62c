"""The contract for ``provider=stability``, and what only Stability's platform has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web
from PIL import Image

from runner.images import inspect
from runner.providers.contract import Missing
from runner.providers.registry import make_provider
from runner.providers.stability import KEY_VARIABLES
from runner.settings.errors import RequestError
from tests.contract.suite import ProviderContract
from tests.contract.support import ask, attach
from tests.servers.loopback import Loopback, image_base64, picture
from tests.servers.stability import StabilityServer


class TestStability(ProviderContract):
    provider = "stability"
    server_type = StabilityServer
    variables = KEY_VARIABLES
    families = ("stability",)
    count_field = None
    cost_basis = "price_book"
    returns_urls = False
    sends_request_id = False
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "16:9",
        "seed": 7,
        "negative_prompt": "rain",
        "style": "anime",
        "output_format": "webp",
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1:9"}
    operations: ClassVar[Mapping[str, str]] = {
        "img2img": "model=stability/ultra pipeline=img2img pipeline.image=IMAGE "
        "pipeline.strength=0.6",
        "inpaint": "model=stability/inpaint pipeline=inpaint pipeline.image=IMAGE "
        "pipeline.mask=MASK",
        "erase": "model=stability/erase pipeline=inpaint pipeline.image=IMAGE pipeline.mask=MASK "
        "prompt=''",
        "background": "model=stability/remove_background pipeline=img2img pipeline.image=IMAGE "
        "prompt=''",
        "controlnet": "model=stability/control_structure pipeline=controlnet "
        "pipeline.control_image=OTHER pipeline.control_scale=0.5",
    }

    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        path = tmp_path / "private-name.png"
        path.write_bytes(picture(3, size=(64, 48)))
        return path

    @pytest.fixture
    def mask(self, tmp_path: Path) -> Path:
        path = tmp_path / "mask.png"
        drawn = Image.new("L", (64, 48), 0)
        drawn.paste(255, (0, 0, 20, 48))
        drawn.save(path)
        return path

    def test_a_filtered_picture_is_a_refusal_though_it_comes(self, server: Loopback) -> None:
        body = {"image": image_base64("ok"), "finish_reason": "CONTENT_FILTERED", "seed": 5}
        server.script(lambda _: web.json_response(body))
        answer = self.ask(server).answer
        assert answer is not None
        (missing,) = answer.outputs
        assert isinstance(missing, Missing)
        assert missing.outcome == "refused"
        assert answer.cost_basis == "unknown"

    def test_the_seed_that_was_used(self, server: Loopback) -> None:
        (found,) = self.ask(server).pictures
        assert (found.seed_sent, found.effective) == (None, {"seed": 4711})

    def test_seed_0_would_be_random(self, server: Loopback, tmp_path: Path) -> None:
        done = self.run(server, tmp_path / "run", "seed=0")
        assert done.returncode == 2
        assert "seed cannot be 0" in done.stderr
        assert "0 means random" in done.stderr
        assert server.requests == []

    def test_a_seed_is_drawn_and_pinned(self, server: Loopback, tmp_path: Path) -> None:
        done = self.run(server, tmp_path / "run")
        assert done.returncode == 0, done.stderr
        row = json.loads((tmp_path / "run" / "images" / "metadata.jsonl").read_text())
        assert row["seed_sent"] >= 1

    def test_from_an_image(self, server: Loopback, image: Path) -> None:
        for model, mode in (("ultra", None), ("sd3_5_large", "image-to-image")):
            settings = self.settings(server, f"model=stability/{model}", "pipeline.name=img2img")
            asked = ask(settings, self.params(image=str(image), strength=0.7))
            assert len(asked.pictures) == 1, asked.fault
            seen = server.calls()[-1]
            assert dict(seen.fields)["strength"] == "0.7"
            assert dict(seen.fields).get("mode") == mode
            ((name, upload),) = seen.files
            assert (name, upload.data) == ("image", image.read_bytes())
            assert "private-name" not in str(seen)

    def test_text_to_image_says_its_mode_and_model(self, server: Loopback) -> None:
        settings = self.settings(
            server, "model=stability/sd3_5_large", "+provider.options.cfg_scale=4.5"
        )
        answer = ask(settings, self.params(size="3:2")).answer
        assert answer is not None
        assert answer.params_sent == {
            "model": "sd3.5-large",
            "mode": "text-to-image",
            "aspect_ratio": "3:2",
            "cfg_scale": 4.5,
        }
        assert answer.cost_usd == pytest.approx(0.065)

    @pytest.mark.parametrize("model", ["inpaint", "erase"])
    def test_the_white_part_is_repainted(
        self, server: Loopback, image: Path, mask: Path, model: str
    ) -> None:
        settings = self.settings(
            server,
            f"model=stability/{model}",
            "pipeline.name=inpaint",
            "+provider.options.grow_mask=0",
        )
        prompt = "a fox" if model == "inpaint" else ""
        params = self.params(image=str(image), mask=str(mask), prompt=prompt)
        asked = ask(settings, params)
        assert len(asked.pictures) == 1, asked.fault
        with Image.open(mask) as drawn:
            assert [found.tobytes() for found in server.repainted] == [drawn.tobytes()]
        fields = dict(server.calls()[0].fields)
        assert ("prompt" in fields) == (model == "inpaint")
        assert fields["grow_mask"] == "0"

    @pytest.mark.parametrize(
        ("model", "options", "prompt"),
        [
            ("outpaint", {"left": 256, "up": 0, "creativity": 0.3}, "a meadow"),
            ("search_replace", {"search_prompt": "the dog"}, "a fox"),
            ("remove_background", {}, ""),
        ],
    )
    def test_services_on_an_image(
        self, server: Loopback, image: Path, model: str, options: dict[str, Any], prompt: str
    ) -> None:
        given = [f"+provider.options.{name}={value}" for name, value in options.items()]
        settings = self.settings(
            server, f"model=stability/{model}", "pipeline.name=img2img", *given
        )
        asked = ask(settings, self.params(image=str(image), prompt=prompt))
        assert len(asked.pictures) == 1, asked.fault
        fields = dict(server.calls()[0].fields)
        assert {name: fields[name] for name in options} == {
            name: str(value) for name, value in options.items()
        }

    def test_what_a_service_needs(self) -> None:
        overrides = ("model=stability/search_replace", "pipeline.name=img2img")
        provider = make_provider(self.settings(None, *overrides))
        (problem,) = provider.check(self.params(image="https://example.com/in.png"))
        assert problem.startswith("provider.options.search_prompt: ")
        with pytest.raises(RequestError, match="search_prompt: model"):
            make_provider(self.settings(None, "+provider.options.search_prompt=x"))

    def test_control(self, server: Loopback, image: Path) -> None:
        settings = self.settings(
            server, "model=stability/control_structure", "pipeline.name=controlnet"
        )
        asked = ask(settings, self.params(control_image=str(image), control_scale=0.4))
        assert len(asked.pictures) == 1, asked.fault
        assert dict(server.calls()[0].fields)["control_strength"] == "0.4"

    def test_style_transfer(self, server: Loopback, image: Path, tmp_path: Path) -> None:
        style = tmp_path / "style.jpg"
        style.write_bytes(picture(9, "JPEG"))
        settings = self.settings(
            server,
            "model=stability/style_transfer",
            "pipeline.name=img2img",
            f"+provider.options.style_image='{style}'",
        )
        asked = ask(settings, self.params(image=str(image), strength=0.5, prompt=""))
        assert len(asked.pictures) == 1, asked.fault
        files = dict(server.calls()[0].files)
        assert files["init_image"].data == image.read_bytes()
        assert files["style_image"].data == style.read_bytes()
        assert asked.answer is not None
        assert "style_image" not in asked.answer.params_sent
        copy = tmp_path / "copy.jpg"
        copy.write_bytes(style.read_bytes())
        other = self.settings(
            server,
            "model=stability/style_transfer",
            "pipeline.name=img2img",
            f"+provider.options.style_image='{copy}'",
        )
        assert make_provider(other).identity() == make_provider(settings).identity()

    def test_the_creative_upscaler_is_a_job(self, server: Loopback, image: Path) -> None:
        settings = self.settings(
            server, "model=stability/creative_upscale", "pipeline.name=img2img"
        )
        params = self.params(image=str(image))
        first = ask(settings, params)
        assert len(first.pictures) == 1, first.fault
        inspect(first.pictures[0].data)
        (fact,) = first.listener.notes
        again = attach(settings, params, json.loads(json.dumps(fact)))
        assert [found.data for found in again.pictures] == [found.data for found in first.pictures]
        assert len(server.calls()) == 1
        server.script("refused_late")
        refused = ask(settings, params)
        assert refused.fault is not None
        assert refused.fault.kind == "refused"
        assert refused.fault.code == "content_moderation"

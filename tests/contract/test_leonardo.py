"""The contract for ``provider=leonardo``, and what only Leonardo has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web
from PIL import Image

from runner.providers.leonardo import KEY_VARIABLES, dollars, level
from runner.providers.registry import make_provider
from runner.settings.errors import RequestError
from tests.contract.suite import ProviderContract
from tests.contract.support import ask, ask_all
from tests.servers.leonardo import LeonardoServer
from tests.servers.loopback import Loopback, picture

XL = "model=leonardo/lightning_xl"


class TestLeonardo(ProviderContract):
    provider = "leonardo"
    server_type = LeonardoServer
    variables = KEY_VARIABLES
    families = ("leonardo",)
    count_field = "num_images"
    cost_basis = "reported"
    has_jobs = True
    samples: ClassVar[Mapping[str, Any]] = {"size": "1024x576", "seed": 7, "style": "cinematic"}
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1023x1024"}
    operations: ClassVar[Mapping[str, str]] = {
        "img2img": "model=leonardo/lightning_xl pipeline=img2img pipeline.image=IMAGE "
        "pipeline.strength=0.6 size=768x512",
        "inpaint": "model=leonardo/kino_xl pipeline=inpaint pipeline.image=IMAGE "
        "pipeline.mask=MASK",
        "controlnet": "model=leonardo/sdxl_1_0 pipeline=controlnet pipeline.control_image=OTHER "
        "+provider.options.control=pose pipeline.control_scale=0.8",
        "reference": "pipeline=controlnet pipeline.control_image=OTHER",
    }

    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        path = tmp_path / "private-name.png"
        path.write_bytes(picture(3, size=(64, 48)))
        return path

    def test_what_is_sent(self, server: Loopback) -> None:
        answer = self.ask(server, n=2, size="16:9", style="dynamic", seed=0).answer
        assert answer is not None
        assert answer.params_sent == {
            "modelId": "7b592283-e8a7-4c5a-9ba6-d18c31f258b9",
            "num_images": 2,
            "width": 1408,
            "height": 792,
            "seed": 0,
            "styleUUID": "111dc692-d470-4eec-b791-3475abac4c46",
            "alchemy": False,
            "contrast": 3.5,
        }
        assert server.calls()[0].json == {**answer.params_sent, "prompt": "a red lighthouse"}
        assert answer.cost_usd == pytest.approx(0.024)
        assert answer.request_id == "job-0001"

    def test_all_keys_of_the_older_models(self, server: Loopback) -> None:
        asked = ask(
            self.settings(server, XL),
            self.params(negative_prompt="rain", steps=20, guidance_scale=7.0, style="CINEMATIC"),
        )
        assert asked.answer is not None, asked.fault
        sent = asked.answer.params_sent
        assert (sent["negative_prompt"], sent["num_inference_steps"]) == ("rain", 20)
        assert (sent["guidance_scale"], sent["presetStyle"]) == (7.0, "CINEMATIC")

    def test_small_pictures_come_eight_at_once(self, server: Loopback) -> None:
        all_asked = ask_all(self.settings(server, XL), self.params(size="768x512"), 8)
        assert [len(asked.pictures) for asked in all_asked] == [8]

    def test_strength_is_turned_round(self, server: Loopback, image: Path) -> None:
        settings = self.settings(server, XL, "pipeline.name=img2img")
        asked = ask(settings, self.params(image=str(image), strength=0.7))
        assert len(asked.pictures) == 1, asked.fault
        body = server.calls()[0].json
        assert body["init_strength"] == 0.3
        assert isinstance(server, LeonardoServer)
        assert server.uploads[body["init_image_id"]] == image.read_bytes()
        assert "private-name" not in str(server.requests)

    def test_one_input_is_uploaded_once(self, server: Loopback, image: Path) -> None:
        settings = self.settings(server, XL, "pipeline.name=img2img")
        params = self.params(image=str(image), strength=0.7)
        assert sum(len(asked.pictures) for asked in ask_all(settings, params, 8)) == 8
        assert sum(seen.path == "/storage" for seen in server.requests) == 1

    def test_inpaint_with_white_to_repaint(
        self, server: Loopback, image: Path, tmp_path: Path
    ) -> None:
        drawn = Image.new("L", (64, 48), 0)
        drawn.paste(255, (0, 0, 20, 48))
        drawn.save(tmp_path / "mask.png")
        settings = self.settings(server, XL, "pipeline.name=inpaint")
        params = self.params(image=str(image), mask=str(tmp_path / "mask.png"), strength=0.5)
        asked = ask(settings, params)
        assert len(asked.pictures) == 1, asked.fault
        assert server.calls()[0].json["canvasRequestType"] == "INPAINT"
        assert [found.tobytes() for found in server.repainted] == [drawn.tobytes()]

    @pytest.mark.parametrize(
        ("control", "scale", "sent"),
        [
            ("pose", 0.8, {"preprocessorId": 21, "weight": 0.8}),
            ("style_reference", 2.0, {"preprocessorId": 67, "strengthType": "Max"}),
            ("content_reference", 2.0, {"preprocessorId": 100, "strengthType": "High"}),
            (5, None, {"preprocessorId": 5}),
            (None, None, {"preprocessorId": 19}),
        ],
    )
    def test_controlnets(
        self,
        server: Loopback,
        image: Path,
        control: object,
        scale: float | None,
        sent: dict[str, Any],
    ) -> None:
        options = [] if control is None else [f"+provider.options.control={control}"]
        settings = self.settings(server, XL, "pipeline.name=controlnet", *options)
        asked = ask(settings, self.params(control_image=str(image), control_scale=scale))
        assert len(asked.pictures) == 1, asked.fault
        (guide,) = server.calls()[0].json["controlnets"]
        assert guide == {"initImageId": "upload-1", "initImageType": "UPLOADED", **sent}

    def test_several_guides(self, server: Loopback, image: Path) -> None:
        guide = f"{{image:'{image}',control:style_reference,strength:Ultra}}"
        settings = self.settings(
            server, "pipeline.name=controlnet", f"+provider.options.guides=[{guide}]"
        )
        asked = ask(settings, self.params(control_image=str(image)))
        assert len(asked.pictures) == 1, asked.fault
        guides = server.calls()[0].json["controlnets"]
        assert [found.get("strengthType") for found in guides] == [None, "Ultra"]

    def test_options_go_on_the_wire(self, server: Loopback) -> None:
        options = {
            "photo_real": "true",
            "photo_real_version": "v2",
            "prompt_magic_strength": "0.4",
            "scheduler": "DDIM",
            "tiling": "true",
            "transparency": "foreground_only",
            "enhance_prompt": "false",
            "elements": "[{akUUID:some-element,weight:0.5}]",
            "user_elements": "[{userLoraId:12}]",
            "public": "false",
        }
        given = [f"+provider.options.{name}={value}" for name, value in options.items()]
        answer = ask(self.settings(server, XL, *given), self.params()).answer
        assert answer is not None
        sent = answer.params_sent
        assert sent["photoReal"] is True
        assert sent["promptMagicStrength"] == 0.4
        assert sent["enhancePrompt"] is False
        assert sent["elements"] == [{"akUUID": "some-element", "weight": 0.5}]
        assert sent["userElements"] == [{"userLoraId": 12}]
        assert sent["public"] is False

    def test_what_a_pipeline_needs(self) -> None:
        provider = make_provider(self.settings(None, "pipeline.name=controlnet"))
        (problem,) = provider.check(self.params())
        assert problem.startswith("pipeline.control_image: ")

    def test_wrong_options_are_told_together(self) -> None:
        wrong = ("contrast=2", "alchemy=true", "ultra=true", "control=stile_reference")
        with pytest.raises(RequestError) as caught:
            make_provider(self.settings(None, *(f"+provider.options.{text}" for text in wrong)))
        assert len(caught.value.problems) == 3
        assert "did you mean 'style_reference'" in str(caught.value)

    def test_a_flagged_picture_is_kept_and_said(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = server.host_file("1.png", picture(1))
        images = [{"url": url, "nsfw": True}]
        made = {"id": "job-1", "status": "COMPLETE", "seed": 5, "generated_images": images}
        monkeypatch.setattr(
            server, "_poll", lambda _: web.json_response({"generations_by_pk": made})
        )
        (found,) = self.ask(server).pictures
        assert "not safe" in found.warnings[0]
        assert found.effective == {"seed": 5}

    def test_uploads_go_to_no_private_address(
        self, server: Loopback, image: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = {"id": "u", "url": "https://169.254.169.254/x", "fields": "{}"}
        monkeypatch.setattr(
            server, "_init", lambda _: web.json_response({"uploadInitImage": place})
        )
        settings = self.settings(server, XL, "pipeline.name=img2img")
        asked = ask(settings, self.params(image=str(image)))
        assert asked.fault is not None
        assert asked.fault.code == "address_refused"
        assert server.calls() == []

    @pytest.mark.parametrize("body", [{}, {"uploadInitImage": None}, {"uploadInitImage": {}}])
    def test_an_upload_that_is_not_explained_costs_nothing(
        self,
        server: Loopback,
        image: Path,
        body: object,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(server, "_init", lambda _: web.json_response(body))
        asked = ask(
            self.settings(server, XL, "pipeline.name=img2img"), self.params(image=str(image))
        )
        assert asked.fault is not None
        assert asked.fault.kind == "transient"
        assert server.calls() == []

    @pytest.mark.parametrize("cost", [None, "8", {"amount": "8", "unit": "CREDITS"}])
    def test_credits_are_no_dollars(self, cost: object) -> None:
        assert dollars(cost) is None

    def test_levels_by_the_vendors_table(self) -> None:
        scales = (0, 0.39, 0.5, 1.0, 1.5, 1.7, 2)
        found = [level(scale, "style_reference") for scale in scales]
        assert found == ["Low", "Low", "Mid", "High", "Ultra", "Max", "Max"]
        found = [level(scale, "character_reference") for scale in scales]
        assert found == ["Low", "Low", "Low", "Mid", "High", "High", "High"]

    def test_run_is_taken_for_what_it_is(self, server: Loopback, tmp_path: Path) -> None:
        done = self.run(server, tmp_path / "run", "seed=3")
        assert done.returncode == 0, done.stderr
        row = json.loads((tmp_path / "run" / "images" / "metadata.jsonl").read_text())
        assert row["seed_sent"] == 3
        assert row["request_id"] == "job-0001"

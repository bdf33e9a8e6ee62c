"""The contract for ``provider=gpustack_llama_box``, and what only llama-box has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web
from PIL import Image

from runner.providers.gpustack_llama_box import KEY_VARIABLES
from runner.providers.registry import make_provider
from runner.settings.errors import RequestError
from tests.contract.suite import ProviderContract
from tests.contract.support import ask, variant
from tests.servers.gpustack_llama_box import LlamaBoxServer
from tests.servers.loopback import Loopback, Seen, image_base64, picture


class TestLlamaBox(ProviderContract):
    provider = "gpustack_llama_box"
    server_type = LlamaBoxServer
    variables = KEY_VARIABLES
    families = ("gpustack_llama_box",)
    cost_basis = "free"
    returns_urls = False
    tells_credit = False
    tells_refusals = False
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "768x512",
        "seed": 7,
        "negative_prompt": "rain",
        "steps": 12,
        "guidance_scale": 4.5,
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1000x1000"}

    # ------------------------------------------------------------------ what is sent

    def test_a_sampler_steps_and_a_size_always_go_along(self, server: Loopback) -> None:
        """Without a sampler the server heeds no seed; without a size it makes 256x256."""
        answer = self.ask(server, seed=0).answer
        assert answer is not None
        body = server.calls()[0].json
        assert (body["sampler"], body["sample_steps"], body["size"]) == ("euler", 20, "1024x1024")
        assert body["seed"] == 0
        assert answer.params_sent["sample_steps"] == 20

    def test_options_go_on_the_wire(self, server: Loopback) -> None:
        options = {"sampler": "dpm++2m", "schedule": "karras", "guidance": 3.5, "slg_scale": 2.5}
        settings = self.settings(
            server,
            *(f"+provider.options.{name}={value}" for name, value in options.items()),
            "+provider.options.lora=[{id: 1, scale: 0.5}]",
        )
        answer = ask(settings, self.params()).answer
        assert answer is not None
        body = server.calls()[0].json
        assert {name: body[name] for name in options} == options
        assert body["lora"] == [{"id": 1, "scale": 0.5}]

    def test_every_image_has_its_own_seed(self, server: Loopback) -> None:
        asked = self.ask(server, n=3, seed=5)
        assert [found.seed_sent for found in asked.pictures] == [5, 6, 7]
        assert server.calls()[0].json["seed"] == 5  # the server counts up

    # ------------------------------------------------------------------ streams

    def test_progress_is_shown_for_all_images_together(self, server: Loopback) -> None:
        asked = self.ask(server, n=2)
        shares = [done for done, total in asked.listener.steps if total == 100]
        assert shares == [12, 25, 38, 50, 62, 75, 88, 100]
        assert asked.answer is not None
        assert asked.answer.usage["generation_per_second"] == 2.0
        assert asked.answer.request_id == "box-2"

    @pytest.mark.parametrize("size", [64, 100, 1000, 100_000])
    def test_split_base64_is_joined(self, server: Loopback, size: int) -> None:
        settings = self.settings(server, f"+provider.options.chunk_size={size}")
        asked = ask(settings, self.params(), 2)
        assert [found.data for found in asked.pictures] == [picture(1), picture(2)]
        assert asked.listener.steps[-1] == (100, 100)

    def test_previews_are_kept_beside_the_picture(self, server: Loopback) -> None:
        settings = self.settings(
            server, "+provider.options.preview=true", "+provider.options.chunk_size=64"
        )
        assert make_provider(settings).images_per_call(self.params()) == 1
        (found,) = ask(settings, self.params()).pictures
        assert found.data == picture(1)
        assert found.extras == {f"partial-{at}.png": picture(101 + at) for at in range(3)}

    @pytest.mark.parametrize(
        ("line", "kind"),
        [
            ('error: {"error": {"code": 500, "message": "boom"}, "detail": "boom"}', "transient"),
            ('error: {"code": 400, "message": "Invalid image", "type": "x"}', "invalid"),
            ('data: {"error": {"code": 404, "message": "no such model"}}', "gone"),
            ('error: {"message": "no code at all"}', "transient"),
            ("data: {half", "ambiguous"),
        ],
    )
    def test_errors_in_mid_stream(self, server: Loopback, line: str, kind: str) -> None:
        start = 'data: {"data": [{"index": 0, "progress": 50.0}]}\n\n'
        body = f"{start}{line}\n\n".encode()
        server.script(lambda _: web.Response(body=body, content_type="text/event-stream"))
        asked = self.ask(server)
        assert asked.fault is not None
        assert asked.fault.kind == kind, asked.fault.message
        assert asked.listener.steps == [(50, 100)]

    @pytest.mark.parametrize("label", ["text/event-stream", "application/json", "text/plain"])
    def test_json_is_read_whatever_its_label(self, server: Loopback, label: str) -> None:
        body = json.dumps({"data": [{"b64_json": image_base64("ok")}]}, indent=1).encode()
        server.script(lambda _: web.Response(body=body, content_type=label))
        assert self.ask(server).pictures[0].data == picture(0)

    def test_a_model_that_makes_no_images(self, server: Loopback) -> None:
        said = {"message": "You are not allowed to do image operation from this model"}
        server.script(lambda _: web.json_response(said, status=403))
        fault = self.ask(server).fault
        assert fault is not None
        assert fault.kind == "gone"

    def test_an_error_inside_json_is_an_error(self, server: Loopback) -> None:
        server.script(lambda _: web.json_response({"error": {"code": 503, "message": "later"}}))
        fault = self.ask(server).fault
        assert fault is not None
        assert fault.kind == "transient"

    @pytest.mark.parametrize(
        "events",
        [
            'data: {"data": "text"}',
            'data: {"data": [7, {"index": "x", "progress": "y", "b64_json": 5}]}',
            ': a comment\nevent: image\nid: 7\ndata: {"data": [{"index": 99}]}',
            "",
        ],
    )
    def test_odd_events_are_no_images(self, server: Loopback, events: str) -> None:
        body = f"{events}\n\ndata: [DONE]\n\n".encode()
        server.script(lambda _: web.Response(body=body, content_type="text/event-stream"))
        asked = self.ask(server)
        assert asked.answer is not None, asked.fault
        assert asked.pictures == []

    # ------------------------------------------------------------------ with images

    def edit(self, server: Loopback, kind: str, *overrides: str, **params: Any) -> Seen:
        settings = self.settings(server, f"pipeline.name={kind}", *overrides)
        asked = ask(settings, self.params(**params))
        assert len(asked.pictures) == 1, asked.fault
        return server.calls()[0]

    def test_fields_of_an_edit(self, server: Loopback, tmp_path: Path) -> None:
        image = tmp_path / "in.png"
        image.write_bytes(picture(1, size=(512, 256)))
        seen = self.edit(
            server,
            "img2img",
            "+provider.options.lora=[{id: 0, scale: 1.0}]",
            image=str(image),
            strength=0.4,
            negative_prompt="rain",
            seed=3,
        )
        fields = dict(seen.fields)
        assert fields["negative_sampler"] == fields["negative_prompt"] == "rain"
        assert (fields["strength"], fields["seed"], fields["stream"]) == ("0.4", "3", "true")
        assert fields["stream_options_include_usage"] == "true"
        assert json.loads(fields["lora"]) == [{"id": 0, "scale": 1.0}]
        assert fields["size"] == "512x256"

    @pytest.mark.parametrize(
        ("size", "sent"),
        [((500, 300), "512x320"), ((2048, 1024), "1024x512"), ((64, 64), "256x256")],
    )
    def test_an_edit_keeps_the_shape_of_its_input(
        self, server: Loopback, tmp_path: Path, size: tuple[int, int], sent: str
    ) -> None:
        image = tmp_path / "in.png"
        image.write_bytes(picture(1, size=size))
        settings = self.settings(server, "pipeline.name=img2img")
        (found,) = ask(settings, self.params(image=str(image))).pictures
        assert dict(server.calls()[0].fields)["size"] == sent
        assert sent in found.warnings[0]

    def test_controlnet(self, server: Loopback, tmp_path: Path) -> None:
        edges = tmp_path / "edges.png"
        edges.write_bytes(picture(1, size=(512, 256)))
        seen = self.edit(
            server,
            "controlnet",
            "+provider.options.control_canny=true",
            control_image=str(edges),
            control_scale=0.7,
        )
        assert [name for name, _ in seen.files] == ["image", "control"]
        fields = dict(seen.fields)
        assert (fields["control_strength"], fields["control_canny"]) == ("0.7", "true")
        assert (fields["strength"], "size" in fields) == ("1.0", False)

    def test_a_control_image_of_another_size(self, server: Loopback, tmp_path: Path) -> None:
        edges = tmp_path / "edges.png"
        edges.write_bytes(picture(1, size=(500, 256)))
        settings = self.settings(server, "pipeline.name=controlnet")
        fault = ask(settings, self.params(control_image=str(edges))).fault
        assert fault is not None
        assert fault.kind == "invalid"
        assert "500x256" in fault.message
        assert server.requests == []

    @pytest.mark.parametrize(
        ("kind", "key"), [("img2img", "image"), ("controlnet", "control_image")]
    )
    def test_inputs_that_the_server_cannot_read(
        self, server: Loopback, tmp_path: Path, kind: str, key: str
    ) -> None:
        (tmp_path / "in.webp").write_bytes(picture(1, "WEBP", (256, 256)))
        provider = make_provider(self.settings(server, f"pipeline.name={kind}"))
        (problem,) = provider.check(self.params(**{key: str(tmp_path / "in.webp")}))
        assert f"pipeline.{key}" in problem
        assert "webp" in problem

    def test_masks_of_any_kind_become_grey(self, server: Loopback, tmp_path: Path) -> None:
        image, mask = tmp_path / "in.png", tmp_path / "mask.gif"
        image.write_bytes(picture(1, size=(256, 256)))
        drawn = Image.new("L", (256, 256), 0)
        drawn.paste(255, (0, 0, 100, 256))
        drawn.save(mask)
        self.edit(server, "inpaint", image=str(image), mask=str(mask))
        assert server.repainted[0].tobytes() == drawn.tobytes()


def test_what_needs_a_file_says_so() -> None:
    for kind, words in (("img2img", 1), ("inpaint", 2), ("controlnet", 1)):
        provider = make_provider(
            variant(
                "provider=gpustack_llama_box",
                "provider.base_url=https://127.0.0.1/v1-openai",
                f"pipeline.name={kind}",
            )
        )
        assert len(provider.check(TestLlamaBox().params())) == words
    with pytest.raises(RequestError, match="controlnet"):
        make_provider(
            variant(
                "provider=gpustack_llama_box",
                "provider.base_url=https://127.0.0.1/v1-openai",
                "+provider.options.control_canny=true",
            )
        )


def test_an_address_must_be_given() -> None:
    with pytest.raises(RequestError, match="base_url"):
        make_provider(variant("provider=gpustack_llama_box"))


def test_how_the_picture_comes_is_not_what_it_is() -> None:
    address = ("provider=gpustack_llama_box", "provider.base_url=https://127.0.0.1/v1")
    plain = make_provider(variant(*address)).identity()
    chunked = make_provider(variant(*address, "+provider.options.chunk_size=64")).identity()
    other = make_provider(variant(*address, "+provider.options.schedule=karras")).identity()
    assert plain == chunked != other

"""The contract for ``provider=openai``, and what only OpenAI's API has."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web
from PIL import Image

from runner.images import inspect
from runner.providers.contract import ProviderError
from runner.providers.net import Http, sdk
from runner.providers.net.sdk import built_by
from runner.providers.openai import BASE_URL, KEY_VARIABLES
from runner.providers.openai_family.client import make_client
from runner.providers.registry import make_provider
from tests.contract.suite import ProviderContract
from tests.contract.support import ask, ask_all, variant
from tests.servers.loopback import Loopback, image_base64, picture
from tests.servers.openai import OpenAIServer


class TestOpenAI(ProviderContract):
    provider = "openai"
    server_type = OpenAIServer
    variables = KEY_VARIABLES
    families = ("openai",)
    retired = "openai/gpt_image_1"
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "1536x1024",
        "quality": "low",
        "background": "opaque",
        "output_format": "webp",
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1000x1000"}

    # ------------------------------------------------------------------ what is sent

    def test_what_was_sent_and_what_was_used(self, server: Loopback) -> None:
        answer = self.ask(server, n=3, size="16:9", quality="auto").answer
        assert answer is not None
        assert answer.params_sent == {
            "model": "gpt-image-2",
            "n": 3,
            "size": "1280x720",
            "quality": "auto",
        }
        (seen,) = server.calls()
        assert seen.json == {**answer.params_sent, "prompt": "a red lighthouse"}
        assert [found.effective["quality"] for found in answer.outputs] == ["medium"] * 3
        assert answer.request_id == "req_3"

    @pytest.mark.parametrize(
        ("option", "value", "model", "params"),
        [
            ("moderation", "low", "gpt_image_2", {}),
            ("complexity", "high", "gpt_image_2_5_flare", {}),
            ("output_compression", 30, "gpt_image_1_5", {"output_format": "jpeg"}),
            ("safety_identifier", "user-17", "gpt_image_2", {}),
            ("frame_count", 4, "gpt_image_2", {"output_format": "gif"}),
            ("frame_duration_ms", 100, "gpt_image_2", {"output_format": "gif"}),
        ],
    )
    def test_options_go_on_the_wire(
        self, server: Loopback, option: str, value: object, model: str, params: dict[str, str]
    ) -> None:
        settings = self.settings(
            server, f"model=openai/{model}", f"+provider.options.{option}={value}"
        )
        asked = ask(settings, self.params(**params))
        assert asked.answer is not None, asked.fault
        assert asked.answer.params_sent[option] == value
        assert server.calls()[0].json[option] == value

    def test_options_of_edits(self, server: Loopback, tmp_path: Path) -> None:
        image = tmp_path / "in.png"
        image.write_bytes(picture(1))
        settings = self.settings(
            server,
            "pipeline.name=img2img",
            "model=openai/gpt_image_1_5",
            "+provider.options.input_fidelity=high",
            "+provider.options.output_compression=55",
        )
        asked = ask(settings, self.params(image=str(image), output_format="webp"), 2)
        assert len(asked.pictures) == 2, asked.fault
        fields = dict(server.calls()[0].fields)
        assert fields["input_fidelity"] == "high"
        assert fields["output_compression"] == "55"
        assert fields["n"] == "2"

    def test_organization_and_project_are_headers(self, server: Loopback) -> None:
        ask(
            self.settings(
                server, "+provider.options.organization=org-1", "+provider.options.project=proj-2"
            ),
            self.params(),
        )
        (seen,) = server.calls()
        assert seen.headers["openai-organization"] == "org-1"
        assert seen.headers["openai-project"] == "proj-2"
        assert set(seen.json) == {"model", "n", "prompt"}

    def test_other_hosts_get_none_of_openais_variables(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
        monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-mine")
        monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: mine\nX-Other: also")
        assert self.ask(server).pictures
        assert "mine" not in json.dumps(dict(server.calls()[0].headers))
        assert "x-other" not in server.calls()[0].headers

    def test_nothing_is_told_of_this_machine(self, server: Loopback, tmp_path: Path) -> None:
        image = tmp_path / "in.png"
        image.write_bytes(picture(1))
        self.ask(server)
        ask(self.settings(server, "pipeline.name=img2img"), self.params(image=str(image)))
        ask(self.settings(server, "+provider.options.partial_images=1"), self.params())
        assert len(server.calls()) == 3
        for seen in server.calls():
            assert [name for name in seen.headers if name.startswith("x-stainless")] == []
            assert seen.headers["user-agent"].startswith("AsyncOpenAI/Python")

    def test_servers_without_keys(self, server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
        """What compatible servers need of the same client: no key, no header."""
        monkeypatch.delenv("OPENAI_API_KEY")

        async def call() -> None:
            http = Http(self.settings(server), base_url=None, key_required=False)
            await http.open()
            client = make_client(http)
            built = await built_by(client.post("/images/generations", cast_to=object, body={}))
            with pytest.raises(ProviderError, match="the key was not accepted"):
                await built.send(http)
            await client.close()
            await http.close()

        asyncio.run(call())
        assert "authorization" not in server.requests[0].headers
        server.problems.clear()

    def test_openai_itself_gets_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-anything")
        monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
        http = Http(variant("provider=openai"), base_url=BASE_URL, variables=KEY_VARIABLES)
        headers = make_client(http).default_headers
        assert headers["OpenAI-Organization"] == "org-mine"

    def test_model_that_has_only_standard_sizes(self, server: Loopback) -> None:
        settings = self.settings(server, "model=openai/gpt_image_1_5")
        assert make_provider(settings).check(self.params(size="1536x864"))
        asked = ask(settings, self.params(size="16:9"))
        assert asked.answer is not None
        assert asked.answer.params_sent["size"] == "1536x1024"
        assert "1536x1024" in asked.pictures[0].warnings[0]

    # ------------------------------------------------------------------ edits

    def test_several_input_images(self, server: Loopback, tmp_path: Path) -> None:
        paths = [tmp_path / f"secret-name-{at}.jpg" for at in range(3)]
        for at, path in enumerate(paths):
            path.write_bytes(picture(at, "JPEG"))
        settings = self.settings(
            server,
            "pipeline.name=img2img",
            f"+provider.options.images=['{paths[1]}','{paths[2]}']",
        )
        asked = ask(settings, self.params(image=str(paths[0])))
        assert asked.pictures, asked.fault
        files = server.calls()[0].files
        assert [name for name, _ in files] == ["image[]"] * 3
        assert [upload.data for _, upload in files] == [path.read_bytes() for path in paths]
        assert {upload.mime for _, upload in files} == {"image/jpeg"}
        assert "secret-name" not in str(server.calls()[0])

    def test_mask_of_another_kind_and_with_greys(self, server: Loopback, tmp_path: Path) -> None:
        image, mask = tmp_path / "in.webp", tmp_path / "mask.gif"
        image.write_bytes(picture(1, "WEBP", (20, 10)))
        drawn = Image.new("L", (20, 10), 0)
        drawn.paste(255, (0, 0, 10, 10))
        drawn.putpixel((15, 5), 128)
        drawn.save(mask)
        asked = ask(
            self.settings(server, "pipeline.name=inpaint"),
            self.params(image=str(image), mask=str(mask)),
        )
        assert asked.pictures, asked.fault
        assert server.repainted[0].tobytes() == drawn.tobytes()

    def test_markup(self, server: Loopback, tmp_path: Path) -> None:
        image, markup = tmp_path / "in.png", tmp_path / "markup.png"
        image.write_bytes(picture(1, size=(20, 10)))
        Image.new("RGBA", (20, 10), (255, 0, 0, 0)).save(markup)
        settings = self.settings(
            server,
            "pipeline.name=img2img",
            "model=openai/gpt_image_2_5_sunburst",
            f"+provider.options.markup='{markup}'",
        )
        assert ask(settings, self.params(image=str(image))).pictures
        assert [name for name, _ in server.calls()[0].files] == ["image", "markup"]

    def test_input_that_is_no_image(self, server: Loopback, tmp_path: Path) -> None:
        image = tmp_path / "in.png"
        image.write_bytes(b"<html>")
        asked = ask(self.settings(server, "pipeline.name=img2img"), self.params(image=str(image)))
        assert asked.fault is not None
        assert str(image) in asked.fault.message
        assert server.requests == []

    # ------------------------------------------------------------------ formats and streams

    def test_svg_is_one_per_call_and_kept_as_it_is(self, server: Loopback) -> None:
        params = self.params(output_format="svg")
        settings = self.settings(
            server, "+provider.options.svg.model=gpt-6", "+provider.options.svg.effort=low"
        )
        all_asked = ask_all(settings, params, 3)
        assert len(server.calls()) == 3
        assert server.calls()[0].json["svg"] == {"model": "gpt-6", "reasoning": {"effort": "low"}}
        for asked in all_asked:
            assert inspect(asked.pictures[0].data).info.mime == "image/svg+xml"
            assert asked.answer is not None
            assert asked.answer.cost_basis == "unknown"  # what the author costs is not known

    def test_partial_images_are_kept(self, server: Loopback) -> None:
        settings = self.settings(server, "+provider.options.partial_images=2")
        assert make_provider(settings).images_per_call(self.params()) == 1
        asked = ask(settings, self.params())
        (found,) = asked.pictures
        assert sorted(found.extras) == ["partial-0.png", "partial-1.png"]
        assert len({found.data, *found.extras.values()}) == 3
        assert asked.listener.steps == [(1, 3), (2, 3), (3, 3)]
        assert asked.answer is not None
        assert asked.answer.params_sent["stream"] is True
        assert asked.answer.cost_basis == "usage"
        assert asked.answer.request_id

    def test_stream_of_an_edit(self, server: Loopback, tmp_path: Path) -> None:
        image = tmp_path / "in.png"
        image.write_bytes(picture(1))
        settings = self.settings(
            server, "pipeline.name=img2img", "+provider.options.partial_images=1"
        )
        (found,) = ask(settings, self.params(image=str(image))).pictures
        assert list(found.extras) == ["partial-0.png"]

    def test_stream_without_an_image_is_ambiguous(self, server: Loopback) -> None:
        server.script("empty")
        asked = ask(self.settings(server, "+provider.options.partial_images=1"), self.params())
        assert asked.fault is not None
        assert asked.fault.kind == "ambiguous"

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            ({"code": "moderation_blocked", "type": "image_generation_user_error"}, "refused"),
            ({"code": "rate_limit_exceeded", "type": "requests"}, "rate_limit"),
            ({"code": None, "type": "server_error"}, "transient"),
            ({"code": "invalid_value", "type": "invalid_request_error"}, "invalid"),
        ],
    )
    def test_error_in_mid_stream(
        self, server: Loopback, error: dict[str, str | None], kind: str
    ) -> None:
        body = f"data: {json.dumps({'error': {'message': 'no', **error}})}\n\n".encode()
        server.script(lambda _: web.Response(body=body, content_type="text/event-stream"))
        asked = ask(self.settings(server, "+provider.options.partial_images=1"), self.params())
        assert asked.fault is not None
        assert asked.fault.kind == kind

    # ------------------------------------------------------------------ bodies

    def test_endless_answers_are_cut(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sdk, "MAX_ANSWER_BYTES", 1000)
        server.script(lambda _: web.Response(body=b" " * 2000))
        fault = self.ask(server).fault
        assert fault is not None
        assert fault.code == "bad_response"
        server.script(lambda _: web.Response(status=500, body=b"x" * (1 << 20)))
        fault = self.ask(server).fault
        assert fault is not None
        assert fault.kind == "transient"
        assert len(fault.message) < 400

    def test_compressed_answers_are_unpacked_within_bounds(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def packed(body: bytes) -> web.Response:
            headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
            return web.Response(body=gzip.compress(body), headers=headers)

        good = json.dumps({"created": 1, "data": [{"b64_json": image_base64("ok")}]}).encode()
        server.script(lambda _: packed(good))
        assert self.ask(server).pictures
        monkeypatch.setattr(sdk, "MAX_ANSWER_BYTES", 100_000)
        server.script(lambda _: packed(b" " * (1 << 24)))
        fault = self.ask(server).fault
        assert fault is not None
        assert "100,000 bytes" in fault.message

    def test_more_images_than_asked(self, server: Loopback) -> None:
        items = [{"b64_json": image_base64("ok", at)} for at in range(3)]
        server.script(lambda _: web.json_response({"created": 1, "data": items}))
        asked = self.ask(server, n=2)
        assert len(asked.pictures) == 2
        assert "3 images came" in asked.pictures[0].warnings[0]

    @pytest.mark.parametrize(
        "data", [None, "text", {"b64_json": "x"}, [None], ["text"], [{"b64_json": 7}], [[]]]
    )
    def test_odd_answers_are_no_images(self, server: Loopback, data: object) -> None:
        server.script(lambda _: web.json_response({"created": 1, "data": data}))
        asked = self.ask(server)
        assert asked.answer is not None, asked.fault
        assert asked.pictures == []

    # ------------------------------------------------------------------ money

    def test_cost_from_usage(self, server: Loopback) -> None:
        answer = self.ask(server, n=2, size="1024x1024", quality="medium").answer
        assert answer is not None
        assert answer.cost_usd == pytest.approx((12 * 5 + 2 * 1756 * 30) / 1e6)
        assert answer.cost_basis == "usage"
        assert answer.usage["output_tokens"] == 2 * 1756

    def test_cost_of_an_edit_counts_the_input_images(
        self, server: Loopback, tmp_path: Path
    ) -> None:
        image = tmp_path / "in.png"
        image.write_bytes(picture(1))
        answer = ask(
            self.settings(server, "pipeline.name=img2img"),
            self.params(image=str(image), size="1024x1024", quality="low"),
        ).answer
        assert answer is not None
        assert answer.cost_usd == pytest.approx((12 * 5 + 323 * 8 + 196 * 30) / 1e6)

    def test_cost_without_usage_is_an_estimate(self, server: Loopback) -> None:
        item = {"b64_json": image_base64("ok")}
        server.script(lambda _: web.json_response({"created": 1, "data": [item]}))
        answer = self.ask(server, size="1024x1024", quality="low").answer
        assert answer is not None
        assert answer.cost_basis == "estimate"
        assert answer.cost_usd == pytest.approx(0.0059, abs=2e-4)

    def test_estimates_hold_what_is_paid(self, server: Loopback) -> None:
        for quality in ("low", "medium", "high", "auto", None):
            for size in ("1024x1024", "2048x1152", "auto", None):
                params = self.params(quality=quality, size=size)
                price = make_provider(self.settings(server)).estimate(params)
                answer = self.ask(server, quality=quality, size=size).answer
                assert answer is not None
                assert price.low_usd is not None
                assert price.high_usd is not None
                assert answer.cost_usd is not None
                assert price.low_usd <= answer.cost_usd <= price.high_usd

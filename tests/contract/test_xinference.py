"""The contract for ``provider=xinference``, and what only Xinference has."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web

from runner.providers import xinference
from runner.providers.contract import Call
from runner.providers.registry import make_provider
from runner.settings.cell import CellParams
from runner.settings.errors import RequestError
from tests.contract.suite import ProviderContract
from tests.contract.support import Listening, ask, cells, opened
from tests.servers.loopback import Loopback, image_base64, picture
from tests.servers.xinference import XinferenceServer


class TestXinference(ProviderContract):
    provider = "xinference"
    server_type = XinferenceServer
    variables = xinference.KEY_VARIABLES
    families = ("xinference",)
    cost_basis = "free"
    returns_urls = False
    tells_credit = False
    tells_refusals = False
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "1024x768",
        "seed": 7,
        "negative_prompt": "rain",
        "steps": 20,
        "guidance_scale": 4.5,
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1000x1000"}

    # ------------------------------------------------------------------ where it differs

    def test_rate_limit_is_obeyed(self, server: Loopback) -> None:
        """Its 429 does not say how long to wait."""
        fault = self.ask(server, "rate_limit").fault
        assert fault is not None
        assert (fault.kind, fault.retry_after) == ("rate_limit", None)
        assert len(server.calls()) == 1

    def test_missing_key_is_one_sentence(self, server: Loopback, monkeypatch: Any) -> None:
        """Most servers have no keys, so none is missed, and none is sent."""
        monkeypatch.delenv(self.variables[0])
        assert isinstance(server, XinferenceServer)
        server.open_to_all = True
        assert len(ask(self.settings(server), self.params()).pictures) == 1
        assert "authorization" not in server.calls()[0].headers

    # ------------------------------------------------------------------ what is sent

    def test_diffusers_is_told_through_a_json_text(self, server: Loopback) -> None:
        settings = self.settings(
            server,
            "+provider.options.sampler_name=Euler a",
            "+provider.options.clip_skip=1",
            "+provider.extra_body.x_extra=17",
        )
        answer = ask(settings, self.params(**self.samples)).answer
        assert answer is not None
        body = server.calls()[0].json
        kwargs = json.loads(body["kwargs"])
        assert answer.request_id == kwargs.pop("request_id")
        assert kwargs == {
            "seed": 7,
            "negative_prompt": "rain",
            "num_inference_steps": 20,
            "guidance_scale": 4.5,
            "sampler_name": "Euler a",
            "clip_skip": 1,
            "x_extra": 17,
        }
        assert (body["size"], body["response_format"]) == ("1024*768", "b64_json")
        assert answer.params_sent["kwargs.sampler_name"] == "Euler a"
        assert "kwargs.request_id" not in answer.params_sent

    def test_one_seed_per_image(self, server: Loopback) -> None:
        asked = self.ask(server, n=3, seed=5)
        assert [found.seed_sent for found in asked.pictures] == [5, 6, 7]
        assert json.loads(server.calls()[0].json["kwargs"])["seed"] == [5, 6, 7]

    def test_images_of_several_seeds_share_a_call(self, server: Loopback) -> None:
        one, two = (cells(CellParams(prompt="a fox", seed=seed))[0] for seed in (9, 2))

        async def run() -> list[int | None]:
            async with opened(self.settings(server)) as provider:
                answer = await provider.generate(Call("call", (one, two)), Listening())
                return [output.seed_sent for output in answer.outputs]

        assert "seed" in make_provider(self.settings(server)).capabilities().shared_call_keys
        assert asyncio.run(run()) == [9, 2]

    def test_servers_that_take_one_seed_only(self, server: Loopback) -> None:
        assert isinstance(server, XinferenceServer)
        server.seed_lists = False
        settings = self.settings(server, "+provider.options.seed_list=false")
        provider = make_provider(settings)
        assert provider.images_per_call(CellParams(seed=0)) == 1
        assert provider.images_per_call(CellParams()) == 4
        assert ask(settings, self.params(seed=3)).pictures[0].seed_sent == 3

    def test_the_last_seed_goes_round(self, server: Loopback) -> None:
        asked = self.ask(server, n=2, seed=2**31 - 1)
        assert [found.seed_sent for found in asked.pictures] == [2**31 - 1, 0]

    # ------------------------------------------------------------------ progress

    @pytest.fixture
    def slow(self, server: Loopback, monkeypatch: pytest.MonkeyPatch) -> XinferenceServer:
        """A server that answers a call only after it was asked for the progress."""
        assert isinstance(server, XinferenceServer)
        monkeypatch.setattr(xinference, "POLL_S", 0.01)
        answer = server.answer

        async def wait(seen: Any, situation: Any) -> web.StreamResponse:
            while server.is_call(seen) and len(polls(server)) < 3:
                await asyncio.sleep(0.005)
            return await answer(seen, situation)

        monkeypatch.setattr(server, "answer", wait)
        return server

    def test_progress_is_shown_while_it_runs(self, slow: XinferenceServer) -> None:
        asked = ask(self.settings(slow), self.params())
        assert len(asked.pictures) == 1
        assert asked.listener.steps[:2] == [(50, 100)] * 2
        request = json.loads(slow.calls()[0].json["kwargs"])["request_id"]
        assert {seen.path for seen in polls(slow)} == {f"/v1/requests/{request}/progress"}

    @pytest.mark.parametrize("share", [None, "much", {}, 7])
    def test_odd_progress_harms_nothing(self, slow: XinferenceServer, share: Any) -> None:
        slow.share = share
        asked = ask(self.settings(slow), self.params())
        assert len(asked.pictures) == 1
        assert set(asked.listener.steps) <= {(100, 100)}

    # ------------------------------------------------------------------ with images

    def test_beside_an_image_the_negative_prompt_is_a_field(
        self, server: Loopback, tmp_path: Path
    ) -> None:
        image = tmp_path / "in.png"
        image.write_bytes(picture(1, size=(64, 48)))
        settings = self.settings(
            server, "pipeline.name=img2img", "+provider.options.padding_image_to_multiple=16"
        )
        params = self.params(image=str(image), strength=0.4, negative_prompt="rain", seed=0)
        asked = ask(settings, params, 2)
        assert len(asked.pictures) == 2, asked.fault
        seen = server.calls()[0]
        assert seen.path == "/v1/images/variations"
        fields = dict(seen.fields)
        assert fields["negative_prompt"] == "rain"
        kwargs = json.loads(fields["kwargs"])
        assert (kwargs["strength"], kwargs["seed"]) == (0.4, [0, 1])
        assert kwargs["padding_image_to_multiple"] == 16
        assert "negative_prompt" not in kwargs

    def test_several_input_images(self, server: Loopback, tmp_path: Path) -> None:
        paths = [tmp_path / f"{at}.png" for at in range(3)]
        for at, path in enumerate(paths):
            path.write_bytes(picture(at))
        settings = self.settings(
            server,
            "model=xinference/qwen_image_edit",
            "pipeline.name=img2img",
            f"+provider.options.images=['{paths[1]}','{paths[2]}']",
        )
        assert ask(settings, self.params(image=str(paths[0]))).pictures
        assert [upload.data for _, upload in server.calls()[0].files] == [
            path.read_bytes() for path in paths
        ]

    def test_controlnet_that_was_launched_there(self, server: Loopback, tmp_path: Path) -> None:
        edges = tmp_path / "edges.png"
        edges.write_bytes(picture(1))
        settings = self.settings(server, "model=xinference/sd1_5", "pipeline.name=controlnet")
        params = self.params(control_image=str(edges), control_scale=0.8)
        assert ask(settings, params).pictures
        seen = server.calls()[0]
        assert [upload.data for _, upload in seen.files] == [edges.read_bytes()]
        kwargs = json.loads(dict(seen.fields)["kwargs"])
        assert kwargs["controlnet_conditioning_scale"] == 0.8
        assert make_provider(settings).check(self.params())

    def test_controlnet_by_its_name(self, server: Loopback, tmp_path: Path) -> None:
        edges = tmp_path / "edges.png"
        edges.write_bytes(picture(1, size=(500, 300)))
        settings = self.settings(
            server,
            "model=xinference/sd1_5",
            "pipeline.name=controlnet",
            "+provider.options.control_model=canny",
            "+provider.options.control_module=canny",
            "+provider.options.sampler_name=Heun",
        )
        params = self.params(
            control_image=str(edges), control_scale=0.8, seed=0, steps=9, guidance_scale=5
        )
        assert make_provider(settings).images_per_call(params) == 1
        asked = ask(settings, params)
        assert asked.answer is not None, asked.fault
        (seen,) = server.calls()
        assert seen.path == "/sdapi/v1/txt2img"
        (unit,) = seen.json["alwayson_scripts"]["ControlNet"]["args"]
        assert (unit["model"], unit["module"], unit["weight"]) == ("canny", "canny", 0.8)
        assert unit["image"].endswith(base64.b64encode(edges.read_bytes()).decode())
        sent = {name: seen.json[name] for name in ("seed", "steps", "cfg_scale", "sampler_name")}
        assert sent == {"seed": 0, "steps": 9, "cfg_scale": 5, "sampler_name": "Heun"}
        assert (seen.json["width"], seen.json["height"]) == (496, 304)
        assert "496x304" in asked.pictures[0].warnings[0]
        assert asked.answer.params_sent["controlnet.weight"] == 0.8
        assert "image" not in json.dumps(dict(asked.answer.params_sent))
        assert asked.answer.request_id == seen.json["request_id"]

    @pytest.mark.parametrize(
        ("kind", "options", "words"),
        [
            ("text2img", ["images=[a.png]"], "pipeline=img2img"),
            ("text2img", ["mask_blur=3"], "pipeline=inpaint"),
            ("img2img", ["control_model=canny"], "pipeline=controlnet"),
            ("controlnet", ["control_module=canny"], "goes with control_model"),
            ("controlnet", ["control_model=canny", "clip_skip=1"], "not go with control_model"),
        ],
    )
    def test_options_that_do_not_fit(self, kind: str, options: list[str], words: str) -> None:
        chosen = [f"+provider.options.{option}" for option in options]
        with pytest.raises(RequestError, match=words):
            make_provider(self.settings(None, f"pipeline.name={kind}", *chosen))

    def test_only_what_the_model_heeds_is_taken(self) -> None:
        taken = make_provider(self.settings(None, "model=xinference/flux_1_schnell"))
        assert {"guidance_scale", "negative_prompt"}.isdisjoint(taken.capabilities().params)

    # ------------------------------------------------------------------ answers

    def test_jpeg_is_kept_as_jpeg(self, server: Loopback) -> None:
        assert self.ask(server).pictures[0].data[:3] == b"\xff\xd8\xff"

    def test_a_path_on_the_servers_disk_is_no_picture(self, server: Loopback) -> None:
        item = {"url": "/root/.xinference/image/1.jpg", "b64_json": None}
        server.script(lambda _: web.json_response({"created": 1, "data": [item]}))
        asked = self.ask(server)
        assert asked.answer is not None
        assert asked.pictures == []

    @pytest.mark.parametrize(
        ("said", "kind"),
        [
            ("[address=127.0.0.1:1, pid=7] sd does not support inpainting", "invalid"),
            ("Unknown sampler: Euler b", "invalid"),
            ("CUDA out of memory", "transient"),
        ],
    )
    def test_what_goes_wrong_inside_a_model(self, server: Loopback, said: str, kind: str) -> None:
        server.script(lambda _: web.json_response({"detail": said}, status=500))
        fault = self.ask(server).fault
        assert fault is not None
        assert fault.kind == kind

    def test_a_model_that_is_loading_says_when(self, server: Loopback) -> None:
        server.script(
            lambda _: web.json_response(
                {"detail": "loading"}, status=503, headers={"Retry-After": "30"}
            )
        )
        fault = self.ask(server).fault
        assert fault is not None
        assert (fault.kind, fault.retry_after) == ("transient", 30)

    def test_an_aborted_request_may_be_sent_again(self, server: Loopback) -> None:
        server.script(
            lambda _: web.json_response({"detail": "has been cancelled: 1"}, status=409),
            lambda _: web.json_response({"data": [{"b64_json": image_base64("ok")}]}),
        )
        fault = self.ask(server).fault
        assert fault is not None
        assert fault.kind == "transient"


def polls(server: Loopback) -> list[Any]:
    return [seen for seen in server.requests if seen.path.startswith("/v1/requests/")]


def test_identity_ignores_how_seeds_travel(tmp_path: Path) -> None:
    from tests.contract.support import variant

    one, same = tmp_path / "a.png", tmp_path / "b.png"
    for path in (one, same):
        path.write_bytes(picture(1))

    def identity(*options: str) -> object:
        chosen = ("provider=xinference", "pipeline.name=img2img", *options)
        return make_provider(variant(*chosen)).identity()

    assert identity("+provider.options.seed_list=false") == identity()
    assert identity(f"+provider.options.images=['{one}']") == identity(
        f"+provider.options.images=['{same}']"
    )
    assert identity(f"+provider.options.images=['{one}']") != identity()

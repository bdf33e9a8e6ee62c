"""The contract for ``provider=huggingface``: the router's routes, and endpoints of one's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from runner.providers.contract import Missing
from runner.providers.huggingface import KEY_VARIABLES
from runner.providers.huggingface_family.routes import job_of
from runner.providers.registry import make_provider
from tests.contract.hostile import HostileAnswers
from tests.contract.machinery import Machinery
from tests.contract.suite import ProviderContract
from tests.contract.support import ask, at_address, attach, in_request
from tests.servers.huggingface import MODEL, HuggingFaceServer, sent_image
from tests.servers.loopback import Loopback, picture


class HuggingFace(Machinery):
    """What every route shares."""

    provider = "huggingface"
    server_type = HuggingFaceServer
    variables = KEY_VARIABLES
    count_field: ClassVar[str | None] = None
    cost_basis = "unknown"

    @pytest.fixture(autouse=True)
    def _hub(self, server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_ENDPOINT", server.base_url)


class TestHFInference(HuggingFace, ProviderContract):
    """A raw picture for an answer: the wire of hf-inference and of dedicated endpoints."""

    overrides: ClassVar[tuple[str, ...]] = ("provider.options.provider=hf-inference",)
    families = ("huggingface",)
    returns_urls = False
    tells_refusals = False
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "768x512",
        "steps": 4,
        "seed": 7,
        "output_format": "webp",
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "770x512"}

    def test_what_was_sent(self, server: Loopback) -> None:
        assert self.ask(server, size="768x512", steps=4, seed=0).pictures
        (seen,) = server.calls()
        assert seen.path == f"/hf-inference/models/{MODEL}"
        assert seen.json == {
            "inputs": "a red lighthouse",
            "parameters": {"num_inference_steps": 4, "width": 768, "height": 512, "seed": 0},
        }

    def test_who_is_billed(self, server: Loopback) -> None:
        settings = self.settings(server, "+provider.options.bill_to=my-org")
        assert ask(settings, self.params()).pictures
        assert server.calls()[0].headers["x-hf-bill-to"] == "my-org"
        billed, plain = make_provider(settings), make_provider(self.settings(server))
        assert billed.identity() == plain.identity()


class TestReplicateRoute(HuggingFace, ProviderContract):
    """A job for an answer."""

    overrides: ClassVar[tuple[str, ...]] = (
        "provider.options.provider=replicate",
        "+provider.options.provider_model=black-forest-labs/flux-schnell",
        "model.name=black-forest-labs/flux-schnell",
    )
    has_jobs = True
    samples: ClassVar[Mapping[str, Any]] = {"size": "768x512", "steps": 4, "seed": 7}


class TestFalRoute(HuggingFace, HostileAnswers):
    overrides: ClassVar[tuple[str, ...]] = ("provider.options.provider=fal-ai",)


class TestNscaleRoute(HuggingFace, HostileAnswers):
    overrides: ClassVar[tuple[str, ...]] = ("provider.options.provider=nscale",)


class TestTogetherRoute(HuggingFace, HostileAnswers):
    overrides: ClassVar[tuple[str, ...]] = ("provider.options.provider=together",)


class TestWavespeedRoute(HuggingFace, HostileAnswers):
    overrides: ClassVar[tuple[str, ...]] = ("provider.options.provider=wavespeed",)


class TestZaiRoute(HuggingFace, HostileAnswers):
    overrides: ClassVar[tuple[str, ...]] = ("provider.options.provider=zai-org",)


@pytest.mark.parametrize("address", ["http://[::1", None, 7, ["x"]])
def test_an_address_that_is_none_is_no_crash(address: Any) -> None:
    fact = job_of("replicate", {"id": "p", "urls": {"get": address}})
    assert fact == {"job": "p", "path": "/v1/predictions/p"}
    assert job_of("fal-ai", {"request_id": "p", "response_url": address}) == {
        "job": "p",
        "path": "",
    }
    assert job_of("wavespeed", {"data": {"id": "p", "urls": {"get": address}}}) == {
        "job": "p",
        "path": "",
    }


class TestRoutes(HuggingFace):
    """The other routes: each its own body, its own answer."""

    @pytest.mark.parametrize(
        ("route", "body"),
        [
            ("together", {"steps": 4, "width": 768, "height": 512, "seed": 7}),
            ("nscale", {"size": "768x512", "seed": 7}),
            (
                "fal-ai",
                {
                    "num_inference_steps": 4,
                    "image_size": {"width": 768, "height": 512},
                    "seed": 7,
                },
            ),
            ("wavespeed", {"num_inference_steps": 4, "width": 768, "height": 512, "seed": 7}),
            ("zai-org", {"size": "768x512"}),
        ],
    )
    def test_a_picture(self, server: Loopback, route: str, body: Mapping[str, Any]) -> None:
        settings = self.settings(server, f"provider.options.provider={route}")
        taken = make_provider(settings).capabilities().params
        wanted = {"size": "768x512", "steps": 4, "seed": 7}
        params = {key: value for key, value in wanted.items() if key in taken}
        asked = ask(settings, self.params(**params))
        assert len(asked.pictures) == 1, asked.fault
        assert asked.pictures[0].seed_sent == params.get("seed")
        (seen,) = server.calls()
        rest = {"prompt", "model", "response_format"}
        assert {k: v for k, v in seen.json.items() if k not in rest} == body
        assert asked.answer is not None
        assert asked.answer.params_sent["provider"] == route

    @pytest.mark.parametrize("route", ["wavespeed", "zai-org"])
    def test_a_job_is_taken_up_again(self, server: Loopback, route: str) -> None:
        settings = self.settings(server, f"provider.options.provider={route}")
        first = ask(settings, self.params())
        (fact,) = first.listener.notes
        assert server.key not in json.dumps(fact)
        again = attach(settings, self.params(), json.loads(json.dumps(fact)))
        assert [p.data for p in again.pictures] == [p.data for p in first.pictures]
        assert len(server.calls()) == 1

    @pytest.mark.parametrize("route", ["wavespeed", "zai-org"])
    def test_a_job_that_failed(self, server: Loopback, route: str) -> None:
        server.script("job_failed")
        asked = ask(self.settings(server, f"provider.options.provider={route}"), self.params())
        assert asked.fault is not None
        assert asked.fault.kind == "transient"

    def test_a_flagged_picture_is_refused(self, server: Loopback) -> None:
        server.script("refused_late")
        answer = ask(
            self.settings(server, "provider.options.provider=fal-ai"), self.params()
        ).answer
        assert answer is not None
        (missing,) = answer.outputs
        assert isinstance(missing, Missing)
        assert missing.outcome == "refused"

    def test_an_edit_in_the_queue(self, server: Loopback, tmp_path: Path) -> None:
        image = tmp_path / "in.png"
        image.write_bytes(picture(3, size=(64, 48)))
        settings = self.settings(
            server,
            "provider.options.provider=fal-ai",
            "model=huggingface/flux_1_kontext_dev",
            "pipeline.name=img2img",
        )
        params = self.params(image=str(image), size="768x512", seed=7)
        asked = ask(settings, params)
        assert len(asked.pictures) == 1, asked.fault
        (seen,) = server.calls()
        assert seen.query == {"_subdomain": "queue"}
        assert seen.json["image_url"].startswith("data:image/png;base64,")
        assert seen.json["image_size"] == {"width": 768, "height": 512}
        assert in_request(seen, image.read_bytes())
        (fact,) = asked.listener.notes
        again = attach(settings, params, fact)
        assert [p.data for p in again.pictures] == [p.data for p in asked.pictures]

    def test_auto_takes_the_first_that_serves_the_model(self, server: Loopback) -> None:
        asked = ask(self.settings(server, "provider.options.provider=auto"), self.params())
        assert asked.answer is not None, asked.fault
        assert asked.answer.params_sent["provider"] == "fal-ai"
        lookups = [seen for seen in server.requests if seen.path.startswith("/api/models/")]
        assert len(lookups) == 1

    def test_a_model_that_the_route_does_not_serve(self, server: Loopback, tmp_path: Path) -> None:
        settings = self.settings(
            server,
            "provider.options.provider=together",
            "model=huggingface/flux_1_kontext_dev",
            "pipeline.name=img2img",
        )
        image = tmp_path / "in.png"
        image.write_bytes(picture(1))
        fault = ask(settings, self.params(image=str(image))).fault
        assert fault is not None
        assert fault.kind == "gone"
        assert "fal-ai" in fault.message
        missing = self.settings(
            server, "provider.options.provider=together", "model.name=nobody/nothing"
        )
        fault = ask(missing, self.params()).fault
        assert fault is not None
        assert fault.kind == "gone"
        assert server.calls() == []

    def test_the_routes_own_id_needs_no_look_up(self, server: Loopback) -> None:
        settings = self.settings(
            server,
            "provider.options.provider=replicate",
            "+provider.options.provider_model=black-forest-labs/flux-schnell",
            "model.name=somebody/something",
        )
        assert ask(settings, self.params()).pictures
        assert not [seen for seen in server.requests if seen.path.startswith("/api/")]

    # ------------------------------------------------------------------ endpoints

    def test_an_endpoint_of_ones_own(self, server: Loopback, tmp_path: Path) -> None:
        image = tmp_path / "in.jpg"
        image.write_bytes(picture(3, "JPEG", (64, 48)))
        settings = self.settings(None, "model=huggingface/endpoint", "pipeline.name=img2img")
        settings = at_address(settings, server.base_url + "/my/endpoint")
        params = self.params(image=str(image), strength=0.6, seed=3, size="768x512")
        asked = ask(settings, params)
        assert len(asked.pictures) == 1, asked.fault
        (seen,) = server.calls()
        assert seen.path == "/my/endpoint"
        assert sent_image(seen) == image.read_bytes()
        assert seen.json["parameters"] == {
            "prompt": "a red lighthouse",
            "strength": 0.6,
            "target_size": {"width": 768, "height": 512},
            "seed": 3,
        }

    def test_an_open_endpoint_needs_no_token(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in KEY_VARIABLES:
            monkeypatch.delenv(name, raising=False)
        settings = self.settings(None, "model=huggingface/endpoint")
        settings = at_address(settings, server.base_url + "/open/endpoint")
        assert ask(settings, self.params()).pictures

    def test_a_model_that_loads_is_worth_another_try(self, server: Loopback) -> None:
        from aiohttp import web

        body = {"error": "Model is currently loading", "estimated_time": 20.0}
        server.script(lambda _: web.json_response(body, status=503))
        settings = self.settings(server, "provider.options.provider=hf-inference")
        fault = ask(settings, self.params()).fault
        assert fault is not None
        assert fault.kind == "transient"
        assert "loading" in fault.message

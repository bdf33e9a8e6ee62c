"""The contract for ``provider=litellm_proxy``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web

from runner.providers.litellm_proxy import ADDRESS_VARIABLE, KEY_VARIABLES
from runner.providers.registry import make_provider
from runner.settings.errors import RequestError
from tests.contract.suite import ProviderContract
from tests.contract.support import ask, variant
from tests.servers.litellm_proxy import LiteLLMProxyServer, error
from tests.servers.loopback import Loopback, image_base64, picture


@pytest.fixture(autouse=True)
def _no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ADDRESS_VARIABLE, raising=False)


class TestLiteLLMProxy(ProviderContract):
    provider = "litellm_proxy"
    server_type = LiteLLMProxyServer
    variables = KEY_VARIABLES
    key_required = False
    families = ("litellm_proxy",)
    cost_basis = "reported"
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "1536x1024",
        "quality": "low",
        "background": "opaque",
        "output_format": "webp",
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1000x1000"}

    def test_the_header_says_what_it_cost(self, server: Loopback) -> None:
        answer = self.ask(server, n=2).answer
        assert answer is not None
        assert answer.cost_usd == pytest.approx(2 * 0.0527)
        assert answer.request_id == "call-2"

    def test_without_the_header_it_is_the_price_book(self, server: LiteLLMProxyServer) -> None:
        server.cost_usd = None
        answer = self.ask(server, size="1024x1024", quality="low").answer
        assert answer is not None
        assert answer.cost_basis == "estimate"
        assert answer.cost_usd == pytest.approx(0.0059, abs=2e-4)

    @pytest.mark.parametrize("said", ["None", "", "-1", "inf", "nan"])
    def test_odd_costs_are_no_costs(self, server: Loopback, said: str) -> None:
        body = {"created": 1, "data": [{"b64_json": image_base64("ok")}]}
        headers = {"x-litellm-response-cost": said}
        server.script(lambda _: web.json_response(body, headers=headers))
        answer = self.ask(server).answer
        assert answer is not None
        assert answer.cost_basis == "estimate"

    def test_an_edit_with_several_images(self, server: Loopback, tmp_path: Path) -> None:
        image = tmp_path / "in.png"
        image.write_bytes(picture(1))
        settings = self.settings(
            server, "pipeline.name=inpaint", f"+provider.options.images=['{image}']"
        )
        params = self.params(image=str(image), mask=str(image))
        assert ask(settings, params).pictures
        (seen,) = server.calls()
        assert [name for name, _ in seen.files] == ["image[]", "image[]", "mask"]
        assert "response_format" not in dict(seen.fields)

    @pytest.mark.parametrize(
        ("status", "kind", "message", "fault"),
        [
            (400, "None", "litellm.ContentPolicyViolationError: no", "refused"),
            (429, "throttling_error", "You exceeded your current quota", "auth"),
            (400, "no_db_connection", "No connected db.", "auth"),
            (429, "rate_limit_error", "too many", "rate_limit"),
        ],
    )
    def test_errors_whose_code_was_lost(
        self, server: Loopback, status: int, kind: str, message: str, fault: str
    ) -> None:
        code, body = error(status, kind, message)
        server.script(lambda _: web.json_response(body, status=code))
        found = self.ask(server).fault
        assert found is not None
        assert found.kind == fault, found.message

    def test_it_does_not_stream(self) -> None:
        with pytest.raises(RequestError, match="partial_images"):
            make_provider(
                self.settings(None, *self._any_address(), "+provider.options.partial_images=1")
            )

    def test_the_address_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(ADDRESS_VARIABLE, "https://proxy.example/v1")
        assert make_provider(variant("provider=litellm_proxy")).quota_key().count("proxy.example")

    def test_other_models_take_more_keys(self) -> None:
        settings = self.settings(None, *self._any_address(), "model=litellm_proxy/any")
        params = make_provider(settings).capabilities().params
        assert {"seed", "negative_prompt", "steps"} <= params.keys()

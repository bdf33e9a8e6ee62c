"""The contract for ``provider=azure_openai``: the v1 endpoint, and the dated one per deployment."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from runner.providers import azure_openai
from runner.providers.azure_openai import KEY_VARIABLES, TOKEN_VARIABLES
from runner.providers.registry import make_provider
from runner.settings.errors import PrerequisiteError, RequestError
from tests.contract.suite import ProviderContract
from tests.contract.support import ask, ask_open, opened, variant
from tests.servers.azure_openai import AzureServer, DatedAzureServer
from tests.servers.loopback import Loopback, picture

DATED = "+provider.options.api_version=2025-04-01-preview"


@pytest.fixture(autouse=True)
def _no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(azure_openai.ADDRESS_VARIABLE, raising=False)
    monkeypatch.setattr(azure_openai, "has_identity", lambda: False)


class TestAzureOpenAI(ProviderContract):
    provider = "azure_openai"
    server_type = AzureServer
    variables = KEY_VARIABLES + TOKEN_VARIABLES
    families = ("azure_openai",)
    retired = "azure_openai/gpt_image_1"
    returns_urls = False
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "1536x1024",
        "quality": "low",
        "background": "opaque",
        "output_format": "webp",
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1000x1000"}

    def test_key_and_token_have_headers_of_their_own(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv(KEY_VARIABLES[0])
        for name in self.variables:
            monkeypatch.setenv(name, server.key)
            assert ask(self.settings(server), self.params()).pictures
            monkeypatch.delenv(name)
        sent = [
            (seen.headers.get("api-key"), seen.headers.get("authorization"))
            for seen in server.calls()
        ]
        key, token = (server.key, None), (None, f"Bearer {server.key}")
        assert sent == [key, key, token, token]

    def test_a_token_in_a_variable_of_your_own(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MY_TOKEN", server.key)
        chosen = ("provider.api_key_env=MY_TOKEN", "+provider.options.auth=entra")
        assert ask(self.settings(server, *chosen), self.params()).pictures
        assert server.calls()[0].headers["authorization"] == f"Bearer {server.key}"

    def test_deployment(self, server: Loopback, tmp_path: Path) -> None:
        image = tmp_path / "in.png"
        image.write_bytes(picture(1))
        settings = self.settings(
            server,
            "pipeline.name=img2img",
            "model.name=my-own-name",
            "+provider.options.deployment=gpt-image-2",
            f"+provider.options.images=['{image}','{image}']",
        )
        asked = ask(settings, self.params(image=str(image)), 2)
        assert len(asked.pictures) == 2, asked.fault
        assert [name for name, _ in server.calls()[0].files] == ["image[]"] * 3
        assert "my-own-name" not in str(server.calls()[0])

    def test_partial_images(self, server: Loopback) -> None:
        asked = ask(self.settings(server, "+provider.options.partial_images=1"), self.params())
        assert sorted(asked.pictures[0].extras) == ["partial-0.png"]

    async def _two_calls(self, server: Loopback) -> list[Any]:
        async with opened(self.settings(server)) as provider:
            return [await ask_open(provider, self.params()) for _ in range(2)]

    def test_tokens_of_azure_identity(
        self, server: AzureServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The real package is not needed for this: what is used of it is its documented surface."""
        import asyncio

        server.token = "an-entra-token-0123456789"
        asked_for: list[str] = []
        closed: list[bool] = []

        class Credential:
            def get_token(self, *scopes: str) -> SimpleNamespace:
                asked_for.extend(scopes)
                return SimpleNamespace(token=server.token, expires_on=int(time.time()) + 3600)

            def close(self) -> None:
                closed.append(True)

        identity = ModuleType("azure.identity")
        identity.DefaultAzureCredential = Credential  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "azure", ModuleType("azure"))
        monkeypatch.setitem(sys.modules, "azure.identity", identity)
        monkeypatch.setattr(azure_openai, "has_identity", lambda: True)
        monkeypatch.delenv(KEY_VARIABLES[0])
        server.script("ok", "invalid")
        good, bad = asyncio.run(self._two_calls(server))
        assert good.pictures, good.fault
        assert bad.fault is not None
        assert server.token not in good.text() + bad.text()
        assert asked_for == ["https://cognitiveservices.azure.com/.default"]
        assert closed == [True]

    def test_no_token_stops_the_provider(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Credential:
            def __init__(self) -> None:
                raise RuntimeError("az login, please")

        identity = ModuleType("azure.identity")
        identity.DefaultAzureCredential = Credential  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "azure.identity", identity)
        monkeypatch.setattr(azure_openai, "has_identity", lambda: True)
        monkeypatch.delenv(KEY_VARIABLES[0])
        fault = ask(self.settings(server), self.params()).fault
        assert fault is not None
        assert fault.kind == "auth"
        assert "az login" in fault.message
        assert server.requests == []

    def test_a_key_is_needed_where_a_key_is_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(azure_openai, "has_identity", lambda: True)
        provider = make_provider(
            self.settings(None, *self._any_address(), "+provider.options.auth=api_key")
        )
        with pytest.raises(PrerequisiteError, match=KEY_VARIABLES[0]):
            provider.check_ready()


class TestDatedAzureOpenAI(TestAzureOpenAI):
    """The same promises at the older addresses."""

    server_type = DatedAzureServer
    overrides = (DATED,)


@pytest.mark.parametrize(
    ("address", "version", "url"),
    [
        ("https://r.openai.azure.com", None, "/openai/v1"),
        ("https://r.openai.azure.com/openai", None, "/openai/v1"),
        ("https://r.services.ai.azure.com/openai/v1/", None, "/openai/v1"),
        ("https://r.openai.azure.com", "preview", "/openai/v1"),
        ("https://r.openai.azure.com", "2025-04-01-preview", "/openai/deployments/my%2Fown"),
        ("https://gate.example/x/openai", "2025-04-01", "/x/openai/deployments/my%2Fown"),
    ],
)
def test_addresses(
    address: str, version: str | None, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", address)
    chosen = () if version is None else (f"+provider.options.api_version={version}",)
    settings = variant("provider=azure_openai", "+provider.options.deployment=my/own", *chosen)
    provider = make_provider(settings)
    assert isinstance(provider, azure_openai.AzureOpenAIProvider)
    whole = provider.http.base.text + provider.images.dialect.prefix
    assert whole.partition(".com")[2] == url or whole.endswith(url)
    assert dict(provider.images.dialect.query) == ({"api-version": version} if version else {})


def test_a_dated_version_at_the_v1_address() -> None:
    with pytest.raises(RequestError, match="api_version"):
        make_provider(
            variant("provider=azure_openai", "provider.base_url=https://r.example/openai/v1", DATED)
        )


def test_where_a_request_goes_does_not_change_the_cell() -> None:
    def identity(*options: str) -> Mapping[str, Any]:
        address = "provider.base_url=https://r.example"
        return make_provider(variant("provider=azure_openai", address, *options)).identity()

    assert identity() == identity(DATED, "+provider.options.deployment=x")
    assert identity() != identity("+provider.options.moderation=low")

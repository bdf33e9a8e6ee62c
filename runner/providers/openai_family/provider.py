"""The provider around the Images API: what all services that speak it have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from runner.providers.contract import (
    Answer,
    Call,
    Capabilities,
    Listener,
    Price,
    Provider,
)
from runner.providers.net import Http
from runner.providers.openai_family.client import make_client
from runner.providers.openai_family.images import ImagesApi
from runner.settings.cell import CellParams, Json
from runner.settings.schema import VariantSettings

if TYPE_CHECKING:
    import openai


def sdk_http(settings: VariantSettings, **how: Any) -> Http:
    """The way to an API that is spoken through the OpenAI SDK; arguments are those of Http."""
    return Http(settings, extra="openai", modules=("openai", "aiohttp", "pybase64"), **how)


class ImagesProvider(Provider):
    """A service that speaks the Images API. A service's own class says how it is reached.

    Args:
        settings: The variant.
        http: Base URL, key, downloads.
        images: What is sent and read.
    """

    http: Http

    def __init__(self, settings: VariantSettings, http: Http, images: ImagesApi) -> None:
        super().__init__(settings)
        self.http = http
        self.images = images
        self._client: openai.AsyncOpenAI | None = None

    def capabilities(self) -> Capabilities:
        """By the model's traits."""
        return self.images.capabilities()

    def images_per_call(self, params: CellParams) -> int:
        """As many as the model makes, one for SVG and streams."""
        return self.images.images_per_call(params)

    def identity(self) -> Mapping[str, Json]:
        """Like the default, with the content of option files instead of their paths."""
        return {**super().identity(), "options": self.images.identity()}

    def quota_key(self) -> str:
        """Limits are per model, and per key."""
        return self.http.quota_key(self.images.dialect.model or self.settings.model.name)

    def check(self, params: CellParams) -> Sequence[str]:
        """Sizes, and rules between formats and options."""
        return self.images.check(params)

    def estimate(self, params: CellParams) -> Price:
        """By the token formula of the model, or its price per image."""
        return self.images.estimate(params)

    def versions(self) -> Mapping[str, str]:
        """The SDK and its transport."""
        return {name: version(name) for name in ("openai", "aiohttp")}

    def make_client(self) -> openai.AsyncOpenAI:
        """The SDK's client for this service."""
        return make_client(self.http)

    async def open(self) -> None:
        """Import the SDK and make its client."""
        await self.http.open()
        self._client = self.make_client()

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """Generations, or edits with input images."""
        if self._client is None:
            raise RuntimeError("the provider is not open")
        return await self.images.generate(self._client, call, listener)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None
        await self.http.close()

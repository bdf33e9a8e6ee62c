"""OpenAI's Images API, through the OpenAI SDK on aiohttp.

``python -m runner provider=openai prompt="a lighthouse" size=1536x1024 quality=low``
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, ClassVar

from runner.providers.contract import (
    Answer,
    Call,
    Capabilities,
    Listener,
    Price,
    Provider,
    ProviderError,
)
from runner.providers.net import Http
from runner.providers.openai_family.client import make_client
from runner.providers.openai_family.images import ImagesApi
from runner.providers.openai_family.options import OpenAIOptions
from runner.settings.cell import CellParams, Json
from runner.settings.schema import VariantSettings

if TYPE_CHECKING:
    import openai

BASE_URL = "https://api.openai.com/v1"
KEY_VARIABLES = ("OPENAI_API_KEY",)


class OpenAIProvider(Provider):
    """OpenAI, and its regional hosts through ``provider.base_url``."""

    name: ClassVar[str] = "openai"
    options_type = OpenAIOptions

    def __init__(self, settings: VariantSettings) -> None:
        super().__init__(settings)
        self.http = Http(
            settings,
            base_url=BASE_URL,
            variables=KEY_VARIABLES,
            extra="openai",
            modules=("openai", "aiohttp", "pybase64"),
        )
        self.images = ImagesApi(settings, self.http)
        self._client: openai.AsyncOpenAI | None = None

    def capabilities(self) -> Capabilities:
        """By the model's traits."""
        return self.images.capabilities()

    def images_per_call(self, params: CellParams) -> int:
        """Ten, one for SVG and streams."""
        return self.images.images_per_call(params)

    def identity(self) -> Mapping[str, Json]:
        """Like the default, with the content of option files instead of their paths."""
        return {**super().identity(), "options": self.images.identity()}

    def quota_key(self) -> str:
        """Limits are per model, and per key."""
        keys = ",".join(self.http.keys.variables)
        return f"{self.name}:{self.http.base.origin}:{self.settings.model.name}:{keys}"

    def check(self, params: CellParams) -> Sequence[str]:
        """Sizes, and rules between formats and options."""
        return self.images.check(params)

    def check_ready(self) -> None:
        """The SDK and the key."""
        self.http.check_ready()

    def estimate(self, params: CellParams) -> Price:
        """By the token formula of the model, or its price per image."""
        return self.images.estimate(params)

    def classify(self, error: Exception) -> ProviderError:
        """What the SDK raises is classified where it is raised; the rest is a broken wire."""
        return self.http.classify(error)

    def versions(self) -> Mapping[str, str]:
        """The SDK and its transport."""
        return {name: version(name) for name in ("openai", "aiohttp")}

    async def open(self) -> None:
        """Import the SDK and make its client."""
        await self.http.open()
        options = self.images.options
        self._client = make_client(
            self.http, organization=options.organization, project=options.project
        )

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

"""Google AI Studio: Gemini's image models with an API key, through google-genai.

``python -m runner provider=google_ai_studio prompt="a lighthouse" size=16:9@2K``
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
)
from runner.providers.google_family.client import RULES, make_client
from runner.providers.google_family.gemini import GeminiImages, GeminiOptions
from runner.providers.net import Http
from runner.settings.cell import CellParams, Json
from runner.settings.load import validate
from runner.settings.schema import VariantSettings

if TYPE_CHECKING:
    from google import genai

BASE_URL = "https://generativelanguage.googleapis.com"
KEY_VARIABLES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")


class GoogleAIStudioProvider(Provider):
    """Google AI Studio."""

    name: ClassVar[str] = "google_ai_studio"
    options_type = GeminiOptions
    http: Http

    def __init__(self, settings: VariantSettings) -> None:
        super().__init__(settings)
        options = validate(GeminiOptions, settings.provider.options, "provider.options")
        self.http = Http(
            settings,
            base_url=BASE_URL,
            variables=KEY_VARIABLES,
            auth=lambda key: {"x-goog-api-key": key},
            rules=RULES,
            extra="google",
            modules=("google.genai", "aiohttp", "pybase64"),
        )
        self.images = GeminiImages(settings, self.http, options)
        self._client: genai.Client | None = None

    def capabilities(self) -> Capabilities:
        """By the model's traits."""
        return self.images.capabilities()

    def identity(self) -> Mapping[str, Json]:
        """Like the default, with the content of option files instead of their paths."""
        return {**super().identity(), "options": self.images.identity()}

    def quota_key(self) -> str:
        """Limits are per model and project, and a key belongs to one project."""
        return self.http.quota_key(self.settings.model.name)

    def check(self, params: CellParams) -> Sequence[str]:
        """Sizes, and the input image of an edit."""
        return self.images.check(params)

    def estimate(self, params: CellParams) -> Price:
        """By the tokens of a picture."""
        return self.images.estimate(params)

    def versions(self) -> Mapping[str, str]:
        """The SDK and what it sends through."""
        return {name: version(name) for name in ("google-genai", "aiohttp")}

    async def open(self) -> None:
        """Make the session and the SDK's client."""
        await self.http.open()
        # The SDK insists on a key; the real one is added by the session.
        self._client = make_client(self.http, self.settings, vertexai=False, api_key="none")

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """One prompt, one picture."""
        if self._client is None:
            raise RuntimeError("the provider is not open")
        return await self.images.generate(self._client, call)

    async def close(self) -> None:
        """Close the session."""
        if self._client is not None:
            self._client.close()
            self._client = None
        await self.http.close()

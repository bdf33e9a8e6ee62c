"""Vertex AI: Gemini's image models, Imagen, and models that you deployed yourself.

``python -m runner provider=vertex prompt="a lighthouse" provider.options.project=my-project``
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from runner.providers.contract import (
    Answer,
    Call,
    Capabilities,
    Listener,
    Price,
    Provider,
)
from runner.providers.google_family.client import RULES, make_client
from runner.providers.google_family.credentials import VARIABLE, GoogleCredentials
from runner.providers.google_family.endpoint import EndpointImages, make_predict
from runner.providers.google_family.gemini import GeminiImages, GeminiOptions
from runner.providers.google_family.imagen import ImagenImages, ImagenOptions
from runner.providers.net import Http, given
from runner.settings.cell import CellParams, Json
from runner.settings.errors import RequestError, listed
from runner.settings.load import validate
from runner.settings.schema import Section, VariantSettings

if TYPE_CHECKING:
    from google import genai

APIS = ("gemini", "imagen", "endpoint")


class VertexOptions(Section):
    """Where the model runs, and the native parameters of each kind of model."""

    project: str | None = Field(
        None, description="Google Cloud project; GOOGLE_CLOUD_PROJECT by default"
    )
    location: str | None = Field(
        None, description="region, or global; GOOGLE_CLOUD_LOCATION by default"
    )
    labels: dict[str, str] = Field(default_factory=dict, description="labels for the bill")
    gemini: GeminiOptions = Field(
        default_factory=GeminiOptions, description="for Gemini's image models"
    )
    imagen: ImagenOptions = Field(default_factory=ImagenOptions, description="for Imagen")


class VertexProvider(Provider):
    """Vertex AI, with application default credentials."""

    name: ClassVar[str] = "vertex"
    options_type = VertexOptions
    http: Http

    def __init__(self, settings: VariantSettings) -> None:
        super().__init__(settings)
        self.options = validate(VertexOptions, settings.provider.options, "provider.options")
        self.location = (
            self.options.location or os.environ.get("GOOGLE_CLOUD_LOCATION", "").strip() or "global"
        )
        self.http = Http(
            settings,
            base_url=_host(self.location),
            variables=(VARIABLE,),
            key_required=False,
            auth=lambda _: {},  # the variable names a file, which goes nowhere
            rules=RULES,
            extra="vertex",
            modules=("google.cloud.aiplatform_v1", "google.genai", "aiohttp", "pybase64"),
        )
        self.credentials = GoogleCredentials(self.http, self.options.project)
        self.api = self._make_api()
        self._client: genai.Client | None = None
        self._predict: Any = None

    def _make_api(self) -> GeminiImages | ImagenImages | EndpointImages:
        api = self.settings.model.traits.get("api", "gemini")
        if api not in APIS:
            raise RequestError(f"model.traits.api={api}: it is one of {listed(APIS)}")
        for other in ("gemini", "imagen"):
            if other != api and given(getattr(self.options, other)):
                raise RequestError(
                    f"provider.options.{other}: model {self.settings.model.name} is no {other} "
                    f"model; its options are under provider.options.{api}"
                )
        if api == "gemini":
            return GeminiImages(
                self.settings,
                self.http,
                self.options.gemini,
                place="provider.options.gemini",
                formats=True,
            )
        if api == "imagen":
            return ImagenImages(self.settings, self.http, self.options.imagen)
        return EndpointImages(self.settings, self.http)

    def capabilities(self) -> Capabilities:
        """By the model's traits."""
        return self.api.capabilities()

    def identity(self) -> Mapping[str, Json]:
        """Like the default, without who is billed and where it runs."""
        return {**super().identity(), "options": self.api.identity()}

    def quota_key(self) -> str:
        """Limits are per project, region and model."""
        project = self.options.project or ""
        return self.http.quota_key(project, self.location, self.settings.model.name)

    def check(self, params: CellParams) -> Sequence[str]:
        """Sizes and input files."""
        return self.api.check(params)

    def check_ready(self) -> None:
        """The SDKs, the credentials and the project."""
        self.http.check_ready()
        self.credentials.check_ready()

    def estimate(self, params: CellParams) -> Price:
        """By the tokens or the number of pictures; a deployed model is paid by the hour."""
        return self.api.estimate(params)

    def versions(self) -> Mapping[str, str]:
        """The SDKs and what they send through."""
        names = ("google-cloud-aiplatform", "google-genai", "google-auth", "aiohttp")
        return {name: version(name) for name in names}

    async def open(self) -> None:
        """Load the credentials, make the session and the SDK's client."""
        await self.http.open()
        await self.credentials.open()
        if isinstance(self.api, EndpointImages):
            self._predict = make_predict(self.http, self.credentials.headers)
            return
        from google.oauth2.credentials import Credentials

        # The SDK insists on credentials; the session adds the real token.
        self._client = make_client(
            self.http,
            self.settings,
            authorize=self.credentials.headers,
            vertexai=True,
            project=self.credentials.project,
            location=self.location,
            credentials=Credentials("none"),  # type: ignore[no-untyped-call]
        )

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """One call of the model's own API."""
        if isinstance(self.api, EndpointImages):
            project = self.credentials.project
            return await self.api.generate(self._predict, call, project, self.location)
        if self._client is None:
            raise RuntimeError("the provider is not open")
        return await self.api.generate(self._client, call, self.options.labels)

    async def close(self) -> None:
        """Close the session."""
        if self._client is not None:
            self._client.close()
            self._client = None
        await self.http.close()


def _host(location: str) -> str:
    """Google's address for a region, a group of regions, or the whole world."""
    if location == "global":
        return "https://aiplatform.googleapis.com"
    if location in {"us", "eu"}:
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"

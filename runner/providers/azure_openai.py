"""OpenAI's image models on Azure: the v1 endpoint, and the older one per deployment.

``python -m runner provider=azure_openai prompt="a lighthouse" quality=low``
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote, urlsplit

from runner.providers.net import bearer
from runner.providers.openai_family.client import make_client
from runner.providers.openai_family.entra import EntraTokens, has_identity
from runner.providers.openai_family.images import Dialect, ImagesApi
from runner.providers.openai_family.options import AzureOptions
from runner.providers.openai_family.provider import ImagesProvider, sdk_http
from runner.settings.errors import RequestError
from runner.settings.load import validate
from runner.settings.schema import VariantSettings

if TYPE_CHECKING:
    import openai

ADDRESS_VARIABLE = "AZURE_OPENAI_ENDPOINT"
KEY_VARIABLES = ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY")
TOKEN_VARIABLES = ("AZURE_OPENAI_AD_TOKEN", "AZURE_AD_TOKEN")
VARIABLES = {
    "auto": KEY_VARIABLES + TOKEN_VARIABLES,
    "api_key": KEY_VARIABLES,
    "entra": TOKEN_VARIABLES,
}


class AzureOpenAIProvider(ImagesProvider):
    """A resource of Azure OpenAI or Microsoft Foundry."""

    name: ClassVar[str] = "azure_openai"
    options_type = AzureOptions

    def __init__(self, settings: VariantSettings) -> None:
        self.options = validate(AzureOptions, settings.provider.options, "provider.options")
        http = sdk_http(
            settings,
            base_url=None,
            address_variable=ADDRESS_VARIABLE,
            variables=VARIABLES[self.options.auth],
            key_required=self.options.auth == "api_key" or not has_identity(),
            auth=self._key_headers,
        )
        dialect = _dialect(http.base.text, settings.model.name, self.options)
        super().__init__(settings, http, ImagesApi(settings, http, self.options, dialect))
        self._tokens = EntraTokens(http, self.options.scope)

    def _key_headers(self, key: str) -> Mapping[str, str]:
        """The resource's key has a header of its own; a token is a bearer token."""
        token = self.options.auth == "entra" or self.http.keys.variable in TOKEN_VARIABLES
        return bearer(key) if token else {"api-key": key}

    def make_client(self) -> openai.AsyncOpenAI:
        """The plain client: the SDK's Azure client knows only the older addresses of images."""
        return make_client(self.http, authorize=self._authorize)

    async def _authorize(self) -> Mapping[str, str]:
        return self.http.key_headers() or bearer(await self._tokens.read())

    async def close(self) -> None:
        """Close the connections, and what gave the tokens."""
        await super().close()
        await self._tokens.close()


def _dialect(base_url: str, model: str, options: AzureOptions) -> Dialect:
    """The path below the user's address, which may end at the host, ``/openai`` or ``/openai/v1``.

    Raises:
        RequestError: A dated version with the address of the v1 endpoint.
    """
    path, version = urlsplit(base_url).path, options.api_version
    deployment = options.deployment or model
    query = {} if version is None else {"api-version": version}
    if version in (None, "v1", "preview"):
        ends = {"/v1": "", "/openai": "/v1"}
        prefix = next((ends[end] for end in ends if path.endswith(end)), "/openai/v1")
        return Dialect(prefix=prefix, query=query, model=deployment)
    if path.endswith("/v1"):
        raise RequestError(
            f"provider.options.api_version={version}: dated versions belong to the endpoint per "
            "deployment; leave /openai/v1 out of the address, or api_version out of the options"
        )
    root = "" if path.endswith("/openai") else "/openai"
    prefix = f"{root}/deployments/{quote(deployment, safe='')}"
    return Dialect(prefix=prefix, query=query, model=deployment, model_in_path=True)

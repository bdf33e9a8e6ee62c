"""OpenAI's Images API, through the OpenAI SDK on aiohttp.

``python -m runner provider=openai prompt="a lighthouse" size=1536x1024 quality=low``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from runner.providers.openai_family.client import make_client
from runner.providers.openai_family.images import ImagesApi
from runner.providers.openai_family.options import OpenAIOptions
from runner.providers.openai_family.provider import ImagesProvider, sdk_http
from runner.settings.load import validate
from runner.settings.schema import VariantSettings

if TYPE_CHECKING:
    import openai

BASE_URL = "https://api.openai.com/v1"
KEY_VARIABLES = ("OPENAI_API_KEY",)


class OpenAIProvider(ImagesProvider):
    """OpenAI, and its regional hosts through ``provider.base_url``."""

    name: ClassVar[str] = "openai"
    options_type = OpenAIOptions

    def __init__(self, settings: VariantSettings) -> None:
        self.options = validate(OpenAIOptions, settings.provider.options, "provider.options")
        http = sdk_http(settings, base_url=BASE_URL, variables=KEY_VARIABLES)
        super().__init__(settings, http, ImagesApi(settings, http, self.options))

    def make_client(self) -> openai.AsyncOpenAI:
        """With the account that is billed."""
        return make_client(
            self.http, organization=self.options.organization, project=self.options.project
        )

"""Nscale's serverless images, which speak OpenAI's Images API.

``python -m runner provider=nscale prompt="a lighthouse" size=1024x1024``
"""

from __future__ import annotations

from typing import ClassVar

from runner.providers.net import FaultRules
from runner.providers.openai_family.images import ImagesApi
from runner.providers.openai_family.options import ImagesOptions
from runner.providers.openai_family.provider import ImagesProvider, sdk_http
from runner.settings.load import validate
from runner.settings.schema import Section, VariantSettings

BASE_URL = "https://inference.api.nscale.com/v1"
KEY_VARIABLES = ("NSCALE_SERVICE_TOKEN", "NSCALE_API_KEY")

RULES = FaultRules(no_credit_words=("credit",))
"""429 is documented as an empty account; one that does not say so is waited for as usual."""


class NscaleProvider(ImagesProvider):
    """Nscale. The API has no parameters besides prompt, size and number of images."""

    name: ClassVar[str] = "nscale"

    def __init__(self, settings: VariantSettings) -> None:
        validate(Section, settings.provider.options, "provider.options")
        http = sdk_http(settings, base_url=BASE_URL, variables=KEY_VARIABLES, rules=RULES)
        super().__init__(settings, http, ImagesApi(settings, http, ImagesOptions()))

"""Any server that speaks OpenAI's Images API: vLLM-Omni, SGLang, gateways, your own.

``python -m runner provider=openai_compatible provider.base_url=http://127.0.0.1:8000/v1 …``
"""

from __future__ import annotations

from typing import ClassVar

from runner.providers.net import FaultRules
from runner.providers.openai_family.images import ImagesApi
from runner.providers.openai_family.options import DiffusionOptions
from runner.providers.openai_family.provider import ImagesProvider, sdk_http
from runner.settings.load import validate
from runner.settings.schema import VariantSettings

KEY_VARIABLES = ("OPENAI_COMPATIBLE_API_KEY",)
"""Not OpenAI's own: a key goes to nobody that it was not given for."""

RULES = FaultRules(
    refused_words=("rejected by the safety system",),
    gone_words=("model mismatch", "model not found", "no such model"),
)


class OpenAICompatibleProvider(ImagesProvider):
    """What the server takes is data of the model's file; anything else goes by extra_body."""

    name: ClassVar[str] = "openai_compatible"
    options_type = DiffusionOptions

    def __init__(self, settings: VariantSettings) -> None:
        options = validate(DiffusionOptions, settings.provider.options, "provider.options")
        http = sdk_http(
            settings, base_url=None, variables=KEY_VARIABLES, key_required=False, rules=RULES
        )
        super().__init__(settings, http, ImagesApi(settings, http, options))

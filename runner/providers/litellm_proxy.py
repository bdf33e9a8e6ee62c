"""A LiteLLM proxy as the target: its operator's models, its own account of what they cost.

``python -m runner provider=litellm_proxy provider.base_url=http://127.0.0.1:4000/v1 …``
"""

from __future__ import annotations

from typing import ClassVar

from runner.providers.net import FaultRules
from runner.providers.openai_family.images import Dialect, ImagesApi
from runner.providers.openai_family.options import ImagesOptions
from runner.providers.openai_family.provider import ImagesProvider, sdk_http
from runner.settings.load import validate
from runner.settings.schema import VariantSettings

ADDRESS_VARIABLE = "LITELLM_PROXY_API_BASE"
KEY_VARIABLES = ("LITELLM_PROXY_API_KEY",)
COST_HEADER = "x-litellm-response-cost"

RULES = FaultRules(
    # The proxy puts the status in the place of an upstream error's code; types and words survive.
    refused=frozenset({"image_generation_user_error"}),
    refused_words=("safety system", "contentpolicyviolationerror"),
    auth=frozenset({"no_db_connection"}),  # what a proxy without a database says to a wrong key
    no_credit=frozenset({"budget_exceeded"}),
    no_credit_words=("insufficient_quota", "exceeded your current quota"),
    gone_words=("invalid model name passed in",),
)


class LiteLLMProxyProvider(ImagesProvider):
    """Whatever stands behind the proxy."""

    name: ClassVar[str] = "litellm_proxy"
    options_type = ImagesOptions

    def __init__(self, settings: VariantSettings) -> None:
        options = validate(ImagesOptions, settings.provider.options, "provider.options")
        http = sdk_http(
            settings,
            base_url=None,
            address_variable=ADDRESS_VARIABLE,
            variables=KEY_VARIABLES,
            key_required=False,
            rules=RULES,
        )
        dialect = Dialect(cost_header=COST_HEADER)
        super().__init__(settings, http, ImagesApi(settings, http, options, dialect))

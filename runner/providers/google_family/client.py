"""The google-genai client on the provider's own session, and what Google's errors mean."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from runner.providers.net import FaultRules, Http
from runner.providers.net.sdk import Authorize, sdk_session
from runner.settings.schema import VariantSettings

if TYPE_CHECKING:
    from google import genai

RULES = FaultRules(
    auth=frozenset({"api_key_invalid", "failed_precondition"}),
    no_credit=frozenset({"billing_disabled"}),
    no_credit_words=("credits are depleted",),
)
"""A wrong key comes with status 400, and so does an account that must first be set up."""


def make_client(
    http: Http,
    settings: VariantSettings,
    *,
    authorize: Authorize | None = None,
    **surface: Any,
) -> genai.Client:
    """A client without retries that holds no key: the session adds it to every request.

    Args:
        http: The provider's base URL, key and session.
        settings: The variant.
        authorize: Where a token takes the key's place.
        surface: Arguments of :class:`google.genai.Client` that choose API and project.
    """
    import httpx
    from google import genai
    from google.genai import types

    # The SDK's own clients, through which nothing goes, trust nobody: that is also quick to make.
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return genai.Client(
        **surface,
        http_options=types.HttpOptions(
            base_url=http.base.text,
            timeout=round(settings.timeout_s * 1000),  # told to the server as its own limit
            httpx_async_client=sdk_session(httpx, http, authorize),
            client_args={"verify": nobody},
            async_client_args={"ssl": nobody},
            extra_body=settings.provider.extra_body or None,
        ),
    )

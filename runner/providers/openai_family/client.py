"""The SDK's client on the provider's own aiohttp session: one key, one host, bounded bodies."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runner.providers.contract import ProviderError
from runner.providers.net import Http
from runner.providers.net.sdk import Authorize, sdk_session

if TYPE_CHECKING:
    import openai

OPENAI_DOMAIN = "openai.com"


def make_client(
    http: Http,
    *,
    organization: str | None = None,
    project: str | None = None,
    authorize: Authorize | None = None,
) -> openai.AsyncOpenAI:
    """A client for the provider's base URL, without retries. The key is read for every request.

    The SDK builds requests and reads streams; what it built goes out through ``http.send``. Its
    own aiohttp transport does the same below httpx2's layers of redirects, cookies and 16 kB
    chunks, which cost half as much again.

    Args:
        http: The provider's base URL, key and session; must be open when a request is sent.
        organization: Sent as ``OpenAI-Organization``.
        project: Sent as ``OpenAI-Project``.
        authorize: Where a token takes the key's place.
    """
    import httpx2
    import openai

    class AsyncOpenAI(openai.AsyncOpenAI):  # the SDK sends the name of its class along
        """Does not tell of this machine: nobody's business."""

        @property
        def default_headers(self) -> dict[str, str | openai.Omit]:
            found = super().default_headers.items()
            told = {name: held for name, held in found if not isinstance(held, openai.Omit)}
            return {name: told[name] for name in told if not name.startswith("X-Stainless-")}

    default: dict[str, str | openai.Omit] = {}
    if not _is_openai(http.base.host):
        # The SDK fills these from OpenAI's own variables; they are nobody else's business.
        ambient = os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
        names = [line.partition(":")[0].strip() for line in ambient if ":" in line]
        default |= dict.fromkeys([*names, "OpenAI-Organization", "OpenAI-Project"], openai.Omit())
    given = {"OpenAI-Organization": organization, "OpenAI-Project": project}
    default |= {name: value for name, value in given.items() if value is not None}
    return AsyncOpenAI(
        api_key="none",
        base_url=http.base.text,
        max_retries=0,
        default_headers=default,  # type: ignore[arg-type]
        http_client=sdk_session(httpx2, http, authorize),
    )


PER_REQUEST = ("x-stainless-retry-count", "x-stainless-read-timeout")
"""What the SDK tells of this machine and can leave out of single requests only."""


def _is_openai(host: str) -> bool:
    return host == OPENAI_DOMAIN or host.endswith(f".{OPENAI_DOMAIN}")


def classify(http: Http, error: openai.APIError) -> ProviderError:
    """Name the kind of anything that the SDK raised."""
    if error.body is not None:
        # An error event in mid-stream has no status; its code and type say the same.
        return http.status_fault(_status(error), {}, error.body)
    return http.classify(error)


def _status(error: openai.APIError) -> int:
    if error.code == "rate_limit_exceeded":
        return 429
    kind = error.type or ""
    return 400 if "invalid" in kind or "user_error" in kind else 500

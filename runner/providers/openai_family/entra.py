"""Tokens of Microsoft Entra ID, through azure-identity."""

from __future__ import annotations

import asyncio
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING

from runner.providers.contract import ProviderError
from runner.providers.net import Http, one_line

if TYPE_CHECKING:
    from azure.identity import DefaultAzureCredential

    from runner.providers.net.keys import Secret

EARLY_S = 300.0
"""Seconds before its end that a token is renewed."""


def has_identity() -> bool:
    """Whether azure-identity is installed; nothing is imported."""
    return find_spec("azure") is not None and find_spec("azure.identity") is not None


class EntraTokens:
    """Tokens of whoever is signed in: az login, a managed identity, a service principal.

    Args:
        http: Takes the token out of messages.
        scope: What the token is for.
    """

    def __init__(self, http: Http, scope: str) -> None:
        self._http = http
        self._scope = scope
        self._credential: DefaultAzureCredential | None = None
        self._token: Secret | None = None
        self._ends_at = 0.0
        self._lock = asyncio.Lock()

    async def read(self) -> str:
        """The token, asked for anew shortly before it ends.

        Raises:
            ProviderError: There is none.
        """
        async with self._lock:
            if self._token is None or time.time() > self._ends_at - EARLY_S:
                try:
                    token, self._ends_at = await asyncio.to_thread(self._ask)
                except Exception as error:  # every kind of credential has its own
                    raise ProviderError(
                        "auth", one_line(f"Microsoft Entra ID gave no token: {error}")
                    ) from None
                self._token = self._http.keys.hold(token)
            return self._token.reveal()

    def _ask(self) -> tuple[str, float]:
        from azure.identity import DefaultAzureCredential

        if self._credential is None:
            self._credential = DefaultAzureCredential()
        token = self._credential.get_token(self._scope)
        return token.token, float(token.expires_on)

    async def close(self) -> None:
        """Close what gave the tokens."""
        if self._credential is not None:
            await asyncio.to_thread(self._credential.close)
            self._credential = None

"""SDKs on the provider's own session: they build requests, and what they built goes out here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from runner.providers.net.http import Http

Authorize = Callable[[], Awaitable[Mapping[str, str]]]
"""Makes the headers with a token, asked for every request."""

_NOT_KEPT = frozenset(
    {"host", "content-length", "connection", "accept-encoding", "authorization", "x-goog-api-key"}
)
"""Headers of a request that the session writes itself; keys among them."""


def sdk_session(library: Any, http: Http, authorize: Authorize | None = None) -> Any:
    """A client that an SDK takes for its own, without redirects, cookies, retries and proxies.

    Anything but 2xx raises a classified :class:`~runner.providers.contract.ProviderError`, before
    the SDK makes an exception of it that repeats the server's words.

    Args:
        library: ``httpx`` or ``httpx2``, whichever the SDK stands on.
        http: The provider's base URL, key and session; must be open when a request is sent.
        authorize: Where a token takes the key's place.
    """

    class Session(library.AsyncClient):  # type: ignore[misc]
        """Sends through aiohttp, follows nothing, keeps nothing."""

        async def send(self, request: Any, **_: Any) -> Any:
            kept = {
                name: value
                for name, value in request.headers.items()
                if name.lower() not in _NOT_KEPT
            }
            reply = await http.send(
                request.method,
                str(request.url),
                body=await request.aread() or None,
                headers={**kept, **(await authorize() if authorize else {})},
            )
            # aiohttp has unpacked the body already.
            found = {k: v for k, v in reply.headers.items() if k != "content-encoding"}
            return library.Response(
                reply.status, headers=found, content=reply.body, request=request
            )

    return Session(trust_env=False)

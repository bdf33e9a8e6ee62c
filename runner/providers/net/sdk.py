"""SDKs that build a request, and let the provider's own session send it.

An SDK knows an API's routes, names and shapes. How a request is sent is the same for every
provider: one key for one host, no redirects, no retries, bounded bodies. So the SDK gets a client
that hands what it built to :class:`~runner.providers.net.http.Http`, and the answer is taken
before the SDK reads it: its own reading would decode pictures twice, and lose an answer whose
base64 is broken.

::

    session = sdk_session(httpx, http)          # for the SDK's client
    …
    reply = await answer_to(client.models.generate(…))
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from runner.providers.net.http import Http
from runner.providers.net.wire import Reply

Authorize = Callable[[], Awaitable[Mapping[str, str]]]
"""Makes the headers with a token, asked for every request."""

_WRITTEN_HERE = frozenset(
    {"host", "content-length", "connection", "accept-encoding", "authorization", "x-goog-api-key"}
)
"""Headers of a request that the session writes itself; keys among them."""


class Answered(Exception):  # noqa: N818 - it is no error
    """The answer to what an SDK has sent; only :func:`answer_to` catches it."""

    def __init__(self, reply: Reply) -> None:
        super().__init__("answered")
        self.reply = reply


async def answer_to(calling: Awaitable[object]) -> Reply:
    """Let an SDK build and send one request; returns the answer as it came.

    Raises:
        ProviderError: Any status other than 2xx.
        Exception: What the SDK or the connection raised.
    """
    try:
        await calling
    except Answered as answered:
        return answered.reply
    raise RuntimeError("the SDK sent nothing")


async def send_built(
    http: Http,
    method: str,
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    authorize: Authorize | None = None,
) -> Reply:
    """Send what an SDK built, with our key in place of its own.

    Args:
        http: The provider's base URL, key and session.
        method: HTTP method.
        url: Whole address.
        body: As it goes on the wire.
        headers: As the SDK wrote them.
        authorize: Where a token takes the key's place.

    Raises:
        ProviderError: Any status other than 2xx.
    """
    kept = {name: value for name, value in headers.items() if name.lower() not in _WRITTEN_HERE}
    if authorize is not None:
        kept |= await authorize()
    return await http.send(method, url, body=body, headers=kept)


def sdk_session(library: Any, http: Http, authorize: Authorize | None = None) -> Any:
    """An ``AsyncClient`` for an SDK that stands on httpx or httpx2.

    Args:
        library: ``httpx`` or ``httpx2``.
        http: The provider's base URL, key and session; must be open when a request is sent.
        authorize: Where a token takes the key's place.
    """

    class Session(library.AsyncClient):  # type: ignore[misc]
        """Sends through :func:`send_built`; every request ends in :class:`Answered`."""

        async def send(self, request: Any, **_: Any) -> Any:
            body = await request.aread() or None
            raise Answered(
                await send_built(
                    http, request.method, str(request.url), body, request.headers, authorize
                )
            )

    return Session(trust_env=False, transport=library.AsyncBaseTransport())

"""SDKs that build a request, and let the provider's own session send it.

An SDK knows an API's routes, names and shapes. How a request is sent is the same for every
provider: one key for one host, no redirects, no retries, bounded bodies. So the SDK gets a client
that takes what it built out of its hands, to be sent by :class:`~runner.providers.net.http.Http`.
The answer does not go through the SDK: its own reading would decode pictures twice, and lose an
answer whose base64 is broken.

::

    session = sdk_session(httpx, http)          # for the SDK's client
    …
    built = await built_by(client.models.generate(…))
    reply = await built.send(http)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.providers.net.http import MAX_ANSWER_BYTES, Http
from runner.providers.net.wire import Reply, read_chunks

if TYPE_CHECKING:
    from aiohttp import ClientResponse

Authorize = Callable[[], Awaitable[Mapping[str, str]]]
"""Makes the headers with a token, asked for every request."""

_WRITTEN_HERE = frozenset(
    {"host", "content-length", "connection", "accept-encoding", "authorization", "x-goog-api-key"}
)
"""Headers of a request that the session writes itself; keys among them."""

_UNPACKED = b"content-encoding"
"""aiohttp has unpacked the body already, chunk by chunk within its limit."""


@dataclass(frozen=True, slots=True)
class Built:
    """A request that an SDK built. It may be sent more than once, with another body each time.

    Attributes:
        method: HTTP method.
        url: Whole address.
        headers: Without keys, and without those that the session writes itself.
        body: As it goes on the wire.
        authorize: Where a token takes the key's place.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = field(repr=False)
    authorize: Authorize | None = None

    @classmethod
    def of(
        cls,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        authorize: Authorize | None = None,
    ) -> Built:
        """A request with the headers as the SDK wrote them."""
        kept = {name: value for name, value in headers.items() if name.lower() not in _WRITTEN_HERE}
        return cls(method, url, kept, body, authorize)

    async def send(self, http: Http, body: bytes | None = None) -> Reply:
        """Send it with our key in place of the SDK's own, and read the whole answer.

        Args:
            http: The provider's base URL, key and session; must be open.
            body: Takes the place of the one that was built.

        Raises:
            ProviderError: Any status other than 2xx.
        """
        return await http.send(
            self.method,
            self.url,
            body=body or self.body,
            headers=await self._authorized(),
            limit=MAX_ANSWER_BYTES,
        )

    async def begin(self, http: Http) -> ClientResponse:
        """:meth:`send` it, and leave the answer to be read and closed by the caller.

        Raises:
            ProviderError: Any status other than 2xx.
        """
        headers = await self._authorized()
        return await http.begin(self.method, self.url, body=self.body, headers=headers)

    async def _authorized(self) -> Mapping[str, str]:
        if self.authorize is None:
            return self.headers
        return {**self.headers, **await self.authorize()}


class Ready(Exception):  # noqa: N818 - it is no error
    """What an SDK has built; only :func:`built_by` catches it."""

    def __init__(self, built: Built) -> None:
        super().__init__("built")
        self.built = built


async def built_by(calling: Awaitable[object]) -> Built:
    """The request that an SDK builds in a call of one of its methods.

    Raises:
        Exception: What the SDK raised.
    """
    try:
        await calling
    except Ready as ready:
        return ready.built
    raise RuntimeError("the SDK built nothing")


def sdk_session(library: Any, http: Http, authorize: Authorize | None = None) -> Any:
    """An ``AsyncClient`` for an SDK that stands on httpx or httpx2.

    It hands every request over as :class:`Ready`; only an answer that the SDK reads as a stream is
    given to it.

    Args:
        library: ``httpx`` or ``httpx2``.
        http: The provider's base URL, key and session; must be open when a request is sent.
        authorize: Where a token takes the key's place.
    """

    class Session(library.AsyncClient):  # type: ignore[misc]
        """Sends nothing but streams."""

        async def send(self, request: Any, *, stream: bool = False, **_: Any) -> Any:
            body = await request.aread() or None
            url = str(request.url)
            built = Built.of(request.method, url, request.headers, body, authorize)
            if not stream:
                raise Ready(built)
            response = await built.begin(http)
            # As bytes: httpx would refuse, and so lose, an answer with a header that is not ASCII.
            found = [pair for pair in response.raw_headers if pair[0].lower() != _UNPACKED]
            return library.Response(
                response.status, headers=found, stream=Body(response), request=request
            )

    class Body(library.AsyncByteStream):  # type: ignore[misc]
        """A body as it comes, with an end."""

        def __init__(self, response: ClientResponse) -> None:
            self.response = response

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in read_chunks(self.response, MAX_ANSWER_BYTES):
                yield chunk

        async def aclose(self) -> None:
            self.response.close()

    return Session(trust_env=False, transport=library.AsyncBaseTransport())

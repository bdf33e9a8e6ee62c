"""The SDK's client on the provider's own aiohttp session: one key, one host, bounded bodies."""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from runner.providers.contract import ProviderError
from runner.providers.net import Http, bad_response
from runner.providers.net.http import MAX_ANSWER_BYTES, MAX_ERROR_BYTES
from runner.providers.net.wire import read_bounded

if TYPE_CHECKING:
    import httpx2
    import openai
    from aiohttp import ClientResponse

OPENAI_DOMAIN = "openai.com"

Authorize = Callable[[], Awaitable[Mapping[str, str]]]
"""Makes the headers with the key or token, asked for every request."""


def make_client(
    http: Http,
    *,
    organization: str | None = None,
    project: str | None = None,
    authorize: Authorize | None = None,
) -> openai.AsyncOpenAI:
    """A client for the provider's base URL, without retries. The key is read for every request.

    The SDK builds requests and reads errors; what it built goes out through ``http.session``. Its
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

    urls: dict[str, httpx2.URL] = {}

    class Session(httpx2.AsyncClient):
        """Sends through aiohttp, follows nothing, keeps nothing."""

        def build_request(self, method: str, url: Any, **given: Any) -> httpx2.Request:
            """A request as the SDK wants it; this client has nothing of its own to merge in."""
            given.pop("timeout", None)  # the session's own
            if url not in urls:
                urls[url] = httpx2.URL(url)
            content = given.pop("content", None)
            if content is not None:  # aiohttp adds length and host by itself
                given["stream"] = httpx2.ByteStream(content)
            return httpx2.Request(method, urls[url], **given)

        async def send(
            self, request: httpx2.Request, *, stream: bool = False, **_: Any
        ) -> httpx2.Response:
            headers = {
                name.decode(): value.decode()
                for name, value in request.headers.raw
                if name.lower() != b"authorization"  # the SDK insists on a key of its own
            }
            headers |= await authorize() if authorize else http.key_headers()
            response = await http.session.request(
                request.method,
                str(request.url),
                headers=headers,
                data=request.read() or None,
                allow_redirects=False,
                proxy=proxy,
            )
            # As bytes: httpx2 would refuse, and so lose, an answer with a header that is not ASCII.
            found = [pair for pair in response.raw_headers if pair[0].lower() != _UNPACKED]
            if stream and response.ok:
                return httpx2.Response(
                    response.status, headers=found, stream=_body(response), request=request
                )
            async with response:
                if response.ok:
                    body = await read_bounded(response, MAX_ANSWER_BYTES)
                else:
                    body = await response.content.read(MAX_ERROR_BYTES)
            return Whole(response.status, found, request, body)

    class Whole(httpx2.Response):
        """A response that is all there; httpx2 would copy its body once more, by chunks."""

        def __init__(
            self,
            status: int,
            headers: list[tuple[bytes, bytes]],
            request: httpx2.Request,
            body: bytes,
        ) -> None:
            stream = httpx2.ByteStream(body)
            super().__init__(status, headers=headers, request=request, stream=stream)
            self.body = body

        @property
        def content(self) -> bytes:
            return self.body

        async def aread(self) -> bytes:
            return self.body

    class AsyncOpenAI(openai.AsyncOpenAI):  # the SDK sends the name of its class along
        """Works out once what the SDK works out for every request."""

        @functools.cached_property
        def default_headers(self) -> dict[str, str | openai.Omit]:
            """Without what the SDK tells of this machine: nobody's business."""
            found = super().default_headers.items()
            told = {name: held for name, held in found if not isinstance(held, openai.Omit)}
            return {name: told[name] for name in told if not name.startswith("X-Stainless-")}

        def _prepare_url(self, url: str) -> httpx2.URL:
            if url not in urls:
                urls[url] = super()._prepare_url(url)
            return urls[url]

    proxy = http.proxy(http.base.text)
    default: dict[str, str | openai.Omit] = {"Accept-Encoding": "identity"}
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
        http_client=Session(trust_env=False),
    )


PER_REQUEST = ("x-stainless-retry-count", "x-stainless-read-timeout")
"""What the SDK tells of this machine and can leave out of single requests only."""

_UNPACKED = b"content-encoding"
"""aiohttp has unpacked the body already, chunk by chunk within its limit."""


def _is_openai(host: str) -> bool:
    return host == OPENAI_DOMAIN or host.endswith(f".{OPENAI_DOMAIN}")


def _body(response: ClientResponse) -> httpx2.AsyncByteStream:
    import httpx2

    class Body(httpx2.AsyncByteStream):
        """A body as it comes, with an end."""

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for chunk in response.content.iter_any():
                size += len(chunk)
                if size > MAX_ANSWER_BYTES:
                    raise bad_response(f"more than {MAX_ANSWER_BYTES:,} bytes")
                yield chunk

        async def aclose(self) -> None:
            response.close()

    return Body()


def classify(http: Http, error: openai.APIError) -> ProviderError:
    """Name the kind of anything that the SDK raised."""
    import openai

    if isinstance(error, openai.APIStatusError):
        return http.status_fault(error.status_code, error.response.headers, error.body)
    if error.body is not None:
        # An error event in mid-stream has no status; its code and type say the same.
        return http.status_fault(_status(error), {}, error.body)
    return http.classify(error)


def _status(error: openai.APIError) -> int:
    if error.code == "rate_limit_exceeded":
        return 429
    kind = error.type or ""
    return 400 if "invalid" in kind or "user_error" in kind else 500

"""The SDK's client, tamed: our key, our base URL, bounded bodies, no retries, no redirects."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from runner.providers.contract import ProviderError
from runner.providers.net import Http, bad_response
from runner.providers.net.http import MAX_ANSWER_BYTES, MAX_ERROR_BYTES
from runner.providers.net.wire import CONNECT_S, IDLE_S

if TYPE_CHECKING:
    import httpx2
    import openai

OPENAI_DOMAIN = "openai.com"


def make_client(
    http: Http,
    *,
    timeout_s: float,
    organization: str | None = None,
    project: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> openai.AsyncOpenAI:
    """A client on aiohttp for the provider's base URL. The key is read for every request.

    Args:
        http: The provider's base URL and key.
        timeout_s: Seconds without a byte until a request is given up.
        organization: Sent as ``OpenAI-Organization``.
        project: Sent as ``OpenAI-Project``.
        headers: Further headers of every request.
    """
    import httpx2
    import openai

    async def key() -> str:
        secret = http.keys.read()
        return secret.reveal() if secret else ""

    default: dict[str, str | openai.Omit] = {"Accept-Encoding": "identity"}
    if not _is_openai(http.base.host):
        # The SDK fills these from OpenAI's own variables; they are nobody else's business.
        ambient = os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
        names = [line.partition(":")[0].strip() for line in ambient if ":" in line]
        default |= dict.fromkeys([*names, "OpenAI-Organization", "OpenAI-Project"], openai.Omit())
    if http.keys.read() is None:
        default["Authorization"] = openai.Omit()
    given = {"OpenAI-Organization": organization, "OpenAI-Project": project, **(headers or {})}
    default |= {name: value for name, value in given.items() if value is not None}
    return openai.AsyncOpenAI(
        api_key=key,
        base_url=http.base.text,
        max_retries=0,
        timeout=httpx2.Timeout(timeout_s, connect=CONNECT_S, pool=None),
        default_headers=default,  # type: ignore[arg-type]
        http_client=openai.DefaultAioHttpClient(
            follow_redirects=False,
            trust_env=not http.base.loopback,
            # 0: as many connections as the engine has calls in flight.
            limits=httpx2.Limits(max_connections=0, keepalive_expiry=IDLE_S),
            event_hooks={"response": [_bound]},
        ),
    )


def _is_openai(host: str) -> bool:
    return host == OPENAI_DOMAIN or host.endswith(f".{OPENAI_DOMAIN}")


async def _bound(response: httpx2.Response) -> None:
    """Let no answer grow without end: neither as it comes nor when it is unpacked."""
    import httpx2

    class Bounded(httpx2.AsyncByteStream):
        """Cuts an error short, refuses anything else that is too long."""

        def __init__(self, inner: httpx2.AsyncByteStream, limit: int) -> None:
            self._inner, self._limit = inner, limit

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for chunk in self._inner:
                size += len(chunk)
                if size > self._limit:
                    if self._limit == MAX_ERROR_BYTES:
                        return
                    raise bad_response(f"more than {self._limit:,} bytes")
                yield chunk

        async def aclose(self) -> None:
            await self._inner.aclose()

    if response.headers.get("content-encoding", "identity") != "identity":
        raise bad_response("a compressed body, which was not asked for")
    if isinstance(response.stream, httpx2.AsyncByteStream):
        limit = MAX_ANSWER_BYTES if response.is_success else MAX_ERROR_BYTES
        response.stream = Bounded(response.stream, limit)


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

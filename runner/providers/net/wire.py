"""Bodies and sessions: what :class:`~runner.providers.net.http.Http` is made of."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pydantic_core import from_json

from runner import __version__
from runner.providers.contract import ProviderError
from runner.providers.net.address import Guard, is_loopback
from runner.providers.net.faults import bad_response, request_id
from runner.settings.errors import PrerequisiteError

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession, FormData
    from aiohttp.abc import ResolveResult

CONNECT_S = 20.0
"""Longest wait for a connection. Nothing was sent by then, so the call may simply be repeated."""
IDLE_S = 4.0
"""Seconds that an idle connection is kept: below the 5 after which common servers close theirs, so
that a request is not written into a connection that is just being closed."""


def require(extra: str, *modules: str) -> None:
    """Look for the packages of an extra, without importing them.

    Raises:
        PrerequisiteError: One is missing; the sentence holds the install command.
    """
    missing = [module for module in modules if not _is_there(module)]
    if missing:
        raise PrerequisiteError(
            f"{' and '.join(missing)} not installed: pip install 'image-batch-runner[{extra}]'"
        )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # what it is a part of is not there either
        return False


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a multipart form.

    Attributes:
        name: Name of the field.
        value: Text, or the bytes of a file.
        filename: For a file.
        mime: For a file.
    """

    name: str
    value: str | bytes
    filename: str | None = None
    mime: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful answer.

    Attributes:
        status: 200 to 299.
        headers: Lower-case names.
        body: All of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def request_id(self) -> str | None:
        """The provider's id of the request, if a header has it."""
        return request_id(self.headers)

    def json(self) -> dict[str, Any]:
        """The body as a JSON object.

        Raises:
            ProviderError: It is none.
        """
        return json_object(self.body, self.request_id)


def json_object(body: bytes, request: str | None = None) -> dict[str, Any]:
    """A body as a JSON object.

    Args:
        body: As it came.
        request: The provider's id of the request, for the error.

    Raises:
        ProviderError: It is none: HTML, cut short, or another kind of JSON.
    """
    try:
        found = from_json(body, allow_inf_nan=False)
    except ValueError:
        # Half a surrogate pair or a NaN is no reason to lose an answer that is paid.
        try:
            found = json.loads(body, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            what = "an HTML page" if body.lstrip()[:1] == b"<" else "a body that is no JSON"
            raise bad_response(what if body else "an empty body", request) from None
    if not isinstance(found, dict):
        raise bad_response(f"a JSON {type(found).__name__}, not an object", request)
    return found


async def read_chunks(response: ClientResponse, limit: int) -> AsyncIterator[bytes]:
    """A body as it comes.

    Raises:
        ProviderError: It is longer than ``limit`` bytes.
    """
    if (response.content_length or 0) > limit:
        raise bad_response(f"more than {limit:,} bytes")
    size = 0
    while chunk := await response.content.readany():
        size += len(chunk)
        if size > limit:
            raise bad_response(f"more than {limit:,} bytes")
        yield chunk


async def read_bounded(response: ClientResponse, limit: int) -> bytes:
    """Read a whole body, but no more than ``limit`` bytes of it.

    Raises:
        ProviderError: There is more.
    """
    return b"".join([chunk async for chunk in read_chunks(response, limit)])


async def read_lines(response: ClientResponse, limit: int) -> AsyncIterator[str]:
    """The lines of a body without their ends, as they come.

    Raises:
        ProviderError: The body is longer than ``limit`` bytes.
    """
    open_line: list[bytes] = []
    async for chunk in read_chunks(response, limit):
        *ended, rest = chunk.split(b"\n")
        for end in ended:
            line = b"".join((*open_line, end))
            open_line.clear()
            yield line.rstrip(b"\r").decode("utf-8", "replace")
        open_line.append(rest)
    if any(open_line):
        yield b"".join(open_line).decode("utf-8", "replace")


def make_form(parts: Sequence[Part]) -> FormData:
    """A multipart body."""
    import aiohttp

    form = aiohttp.FormData(default_to_multipart=True)
    for part in parts:
        form.add_field(part.name, part.value, filename=part.filename, content_type=part.mime)
    return form


def environment_proxy(url: str) -> str | None:
    """The proxy that the environment names for an address; none for this machine itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = getproxies().get(parts.scheme)
    return None if proxy is None or is_loopback(host) or proxy_bypass(host) else proxy


def make_session(guard: Guard, timeout_s: float) -> ClientSession:
    """A session that holds no key and no cookies, and connects only where the guard allows it.

    Args:
        guard: Judges the addresses of every name that is looked up.
        timeout_s: Seconds for a whole request.
    """
    import aiohttp
    from aiohttp.abc import AbstractResolver

    proxies = {urlsplit(proxy).hostname for proxy in getproxies().values()}

    class GuardedResolver(AbstractResolver):
        """Looks names up and refuses addresses, so that no later look-up can differ."""

        def __init__(self) -> None:
            self._inner = aiohttp.DefaultResolver()

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            found = await self._inner.resolve(host, port, family)
            refused = await guard.refuses(entry["host"] for entry in found)
            if refused is not None and host not in proxies:
                raise ProviderError(
                    "invalid",
                    f"{host} leads to the private address {refused}, which is not fetched",
                    code="address_refused",
                )
            return found

        async def close(self) -> None:
            await self._inner.close()

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, keepalive_timeout=IDLE_S, resolver=GuardedResolver()
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S),
        headers={
            "User-Agent": f"image-batch-runner/{__version__}",
            # Images do not shrink, and a body that is not unpacked cannot be a bomb.
            "Accept-Encoding": "identity",
        },
    )

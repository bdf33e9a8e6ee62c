"""One session for everything that a provider sends and fetches; it holds no key.

Files that lie elsewhere, such as results behind an address, come and go without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from runner.images import BadImage
from runner.providers.contract import ProviderError
from runner.providers.net.address import Guard, origin
from runner.providers.net.payload import MAX_IMAGE_BYTES
from runner.providers.net.wire import (
    Part,
    environment_proxy,
    make_form,
    make_session,
    read_bounded,
)

if TYPE_CHECKING:
    from aiohttp import ClientSession

MAX_REDIRECTS = 5
FETCH_PAUSES_S = (0.5, 2.0)
"""Waits before a result that is already paid is downloaded again. Nothing is made anew by that."""


class Transfers:
    """A session, and files that are fetched and uploaded over it.

    Args:
        guard: Judges every address.
        timeout_s: Seconds for a whole request.
    """

    def __init__(self, guard: Guard, timeout_s: float) -> None:
        self._guard = guard
        self._timeout_s = timeout_s
        self._session: ClientSession | None = None
        self._proxies: dict[str, str | None] = {}

    @property
    def session(self) -> ClientSession:
        """The session; it carries no key of its own."""
        if self._session is None:
            raise RuntimeError("the provider is not open")
        return self._session

    async def open(self) -> None:
        """Make the session."""
        self._session = make_session(self._guard, self._timeout_s)

    async def close(self) -> None:
        """Close the session; also fine when it was never opened."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def proxy(self, url: str) -> str | None:
        """The proxy for an address; the environment is read once, as that takes its time."""
        place = origin(url)
        if place not in self._proxies:
            self._proxies[place] = environment_proxy(url)
        return self._proxies[place]

    async def upload(self, url: str, form: Sequence[Part]) -> None:
        """Send a file to where an answer says that it belongs (a presigned form): without the key.

        Raises:
            ProviderError: The address is one that must not be reached, or the file was not taken.
        """
        import aiohttp

        if problem := await self._guard.problem(url):
            raise ProviderError("invalid", problem, code="address_refused")
        try:
            async with self.session.post(
                url, data=make_form(form), allow_redirects=False, proxy=self.proxy(url)
            ) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            # No picture was asked for yet, so nothing is paid twice.
            lost = f"the input file did not arrive ({type(error).__name__})"
            raise ProviderError("transient", lost, code="upload_lost") from None
        if not 200 <= status < 300:
            raise ProviderError(
                "transient" if status >= 500 or status in {408, 429} else "invalid",
                f"{origin(url)} did not take the input file: HTTP {status}",
                code=str(status),
            )

    async def fetch(self, url: str, limit: int = MAX_IMAGE_BYTES) -> bytes:
        """Download a result or an input image: without key, bounded, never from where it must not.

        Raises:
            ProviderError: The address is refused, or the file did not come.
            BadImage: The file is empty or too large.
        """
        for pause in FETCH_PAUSES_S:
            try:
                return await self._fetch_once(url, limit)
            except ProviderError as error:
                if error.kind != "transient":
                    raise
            await asyncio.sleep(pause)
        return await self._fetch_once(url, limit)

    async def _fetch_once(self, url: str, limit: int) -> bytes:
        import aiohttp

        try:
            return await self._download(url, limit)
        except ValueError:  # InvalidURL is one, and so is what urllib and IDNA raise
            raise ProviderError("invalid", "a broken address", code="address_refused") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            lost = f"the file did not come ({type(error).__name__})"
            raise ProviderError("transient", lost, code="result_lost") from None

    async def _download(self, url: str, limit: int) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            if problem := await self._guard.problem(url):
                raise ProviderError("invalid", problem, code="address_refused")
            async with self.session.get(
                url, allow_redirects=False, proxy=self.proxy(url)
            ) as response:
                if 300 <= response.status < 400 and "location" in response.headers:
                    url = urljoin(url, response.headers["location"])
                    continue
                if response.status != 200:
                    again = response.status >= 500 or response.status in {408, 429}
                    raise ProviderError(
                        "transient" if again else "invalid",
                        f"{origin(url)} answered {response.status} instead of the file",
                        code=str(response.status),
                    )
                try:
                    data = await read_bounded(response, limit)
                except ProviderError as error:
                    raise BadImage(error.message) from None
                if not data:
                    raise BadImage("an empty file")
                return data
        raise ProviderError("invalid", "the file redirects without end", code="address_refused")

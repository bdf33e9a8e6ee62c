"""The way to a REST API: one aiohttp session, one key, one base URL, bounded bodies.

::

    self.http = Http(settings, base_url="https://api.example.com/v1", variables=("EXAMPLE_KEY",))
    …
    reply = await self.http.send("POST", "/images", json={"prompt": …})  # raises unless it is 2xx
    picture = await self.http.take(reply.json()["data"][0]["url"])       # Picture or Missing

The key goes only to the base URL's own host. Redirects are not followed. Nothing is sent twice:
retries belong to the engine.
"""

from __future__ import annotations

import json as jsonlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runner.images import BadImage
from runner.providers.contract import Missing, Picture, ProviderError
from runner.providers.lifecycle import replacement
from runner.providers.net.address import Guard, check_base_url, origin
from runner.providers.net.faults import (
    COMMON_RULES,
    FaultRules,
    bad_response,
    network_fault,
    one_line,
    status_fault,
)
from runner.providers.net.keys import Keys
from runner.providers.net.payload import decode_base64, decode_data_url
from runner.providers.net.transfers import Transfers
from runner.providers.net.wire import (
    CONNECT_S,
    Part,
    Reply,
    make_form,
    read_bounded,
    read_lines,
    require,
)
from runner.settings.cell import Json
from runner.settings.errors import RunnerError
from runner.settings.schema import VariantSettings

if TYPE_CHECKING:
    from aiohttp import ClientResponse

MAX_ANSWER_BYTES = 256 * 1024 * 1024
"""Largest body of an answer with images inside: ten pictures of 4K as base64."""
MAX_ERROR_BYTES = 64 * 1024


def bearer(key: str) -> dict[str, str]:
    """``Authorization: Bearer KEY``."""
    return {"Authorization": f"Bearer {key}"}


class Http(Transfers):
    """A provider's own way to its API. Make it in ``__init__``; it touches no network there.

    Args:
        settings: The variant.
        base_url: The vendor's address; ``None``: the user must give one.
        address_variable: The environment variable that the vendor documents for the address.
        variables: Environment variables with the key, the documented one first.
        key_required: Whether a call without a key makes no sense.
        auth: Makes the headers that carry the key.
        rules: What the API's own error codes mean.
        extra: The extra that brings the packages which :meth:`check_ready` looks for.
        modules: Those packages.
        domain: The vendor's domain, where its hosts share one key (``bfl.ai``: an answer may send
            us to ``api.us1.bfl.ai``). Without it the key goes to the base URL's own host only.

    Raises:
        RequestError: ``provider.base_url`` or ``provider.api_key_env`` is wrong.
    """

    def __init__(
        self,
        settings: VariantSettings,
        *,
        base_url: str | None,
        address_variable: str | None = None,
        variables: Sequence[str] = (),
        key_required: bool = True,
        auth: Callable[[str], Mapping[str, str]] = bearer,
        rules: FaultRules = COMMON_RULES,
        extra: str = "http",
        modules: Sequence[str] = ("aiohttp", "pybase64"),
        domain: str | None = None,
    ) -> None:
        self.base = check_base_url(settings, base_url, address_variable)
        super().__init__(Guard(self.base), settings.timeout_s)
        self.keys = Keys(settings, *variables, required=key_required)
        self.rules = rules
        self._settings = settings
        self._auth = auth
        self._extra = extra
        self._modules = tuple(modules)
        self._domain = domain

    def check_ready(self) -> None:
        """Look for the packages and the key; no network.

        Raises:
            PrerequisiteError: One of them is missing.
        """
        require(self._extra, *self._modules)
        self.keys.read()

    def quota_key(self, *parts: str) -> str:
        """Whose rate limit it is: that of a provider, an address and a key, by its variables.

        Args:
            parts: What else has a limit of its own: a model, a region.
        """
        keys = ",".join(self.keys.variables)
        return ":".join((self._settings.provider.name, self.base.origin, *parts, keys))

    def key_headers(self) -> dict[str, str]:
        """The headers with the key, as the environment has it now; none where there is no key.

        Raises:
            PrerequisiteError: A key is needed, and missing.
        """
        key = self.keys.read()
        return dict(self._auth(key.reveal())) if key else {}

    async def send(
        self,
        method: str,
        path: str,
        *,
        json: Json = None,
        form: Sequence[Part] | None = None,
        body: bytes | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        limit: int = MAX_ANSWER_BYTES,
        timeout_s: float | None = None,
    ) -> Reply:
        """Send one request with the key, and read the whole answer.

        Args:
            method: HTTP method.
            path: Begins with ``/``, below the base URL; or a whole address that :meth:`trusts`.
            json: Body as JSON.
            form: Body as a multipart form.
            body: Body as it is; its type belongs into ``headers``.
            query: Parameters of the address; never a key.
            headers: Further headers.
            limit: Most bytes of the answer.
            timeout_s: Seconds for the whole request; the call's own limit by default.

        Raises:
            ProviderError: Any status other than 2xx, or a body beyond the limit.
            aiohttp.ClientError: The connection broke; :meth:`classify` names it.
        """
        async with await self.begin(
            method,
            path,
            json=json,
            form=form,
            body=body,
            query=query,
            headers=headers,
            timeout_s=timeout_s,
        ) as response:
            content = await read_bounded(response, limit)
            return Reply(response.status, _lower(response.headers), content)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        json: Json = None,
        form: Sequence[Part] | None = None,
        headers: Mapping[str, str] | None = None,
        limit: int = MAX_ANSWER_BYTES,
    ) -> AsyncIterator[tuple[Mapping[str, str], AsyncIterator[str]]]:
        """Send one request and read the answer line by line: server-sent events, say.

        Yields:
            The answer's headers with lower-case names, and its lines without their ends.

        Raises:
            ProviderError: Any status other than 2xx, or a body beyond the limit.
        """
        begun = await self.begin(method, path, json=json, form=form, headers=headers)
        async with begun as response:
            yield _lower(response.headers), read_lines(response, limit)

    async def begin(
        self,
        method: str,
        path: str,
        *,
        json: Json = None,
        form: Sequence[Part] | None = None,
        body: bytes | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> ClientResponse:
        """Send one request with the key; arguments are those of :meth:`send`.

        Returns:
            A success with its body still to be read, to be closed by the caller.

        Raises:
            ProviderError: Any status other than 2xx.
        """
        import aiohttp

        url = self.base.text + path
        if "://" in path:
            url = path
            if not self.trusts(url):
                raise bad_response("the address of another host, which does not get the key")
        sent = {**self.key_headers(), **(headers or {})}
        data: bytes | aiohttp.FormData | None = body
        if form is not None:
            data = make_form(form)
        elif json is not None:
            sent["Content-Type"] = "application/json"
            data = jsonlib.dumps(json, allow_nan=False).encode("ascii")
        options: dict[str, Any] = {}
        if timeout_s is not None:
            options["timeout"] = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
        response = await self.session.request(
            method,
            url,
            params=query,
            headers=sent,
            data=data,
            allow_redirects=False,
            proxy=self.proxy(url),
            **options,
        )
        if 200 <= response.status < 300:
            return response
        async with response:
            said = (await response.content.read(MAX_ERROR_BYTES))[:MAX_ERROR_BYTES]
            raise self.status_fault(response.status, _lower(response.headers), said)

    async def take(
        self,
        source: str | None,
        *,
        seed_sent: int | None = None,
        revised_prompt: str | None = None,
        effective: Mapping[str, Json] | None = None,
        warnings: Sequence[str] = (),
        extras: Mapping[str, bytes] | None = None,
    ) -> Picture | Missing:
        """Make a picture of what an answer holds for one image: base64, a ``data:`` or https URL.

        The other arguments are those of :class:`~runner.providers.contract.Picture`. What goes
        wrong becomes a :class:`~runner.providers.contract.Missing`, so that the other images of
        the call are kept.
        """
        try:
            if not source:
                return Missing(outcome="failed", kind="no_image", message="no image in the answer")
            if source.startswith(("https://", "http://")):
                data = await self.fetch(source)
            elif source[:5].lower() == "data:":
                data = decode_data_url(source)
            else:
                data = decode_base64(source)
        except BadImage as error:
            return Missing(outcome="failed", kind="bad_image", message=f"answered with {error}")
        except ProviderError as error:
            return Missing(
                outcome="failed", kind="result_lost", code=error.code, message=error.message
            )
        return Picture(
            data=data,
            seed_sent=seed_sent,
            revised_prompt=revised_prompt,
            effective=effective or {},
            warnings=tuple(warnings),
            extras=extras or {},
        )

    def trusts(self, url: str) -> bool:
        """Whether an address may get the key: on the base URL's host, or the vendor's domain."""
        place = origin(url)
        if place == self.base.origin:
            return True
        host, domain = urlsplit(place).hostname or "", self._domain
        own = domain is not None and f".{self.base.host}".endswith(f".{domain}")
        return own and place.startswith("https://") and f".{host}".endswith(f".{domain}")

    def status_fault(self, status: int, headers: Mapping[str, str], body: object) -> ProviderError:
        """An answer that is no success, by the provider's rules and without keys."""
        fault = status_fault(status, headers, body, self.rules, self.keys.redact)
        if fault.kind == "gone":
            fault.message += replacement(self._settings.model)
        if fault.kind == "auth" and self.keys.variables:
            fault.message += f" (key from {self.keys.variable})"
        return fault

    def classify(self, error: Exception) -> ProviderError:
        """Name the kind of anything that a call raised, without keys."""
        if isinstance(error, ProviderError):
            return error
        if isinstance(error, RunnerError):
            return ProviderError("invalid", one_line(str(error)))
        known = network_fault(error)
        if known is not None:
            known.message = self.keys.redact(known.message)
            return known
        return ProviderError(
            "invalid", self.keys.redact(one_line(f"{type(error).__name__}: {error}"))
        )


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}

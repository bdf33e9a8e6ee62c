"""A loopback server for tests of network providers: real sockets, scripted answers, a log.

A provider's server derives from :class:`Loopback`, registers its routes and answers in its API's
own shapes. What goes wrong on the wire in any API (a hang, a reset, HTML, a redirect) is done here.

::

    with OpenAIServer() as server:
        server.script("rate_limit")          # the next request is answered so, later ones normally
        ...
        assert server.problems == []         # whatever a strict route found wrong with requests
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web
from PIL import Image

Situation = Literal[
    "ok",  # a good answer
    "url",  # a good answer whose images are URLs on this server
    "refused",  # the request is refused by the safety system
    "partial",  # one image fewer than asked
    "empty",  # success, and no image at all
    "text",  # success, and words instead of an image
    "rate_limit",  # 429 with Retry-After: 7
    "no_credit",  # the account is empty
    "auth",  # the key is wrong, and the message repeats it
    "gone",  # the model is not there, or no longer
    "invalid",  # a parameter is wrong
    "server_error",  # 500 in the API's own shape
    "bad_base64",  # success, and noise where base64 should be
    "not_an_image",  # success, and HTML where image bytes should be
    "truncated",  # success, and half an image
    "mislabelled",  # success, and a JPEG where a PNG was asked
    "html",  # 200 with an HTML page
    "bad_json",  # 200 with half a JSON document
    "cut",  # the connection ends in the middle of the body
    "reset",  # the connection is reset after the request was read
    "hang",  # no answer until the client goes away
    "redirect",  # 307 to another host
    "private_url",  # a good answer whose images lie at a private address
    "lost_url",  # a good answer whose images are not there
    "stuck",  # a job that never ends
    "odd_status",  # a job that is first in a state that nobody knows
    "slow_start",  # a job that its own API does not know yet at first
    "busy_polls",  # a job whose polls are refused at first: 429 and 500
    "lost_job",  # a job that its own API no longer knows
    "job_failed",  # a job that ends without pictures
    "refused_late",  # a job that the safety system ends
]

Custom = Callable[["Seen"], web.StreamResponse]
"""An answer of a test's own."""

Spoil = Callable[[web.Request, web.StreamResponse], Awaitable[web.StreamResponse]]
"""What becomes of a good answer."""

RETRY_AFTER_S = 7
ELSEWHERE = "https://elsewhere.invalid/v1"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a multipart form."""

    filename: str
    mime: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it came.

    Attributes:
        method: HTTP method.
        path: Path without the query.
        query: Parameters of the address.
        headers: Lower-case names.
        body: All of it; of a form, one ``name=value`` line per part.
        json: The parsed body, if it is JSON.
        fields: Text fields of a form, in their order.
        files: Files of a form, in their order.
        at: Seconds of the monotonic clock.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    json: Any = None
    fields: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, Upload], ...] = ()
    at: float = field(default_factory=time.monotonic)


class Loopback:
    """An aiohttp.web server on 127.0.0.1 in a thread of its own. Ends with its ``with`` block.

    Attributes:
        requests: Every request that came, in its order.
        problems: What strict routes found wrong; must be empty at the end of a test.
        files: Files under ``/files/``, by name.
        repainted: For every mask that came, what the real API would paint anew: white.
        latency_s: Seconds until a call is answered.
        key: The only key that is right.
        spoil: Changes an answer before it leaves; see :mod:`tests.servers.spoil`.
    """

    prefix = "/v1"
    """Path of the base URL."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.problems: list[str] = []
        self.files: dict[str, bytes] = {}
        self.repainted: list[Image.Image] = []
        self.latency_s = 0.0
        self.key = "canary-key-0123456789abcdef"
        self.spoil: Spoil | None = None
        self._script: deque[Situation | Custom] = deque()
        self._ready = threading.Event()
        self._port = 0

    def __enter__(self) -> Loopback:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def base_url(self) -> str:
        """What ``provider.base_url`` is set to."""
        return f"http://127.0.0.1:{self._port}{self.prefix}"

    @property
    def credential(self) -> str:
        """What the variable holds: the key itself, or the path of a file that is worth one."""
        return self.key

    def script(self, *situations: Situation | Custom) -> None:
        """Answer the next calls so, one each; later ones normally."""
        self._script.extend(situations)

    def calls(self) -> list[Seen]:
        """The requests that make images: not downloads, polls or uploads."""
        return [seen for seen in self.requests if self.is_call(seen)]

    def is_call(self, seen: Seen) -> bool:
        """Whether a request makes images. Downloads lie under ``/files/``."""
        return not seen.path.startswith("/files/")

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        """The API's answer to one request. Overridden by each server."""
        raise NotImplementedError

    # ------------------------------------------------------------------ for servers

    def host_file(self, name: str, data: bytes) -> str:
        """Put a file on this server; returns its URL."""
        self.files[name] = data
        return f"http://127.0.0.1:{self._port}/files/{name}"

    def problem(self, text: str) -> None:
        """Note that a request is not what the real API takes."""
        self.problems.append(text)

    # ------------------------------------------------------------------ inside

    def _serve(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._run())

    async def _run(self) -> None:
        app = web.Application(client_max_size=256 << 20)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        response = await self._honest(request)
        return response if self.spoil is None else await self.spoil(request, response)

    async def _honest(self, request: web.Request) -> web.StreamResponse:
        seen = await _read(request)
        self.requests.append(seen)
        if seen.path.startswith("/files/"):
            return self._file(seen)
        situation: Situation | Custom = "ok"
        if self._script and self.is_call(seen):
            situation = self._script.popleft()
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        if callable(situation):
            return situation(seen)
        wire = await self._on_the_wire(request, situation)
        if wire is not None:
            return wire
        try:
            return await self.answer(seen, situation)
        except Exception as error:
            self.problem(f"{seen.path}: the server itself failed: {type(error).__name__}: {error}")
            raise

    def _file(self, seen: Seen) -> web.Response:
        if "authorization" in seen.headers or self.key in json.dumps(dict(seen.headers)):
            self.problem(f"{seen.path}: the key was sent with a download")
        data = self.files.get(seen.path.removeprefix("/files/"))
        return web.Response(status=404) if data is None else web.Response(body=data)

    async def _on_the_wire(
        self, request: web.Request, situation: Situation
    ) -> web.StreamResponse | None:
        if situation == "html":
            return web.Response(text="<html><body>Sign in</body></html>", content_type="text/html")
        if situation == "bad_json":
            return web.Response(body=b'{"data": [{"b64_', content_type="application/json")
        if situation == "redirect":
            return web.Response(status=307, headers={"Location": ELSEWHERE + request.path})
        if situation == "hang":
            await self._stop.wait()
        if situation in {"reset", "hang"}:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        if situation == "cut":
            response = web.StreamResponse(headers={"Content-Length": "100000"})
            await response.prepare(request)
            await response.write(b'{"created": 1, "data": [')
            if request.transport is not None:
                request.transport.abort()
            return response
        return None


async def _read(request: web.Request) -> Seen:
    headers = {name.lower(): value for name, value in request.headers.items()}
    common = (request.method, request.path, dict(request.query), headers)
    if headers.get("content-type", "").startswith("multipart/"):
        fields: list[tuple[str, str]] = []
        files: list[tuple[str, Upload]] = []
        body = b""
        async for part in await request.multipart():
            data = bytes(await part.read())
            body += str(part.name).encode() + b"=" + data + b"\n"
            if part.filename is None:
                fields.append((str(part.name), data.decode("utf-8")))
            else:
                mime = part.headers.get("Content-Type", "")
                files.append((str(part.name), Upload(part.filename, mime, data)))
        return Seen(*common, body=body, fields=tuple(fields), files=tuple(files))
    body = await request.read()
    try:
        parsed = json.loads(body) if body else None
    except ValueError:
        parsed = None
    return Seen(*common, body=body, json=parsed)


def picture(
    number: int = 0, kind: str = "PNG", size: tuple[int, int] = (16, 12), color: int = 40
) -> bytes:
    """A small real image; its number makes it different from others."""
    if kind == "SVG":
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}">'
            f"<desc>{number}</desc></svg>"
        ).encode()
    out = io.BytesIO()
    Image.new("RGB", size, (number % 256, number // 256 % 256, color)).save(out, kind.upper())
    return out.getvalue()


def image_bytes(situation: Situation, number: int = 0, kind: str = "PNG") -> bytes:
    """The bytes of one image in a situation: whole, half, mislabelled, or no image."""
    if situation == "not_an_image":
        return b"<!doctype html><html><body>404</body></html>"
    if situation == "mislabelled":
        return picture(number, "PNG" if kind.upper() == "JPEG" else "JPEG")
    whole = picture(number, kind)
    return whole[: len(whole) // 2] if situation == "truncated" else whole


def image_base64(situation: Situation, number: int = 0, kind: str = "PNG") -> str:
    """The same as base64, or noise instead of it."""
    if situation == "bad_base64":
        return "!!! this is no base64 !!!"
    return base64.b64encode(image_bytes(situation, number, kind)).decode("ascii")

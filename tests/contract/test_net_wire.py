"""The foundation of network providers on the wire: input images, requests, downloads."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web

from runner.images import BadImage
from runner.providers.contract import Missing, Picture, ProviderError
from runner.providers.net import Http, Inputs, Part, alpha_mask, inverted_mask, transfers
from runner.providers.net.inputs import as_input, grey_mask
from runner.settings.errors import RequestError
from runner.settings.schema import ModelSettings, ProviderSettings, VariantSettings
from tests.servers.loopback import Loopback, Seen, picture

T = TypeVar("T")
KEY = "canary-key-0123456789abcdef"


def settings(base_url: str | None = None, **provider: Any) -> VariantSettings:
    return VariantSettings(
        provider=ProviderSettings(name="example", base_url=base_url, **provider),
        model=ModelSettings(name="model-1"),
        timeout_s=5,
    )


# ---------------------------------------------------------------------- inputs


class TestInputs:
    def test_masks(self) -> None:
        from PIL import Image

        drawn = Image.new("L", (4, 2), 0)
        drawn.putpixel((1, 0), 255)
        drawn.putpixel((2, 1), 100)
        mask = as_input(_png(drawn), "mask.png")
        assert _pixels(grey_mask(mask)) == drawn.tobytes()
        assert _pixels(inverted_mask(mask)) == bytes(255 - value for value in drawn.tobytes())
        clear = Image.open(_file(alpha_mask(mask).data))
        assert clear.getchannel("A").tobytes() == bytes(255 - v for v in drawn.tobytes())

    def test_transparent_parts_of_a_mask_are_kept(self) -> None:
        from PIL import Image

        white = Image.new("RGBA", (2, 1), (255, 255, 255, 255))
        white.putpixel((1, 0), (255, 255, 255, 0))
        assert _pixels(grey_mask(as_input(_png(white), "m.png"))) == b"\xff\x00"

    def test_one_read_for_many_cells(self, tmp_path: Path) -> None:
        path = tmp_path / "in.png"
        path.write_bytes(picture(1))
        inputs = Inputs(Http(settings("https://8.8.8.8"), base_url=None))

        async def read() -> bool:
            first = await inputs.read(str(path))
            path.unlink()
            return await inputs.read(str(path)) is first

        assert asyncio.run(read())

    def test_what_is_not_there_is_named(self, tmp_path: Path) -> None:
        inputs = Inputs(Http(settings("https://8.8.8.8"), base_url=None))
        with pytest.raises(RequestError, match=r"pipeline\.mask=.*nothing\.png"):
            asyncio.run(inputs.read(str(tmp_path / "nothing.png"), "pipeline.mask"))

    def test_private_addresses_are_not_read(self) -> None:
        async def read() -> None:
            http = Http(settings("https://8.8.8.8"), base_url=None)
            await http.open()
            try:
                await Inputs(http).read("https://127.0.0.1/in.png")
            finally:
                await http.close()

        with pytest.raises(ProviderError, match="private"):
            asyncio.run(read())


def _file(data: bytes) -> Any:
    import io

    return io.BytesIO(data)


def _png(image: Any) -> bytes:
    out = _file(b"")
    image.save(out, "PNG")
    return bytes(out.getvalue())


def _pixels(mask: Any) -> bytes:
    from PIL import Image

    return bytes(Image.open(_file(mask.data)).tobytes())


def dns(names: dict[str, str]) -> Callable[..., Any]:
    def getaddrinfo(host: str, port: Any, *_: Any, **__: Any) -> list[Any]:
        if host not in names:
            raise socket.gaierror(socket.EAI_NONAME, "unknown in this test")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (names[host], port or 0))]

    return getaddrinfo


# ---------------------------------------------------------------------- requests and downloads


class Example(Loopback):
    """Answers every call with what it saw."""

    async def answer(self, seen: Seen, situation: str) -> web.StreamResponse:
        return web.json_response({"method": seen.method, "json": seen.json, "query": seen.query})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    with Example() as server:
        monkeypatch.setenv("EXAMPLE_KEY", server.key)
        monkeypatch.setattr(transfers, "FETCH_PAUSES_S", (0.0, 0.0))
        yield server
    assert server.problems == []


def using(server: Example, work: Callable[[Http], Awaitable[T]], **options: Any) -> T:
    """Run something with an open :class:`Http` for the server."""

    async def run() -> T:
        http = Http(settings(server.base_url), base_url=None, variables=("EXAMPLE_KEY",), **options)
        http.check_ready()
        await http.open()
        try:
            return await work(http)
        finally:
            await http.close()

    return asyncio.run(run())


class TestRequests:
    def test_json(self, server: Example) -> None:
        reply = using(
            server,
            lambda http: http.send("POST", "/make", json={"a": "é\ud800"}, query={"v": "1"}),
        )
        assert reply.json() == {"method": "POST", "json": {"a": "é\ud800"}, "query": {"v": "1"}}
        (seen,) = server.requests
        assert seen.path == "/v1/make"
        assert seen.headers["authorization"] == f"Bearer {server.key}"
        assert seen.headers["accept-encoding"] == "identity"
        assert "cookie" not in seen.headers

    def test_own_auth_header(self, server: Example) -> None:
        using(server, lambda http: http.send("GET", "/x"), auth=lambda key: {"X-Key": f"Key {key}"})
        assert server.requests[0].headers["x-key"] == f"Key {server.key}"
        assert "authorization" not in server.requests[0].headers

    def test_form(self, server: Example) -> None:
        parts = [
            Part("prompt", "a ✓ fox"),
            Part("image", b"\x89PNG", "in.png", "image/png"),
            Part("image", b"two", "in2.png", "image/png"),
        ]
        using(server, lambda http: http.send("POST", "/make", form=parts))
        (seen,) = server.requests
        assert seen.fields == (("prompt", "a ✓ fox"),)
        assert [(name, file.filename, file.mime, file.data) for name, file in seen.files] == [
            ("image", "in.png", "image/png", b"\x89PNG"),
            ("image", "in2.png", "image/png", b"two"),
        ]

    def test_a_whole_address_on_the_same_host(self, server: Example) -> None:
        poll = server.base_url.replace("/v1", "/jobs/1")
        using(server, lambda http: http.send("GET", poll))
        assert server.requests[0].path == "/jobs/1"

    def test_another_host_never_gets_the_key(self, server: Example) -> None:
        port = server.base_url.rpartition(":")[2]
        for url in (
            f"http://localhost:{port}",
            "https://elsewhere.invalid/",
            f"http://127.0.0.1.nip.io:{port}",
        ):
            with pytest.raises(ProviderError, match="another host"):
                using(server, lambda http, url=url: http.send("GET", url))
        assert server.requests == []

    def test_cookies_are_not_kept(self, server: Example) -> None:
        server.script(lambda _: web.Response(text="{}", headers={"Set-Cookie": "a=b"}))

        async def twice(http: Http) -> None:
            await http.send("GET", "/x")
            await http.send("GET", "/x")

        using(server, twice)
        assert "cookie" not in server.requests[1].headers

    def test_bodies_are_bounded(self, server: Example) -> None:
        server.script(lambda _: web.Response(body=b"x" * 2000))
        with pytest.raises(ProviderError, match="1,000 bytes") as caught:
            using(server, lambda http: http.send("GET", "/x", limit=1000))
        assert caught.value.code == "bad_response"

    def test_lines(self, server: Example) -> None:
        body = "data: é\r\n\r\nerror: {}\nlast".encode()
        server.script(lambda _: web.Response(body=body))

        async def lines(http: Http) -> list[str]:
            async with http.stream("POST", "/s", json={}) as (_, found):
                return [line async for line in found]

        assert using(server, lines) == ["data: é", "", "error: {}", "last"]

    def test_time_limit_of_one_request(self, server: Example) -> None:
        server.script("hang")

        async def wait(http: Http) -> ProviderError:
            try:
                await http.send("GET", "/x", timeout_s=0.2)
            except Exception as error:
                return http.classify(error)
            raise AssertionError("it answered")

        fault = using(server, wait)
        assert (fault.kind, fault.code) == ("ambiguous", "timeout")

    def test_names_that_dns_does_not_know_are_transient(
        self, server: Example, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", dns({}))

        async def go(http: Http) -> ProviderError:
            try:
                await http.session.get("https://unknown.example/")
            except Exception as error:
                return http.classify(error)
            raise AssertionError("it answered")

        assert using(server, go).kind == "transient"


class TestDownloads:
    def test_bytes_come_without_the_key(self, server: Example) -> None:
        url = server.host_file("a.png", picture(5))
        found = using(server, lambda http: http.take(url, revised_prompt="r", seed_sent=3))
        assert found == Picture(data=picture(5), revised_prompt="r", seed_sent=3)
        assert "authorization" not in server.requests[0].headers

    def test_redirects_are_followed_step_by_step(self, server: Example) -> None:
        url = server.host_file("a.png", picture(5))
        server.script(
            lambda _: web.Response(status=302, headers={"Location": "/v1/next"}),
            lambda _: web.Response(status=307, headers={"Location": url}),
        )
        assert using(server, lambda http: http.fetch(f"{server.base_url}/first")) == picture(5)

    @pytest.mark.parametrize(
        "target",
        [
            "https://169.254.169.254/latest",
            "file:///etc/passwd",
            "ftp://example.com/a",
        ],
    )
    def test_redirects_to_where_they_must_not_lead(self, server: Example, target: str) -> None:
        server.script(lambda _: web.Response(status=302, headers={"Location": target}))
        found = using(server, lambda http: http.take(f"{server.base_url}/first"))
        assert isinstance(found, Missing)
        assert found.code == "address_refused"

    def test_redirects_without_end(self, server: Example) -> None:
        again = f"{server.base_url}/again"
        server.script(*[lambda _: web.Response(status=302, headers={"Location": again})] * 10)
        found = using(server, lambda http: http.take(again))
        assert isinstance(found, Missing)
        assert len(server.requests) == transfers.MAX_REDIRECTS + 1

    def test_names_that_lead_to_private_addresses(
        self, server: Example, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A public API whose result lies at a name that DNS points at this machine."""
        port = server.base_url.split(":")[2].partition("/")[0]
        names = {"api.example": "9.9.9.9", "files.example": "127.0.0.1"}
        monkeypatch.setattr(socket, "getaddrinfo", dns(names))

        async def go() -> Missing | Picture:
            http = Http(settings("https://api.example"), base_url=None, variables=("EXAMPLE_KEY",))
            await http.open()
            try:
                return await http.take(f"https://files.example:{port}/a.png")
            finally:
                await http.close()

        found = asyncio.run(go())
        assert isinstance(found, Missing)
        assert found.code == "address_refused"
        assert "127.0.0.1" in found.message
        assert server.requests == []

    @pytest.mark.parametrize(
        "url",
        ["https://[broken", "http://127.0.0.1:99999/a", "https://", f"https://{'x' * 70}.com/"],
    )
    def test_addresses_that_are_none(self, server: Example, url: str) -> None:
        found = using(server, lambda http: http.take(url))
        assert isinstance(found, Missing)
        assert found.kind == "result_lost"

    def test_a_paid_result_is_fetched_again_after_a_fault(self, server: Example) -> None:
        server.script(
            lambda _: web.Response(status=503),
            "reset",
            lambda _: web.Response(body=picture(1)),
        )
        assert using(server, lambda http: http.fetch(f"{server.base_url}/r")) == picture(1)

    def test_a_result_that_stays_away(self, server: Example) -> None:
        server.script(*["reset"] * 20)
        found = using(server, lambda http: http.take(f"{server.base_url}/r"))
        assert isinstance(found, Missing)
        assert found.kind == "result_lost"
        assert 3 <= len(server.requests) < 20

    def test_results_are_bounded(self, server: Example) -> None:
        url = server.host_file("big", b"x" * 5000)
        with pytest.raises(BadImage, match="1,000"):
            using(server, lambda http: http.fetch(url, 1000))

    def test_empty_results(self, server: Example) -> None:
        url = server.host_file("empty", b"")
        found = using(server, lambda http: http.take(url))
        assert isinstance(found, Missing)
        assert found.kind == "bad_image"

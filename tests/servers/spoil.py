"""Answers that no honest server gives: every provider's own good answers, spoiled.

A provider's strict server answers as the real API does; a :class:`Spoiler` then changes what leaves
it. Spoiling good answers goes far deeper into the code that reads them than noise does.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from hypothesis import strategies as st
from PIL import Image

from tests.servers.loopback import picture


def png(width: int, height: int, *chunks: tuple[bytes, bytes], body: bytes | None = None) -> bytes:
    """A PNG of any size that it claims, with further chunks before its pixels."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = zlib.compress(bytes(1000)) if body is None else body
    parts = [(b"IHDR", head), *chunks, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def huge_png() -> bytes:
    """40,000 by 40,000 pixels in 194 kB."""
    rows = zlib.compressobj(9)
    line = bytes(1 + 40_000 // 8)
    body = b"".join(rows.compress(line) for _ in range(40_000)) + rows.flush()
    return png(40_000, 40_000, body=body)


def flipped(data: bytes, bit: int | None = None) -> bytes:
    """One bit is wrong; if none is named, one in the middle."""
    at, power = divmod(len(data) * 4 + 4 if bit is None else bit, 8)
    return data[:at] + bytes([data[at] ^ 1 << power]) + data[at + 1 :]


def no_images() -> dict[str, bytes]:
    """Files that must never be taken for a picture."""
    whole = picture(7, size=(64, 48))
    jpeg = picture(7, "JPEG", (64, 48))
    return {
        "nothing": b"",
        "one byte": b"\x89",
        "html": b"<!doctype html><html><body>sign in</body></html>",
        "json": b'{"error": "quota"}',
        "truncated png": whole[:-20],
        "truncated jpeg": jpeg[: len(jpeg) // 2],
        "png without pixels": png(0, 0),
        "png of no height": png(64, 0),
        "png with a wrong bit": flipped(whole),
        "jpeg without tables": flipped(jpeg, 8 * 3 + 7),
        "webp of no first frame": flipped(picture(7, "WEBP"), 8 * 20),
        "png of 1.6 billion pixels": huge_png(),
        "gif header": b"GIF89a",
        "webp header": b"RIFF\x00\x00\x00\x00WEBPVP8 ",
        "zip": b"PK\x03\x04" + bytes(100),
        "elf": b"\x7fELF" + bytes(100),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "pdf": b"%PDF-1.7\n",
        "tiff": b"II*\x00" + bytes(100),
        "unfinished svg": b"<svg xmlns='http://www.w3.org/2000/svg'",
    }


def odd_images() -> dict[str, bytes]:
    """Files that are pictures, and traps."""
    bomb = zlib.compress(bytes(200_000_000), 9)
    whole = io.BytesIO()
    Image.new("RGB", (8, 8)).save(whole, "PNG")
    data = whole.getvalue()
    text = b"parameters\0\0" + bomb
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + text))
    return {
        "mislabelled": picture(3, "JPEG"),
        "text bomb": data[:33] + chunk + data[33:],
        "padded": picture(4) + bytes(1000),
    }


VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 10**400, 1e308, -1e308, 0.5, "",
    " ", "null", "NaN", "\x00", "\ud800", "\u202e", "a" * 100_000, "0", "-1", "1e999", "true", [],
    {}, [[]], [None], {"": None}, [{}] * 50, "https://169.254.169.254/latest/meta-data",
    "http://localhost:1/x", "file:///etc/passwd", "gopher://x", "data:,", "data:image/png;base64,",
    "data:image/png;base64,!!", "//x", "http://[::1", "https://\u0000", "succeeded", "failed",
    "<script>alert(1)</script>", "../../../../etc/passwd", "=1+1", "{{7*7}}", "%s%n",
]  # fmt: skip

NON_FINITE = [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"1" * 5000]


@dataclass(frozen=True)
class Spoiler:
    """How one answer is spoiled: a recipe that repeats.

    Attributes:
        kind: What is done.
        at: Which of the answers of a call is spoiled, counted round and round: a job has several.
        seed: Chooses the place and the value.
    """

    kind: str
    at: int
    seed: int

    def spoil(self, response: web.Response) -> web.Response:
        """The response that leaves instead."""
        body = response.body if isinstance(response.body, bytes) else b""
        dice = random.Random(self.seed)
        status, headers = response.status, dict(response.headers)
        headers.pop("Content-Length", None)
        made = _KINDS[self.kind](body, dice)
        if self.kind == "status":
            status = dice.choice([200, 201, 202, 204, 206, 226, 304, 400, 418, 451, 500, 599])
        elif self.kind == "headers":
            headers |= _headers(dice)
        return web.Response(status=status, headers=headers, body=made)


def spoilers() -> st.SearchStrategy[Spoiler]:
    """Every way to spoil an answer."""
    return st.builds(
        Spoiler,
        kind=st.sampled_from(sorted(_KINDS)),
        at=st.integers(0, 3),
        seed=st.integers(0, 2**32 - 1),
    )


def _headers(dice: random.Random) -> dict[str, str]:
    return dice.choice(
        [
            {"Content-Type": "text/html"},
            {"Content-Type": "image/png"},
            {"Content-Type": "application/octet-stream; charset=\u00e4"},
            {"Content-Type": "application/json; charset=utf-7"},
            {"Retry-After": "-1"},
            {"Retry-After": "9" * 400},
            {"Retry-After": "Thu, 99 Foo 2026"},
            {"retry-after-ms": "nan"},
            {"x-request-id": "x" * 5000},
            {"Location": "http://["},
            {"Set-Cookie": "a=b"},
            {"Content-Encoding": "identity"},
        ]
    )


def _bytes(body: bytes, dice: random.Random) -> bytes:
    data = bytearray(body)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(4):
            case 0:
                del data[at : at + dice.randint(1, 64)]
            case 1:
                data[at:at] = dice.randbytes(dice.randint(1, 64))
            case 2 if at < len(data):
                data[at] ^= 1 << dice.randrange(8)
            case _:
                data[at:at] = data[at : at + dice.randint(1, 512)]
    return bytes(data)


def _parsed(change: Callable[[Any, random.Random], Any]) -> Callable[[bytes, random.Random], bytes]:
    def spoil(body: bytes, dice: random.Random) -> bytes:
        try:
            found = json.loads(body)
        except ValueError:
            return _bytes(body, dice)
        for _ in range(dice.randint(1, 3)):
            found = change(found, dice)
        return json.dumps(found).encode()

    return spoil


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key in a document."""
    found: list[tuple[Any, Any]] = []
    for key, item in (
        list(value.items()) if isinstance(value, dict)
        else list(enumerate(value)) if isinstance(value, list)
        else []
    ):  # fmt: skip
        found.append((value, key))
        found += _places(item)
    return found


def _value(found: Any, dice: random.Random) -> Any:
    places = _places(found)
    if not places:
        return dice.choice(VALUES)
    holder, key = dice.choice(places)
    match dice.randrange(5):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 1:
            holder[key] = [holder[key]]
        case 2:
            holder[key] = {"value": holder[key]}
        case 3 if isinstance(holder, list):
            holder += holder[:8]
        case _:
            holder[key] = json.loads(json.dumps(dice.choice(VALUES)))
    return found


def _image(found: Any, dice: random.Random) -> Any:
    texts = [
        (holder, key) for holder, key in _places(found)
        if isinstance(holder[key], str) and len(holder[key]) > 60
    ]  # fmt: skip
    if not texts:
        return _value(found, dice)
    holder, key = dice.choice(texts)
    text = holder[key]
    match dice.randrange(5):
        case 0:
            holder[key] = text[: dice.randrange(len(text))]
        case 1:
            holder[key] = base64.b64encode(dice.choice(BAD)).decode()
        case 2:
            holder[key] = "data:image/png;base64," + text
        case 3:
            holder[key] = text.replace(dice.choice(text), dice.choice("!\u00e4 \n-_%"))
        case _:
            data = bytearray(_unpacked(text))
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            holder[key] = base64.b64encode(data).decode()
    return found


def _unpacked(text: str) -> bytes:
    """What a text stands for: base64 mostly, but an address says only itself."""
    try:
        return base64.b64decode(text)
    except ValueError:
        return text.encode()


def _number(body: bytes, dice: random.Random) -> bytes:
    """A number becomes one that JSON does not have."""
    digits = [
        at for at, byte in enumerate(body) if 48 <= byte <= 57 and body[at - 1 : at] in b": ["
    ]
    if not digits:
        return _bytes(body, dice)
    start = end = dice.choice(digits)
    while body[end : end + 1] and body[end : end + 1] in b"0123456789.eE+-":
        end += 1
    return body[:start] + dice.choice(NON_FINITE) + body[end:]


_KINDS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bytes": _bytes,
    "cut": lambda body, dice: body[: dice.randrange(len(body) + 1)],
    "headers": lambda body, dice: body,
    "html": lambda body, dice: b"<html><body>" + dice.randbytes(50) + b"</body></html>",
    "image": _parsed(_image),
    "nested": lambda body, dice: b"[" * 100_000 if dice.random() < 0.5 else b'{"a":' * 50_000,
    "noise": lambda body, dice: dice.randbytes(dice.randrange(2000)),
    "number": _number,
    "picture": lambda body, dice: dice.choice(BAD),
    "status": lambda body, dice: body,
    "twice": lambda body, dice: body + body,
    "value": _parsed(_value),
}

BAD: list[bytes] = [data for data in no_images().values() if len(data) < 100_000]


class Spoiling:
    """Spoils one answer of a call; to be a server's ``spoil``.

    Attributes:
        spoiler: How; ``None``: not at all.
        answers: Answers that an honest call has.
        served: Answers since the call began.
        spoiled: The one that was spoiled, as it left.
    """

    def __init__(self) -> None:
        self.spoiler: Spoiler | None = None
        self.answers = 1
        self.served = 0
        self.spoiled: web.Response | None = None

    def begin(self, spoiler: Spoiler | None) -> None:
        """A new call begins."""
        self.spoiler, self.served, self.spoiled = spoiler, 0, None

    async def __call__(
        self, request: web.Request, response: web.StreamResponse
    ) -> web.StreamResponse:
        self.served += 1
        if self.spoiler is None or self.served - 1 != self.spoiler.at % self.answers:
            return response
        assert isinstance(response, web.Response)
        self.spoiled = self.spoiler.spoil(response)
        return self.spoiled


# ---------------------------------------------------------------- whole answers


async def endless(request: web.Request, _: web.StreamResponse) -> web.StreamResponse:
    """A body without an end."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    block = b" " * (1 << 20)
    while True:
        await response.write(block)


async def dripping(request: web.Request, _: web.StreamResponse) -> web.StreamResponse:
    """A byte now and then."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)


async def packed(request: web.Request, _: web.StreamResponse) -> web.StreamResponse:
    """1 GB in a megabyte."""
    pack = zlib.compressobj(9, wbits=31)
    head = pack.compress(bytes(16)) + pack.flush(zlib.Z_FULL_FLUSH)
    # After a full flush the same input gives the same bytes, so one block does for all.
    block = pack.compress(b" " * (1 << 24)) + pack.flush(zlib.Z_FULL_FLUSH)
    return web.Response(
        body=head + block * 64,
        headers={"Content-Encoding": "gzip", "Content-Type": "application/json"},
    )

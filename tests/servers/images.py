"""Servers that speak OpenAI's Images API in their own way: fields, masks, answers and errors."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from aiohttp import web
from PIL import Image, ImageChops

from tests.servers.loopback import (
    RETRY_AFTER_S,
    Loopback,
    Seen,
    Situation,
    Upload,
    image_base64,
    picture,
)
from tests.servers.strict import Shape

Fault = tuple[int, Any]
"""Status and body."""


class ImagesServer(Loopback):
    """Strict about routes, the key, fields and files. A server's own class declares the rest."""

    generate: ClassVar[Shape]
    edit: ClassVar[Shape | None] = None
    file_fields: ClassVar[frozenset[str]] = frozenset({"image", "image[]", "mask"})
    mask_field: ClassVar[str] = "mask"
    faults: ClassVar[Mapping[str, Fault]]
    """What is answered in each situation that is an error."""
    open_door: bool = False
    """The server asks for no key."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        """Check the request as the server does, then answer in the situation's shape."""
        if not self.authorized(seen):
            self.problem(f"{seen.path}: the key came as {seen.headers.get('authorization')!r}")
            situation = "auth"
        edit = seen.path == f"{self.prefix}/images/edits" and self.edit is not None
        if seen.method != "POST" or not (edit or seen.path == f"{self.prefix}/images/generations"):
            self.problem(f"{seen.method} {seen.path}: there is no such route")
            return web.json_response({"detail": "Not Found"}, status=404)
        problems = list(self._edit_problems(seen) if edit else self.generate.problems(seen.json))
        fields = dict(seen.fields) if edit else seen.json
        problems += [] if problems else list(self.rules(fields, seen))
        for text in problems:
            self.problem(f"{seen.path}: {text}")
        if problems:
            situation = "invalid"
        for name, upload in seen.files:
            if name == self.mask_field:
                self.repainted.append(self.painted(upload))
        if situation in self.faults:
            status, body = self.faults[situation]
            return web.json_response(body, status=status, headers=self.fault_headers(status))
        count = int(fields.get("n", 1)) - (situation == "partial")
        items = [] if situation == "empty" else [self.item(situation, fields) for _ in range(count)]
        return web.json_response(self.body(items, fields), headers=self.headers(count))

    def authorized(self, seen: Seen) -> bool:
        """Whether the key is right."""
        given = seen.headers.get("authorization")
        return given is None if self.open_door else given == f"Bearer {self.key}"

    def rules(self, fields: Mapping[str, Any], seen: Seen) -> Iterator[str]:
        """What a table of fields cannot say."""
        return iter(())

    def painted(self, mask: Upload) -> Image.Image:
        """What the server paints anew, white."""
        with Image.open(io.BytesIO(mask.data)) as image:
            return image.convert("L")

    def item(self, situation: Situation, fields: Mapping[str, Any]) -> dict[str, Any]:
        """One image of an answer."""
        self.made += 1
        if situation == "text":
            return {"revised_prompt": "I cannot draw that."}
        if situation == "url":
            return {"url": self.host_file(f"{self.made}.png", picture(self.made))}
        if situation == "private_url":
            return {"url": "https://169.254.169.254/latest/meta-data"}
        if situation == "lost_url":
            return {"url": self.base_url.replace(self.prefix, "/files/none.png")}
        return {"b64_json": image_base64(situation, self.made)}

    def body(self, items: list[dict[str, Any]], fields: Mapping[str, Any]) -> dict[str, Any]:
        """A good answer."""
        return {"created": 1_790_000_000, "data": items}

    def headers(self, count: int) -> dict[str, str]:
        """Of a good answer."""
        return {}

    def fault_headers(self, status: int) -> dict[str, str]:
        """Of an error."""
        return {"Retry-After": str(RETRY_AFTER_S)} if status == 429 else {}

    def _edit_problems(self, seen: Seen) -> Iterator[str]:
        assert self.edit is not None
        if not seen.headers.get("content-type", "").startswith("multipart/form-data"):
            yield f"Content-Type is {seen.headers.get('content-type')}"
            return
        yield from self.edit.form_problems(seen.fields)
        names = [name for name, _ in seen.files]
        images = [upload for name, upload in seen.files if name in {"image", "image[]"}]
        if not images or {"image", "image[]"} <= set(names):
            yield f"{len(images)} images came, as {names}"
        for name in set(names) - self.file_fields:
            yield f"{name} is not a file field of this server"


def clear_is_painted(mask: Upload) -> Image.Image:
    """What a server paints anew that goes by alpha, as OpenAI does."""
    with Image.open(io.BytesIO(mask.data)) as image:
        return ImageChops.invert(image.getchannel("A"))

"""OpenAI's Images API as documented: strict about fields, models, sizes, files and the key."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

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
from tests.servers.strict import Bool, Int, OneOf, Shape, Text

FREE_SIZES = re.compile(r"gpt-image-2(\.\d)?\b")
STANDARD_SIZES = ("auto", "1024x1024", "1536x1024", "1024x1536")
MODELS = (
    "gpt-image-1.5",
    "gpt-image-1-mini",
    "chatgpt-image-latest",
    "gpt-image-2",
    "gpt-image-2-2026-04-21",
    "gpt-image-2.5-sunburst",
    "gpt-image-2.5-sunburst-2026-09-08",
    "gpt-image-2.5-flare",
    "gpt-image-2.5-flare-2026-09-08",
    "gpt-image-2.6-sunburst",
    "gpt-image-2.6-flare",
)
RETIRED = ("gpt-image-1", "dall-e-2", "dall-e-3")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

COMMON: dict[str, Any] = {
    "prompt": Text(longest=32_000, shortest=1),
    "model": OneOf((*MODELS, *RETIRED)),
    "n": Int(1, 10),
    "size": Text(pattern=r"auto|\d+x\d+"),
    "quality": OneOf(("auto", "low", "medium", "high", "xhigh", "max")),
    "complexity": OneOf(("low", "medium", "high")),
    "background": OneOf(("auto", "opaque", "transparent")),
    "output_format": OneOf(("png", "jpeg", "webp", "gif", "svg")),
    "output_compression": Int(0, 100),
    "stream": Bool(),
    "partial_images": Int(0, 3),
    "frame_count": Int(2, 16),
    "frame_duration_ms": Int(10, 655_350),
    "safety_identifier": Text(longest=64),
}
GENERATE = Shape(
    {
        **COMMON,
        "moderation": OneOf(("auto", "low")),
        "svg": Shape(
            {"model": Text(), "reasoning": Shape({"effort": OneOf(EFFORTS)})},
            required=("model",),
        ),
    },
    required=("prompt", "model"),
)
EDIT = Shape(
    {
        **COMMON,
        "input_fidelity": OneOf(("low", "high")),
        "svg[model]": Text(),
        "svg[reasoning][effort]": OneOf(EFFORTS),
    },
    required=("prompt", "model"),
)


class OpenAIServer(Loopback):
    """``/v1/images/generations`` and ``/v1/images/edits``."""

    def __init__(self) -> None:
        super().__init__()
        self._made = 0

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        """Check the request as the API does, then answer in the situation's shape."""
        if refusal := self._authorize(seen, situation):
            return refusal
        edit = seen.path == "/v1/images/edits"
        if seen.method != "POST" or not (edit or seen.path == "/v1/images/generations"):
            self.problem(f"{seen.method} {seen.path}: there is no such route")
            return error(404, "invalid_request_error", None, "Invalid URL")
        problems = list(_edit_problems(seen) if edit else _generate_problems(seen))
        fields = dict(seen.fields) if edit else seen.json
        if not problems:
            problems = list(_rules(fields, [name for name, _ in seen.files]))
        if problems:
            for text in problems:
                self.problem(f"{seen.path}: {text}")
            return error(400, "invalid_request_error", None, problems[0])
        if edit:
            self._keep_mask(seen)
        if fields["model"] in RETIRED:
            situation = "gone"
        shaped = _SHAPED.get(situation)
        if shaped is not None:
            return shaped()
        if str(fields.get("stream", False)).lower() == "true":
            kind = "image_edit" if edit else "image_generation"
            return self._stream(seen, fields, kind, situation)
        return self._images(fields, situation, len(seen.files))

    def _authorize(self, seen: Seen, situation: Situation) -> web.Response | None:
        given = seen.headers.get("authorization", "")
        if given != f"Bearer {self.key}":
            self.problem(f"{seen.path}: the key came as {given!r}")
            situation = "auth"
        if situation != "auth":
            return None
        shown = f"{self.key[:8]}***{self.key[-4:]} ({self.key})"
        return error(401, "invalid_request_error", "invalid_api_key", f"Incorrect API key: {shown}")

    def _images(self, fields: Mapping[str, Any], situation: Situation, files: int) -> web.Response:
        count = int(fields.get("n", 1))
        if situation == "partial":
            count -= 1
        kind = str(fields.get("output_format", "png"))
        items: list[dict[str, Any]] = []
        for _ in range(count):
            self._made += 1
            if situation == "url":
                url = self.host_file(f"{self._made}.{kind}", picture(self._made, kind.upper()))
                items.append({"url": url, "revised_prompt": "as revised"})
            elif situation == "private_url":
                items.append({"url": "https://169.254.169.254/latest/meta-data"})
            elif situation == "lost_url":
                items.append({"url": self.base_url.replace("/v1", "/files/none.png")})
            else:
                items.append({"b64_json": image_base64(situation, self._made, kind.upper())})
        body: dict[str, Any] = {"created": 1_790_000_000, **effective(fields)}
        if situation == "empty":
            body["data"] = []
        elif situation == "text":
            body["data"] = [{"revised_prompt": "I cannot draw that."}]
        else:
            body["data"] = items
            body["usage"] = usage(fields, count, files)
            if kind == "svg":
                body["svg_usage"] = {
                    "model": "gpt-6",
                    "input_tokens": 100,
                    "output_tokens": 900,
                    "reasoning_tokens": 0,
                    "total_tokens": 1000,
                }
        return web.json_response(body, headers={"x-request-id": f"req_{self._made}"})

    def _stream(
        self, seen: Seen, fields: Mapping[str, Any], kind: str, situation: Situation
    ) -> web.StreamResponse:
        lines: list[str] = []
        shared = {"created_at": 1_790_000_000, **effective(fields)}
        for at in range(int(fields.get("partial_images", 0))):
            event = {
                "type": f"{kind}.partial_image",
                "partial_image_index": at,
                "b64_json": image_base64("ok", 100 + at),
                **shared,
            }
            lines.append(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n")
        self._made += 1
        done = {
            "type": f"{kind}.completed",
            "b64_json": image_base64("ok", self._made),
            "usage": usage(fields, 1, len(seen.files)),
            **shared,
        }
        if situation != "empty":
            lines.append(f"event: {done['type']}\ndata: {json.dumps(done)}\n\n")
        return web.Response(
            body="".join(lines).encode(),
            content_type="text/event-stream",
            headers={"x-request-id": f"req_{self._made}"},
        )

    def _keep_mask(self, seen: Seen) -> None:
        for name, upload in seen.files:
            if name == "mask":
                # Alpha 0 is repainted.
                self.repainted.append(ImageChops.invert(_opened(upload).getchannel("A")))


def effective(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What the API says it used: ``auto`` is resolved."""
    resolved = {"size": "1024x1024", "quality": "medium", "background": "opaque"}
    found = {
        name: value if (value := fields.get(name, "auto")) != "auto" else resolved[name]
        for name in resolved
    }
    return {**found, "output_format": fields.get("output_format", "png")}


def usage(fields: Mapping[str, Any], count: int, files: int) -> dict[str, Any]:
    """Token counts, the picture's by the formula of gpt-image-2."""
    used = effective(fields)
    width, height = (int(side) for side in str(used["size"]).split("x"))
    patches = {"low": 16, "medium": 48, "high": 96, "xhigh": 128, "max": 192}[used["quality"]]
    across = round(patches * min(width, height) / max(width, height))
    each = math.ceil(patches * across * (2_000_000 + width * height) / 4_000_000)
    text, seen = 12, 323 * files
    return {
        "input_tokens": text + seen,
        "input_tokens_details": {"text_tokens": text, "image_tokens": seen},
        "output_tokens": each * count,
        "total_tokens": text + seen + each * count,
    }


def error(status: int, kind: str, code: str | None, message: str, **more: Any) -> web.Response:
    """An error in OpenAI's shape."""
    body = {"message": message, "type": kind, "param": None, "code": code, **more}
    headers = {"x-request-id": "req_error"}
    if status == 429:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return web.json_response({"error": body}, status=status, headers=headers)


_SHAPED: Mapping[Situation, Any] = {
    "refused": lambda: error(
        400,
        "image_generation_user_error",
        "moderation_blocked",
        "Your request was rejected by the safety system. safety_violations=[violence].",
        moderation_details={"moderation_stage": "input", "categories": ["violence"]},
    ),
    "rate_limit": lambda: error(
        429, "input-images", "rate_limit_exceeded", "Rate limit reached for images per min"
    ),
    "no_credit": lambda: error(
        429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota"
    ),
    "gone": lambda: error(
        404, "invalid_request_error", "model_not_found", "The model does not exist"
    ),
    "invalid": lambda: error(
        400, "invalid_request_error", "invalid_value", "Invalid value for 'size'"
    ),
    "server_error": lambda: error(500, "server_error", None, "The server had an error"),
}


def _generate_problems(seen: Seen) -> Iterator[str]:
    if seen.headers.get("content-type", "").partition(";")[0] != "application/json":
        yield f"Content-Type is {seen.headers.get('content-type')}"
    yield from GENERATE.problems(seen.json)


def _edit_problems(seen: Seen) -> Iterator[str]:
    if not seen.headers.get("content-type", "").startswith("multipart/form-data"):
        yield f"Content-Type is {seen.headers.get('content-type')}"
        return
    yield from EDIT.form_problems(seen.fields, [name for name, _ in seen.files])
    images = [upload for name, upload in seen.files if name in {"image", "image[]"}]
    names = {name for name, _ in seen.files}
    if not 1 <= len(images) <= 16 or {"image", "image[]"} <= names:
        yield f"{len(images)} images came, as {sorted(names)}"
        return
    if "image" in names and len(images) > 1:
        yield "several images must come as image[]"
    for name in names - {"image", "image[]", "mask", "markup"}:
        yield f"{name} is not a file field of this API"
    for upload in images:
        if upload.mime not in {"image/png", "image/jpeg", "image/webp"}:
            yield f"an image came as {upload.mime!r} ({upload.filename})"
    first = _opened(images[0])
    for name in ("mask", "markup"):
        for upload in (found for key, found in seen.files if key == name):
            image = _opened(upload)
            if upload.mime != "image/png" or image.format != "PNG" or "A" not in image.mode:
                yield f"{name} is {upload.mime} of mode {image.mode}, not a PNG with alpha"
            if image.size != first.size:
                yield f"{name} is {image.size}, the image {first.size}"


def _rules(fields: Mapping[str, Any], files: list[str]) -> Iterator[str]:
    model, size = str(fields["model"]), str(fields.get("size", "auto"))
    kind = fields.get("output_format", "png")
    if size not in STANDARD_SIZES:
        width, height = (int(side) for side in size.split("x"))
        if not FREE_SIZES.match(model):
            yield f"size {size} is not supported by {model}"
        if width % 16 or height % 16 or max(width, height) > 3 * min(width, height):
            yield f"size {size}: sides must be multiples of 16, at most 3:1"
        if max(width, height) > 3840 or not 655_360 <= width * height <= 8_294_400:
            yield f"size {size} is too small or too large"
    if fields.get("quality") in {"xhigh", "max"} and not re.match(r"gpt-image-2\.[56]", model):
        yield f"quality {fields['quality']} is not supported by {model}"
    if fields.get("background") == "transparent" and kind not in {"png", "webp"}:
        yield f"a transparent background needs png or webp, not {kind}"
    if "output_compression" in fields and kind not in {"jpeg", "webp"}:
        yield f"output_compression is not for {kind}"
    if kind in {"gif", "svg"} and "stream" in fields:
        yield f"{kind} is not streamed"
    if kind == "gif" and "mask" in files:
        yield "gif takes no mask"
    if kind != "gif" and {"frame_count", "frame_duration_ms"} & fields.keys():
        yield "frame_* are for gif"
    if kind == "svg" and int(fields.get("n", 1)) != 1:
        yield "svg requires n=1"
    if kind != "svg" and any(name.startswith("svg") for name in fields):
        yield "svg is for svg"
    if "partial_images" in fields and not fields.get("stream"):
        yield "partial_images needs stream"
    if "input_fidelity" in fields and model not in {
        "gpt-image-1.5",
        "gpt-image-1-mini",
        "chatgpt-image-latest",
    }:
        yield f"input_fidelity is not supported by {model}"
    if "markup" in files and ("mask" in files or not model.startswith("gpt-image-2.5")):
        yield "markup is for gpt-image-2.5, and not beside a mask"


def _opened(upload: Upload) -> Image.Image:
    image = Image.open(io.BytesIO(upload.data))
    image.load()
    return image

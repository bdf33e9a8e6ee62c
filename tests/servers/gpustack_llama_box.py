"""GPUStack 0.7 in front of llama-box: strict about fields, streams its progress, splits base64."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web
from PIL import Image

from tests.servers.loopback import RETRY_AFTER_S, Loopback, Seen, Situation, image_base64
from tests.servers.strict import Bool, Int, ListOf, Number, OneOf, Shape, Text

SAMPLERS = (
    *("euler_a", "euler", "heun", "dpm2", "dpm++2s_a", "dpm++2m", "dpm++2mv2", "ipndm"),
    *("ipndm_v", "lcm", "ddim_trailing", "tcd"),
)
COMMON: dict[str, Any] = {
    "model": Text(shortest=1),
    "prompt": Text(shortest=1),
    "n": Int(1, 4),
    "size": Text(pattern=r"\d+x\d+"),
    "response_format": OneOf(("b64_json",)),
    "sampler": OneOf(SAMPLERS),
    "schedule": OneOf(("default", "discrete", "karras", "exponential", "ays", "gits")),
    "sample_steps": Int(1, 1000),
    "seed": Int(0, 2**32 - 2),
    "guidance": Number(0, 100),
    "cfg_scale": Number(0, 100),
    "slg_scale": Number(0, 100),
    "slg_start": Number(0, 1),
    "slg_end": Number(0, 1),
    "negative_prompt": Text(),
    "stream": Bool(),
    "x_extra": Int(17, 17),
}
GENERATE = Shape(
    {
        **COMMON,
        "stream_options": Shape(
            {
                "include_usage": Bool(),
                "preview": Bool(),
                "chunk_result": Bool(),
                "chunk_size": Int(1, 1 << 20),
            }
        ),
        "lora": ListOf(Shape({"id": Int(0, 9), "scale": Number(-10, 10)}, ("id", "scale"))),
    },
    required=("model", "prompt", "n", "size", "response_format", "sampler", "sample_steps"),
)
EDIT = Shape(
    {
        **COMMON,
        "negative_sampler": Text(),
        "strength": Number(0, 1),
        "control_strength": Number(0, 10),
        "control_canny": Bool(),
        "stream_options_include_usage": Bool(),
        "stream_options_preview": Bool(),
        "stream_options_chunk_result": Bool(),
        "stream_options_chunk_size": Int(1, 1 << 20),
        "lora": Text(pattern=r"\[.*\]"),
    },
    # Without steps the real server reads past the end of the form.
    required=("model", "prompt", "n", "image", "response_format", "sampler", "sample_steps"),
)
ERRORS: Mapping[Situation, tuple[int, str, str]] = {
    "rate_limit": (429, "TooManyRequests", "Too many requests"),
    "gone": (404, "NotFound", "Model not found"),
    "invalid": (400, "BadRequest", 'Illegal param: "seed" must be a number'),
    "server_error": (503, "ServiceUnavailable", "No running instances available"),
}


class LlamaBoxServer(Loopback):
    """``/v1-openai/images/generations`` and ``/v1-openai/images/edits``, as JSON or as a stream."""

    prefix = "/v1-openai"

    def __init__(self) -> None:
        super().__init__()
        self._made = 0

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        """Check as GPUStack and llama-box do, then answer in the situation's shape."""
        given = seen.headers.get("authorization", "")
        if given != f"Bearer {self.key}" or situation == "auth":
            if situation != "auth":
                self.problem(f"{seen.path}: the key came as {given!r}")
            return refused(401, "Unauthorized", f"Invalid authentication credentials {self.key}")
        edit = seen.path == "/v1-openai/images/edits"
        if seen.method != "POST" or not (edit or seen.path == "/v1-openai/images/generations"):
            self.problem(f"{seen.method} {seen.path}: there is no such route")
            return refused(404, "NotFound", "Not Found")
        fields = dict(seen.fields) if edit else seen.json
        problems = list(_edit_problems(seen) if edit else GENERATE.problems(seen.json))
        if not problems:
            problems = list(_size_problems(str(fields.get("size", "1024x1024"))))
        for text in problems:
            self.problem(f"{seen.path}: {text}")
        if problems:
            return refused(400, "BadRequest", problems[0])
        for name, upload in seen.files:
            if name == "mask":
                self.repainted.append(opened(upload.data).convert("L"))
        if situation in ERRORS:
            return refused(*ERRORS[situation])
        options = _options(fields) if edit else dict(fields.get("stream_options", {}))
        count = int(fields["n"])
        self._made += count
        images = [
            image_base64(situation, self._made - count + at + 1)
            for at in range(count - (situation == "partial"))
        ]
        if situation in {"empty", "text"}:
            images = []
        # To GPUStack any value of a form's "stream" means yes.
        streamed = "stream" in fields if edit else fields.get("stream", False)
        headers = {"X-Request-Id": f"box-{self._made}"}
        if not streamed:
            data = [{"index": at, "b64_json": text} for at, text in enumerate(images)]
            return web.json_response({"created": 1, "data": data}, headers=headers)
        body = "".join(_events(images, options, count)) + "data: [DONE]\n\n"
        return web.Response(body=body.encode(), content_type="text/event-stream", headers=headers)


def _events(images: list[str], options: Mapping[str, Any], count: int) -> Iterator[str]:
    previews = options.get("preview") in {True, "true"}
    size = int(options.get("chunk_size", 0)) if options.get("chunk_result") else 0
    for at in range(count):
        for step in (1, 2, 3):
            text = image_base64("ok", 100 + 10 * at + step) if previews else ""
            yield _event(at, 25.0 * step, text)
    for at, text in enumerate(images):
        parts = [text[i : i + size] for i in range(0, len(text), size)] if size else [text]
        for part in parts:
            last = at + 1 == len(images) and part is parts[-1]
            yield _event(at, 100.0 if part is parts[-1] else 90.0, part, usage=last)


def _event(at: int, progress: float, text: str, usage: bool = False) -> str:
    item = {"index": at, "object": "image.chunk", "progress": progress, "b64_json": text}
    figures = {"generation_per_second": 2.0, "time_to_process_ms": 12.5} if usage else None
    body = {"created": 1, "model": "sd", "data": [item], "usage": figures}
    return f"data: {json.dumps(body)}\n\n"


def _options(fields: Mapping[str, Any]) -> dict[str, Any]:
    head = "stream_options_"
    return {name.removeprefix(head): value for name, value in fields.items() if head in name}


def _edit_problems(seen: Seen) -> Iterator[str]:
    files = [name for name, _ in seen.files]
    yield from EDIT.form_problems(seen.fields, files)
    fields, uploads = dict(seen.fields), dict(seen.files)
    if fields.get("stream") == "false":
        yield "stream=false still means yes"
    if "negative_prompt" in fields and fields.get("negative_sampler") != fields["negative_prompt"]:
        yield "the negative prompt of an edit is read as negative_sampler"
    for name, upload in seen.files:
        if name not in {"image", "mask", "control"}:
            yield f"{name} is not a file field of this API"
        if upload.mime not in {"image/png", "image/jpeg"}:
            yield f"{name} came as {upload.mime!r}, which stb_image does not read"
    if "mask" in uploads and opened(uploads["mask"].data).mode != "L":
        yield "the mask is not grey"
    if "control" not in uploads and "size" not in fields:
        yield "without a size the input is stretched to the server's own"


def _size_problems(size: str) -> Iterator[str]:
    width, height = (int(side) for side in size.split("x"))
    if width % 64 or height % 64:
        yield f"width and height of {size} must be multiples of 64"
    if not (256 <= width <= 1024 and 256 <= height <= 1024):
        yield f"{size}: sides must be 256 to 1024"


def refused(status: int, reason: str, message: str) -> web.Response:
    """An error in GPUStack's shape."""
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 429 else {}
    body = {"code": status, "reason": reason, "message": message}
    return web.json_response(body, status=status, headers=headers)


def opened(data: bytes) -> Image.Image:
    """The picture of an upload."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image

"""Stability's platform (v2beta) as documented: multipart forms, one route per service."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from PIL import Image

from tests.servers.jobs import JobBoard
from tests.servers.loopback import RETRY_AFTER_S, Loopback, Seen, Situation, image_base64
from tests.servers.strict import Int, Number, OneOf, Rule, Shape, Text

PRESETS = OneOf(("anime", "cinematic", "digital-art", "photographic", "pixel-art"))
SEED = Int(0, 4_294_967_294)
LONG = Text(longest=10_000, shortest=1)
ALL = OneOf(("png", "jpeg", "webp"))
RATIO = OneOf(("1:1", "16:9", "21:9", "2:3", "3:2", "4:5", "5:4", "9:16", "9:21"))
GUIDED: dict[str, Rule] = {
    "prompt": LONG,
    "negative_prompt": LONG,
    "seed": SEED,
    "style_preset": PRESETS,
    "output_format": ALL,
}
PLAIN: dict[str, Rule] = {name: GUIDED[name] for name in GUIDED if name != "style_preset"}


@dataclass(frozen=True)
class Service:
    """What one endpoint takes: text fields, and files."""

    fields: Mapping[str, Rule]
    required: Sequence[str] = ()
    files: Sequence[str] = ()


def service(fields: Mapping[str, Rule], *files: str, needs: Sequence[str] = ("prompt",)) -> Service:
    """A service whose files must all be there."""
    return Service(fields, needs, files)


SERVICES: Mapping[str, Service] = {
    "generate/core": service({**GUIDED, "aspect_ratio": RATIO}),
    "generate/ultra": service({**PLAIN, "aspect_ratio": RATIO}),
    "generate/ultra+image": service(
        {**PLAIN, "strength": Number(0, 1)}, "image", needs=("prompt", "strength")
    ),
    "generate/sd3": service(
        {
            **GUIDED,
            "aspect_ratio": RATIO,
            "mode": OneOf(("text-to-image",)),
            "model": OneOf(("sd3.5-large", "sd3.5-large-turbo", "sd3.5-medium")),
            "cfg_scale": Number(1, 10),
            "output_format": OneOf(("png", "jpeg")),
        },
    ),
    "generate/sd3+image": service(
        {
            **GUIDED,
            "mode": OneOf(("image-to-image",)),
            "model": OneOf(("sd3.5-large", "sd3.5-large-turbo", "sd3.5-medium")),
            "strength": Number(0, 1),
            "cfg_scale": Number(1, 10),
            "output_format": OneOf(("png", "jpeg")),
        },
        "image",
        needs=("prompt", "mode", "strength"),
    ),
    "edit/inpaint+image": service({**GUIDED, "grow_mask": Int(0, 100)}, "image", "mask"),
    "edit/erase+image": service(
        {"seed": SEED, "output_format": ALL, "grow_mask": Int(0, 100)}, "image", "mask", needs=()
    ),
    "edit/outpaint+image": service(
        {
            **{name: GUIDED[name] for name in GUIDED if name != "negative_prompt"},
            "creativity": Number(0, 1),
            **{side: Int(0, 2000) for side in ("left", "right", "up", "down")},
        },
        "image",
        needs=(),
    ),
    "edit/search-and-replace+image": service(
        {**GUIDED, "search_prompt": LONG, "grow_mask": Int(0, 100)},
        "image",
        needs=("prompt", "search_prompt"),
    ),
    "edit/remove-background+image": service(
        {"output_format": OneOf(("png", "webp"))}, "image", needs=()
    ),
    "control/structure+image": service({**GUIDED, "control_strength": Number(0, 1)}, "image"),
    "control/style-transfer+image": service(
        {
            **PLAIN,
            "style_strength": Number(0, 1),
            "composition_fidelity": Number(0, 1),
            "change_strength": Number(0.1, 1),
        },
        "init_image",
        "style_image",
        needs=(),
    ),
    "upscale/creative+image": service({**GUIDED, "creativity": Number(0, 1)}, "image"),
}
ERRORS: Mapping[str, tuple[int, str, str]] = {
    "refused": (403, "content_moderation", "Your request was flagged by our moderation system."),
    "rate_limit": (429, "rate_limit_exceeded", "You have exceeded the rate limit."),
    "no_credit": (402, "payment_required", "You lack sufficient credits to make this request."),
    "gone": (404, "not_found", "The specified engine was not found."),
    "invalid": (400, "bad_request", "seed: must be less than 4294967295"),
    "server_error": (500, "internal_error", "An internal error occurred."),
}


class StabilityServer(Loopback):
    """``api.stability.ai``."""

    prefix = "/v2beta"

    def __init__(self) -> None:
        super().__init__()
        self.board = JobBoard()
        self._made = 0

    def is_call(self, seen: Seen) -> bool:
        return seen.method == "POST"

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        if situation == "auth" or seen.headers.get("authorization") != f"Bearer {self.key}":
            if situation != "auth":
                self.problem(f"{seen.path}: the key is missing")
            return problem(401, "unauthorized", f"authorization: invalid api key {self.key}")
        if seen.headers.get("accept") != "application/json":
            self.problem(f"Accept is {seen.headers.get('accept')}")
        if seen.method == "GET" and seen.path.startswith("/v2beta/results/"):
            return self._result(seen.path.rpartition("/")[2])
        files = [name for name, _ in seen.files]
        name = seen.path.removeprefix("/v2beta/stable-image/") + ("+image" if files else "")
        found = SERVICES.get(name)
        if found is None:
            self.problem(f"{name}: there is no such service here")
            return problem(*ERRORS["gone"])
        if not seen.headers.get("content-type", "").startswith("multipart/form-data"):
            self.problem(f"Content-Type is {seen.headers.get('content-type')}")
        wrong = list(Shape(found.fields, found.required).form_problems(seen.fields))
        if sorted(files) != sorted(found.files):
            wrong.append(f"the files are {files}, not {list(found.files)}")
        if wrong:
            for text in wrong:
                self.problem(f"{name}: {text}")
            return problem(400, "bad_request", wrong[0])
        if situation in ERRORS:
            return problem(*ERRORS[situation])
        for field, upload in seen.files:
            if field == "mask":
                self.repainted.append(Image.open(io.BytesIO(upload.data)).convert("L"))
        fields = dict(seen.fields)
        if name.startswith("upscale/creative"):
            return web.json_response({"id": self.board.submit(situation, fields).id})
        return web.json_response(self._picture(situation, fields, "image"))

    def _picture(self, situation: Situation, fields: Mapping[str, Any], key: str) -> dict[str, Any]:
        self._made += 1
        body = {"finish_reason": "SUCCESS", "seed": int(fields.get("seed", 4711))}
        if situation in {"empty", "text"}:
            return body
        kind = fields.get("output_format", "png").upper()
        return {key: image_base64(situation, self._made, kind), **body}

    def _result(self, name: str) -> web.Response:
        job = self.board.jobs.get(name)
        state = self.board.poll(job) if job else "unknown"
        if job is None or state == "unknown":
            return problem(404, "not_found", "The id was not found.")
        if state == "refused":
            return problem(*ERRORS["refused"])
        if state in {"running", "odd"}:
            return web.json_response({"id": job.id, "status": "in-progress"}, status=202)
        job.result = job.result or self._picture(job.situation, job.body, "result")
        return web.json_response(job.result)


def problem(status: int, name: str, text: str) -> web.Response:
    """An error in Stability's shape."""
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 429 else {}
    body = {"id": "2a1b2d4eafe2bc6ab4cd4d5c6133f513", "name": name, "errors": [text]}
    return web.json_response(body, status=status, headers=headers)

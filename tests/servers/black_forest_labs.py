"""Black Forest Labs' API as documented: one route per model, and ``get_result``."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from PIL import Image

from tests.servers.jobs import JobBoard, hosted
from tests.servers.loopback import RETRY_AFTER_S, Loopback, Seen, Situation
from tests.servers.strict import Bool, Int, ListOf, Number, OneOf, Rule, Shape, Text

BASE64 = Text(longest=1 << 26, pattern=r"[A-Za-z0-9+/=]+")
RATIO = Text(pattern=r"\d+:\d+|auto")
COMMON: dict[str, Rule] = {
    "prompt": Text(),
    "seed": Int(0, 2**63 - 1),
    "output_format": OneOf(("jpeg", "png", "webp")),
    "safety_tolerance": Int(0, 6),
}
PIXELS: dict[str, Rule] = {"width": Int(64, 4096), "height": Int(64, 4096)}
INPUTS: dict[str, Rule] = {
    "input_image": BASE64,
    **{f"input_image_{at}": BASE64 for at in range(2, 9)},
}
FINE: dict[str, Rule] = {
    "steps": Int(15, 50),
    "guidance": Number(1.5, 100),
    "prompt_upsampling": Bool(),
}
MODELS: Mapping[str, Shape] = {
    "flux-2-pro": Shape({**COMMON, **PIXELS, **INPUTS}, required=("prompt",)),
    "flux-2-flex": Shape(
        {
            **COMMON,
            **PIXELS,
            **INPUTS,
            "steps": Int(1, 50),
            "guidance": Number(1.5, 10),
            "prompt_upsampling": Bool(),
        },
        required=("prompt",),
    ),
    "flux-3-image": Shape(
        {
            "prompt": Text(),
            "images": ListOf(BASE64, least=1, most=10),
            "aspect_ratio": RATIO,
            "resolution": OneOf(("768sq", "1k", "1.5k", "2k", "4k")),
            "grounding": Bool(),
            "safety_tolerance": Int(0, 4),
        },
        required=("prompt",),
    ),
    "flux-pro-1.1-ultra": Shape(
        {
            **COMMON,
            "aspect_ratio": RATIO,
            "raw": Bool(),
            "image_prompt": BASE64,
            "image_prompt_strength": Number(0, 1),
        },
        required=("prompt",),
    ),
    "flux-pro-1.0-fill": Shape(
        {**COMMON, **FINE, "image": BASE64, "mask": BASE64}, required=("image",)
    ),
    "flux-pro-1.0-expand": Shape(
        {
            **COMMON,
            **FINE,
            "image": BASE64,
            **{side: Int(0, 2048) for side in ("top", "bottom", "left", "right")},
        },
        required=("image",),
    ),
}
ERRORS: Mapping[str, tuple[int, Any]] = {
    "refused": (422, {"error": "request_moderated", "message": "The prompt was moderated"}),
    "rate_limit": (429, {"error": "rate_limit_exceeded", "message": "Too many active tasks"}),
    "no_credit": (402, {"detail": "Insufficient credits. Please add credits."}),
    "gone": (404, {"detail": "Not Found"}),
    "invalid": (422, {"detail": [{"loc": ["body", "width"], "msg": "too small", "type": "x"}]}),
    "server_error": (500, {"detail": "Internal Server Error"}),
}
CREDITS = 4.5


class BlackForestLabsServer(Loopback):
    """``api.bfl.ai``."""

    def __init__(self) -> None:
        super().__init__()
        self.board = JobBoard()
        self._made = 0

    def is_call(self, seen: Seen) -> bool:
        return seen.method == "POST"

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        if situation == "auth" or seen.headers.get("x-key") != self.key:
            if situation != "auth":
                self.problem(f"{seen.path}: the key is missing")
            return web.json_response({"detail": f"Not authenticated - {self.key}"}, status=403)
        if seen.method == "GET" and seen.path == "/v1/get_result":
            return self._poll(seen.query.get("id", ""))
        model = seen.path.removeprefix("/v1/")
        shape = MODELS.get(model)
        if seen.method != "POST" or shape is None:
            self.problem(f"{seen.method} {seen.path}: there is no such route here")
            return error("gone")
        found = list(shape.problems(seen.json))
        for side in ("width", "height"):
            if isinstance(seen.json, Mapping) and seen.json.get(side, 16) % 16:
                found.append(f"{side} is no multiple of 16")
        if found:
            for text in found:
                self.problem(f"{model}: {text}")
            return error("invalid")
        if situation in ERRORS:
            return error(situation)
        if "mask" in seen.json:
            data = base64.b64decode(seen.json["mask"])
            self.repainted.append(Image.open(io.BytesIO(data)).convert("L"))
        job = self.board.submit(situation, seen.json)
        place = f"{self.base_url}/get_result?id={job.id}"
        return web.json_response({"id": job.id, "polling_url": place, "cost": CREDITS})

    def _poll(self, name: str) -> web.Response:
        job = self.board.jobs.get(name)
        state = self.board.poll(job) if job else "unknown"
        if state == "limited":
            return error("rate_limit")
        if state == "broken":
            return error("server_error")
        if job is None or state == "unknown":
            return web.json_response({"id": name, "status": "Task not found", "result": None})
        body: dict[str, Any] = {"id": job.id, "result": None, "progress": None, "details": None}
        match state:
            case "running":
                body |= {"status": "Pending", "progress": 0.4}
            case "odd":
                body["status"] = "Dreaming"
            case "failed":
                body |= {"status": "Error", "error": "Something went wrong"}
            case "refused":
                reasons = {"Moderation Reasons": ["Derivative Works Filter"]}
                body |= {"status": "Content Moderated", "details": reasons}
            case _:
                job.result = job.result or self._result(job.situation, job.body)
                body |= {"status": "Ready", "result": job.result, "cost": CREDITS}
        return web.json_response(body)

    def _result(self, situation: Situation, asked: Mapping[str, Any]) -> dict[str, Any]:
        self._made += 1
        if situation in {"empty", "text"}:
            return {"prompt": asked["prompt"]}
        sample = hosted(self, situation, self._made)
        return {"sample": sample, "prompt": asked["prompt"], "seed": asked.get("seed", 4711)}


def error(situation: str) -> web.Response:
    """An error in the API's shapes."""
    status, body = ERRORS[situation]
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 429 else {}
    return web.json_response(body, status=status, headers=headers)

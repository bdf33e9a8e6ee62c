"""fal's queue as documented: submit, status, result; strict about every endpoint's fields."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from PIL import Image

from tests.servers.jobs import Job, JobBoard, hosted
from tests.servers.loopback import RETRY_AFTER_S, Loopback, Seen, Situation
from tests.servers.strict import Bool, Int, ListOf, Number, OneOf, Rule, Shape, Text

DATA_URL = Text(longest=1 << 26, pattern=r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+")
FORMATS = OneOf(("jpeg", "png"))


class ImageSize:
    """A name, or width and height."""

    names = OneOf(
        (
            "square_hd",
            "square",
            "portrait_4_3",
            "portrait_16_9",
            "landscape_4_3",
            "landscape_16_9",
        )
    )
    pixels = Shape(
        {"width": Int(256, 2048), "height": Int(256, 2048)}, required=("width", "height")
    )

    def problem(self, value: Any) -> str | None:
        return (self.names if isinstance(value, str) else self.pixels).problem(value)


COMMON: dict[str, Rule] = {
    "prompt": Text(shortest=1),
    "seed": Int(0, 2**63 - 1),
    "output_format": FORMATS,
    "enable_safety_checker": Bool(),
}
FLUX: dict[str, Rule] = {
    **COMMON,
    "num_images": Int(1, 4),
    "num_inference_steps": Int(1, 50),
    "guidance_scale": Number(0, 35),
    "acceleration": OneOf(("none", "regular", "high")),
}
LORAS = ListOf(Shape({"path": Text(), "scale": Number(0, 4)}, required=("path",)))
PRO: dict[str, Rule] = {**COMMON, "safety_tolerance": OneOf(tuple("12345"))}
STRENGTH = Number(0.01, 1)
ENDPOINTS: Mapping[str, Shape] = {
    "fal-ai/flux/dev": Shape({**FLUX, "image_size": ImageSize()}, required=("prompt",)),
    "fal-ai/flux/dev/image-to-image": Shape(
        {**FLUX, "image_url": DATA_URL, "strength": STRENGTH}, required=("prompt", "image_url")
    ),
    "fal-ai/flux-2/edit": Shape(
        {
            **FLUX,
            "image_size": ImageSize(),
            "image_urls": ListOf(DATA_URL, least=1, most=4),
            "output_format": OneOf(("jpeg", "png", "webp")),
            "enable_prompt_expansion": Bool(),
        },
        required=("prompt", "image_urls"),
    ),
    "fal-ai/flux-2-pro": Shape({**PRO, "image_size": ImageSize()}, required=("prompt",)),
    "fal-ai/flux-general/inpainting": Shape(
        {
            **{name: rule for name, rule in FLUX.items() if name != "acceleration"},
            "image_size": ImageSize(),
            "negative_prompt": Text(),
            "image_url": DATA_URL,
            "mask_url": DATA_URL,
            "strength": STRENGTH,
            "loras": LORAS,
        },
        required=("prompt", "image_url", "mask_url"),
    ),
    "fal-ai/flux-control-lora-canny": Shape(
        {
            **{name: rule for name, rule in FLUX.items() if name != "acceleration"},
            "image_size": ImageSize(),
            "control_lora_image_url": DATA_URL,
            "control_lora_strength": Number(0, 2),
            "loras": LORAS,
        },
        required=("prompt", "control_lora_image_url"),
    ),
}
REQUEST = re.compile(r"/(?P<owner>[^/]+)/(?P<app>[^/]+)/requests/(?P<id>[^/]+)(?P<status>/status)?")
FLAGGED = "The content could not be processed because it was flagged by a content checker."
ERRORS: Mapping[str, tuple[int, str, str]] = {
    "refused": (422, "content_policy_violation", FLAGGED),
    "invalid": (422, "greater_than_equal", "Input should be greater than or equal to 1"),
}
PLATFORM: Mapping[str, tuple[int, str, str]] = {
    "auth": (401, "unauthorized", "No user found for Key ID and Secret"),
    "no_credit": (403, "forbidden", "User is locked. Reason: Exhausted balance."),
    "gone": (404, "not_found", "Application 'flux' not found"),
    "rate_limit": (429, "concurrent_requests_limit", "Too many requests"),
    "server_error": (500, "internal_error", "Internal error"),
}


class FalServer(Loopback):
    """``queue.fal.run``."""

    prefix = ""

    def __init__(self) -> None:
        super().__init__()
        self.board = JobBoard()
        self._made = 0

    def is_call(self, seen: Seen) -> bool:
        return seen.method == "POST" and "/requests/" not in seen.path

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        if situation == "auth" or seen.headers.get("authorization") != f"Key {self.key}":
            if situation != "auth":
                self.problem(f"{seen.path}: the key is missing")
            status, kind, words = PLATFORM["auth"]
            return platform(status, kind, f"{words}: {self.key}")
        if (match := REQUEST.fullmatch(seen.path)) and seen.method == "GET":
            return self._request(match)
        if seen.method != "POST":
            self.problem(f"{seen.method} {seen.path}: there is no such route")
            return platform(405, "method_not_allowed", "Method not allowed")
        return self._submit(seen, situation)

    def _submit(self, seen: Seen, situation: Situation) -> web.Response:
        endpoint = seen.path.lstrip("/")
        shape = ENDPOINTS.get(endpoint)
        if shape is None:
            self.problem(f"{endpoint}: there is no such endpoint here")
            return platform(*PLATFORM["gone"])
        for header in ("x-fal-no-retry", "x-app-fal-disable-fallback"):
            if seen.headers.get(header) != "1":
                self.problem(f"{endpoint}: {header} is missing: fal would try again itself")
        found = list(shape.problems(seen.json))
        if found:
            for text in found:
                self.problem(f"{endpoint}: {text}")
            return detail(422, "value_error", found[0])
        if situation in ERRORS:
            return detail(*ERRORS[situation])
        if situation in PLATFORM:
            return platform(*PLATFORM[situation])
        if "mask_url" in seen.json:
            data = base64.b64decode(seen.json["mask_url"].partition(",")[2])
            self.repainted.append(Image.open(io.BytesIO(data)).convert("L"))
        job = self.board.submit(situation, seen.json)
        app = "/".join(endpoint.split("/")[:2])
        place = f"{self.base_url}/{app}/requests/{job.id}"
        urls = {"response_url": place, "status_url": f"{place}/status"}
        body = {"status": "IN_QUEUE", "request_id": job.id, "queue_position": 3, **urls}
        return web.json_response({**body, "cancel_url": f"{place}/cancel"})

    def _request(self, match: re.Match[str]) -> web.Response:
        job = self.board.jobs.get(match["id"])
        if job is None:
            return platform(404, "not_found", "Request not found")
        if match["status"]:
            return self._status(job)
        if job.result == "refused":
            return detail(*ERRORS["refused"])
        if not isinstance(job.result, dict):
            self.problem(f"{job.id}: the result was asked for before it was there")
            return platform(400, "bad_request", "Request is still in progress")
        return web.json_response(job.result)

    def _status(self, job: Job) -> web.Response:
        state = self.board.poll(job)
        if state == "limited":
            return platform(*PLATFORM["rate_limit"])
        if state == "broken":
            return platform(*PLATFORM["server_error"])
        if state == "unknown":
            return platform(404, "not_found", "Request not found")
        if state in {"running", "odd"}:
            word = "IN_PROGRESS" if state == "running" else "DREAMING"
            return web.json_response({"status": word, "request_id": job.id}, status=202)
        done: dict[str, Any] = {"status": "COMPLETED", "request_id": job.id, "logs": None}
        if state == "failed":
            done |= {"error": "Runner disconnected", "error_type": "runner_disconnected"}
        elif state == "refused":
            job.result = "refused"
        else:
            job.result = job.result or self._result(job)
        return web.json_response(done)

    def _result(self, job: Job) -> dict[str, Any]:
        count = job.body.get("num_images", 1) - (job.situation == "partial")
        images: list[dict[str, Any]] = []
        for _ in range(0 if job.situation == "empty" else count):
            self._made += 1
            if job.situation == "text":
                images.append({"content_type": "text/plain"})
                continue
            url = hosted(self, job.situation, self._made)
            images.append({"url": url, "width": 16, "height": 12, "content_type": "image/png"})
        return {
            "images": images,
            "seed": job.body.get("seed", 4711),
            "timings": {"inference": 1.5},
            "has_nsfw_concepts": [False] * len(images),
            "prompt": job.body["prompt"],
        }


def platform(status: int, kind: str, message: str) -> web.Response:
    """An error of the queue itself."""
    headers = {"X-Fal-Error-Type": kind}
    if status == 429:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return web.json_response(
        {"detail": message, "error_type": kind}, status=status, headers=headers
    )


def detail(status: int, kind: str, message: str) -> web.Response:
    """An error of a model."""
    found = {"loc": ["body", "prompt"], "msg": message, "type": kind}
    return web.json_response(
        {"detail": [found]}, status=status, headers={"X-Fal-Retryable": "false"}
    )

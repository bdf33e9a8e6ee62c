"""Together AI's images API as documented: strict about every model's fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tests.servers.jobs import hosted
from tests.servers.loopback import RETRY_AFTER_S, Loopback, Seen, Situation, image_base64
from tests.servers.strict import Bool, Int, ListOf, Number, OneOf, Rule, Shape, Text

DATA_URL = Text(longest=1 << 26, pattern=r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+")
COMMON: dict[str, Rule] = {
    "prompt": Text(shortest=1),
    "model": Text(),
    "n": Int(1, 4),
    "seed": Int(0, 2**63 - 1),
    "steps": Int(1, 50),
    "guidance_scale": Number(0, 20),
    "negative_prompt": Text(),
    "response_format": OneOf(("base64", "url")),
    "output_format": OneOf(("jpeg", "png")),
    "disable_safety_checker": Bool(),
}
PIXELS: dict[str, Rule] = {"width": Int(64, 1920), "height": Int(64, 1920)}
RATIO: dict[str, Rule] = {"aspect_ratio": Text(pattern=r"\d+:\d+")}
FLUX_2 = Shape(
    {**COMMON, **PIXELS, "reference_images": ListOf(DATA_URL, least=1, most=8)},
    required=("prompt", "model", "n"),
)
MODELS: Mapping[str, Shape] = {
    "black-forest-labs/FLUX.2-dev": FLUX_2,
    "black-forest-labs/FLUX.2-flex": FLUX_2,
    "black-forest-labs/FLUX.1-schnell": Shape({**COMMON, **RATIO}, required=("prompt", "n")),
    "black-forest-labs/FLUX.1-kontext-pro": Shape(
        {**COMMON, **RATIO, "image_url": DATA_URL}, required=("prompt", "n")
    ),
}
ERRORS: Mapping[str, tuple[int, str, str | None, str]] = {
    "refused": (422, "invalid_request_error", None, "NSFW content detected in the prompt"),
    "rate_limit": (429, "rate_limit", "rate_limit_exceeded", "You have been rate limited"),
    "no_credit": (402, "credit_limit", "credit_limit", "Credit limit exceeded"),
    "auth": (401, "invalid_request_error", "invalid_api_key", "Invalid API key provided: "),
    "gone": (404, "invalid_request_error", "model_not_available", "Unable to access the model"),
    "invalid": (400, "invalid_request_error", "invalid_value", "steps must be between 1 and 50"),
    "server_error": (500, "server_error", None, "Internal server error"),
}


class TogetherServer(Loopback):
    """``api.together.ai``."""

    def __init__(self) -> None:
        super().__init__()
        self._made = 0

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        if situation == "auth" or seen.headers.get("authorization") != f"Bearer {self.key}":
            if situation != "auth":
                self.problem(f"{seen.path}: the key is missing")
            status, kind, code, words = ERRORS["auth"]
            return problem(status, kind, code, words + self.key)
        if seen.method != "POST" or seen.path != "/v1/images/generations":
            self.problem(f"{seen.method} {seen.path}: there is no such route")
            return problem(*ERRORS["gone"])
        body = seen.json if isinstance(seen.json, Mapping) else {}
        shape = MODELS.get(str(body.get("model")))
        found = list(shape.problems(body)) if shape else [f"no model {body.get('model')!r} here"]
        if found:
            for text in found:
                self.problem(f"{seen.path}: {text}")
            return problem(400, "invalid_request_error", None, found[0])
        if situation in ERRORS:
            return problem(*ERRORS[situation])
        items = [] if situation == "empty" else self._items(body, situation)
        answer = {"id": f"id-{self._made}", "model": body["model"], "object": "list", "data": items}
        return web.json_response(answer, headers={"x-request-id": f"together-{self._made}"})

    def _items(self, body: Mapping[str, Any], situation: Situation) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        for at in range(body["n"] - (situation == "partial")):
            self._made += 1
            if situation == "text":
                items.append({"index": at, "type": "text", "text": "I would rather not."})
            elif situation in {"url", "private_url", "lost_url"}:
                items.append(
                    {"index": at, "type": "url", "url": hosted(self, situation, self._made)}
                )
            else:
                data = image_base64(situation, self._made)
                items.append({"index": at, "type": "b64_json", "b64_json": data})
        return items


def problem(status: int, kind: str, code: str | None, message: str) -> web.Response:
    """An error in Together's shape."""
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 429 else {}
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return web.json_response(body, status=status, headers=headers)

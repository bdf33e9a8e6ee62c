"""Gemini's ``generateContent`` as a strict server: fields, shapes and refusals of the real API.

Faithful to the shapes in google-genai 2.34.0 and to refusals as Google documents them: most come
with status 200. Values that it does not know are problems, not errors.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web

from tests.servers.loopback import RETRY_AFTER_S, Loopback, Seen, Situation, image_base64
from tests.servers.strict import Anything, Int, ListOf, Number, OneOf, Shape, Text

RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
EXTREME = ("1:4", "4:1", "1:8", "8:1")
LEVELS: Mapping[str, tuple[str, ...]] = {
    "gemini-nano-banana-2.1": ("1K", "2K", "4K"),
    "gemini-3-pro-image": ("1K", "2K", "4K"),
    "gemini-3.1-flash-image": ("512", "1K", "2K", "4K"),
    "gemini-3.1-flash-lite-image": ("1K",),
    "gemini-2.5-flash-image": (),
}
TOKENS = {"512": 747, "1K": 1120, "2K": 1680, "4K": 2520}
HARMS = tuple(
    f"HARM_CATEGORY_{harm}"
    for harm in ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
)
THRESHOLDS = (
    "BLOCK_LOW_AND_ABOVE",
    "BLOCK_MEDIUM_AND_ABOVE",
    "BLOCK_ONLY_HIGH",
    "BLOCK_NONE",
    "OFF",
)
PART = Shape(
    {
        "text": Text(),
        "inlineData": Shape(
            {
                "mimeType": OneOf(("image/png", "image/jpeg", "image/webp")),
                "data": Text(longest=10_000_000),
            },
            required=("mimeType", "data"),
        ),
    }
)
CONTENT = Shape({"role": OneOf(("user",)), "parts": ListOf(PART, 1)}, required=("parts",))
IMAGE = {"aspectRatio": OneOf((*RATIOS, *EXTREME)), "imageSize": Text(pattern="512|1K|2K|4K")}
SAFETY = Shape(
    {"category": OneOf(HARMS), "threshold": OneOf(THRESHOLDS)}, required=("category", "threshold")
)


def generate_shape(image: Mapping[str, Any], **more: Any) -> Shape:
    """A request's body: one picture, no candidates, no tools."""
    return Shape(
        {
            "contents": ListOf(CONTENT, 1, 1),
            "generationConfig": Shape(
                {
                    "responseModalities": ListOf(OneOf(("IMAGE", "TEXT")), 1),
                    "seed": Int(-(2**31), 2**31 - 1),
                    "temperature": Number(0, 2),
                    "topP": Number(0, 1),
                    "imageConfig": Shape(dict(image)),
                    "thinkingConfig": Shape(
                        {"thinkingLevel": OneOf(("MINIMAL", "LOW", "MEDIUM", "HIGH"))}
                    ),
                },
                required=("responseModalities",),
            ),
            "safetySettings": ListOf(SAFETY),
            "systemInstruction": Shape(
                {"role": Anything(), "parts": ListOf(PART, 1)}, required=("parts",)
            ),
            **more,
        },
        required=("contents", "generationConfig"),
    )


ERRORS: Mapping[str, tuple[int, str, str, list[dict[str, Any]]]] = {
    "rate_limit": (
        429,
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota.",
        [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure"},
            {
                "@type": "type.googleapis.com/google.rpc.RetryInfo",
                "retryDelay": f"{RETRY_AFTER_S}s",
            },
        ],
    ),
    "no_credit": (429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.", []),
    "gone": (404, "NOT_FOUND", "This model is not found or not supported.", []),
    "invalid": (400, "INVALID_ARGUMENT", "Request contains an invalid argument.", []),
    "server_error": (500, "INTERNAL", "An internal error has occurred.", []),
}


SNAKE = {"mime_type": "mimeType", "thinking_level": "thinkingLevel"}
"""The real API takes both names of every field, and the SDK mixes them."""


def camel(value: Any) -> Any:
    """A body by its JSON names."""
    if isinstance(value, list):
        return [camel(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {SNAKE.get(name, name): camel(held) for name, held in value.items()}


def google_error(
    status: int, code: str, message: str, details: list[dict[str, Any]] | None = None
) -> web.Response:
    """An error in Google's shape."""
    error = {"code": status, "message": message, "status": code}
    return web.json_response(
        {"error": {**error, **({"details": details} if details else {})}}, status=status
    )


class GeminiServer(Loopback):
    """``POST /v1beta/models/MODEL:generateContent``, with an API key."""

    prefix = ""
    body = generate_shape(IMAGE)
    made = 0

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        if situation == "auth":
            return self.wrong_key(seen)
        if seen.headers.get("x-goog-api-key") != self.key or "authorization" in seen.headers:
            self.problem("the key is not in x-goog-api-key")
        if seen.query:
            self.problem(f"query {dict(seen.query)}")
        start, end = "/v1beta/models/", ":generateContent"
        if seen.method != "POST" or not (seen.path.startswith(start) and seen.path.endswith(end)):
            self.problem(f"{seen.method} {seen.path} is no route of this API")
            return google_error(404, "NOT_FOUND", "no route")
        return self.generate(seen, seen.path.removeprefix(start).removesuffix(end), situation)

    def wrong_key(self, seen: Seen) -> web.Response:
        """How a wrong key is told: with status 400, in the details."""
        detail = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "API_KEY_INVALID",
            "domain": "googleapis.com",
        }
        message = f"API key not valid: {seen.headers.get('x-goog-api-key')}"
        return google_error(400, "INVALID_ARGUMENT", message, [detail])

    def generate(self, seen: Seen, model: str, situation: Situation) -> web.Response:
        """One ``generateContent``."""
        if model not in LEVELS:
            return google_error(404, "NOT_FOUND", f"models/{model} is not found for v1beta")
        body = camel(seen.json)
        for problem in (*self.body.problems(body), *_rules(body, model)):
            self.problem(problem)
        if situation in ERRORS:
            return google_error(*ERRORS[situation])
        if situation == "refused":
            return self.reply(model, 0, feedback={"blockReason": "PROHIBITED_CONTENT"})
        if situation == "text":
            return self.reply(model, 0, {"parts": [{"text": "I would rather not."}]})
        if situation == "empty":
            return self.reply(model, 0, {"parts": []}, finish="NO_IMAGE")
        self.made += 1
        config = body["generationConfig"].get("imageConfig", {})
        mime = config.get("imageOutputOptions", {}).get("mimeType", "image/png")
        kind = mime.removeprefix("image/").upper()
        thought = {"mimeType": "image/png", "data": image_base64("ok", 200 + self.made % 40)}
        parts = [
            {"text": "A plan of the picture.", "thought": True},
            {"inlineData": thought, "thought": True},
            {"text": "Here it is:"},
            {"inlineData": {"mimeType": mime, "data": image_base64(situation, self.made, kind)}},
        ]
        level = config.get("imageSize", "1K")
        return self.reply(model, TOKENS[level], {"parts": parts, "role": "model"})

    def reply(
        self,
        model: str,
        tokens: int,
        content: Mapping[str, Any] | None = None,
        *,
        finish: str | None = "STOP",
        feedback: Mapping[str, Any] | None = None,
        message: str | None = None,
    ) -> web.Response:
        """An answer with at most one candidate."""
        usage: dict[str, Any] = {
            "promptTokenCount": 5,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 5}],
        }
        if tokens:
            usage |= {
                "candidatesTokenCount": tokens + 8,
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": tokens}],
                "thoughtsTokenCount": 100,
                "totalTokenCount": tokens + 113,
            }
        candidate: dict[str, Any] = {"index": 0}
        candidate |= {"content": content} if content is not None else {}
        candidate |= {"finishReason": finish} if finish else {}
        candidate |= {"finishMessage": message} if message else {}
        body: dict[str, Any] = {
            "usageMetadata": usage,
            "modelVersion": model,
            "responseId": f"response-{len(self.requests)}",
        }
        body |= {"promptFeedback": feedback} if feedback else {"candidates": [candidate]}
        return web.json_response(body)


def _rules(body: Mapping[str, Any], model: str) -> Iterator[str]:
    config = body.get("generationConfig", {})
    image = config.get("imageConfig", {})
    if "imageSize" in image and image["imageSize"] not in LEVELS[model]:
        yield f"imageSize {image['imageSize']} is not supported by {model}"
    wide = model in {"gemini-nano-banana-2.1", "gemini-3.1-flash-image"}
    if image.get("aspectRatio") in EXTREME and not wide:
        yield f"aspectRatio {image['aspectRatio']} is not supported by {model}"
    for content in body.get("contents", []):
        for part in content.get("parts", []):
            if len(part) != 1:
                yield f"a part holds {sorted(part)}"
            if "inlineData" in part:
                try:
                    text = part["inlineData"]["data"].replace("-", "+").replace("_", "/")
                    base64.b64decode(text, validate=True)
                except binascii.Error:
                    yield "a picture is no base64"

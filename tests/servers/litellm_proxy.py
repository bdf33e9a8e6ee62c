"""A LiteLLM proxy before OpenAI, as version 1.109.1 answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from PIL import Image

from tests.servers.images import Fault, ImagesServer, clear_is_painted
from tests.servers.loopback import Seen, Situation, Upload
from tests.servers.openai import EDIT, GENERATE
from tests.servers.strict import Shape

STREAMED = {"stream", "partial_images"}


def error(status: int, kind: str, message: str, param: str | None = None) -> Fault:
    """The proxy's error: the code is the status, whatever the upstream's was."""
    return status, {
        "error": {"message": message, "type": kind, "param": param, "code": str(status)}
    }


class LiteLLMProxyServer(ImagesServer):
    """Edits are multipart; streams are answered with an error; costs are in a header."""

    cost_usd: float | None = 0.0527
    """Of one image; ``None``: the proxy does not know."""

    generate: ClassVar[Shape] = Shape(
        {name: rule for name, rule in GENERATE.fields.items() if name not in STREAMED},
        required=("prompt", "model"),
    )
    edit: ClassVar[Shape] = Shape(
        {name: rule for name, rule in EDIT.fields.items() if name not in STREAMED},
        required=("prompt", "model"),
    )
    faults: ClassVar[Mapping[str, Fault]] = {
        "auth": error(
            401,
            "token_not_found_in_db",
            "Authentication Error, Invalid proxy server token passed. Received API Key = sk-…",
            "key",
        ),
        "refused": error(
            400,
            "image_generation_user_error",
            "litellm.BadRequestError: OpenAIException - Your request was rejected by the safety "
            "system.",
        ),
        "rate_limit": error(429, "throttling_error", "Rate limit reached for images per min"),
        "no_credit": error(
            429, "budget_exceeded", "Budget has been exceeded! Current cost: 5.1, Max budget: 5.0"
        ),
        "gone": error(
            400,
            "invalid_request_error",
            "{'error': '/images/generations: Invalid model name passed in model=x. Call "
            "`/v1/models` to view available models for your key.'}",
        ),
        "invalid": error(400, "invalid_request_error", "Invalid value for 'size'"),
        "server_error": error(500, "internal_server_error", "Connection error."),
    }

    def rules(self, fields: Mapping[str, Any], seen: Seen) -> Iterator[str]:
        """Field names may not be mixed."""
        names = {name for name, _ in seen.files}
        if {"mask", "mask[]"} <= names:
            yield "both mask and mask[] came"

    def painted(self, mask: Upload) -> Image.Image:
        """What is clear."""
        return clear_is_painted(mask)

    def item(self, situation: Situation, fields: Mapping[str, Any]) -> dict[str, Any]:
        """With explicit nulls."""
        nothing = {"b64_json": None, "revised_prompt": None, "url": None}
        return {**nothing, **super().item(situation, fields)}

    def body(self, items: list[dict[str, Any]], fields: Mapping[str, Any]) -> dict[str, Any]:
        """With zeros where nothing is known."""
        details = {"image_tokens": 0, "text_tokens": 0}
        usage = {"input_tokens": 0, "input_tokens_details": details, "output_tokens": 0}
        unknown = dict.fromkeys(("background", "output_format", "quality", "size"))
        return {**super().body(items, fields), **unknown, "usage": {**usage, "total_tokens": 0}}

    def headers(self, count: int) -> dict[str, str]:
        """The cost, if it is known."""
        found = {"x-litellm-call-id": f"call-{self.made}", "x-litellm-key-spend": "1.25"}
        if self.cost_usd is not None:
            found["x-litellm-response-cost"] = str(self.cost_usd * count)
        return found

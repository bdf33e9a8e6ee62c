"""Nscale as documented: a prompt, a size, a number of images; base64 back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tests.servers.images import Fault, ImagesServer
from tests.servers.strict import Int, OneOf, Shape, Text

MODELS = (
    "black-forest-labs/FLUX.1-schnell",
    "stabilityai/stable-diffusion-xl-base-1.0",
    "ByteDance/SDXL-Lightning-4step",
    "ByteDance/SDXL-Lightning-8step",
)


def error(code: int, kind: str, message: str) -> Fault:
    """An error object."""
    return code, {"error": {"code": str(code), "message": message, "param": None, "type": kind}}


class NscaleServer(ImagesServer):
    """``/v1/images/generations``; there are no edits."""

    generate: ClassVar[Shape] = Shape(
        {
            "model": OneOf(MODELS),
            "prompt": Text(shortest=1),
            "size": Text(pattern=r"\d+x\d+"),
            "n": Int(1, 10),
        },
        required=("model", "prompt"),
    )
    faults: ClassVar[Mapping[str, Fault]] = {
        "auth": error(401, "authentication_error", "Invalid service token or unauthorized"),
        "gone": error(404, "not_found", "Model not found or unavailable"),
        "rate_limit": error(429, "rate_limit", "Too many requests"),
        "no_credit": error(429, "rate_limit", "Insufficient credit"),
        "invalid": error(400, "invalid_request_error", "size is not valid"),
        "server_error": error(500, "server_error", "Internal server error"),
    }

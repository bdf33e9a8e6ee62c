"""The contract for ``provider=bedrock_nova_canvas``, and what only Nova Canvas has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tests.contract.aws import VARIABLES, aws_environment
from tests.contract.suite import ProviderContract
from tests.servers.bedrock_amazon import NovaCanvasServer

__all__ = ["aws_environment"]


class TestBedrockNovaCanvas(ProviderContract):
    provider = "bedrock_nova_canvas"
    server_type = NovaCanvasServer
    variables = VARIABLES
    families = ("bedrock_nova_canvas",)
    count_field = "numberOfImages"
    cost_basis = "price_book"
    returns_urls = False
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "1280x720",
        "quality": "premium",
        "style": "PHOTOREALISM",
        "negative_prompt": "rain",
        "guidance_scale": 7.5,
        "seed": 7,
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "300x300"}

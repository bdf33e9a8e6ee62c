"""The contract for ``provider=bedrock_stable_diffusion``, and what only SDXL's body has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tests.contract.aws import VARIABLES, aws_environment
from tests.contract.suite import ProviderContract
from tests.servers.bedrock_stability import StableDiffusionServer

__all__ = ["aws_environment"]


class TestBedrockStableDiffusion(ProviderContract):
    provider = "bedrock_stable_diffusion"
    server_type = StableDiffusionServer
    variables = VARIABLES
    families = ("bedrock_stable_diffusion",)
    retired = "bedrock_stable_diffusion/xl_v0"
    count_field = "samples"
    cost_basis = "price_book"
    returns_urls = False
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "1344x768",
        "negative_prompt": "rain",
        "style": "photographic",
        "steps": 20,
        "guidance_scale": 5.5,
        "seed": 7,
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1000x1000"}

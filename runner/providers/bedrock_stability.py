"""Stability's models on Amazon Bedrock: Stable Image, Stable Diffusion 3.5, the image services.

``python -m runner provider=bedrock_stability prompt="a lighthouse" seed=7``
"""

from __future__ import annotations

from typing import ClassVar

from runner.providers.bedrock_family.client import Bedrock
from runner.providers.bedrock_family.provider import BedrockProvider
from runner.providers.bedrock_family.stability import StabilityImages
from runner.providers.bedrock_family.stability_options import StabilityOptions
from runner.settings.load import validate
from runner.settings.schema import VariantSettings


class BedrockStabilityProvider(BedrockProvider):
    """Stable Image Core and Ultra, Stable Diffusion 3.5 Large; one model per image service."""

    name: ClassVar[str] = "bedrock_stability"
    options_type = StabilityOptions

    def __init__(self, settings: VariantSettings) -> None:
        options = validate(StabilityOptions, settings.provider.options, "provider.options")
        bedrock = Bedrock(
            settings,
            region=options.region,
            profile=options.profile,
            guardrail=options.guardrail,
        )
        super().__init__(settings, bedrock, StabilityImages(settings, options, bedrock))

"""SDXL on Amazon Bedrock, with its legacy body.

``python -m runner provider=bedrock_stable_diffusion prompt="a lighthouse" seed=7``
"""

from __future__ import annotations

from typing import ClassVar

from runner.providers.bedrock_family.client import Bedrock
from runner.providers.bedrock_family.provider import BedrockProvider
from runner.providers.bedrock_family.sdxl import SdxlImages, SdxlOptions
from runner.settings.load import validate
from runner.settings.schema import VariantSettings


class BedrockStableDiffusionProvider(BedrockProvider):
    """SDXL. AWS has retired it: plans warn, and requests are sent all the same."""

    name: ClassVar[str] = "bedrock_stable_diffusion"
    options_type = SdxlOptions

    def __init__(self, settings: VariantSettings) -> None:
        options = validate(SdxlOptions, settings.provider.options, "provider.options")
        bedrock = Bedrock(
            settings,
            region=options.region,
            profile=options.profile,
            guardrail=options.guardrail,
        )
        super().__init__(settings, bedrock, SdxlImages(settings, options, bedrock))

"""Titan Image Generator on Amazon Bedrock, versions 1 and 2.

``python -m runner provider=bedrock_titan prompt="a lighthouse" seed=7 n=4``
"""

from __future__ import annotations

from typing import ClassVar

from runner.providers.bedrock_family.amazon import AmazonImages
from runner.providers.bedrock_family.client import Bedrock
from runner.providers.bedrock_family.options import TitanOptions
from runner.providers.bedrock_family.provider import BedrockProvider
from runner.settings.load import validate
from runner.settings.schema import VariantSettings


class BedrockTitanProvider(BedrockProvider):
    """Titan Image Generator. AWS has retired it: plans warn, and requests are sent all the same."""

    name: ClassVar[str] = "bedrock_titan"
    options_type = TitanOptions

    def __init__(self, settings: VariantSettings) -> None:
        options = validate(TitanOptions, settings.provider.options, "provider.options")
        bedrock = Bedrock(
            settings,
            region=options.region,
            profile=options.profile,
            guardrail=options.guardrail,
        )
        super().__init__(settings, bedrock, AmazonImages(settings, options, bedrock))

"""Nova Canvas on Amazon Bedrock.

``python -m runner provider=bedrock_nova_canvas prompt="a lighthouse" seed=7 n=4``
"""

from __future__ import annotations

from typing import ClassVar

from runner.providers.bedrock_family.amazon import AmazonImages
from runner.providers.bedrock_family.client import Bedrock
from runner.providers.bedrock_family.options import NovaCanvasOptions
from runner.providers.bedrock_family.provider import BedrockProvider
from runner.settings.load import validate
from runner.settings.schema import VariantSettings


class BedrockNovaCanvasProvider(BedrockProvider):
    """Nova Canvas. AWS has retired it: plans warn, and requests are sent all the same."""

    name: ClassVar[str] = "bedrock_nova_canvas"
    options_type = NovaCanvasOptions

    def __init__(self, settings: VariantSettings) -> None:
        options = validate(NovaCanvasOptions, settings.provider.options, "provider.options")
        bedrock = Bedrock(
            settings,
            region=options.region,
            profile=options.profile,
            guardrail=options.guardrail,
        )
        super().__init__(settings, bedrock, AmazonImages(settings, options, bedrock))

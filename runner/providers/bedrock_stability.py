"""Stability's models on Amazon Bedrock: Stable Image, Stable Diffusion 3.5, the image services.

``python -m runner provider=bedrock_stability prompt="a lighthouse" seed=7``
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from runner.providers.bedrock_family.client import Bedrock
from runner.providers.bedrock_family.stability import StabilityImages
from runner.providers.bedrock_family.stability_options import StabilityOptions
from runner.providers.contract import (
    Answer,
    Call,
    Capabilities,
    Listener,
    Price,
    Provider,
    ProviderError,
)
from runner.settings.cell import CellParams, Json
from runner.settings.load import validate
from runner.settings.schema import VariantSettings


class BedrockStabilityProvider(Provider):
    """Stable Image Core and Ultra, Stable Diffusion 3.5 Large; one model per image service."""

    name: ClassVar[str] = "bedrock_stability"
    options_type = StabilityOptions

    def __init__(self, settings: VariantSettings) -> None:
        super().__init__(settings)
        options = validate(StabilityOptions, settings.provider.options, "provider.options")
        self.bedrock = Bedrock(
            settings,
            region=options.region,
            profile=options.profile,
            guardrail=options.guardrail,
        )
        self.images = StabilityImages(settings, options, self.bedrock)

    def capabilities(self) -> Capabilities:
        """By the model's traits and the pipeline."""
        return self.images.capabilities

    def identity(self) -> Mapping[str, Json]:
        """Like the default, with the content of option files; who asks and where stays out."""
        return {**super().identity(), "options": self.images.identity()}

    def quota_key(self) -> str:
        """Limits are per account, region and model."""
        return self.bedrock.quota_key()

    def check(self, params: CellParams) -> Sequence[str]:
        """Sizes, texts and files."""
        return list(self.images.check(params))

    def check_ready(self) -> None:
        """boto3, a region and credentials."""
        self.bedrock.check_ready()

    def estimate(self, params: CellParams) -> Price:
        """By the model's price per image."""
        return self.images.estimate()

    def classify(self, error: Exception) -> ProviderError:
        """By AWS's names of errors."""
        return self.bedrock.classify(error)

    def versions(self) -> Mapping[str, str]:
        """boto3 and botocore."""
        return self.bedrock.versions()

    async def open(self) -> None:
        """Make boto3's client."""
        await self.bedrock.open()

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """Call the model once."""
        return await self.images.generate(call)

    async def close(self) -> None:
        """Close the connections."""
        await self.bedrock.close()

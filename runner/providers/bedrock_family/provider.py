"""The provider around Bedrock: what all families of models have in common there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from runner.providers.bedrock_family.client import Bedrock
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
from runner.settings.schema import VariantSettings


class Images(Protocol):
    """What one family of models takes, is sent and answers.

    Attributes:
        capabilities: By the model's traits, the pipeline and the task.
    """

    capabilities: Capabilities

    def identity(self) -> Mapping[str, Json]:
        """The options that change the picture; a file counts by its content."""

    def check(self, params: CellParams) -> Iterable[str]:
        """Problems of one cell."""

    def estimate(self, params: CellParams) -> Price:
        """The price of one image."""

    async def generate(self, call: Call) -> Answer:
        """Make the images of one call."""


class BedrockProvider(Provider):
    """Models on Amazon Bedrock. A family's own class says what they take.

    Args:
        settings: The variant.
        bedrock: Region, credentials, calls.
        images: What is sent and read.
    """

    def __init__(self, settings: VariantSettings, bedrock: Bedrock, images: Images) -> None:
        super().__init__(settings)
        self.bedrock = bedrock
        self.images = images

    def capabilities(self) -> Capabilities:
        """By the model's traits, the pipeline and the task."""
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
        return self.images.estimate(params)

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

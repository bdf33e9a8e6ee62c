"""The contract for ``provider=bedrock_titan``, and what only Titan Image Generator has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tests.contract.aws import VARIABLES, aws_environment
from tests.contract.suite import ProviderContract
from tests.servers.bedrock_amazon import TitanServer

__all__ = ["aws_environment"]


class TestBedrockTitan(ProviderContract):
    provider = "bedrock_titan"
    server_type = TitanServer
    variables = VARIABLES
    families = ("bedrock_titan",)
    retired = "bedrock_titan/v1"
    count_field = "numberOfImages"
    cost_basis = "price_book"
    returns_urls = False
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "1152x768",
        "quality": "premium",
        "negative_prompt": "rain",
        "guidance_scale": 7.5,
        "seed": 7,
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1000x1000"}

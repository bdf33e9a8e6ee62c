"""The contract for ``provider=bedrock_stability``, and what only Stability's models have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tests.contract.aws import VARIABLES, aws_environment
from tests.contract.suite import ProviderContract
from tests.servers.bedrock_stability import StabilityServer

__all__ = ["aws_environment"]


class TestBedrockStability(ProviderContract):
    provider = "bedrock_stability"
    server_type = StabilityServer
    variables = VARIABLES
    families = ("bedrock_stability",)
    retired = "bedrock_stability/core_v1_0"
    count_field = None
    cost_basis = "price_book"
    returns_urls = False
    input_size = (96, 64)
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "16:9",
        "negative_prompt": "rain",
        "output_format": "webp",
        "seed": 7,
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "5:1"}

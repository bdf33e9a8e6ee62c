"""Requests as huggingface_hub builds them for each Inference Provider, without being sent."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, NoReturn

from runner.providers.net.sdk import Built, Ready

ROUTER = "https://router.huggingface.co"
_TOKEN = "hf_none"
"""Makes the SDK take the way over the router; the session adds the real token."""

TASKS: Mapping[str, str] = {"text2img": "text-to-image", "img2img": "image-to-image"}
"""Pipeline kinds, by the Hub's names of tasks."""


@functools.cache
def _client_type() -> type[Any]:
    from huggingface_hub import AsyncInferenceClient

    class Client(AsyncInferenceClient):
        """Builds requests. Its own sending follows redirects and decodes every picture anew."""

        async def _inner_post(self, request_parameters: Any, *, stream: bool = False) -> NoReturn:
            asked = request_parameters
            body = asked.data if asked.json is None else json.dumps(asked.json).encode("ascii")
            raise Ready(Built.of("POST", asked.url, asked.headers, bytes(body)))

    return Client


def make_builder(route: str, bill_to: str | None) -> Any:
    """The SDK's client for one route: ``endpoint``, or the name of an Inference Provider."""
    provider = None if route == "endpoint" else route
    return _client_type()(provider=provider, token=_TOKEN, bill_to=bill_to)


def know_model(route: str, model: str, mapping: Mapping[str, Any]) -> None:
    """Tell the SDK what an Inference Provider calls a model, so that it need not ask.

    Args:
        route: The Inference Provider.
        model: Name on the Hub.
        mapping: As the Hub has it: ``providerId``, ``task``, ``status`` ….
    """
    from huggingface_hub.hf_api import InferenceProviderMapping
    from huggingface_hub.inference._providers._common import HARDCODED_MODEL_INFERENCE_MAPPING

    known = InferenceProviderMapping(  # type: ignore[no-untyped-call]
        **{**mapping, "provider": route, "hf_model_id": model}
    )
    HARDCODED_MODEL_INFERENCE_MAPPING.setdefault(route, {})[model] = known

"""Requests as huggingface_hub builds them for each Inference Provider, without being sent."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

ROUTER = "https://router.huggingface.co"
_TOKEN = "hf_none"
"""Makes the SDK take the way over the router; the session adds the real token."""

TASKS: Mapping[str, str] = {"text2img": "text-to-image", "img2img": "image-to-image"}
"""Pipeline kinds, by the Hub's names of tasks."""


@dataclass(frozen=True, slots=True)
class Built:
    """A request.

    Attributes:
        url: Where it goes, on the router or an endpoint.
        body: As it goes on the wire.
        headers: Lower-case names.
    """

    url: str
    body: bytes
    headers: Mapping[str, str]


class _Prepared(Exception):  # noqa: N818 - it is no error
    """What the SDK was about to send."""

    def __init__(self, request: Any) -> None:
        super().__init__("prepared")
        self.request = request


@functools.cache
def _client_type() -> type[Any]:
    from huggingface_hub import AsyncInferenceClient

    class Client(AsyncInferenceClient):
        """Builds requests. Its own sending follows redirects and decodes every picture anew."""

        async def _inner_post(self, request_parameters: Any, *, stream: bool = False) -> NoReturn:
            raise _Prepared(request_parameters)

    return Client


def make_builder(route: str, bill_to: str | None) -> Any:
    """The SDK's client for one route: ``endpoint``, or the name of an Inference Provider."""
    provider = None if route == "endpoint" else route
    return _client_type()(provider=provider, token=_TOKEN, bill_to=bill_to)


async def build(calling: Awaitable[object]) -> Built:
    """The request of one call of the SDK's client."""
    try:
        await calling
    except _Prepared as prepared:
        request = prepared.request
        body = request.data if request.json is None else json.dumps(request.json).encode("ascii")
        return Built(request.url, bytes(body), dict(request.headers))
    raise RuntimeError("the SDK built nothing")


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

"""Together AI's images API.

``python -m runner provider=together prompt="a lighthouse" size=16:9 seed=7 n=4``
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from pydantic import Field

from runner.providers.contract import (
    Answer,
    Call,
    Listener,
    Price,
)
from runner.providers.hosted import as_data_url
from runner.providers.hosted_provider import HostedProvider
from runner.providers.net import FaultRules, Found, Http, text
from runner.providers.net.outputs import mapping
from runner.settings.cell import CellParams
from runner.settings.load import validate
from runner.settings.schema import Section, VariantSettings

BASE_URL = "https://api.together.ai/v1"
KEY_VARIABLES = ("TOGETHER_API_KEY",)
RULES = FaultRules(
    refused_words=("nsfw", "safety checker", "moderat"),
    no_credit_words=("credit limit exceeded",),
    gone=frozenset({"model_not_available"}),
)


class TogetherOptions(Section):
    """provider.options.* of Together; which of them a model takes is in its file."""

    images: tuple[str, ...] = Field((), description="further input images, where a model has them")
    disable_safety_checker: bool | None = Field(None, description="true: nothing is filtered out")


class TogetherProvider(HostedProvider):
    """Models on Together AI."""

    name: ClassVar[str] = "together"
    options_type = TogetherOptions

    def __init__(self, settings: VariantSettings) -> None:
        http = Http(settings, base_url=BASE_URL, variables=KEY_VARIABLES, rules=RULES)
        self.options = validate(TogetherOptions, settings.provider.options, "provider.options")
        super().__init__(settings, http, self.options)

    def quota_key(self) -> str:
        """Limits are per key and model."""
        return self.http.quota_key(self.settings.model.name)

    def estimate(self, params: CellParams) -> Price:
        """By the megapixel; steps beyond the model's own number cost in proportion."""
        price, usual = self.model.estimate(params), self.model.traits.keys.get("steps")
        if params.steps is None or usual is None or not isinstance(usual.default, (int, float)):
            return price
        factor = max(1.0, params.steps / usual.default)
        if price.low_usd is None or price.high_usd is None or factor == 1:
            return price
        return dataclasses.replace(
            price, low_usd=price.low_usd * factor, high_usd=price.high_usd * factor
        )

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """One request, answered at once."""
        fields = {"model": self.settings.model.name, **self.model.fields(call)}
        files = await self.model.files(call.params, as_data_url)
        body = {**self.model.prompt(call.params), **fields, **files}
        reply = await self.http.send("POST", f"/{self.model.route.path}", json=body)
        made = reply.json()
        items = made.get("data")
        used = text(made.get("model"))
        other = used is not None and used != self.settings.model.name
        return await self.answer(
            call,
            [
                Found(text(mapping(item).get("b64_json")) or text(mapping(item).get("url")))
                for item in (items if isinstance(items, list) else [])
            ],
            sent=fields,
            model_reported=used,
            request_id=reply.request_id or text(made.get("id")),
            warnings=[f"Together answered with another model: {used}"] if other else [],
        )

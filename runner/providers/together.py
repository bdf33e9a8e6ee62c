"""Together AI's images API.

``python -m runner provider=together prompt="a lighthouse" size=16:9 seed=7 n=4``
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from runner.providers.contract import (
    Answer,
    Call,
    Capabilities,
    Listener,
    Picture,
    Price,
    Provider,
    ProviderError,
)
from runner.providers.hosted import Hosted, as_data_url, mapping
from runner.providers.net import FaultRules, Found, Http, take_all, text
from runner.providers.prices import settle
from runner.settings.cell import CellParams, Json
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


class TogetherProvider(Provider):
    """Models on Together AI."""

    name: ClassVar[str] = "together"
    options_type = TogetherOptions

    def __init__(self, settings: VariantSettings) -> None:
        super().__init__(settings)
        self.http = Http(settings, base_url=BASE_URL, variables=KEY_VARIABLES, rules=RULES)
        self.options = validate(TogetherOptions, settings.provider.options, "provider.options")
        self.model = Hosted(settings, self.http, self.options)

    def capabilities(self) -> Capabilities:
        """By the model's file."""
        return self.model.capabilities()

    def identity(self) -> Mapping[str, Json]:
        """Like the default, with input images of the options counted by their content."""
        return {**super().identity(), "options": self.model.identity()}

    def check(self, params: CellParams) -> Sequence[str]:
        """Sizes."""
        return self.model.check(params)

    def check_ready(self) -> None:
        """Packages and key."""
        self.http.check_ready()

    def quota_key(self) -> str:
        """Limits are per key and model."""
        keys = ",".join(self.http.keys.variables)
        return f"{self.name}:{self.http.base.origin}:{self.settings.model.name}:{keys}"

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

    def classify(self, error: Exception) -> ProviderError:
        """Words of a refusal are Together's own; the rest is common."""
        return self.http.classify(error)

    async def open(self) -> None:
        """Make the session."""
        await self.http.open()

    async def close(self) -> None:
        """Close it."""
        await self.http.close()

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """One request, answered at once."""
        fields = {"model": self.settings.model.name, **self.model.fields(call)}
        files = await self.model.files(call.params, as_data_url)
        body = {**self.model.prompt(call.params), **fields, **files}
        reply = await self.http.send("POST", f"/{self.model.route.path}", json=body)
        made, size = reply.json(), self.model.size(call.params)
        items = made.get("data")
        used = text(made.get("model"))
        warnings = [size.warning] if size and size.warning else []
        if used is not None and used != self.settings.model.name:
            warnings.append(f"Together answered with another model: {used}")
        outputs = await take_all(
            self.http,
            call,
            [
                Found(text(mapping(item).get("b64_json")) or text(mapping(item).get("url")))
                for item in (items if isinstance(items, list) else [])
            ],
            seed_sent=call.params.seed,
            warnings=warnings,
        )
        usd, basis = settle(
            sum(isinstance(output, Picture) for output in outputs),
            book=self.estimate(call.params),
        )
        return Answer(
            outputs=outputs,
            params_sent=fields,
            model_reported=used,
            request_id=reply.request_id or text(made.get("id")),
            cost_usd=usd,
            cost_basis=basis,
        )

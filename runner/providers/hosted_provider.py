"""The provider around a hosted model: what the services whose models are data have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runner.providers.contract import (
    Answer,
    Call,
    Capabilities,
    Missing,
    Picture,
    Price,
    Provider,
)
from runner.providers.hosted import Hosted
from runner.providers.net import Found, Http, take_all
from runner.providers.prices import settle
from runner.settings.cell import CellParams, Json
from runner.settings.schema import Section, VariantSettings


class HostedProvider(Provider):
    """A service that hosts models. A service's own class says how it is spoken to.

    Args:
        settings: The variant.
        http: Base URL, key, downloads.
        options: The user's native options.
    """

    http: Http

    def __init__(self, settings: VariantSettings, http: Http, options: Section) -> None:
        super().__init__(settings)
        self.http = http
        self.model = Hosted(settings, http, options)

    def capabilities(self) -> Capabilities:
        """By the model's file."""
        return self.model.capabilities()

    def identity(self) -> Mapping[str, Json]:
        """Like the default, with input images of the options counted by their content."""
        return {**super().identity(), "options": self.model.identity()}

    def check(self, params: CellParams) -> Sequence[str]:
        """Sizes, the length of the prompt, and whether image and mask fit."""
        return self.model.check(params)

    def estimate(self, params: CellParams) -> Price:
        """By the price in the model's file."""
        return self.model.estimate(params)

    async def answer(
        self,
        call: Call,
        found: Sequence[Found | Missing],
        *,
        sent: Mapping[str, Json],
        request_id: str | None,
        model_reported: str | None = None,
        usage: Mapping[str, Json] | None = None,
        reported_usd: float | None = None,
        warnings: Sequence[str] = (),
    ) -> Answer:
        """Fetch what an answer lists, and say what it cost.

        Args:
            call: What was asked.
            found: What the answer lists.
            sent: What went on the wire, by native name, prompt and files left out.
            request_id: The service's id of the request.
            model_reported: The model that the service says it used.
            usage: The service's own usage figures.
            reported_usd: What the service says that the call cost, in US dollars.
            warnings: Sentences for every picture.
        """
        size = self.model.size(call.params)
        resized = [size.warning] if size and size.warning else []
        outputs = await take_all(
            self.http,
            call,
            found,
            seed_sent=call.params.seed,
            warnings=[*resized, *warnings],
        )
        usd, basis = settle(
            sum(isinstance(output, Picture) for output in outputs),
            reported_usd=reported_usd,
            book=self.estimate(call.params),
        )
        return Answer(
            outputs=outputs,
            params_sent=sent,
            model_reported=model_reported,
            request_id=request_id,
            usage=usage or {},
            cost_usd=usd,
            cost_basis=basis,
        )

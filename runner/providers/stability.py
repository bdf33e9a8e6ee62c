"""Stability's own platform (v2beta): multipart forms; only the creative upscaler is polled.

``python -m runner provider=stability prompt="a lighthouse" size=16:9 seed=7``
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from runner.providers.contract import (
    Answer,
    Call,
    Listener,
    Missing,
)
from runner.providers.hosted_provider import HostedProvider
from runner.providers.net import (
    FaultRules,
    Found,
    Http,
    Jobs,
    Pace,
    Part,
    Reply,
    Running,
    file_identity,
    sent_fields,
    text,
)
from runner.settings.cell import CellParams, Json
from runner.settings.load import validate
from runner.settings.schema import Section, VariantSettings

BASE_URL = "https://api.stability.ai/v2beta"
KEY_VARIABLES = ("STABILITY_API_KEY",)
POLLED = frozenset({"stable-image/upscale/creative"})
"""Endpoints that answer with an id."""
SLOW = Pace(first_s=10.0, factor=1.0, longest_s=10.0)
"""Results are not to be asked for more often than every ten seconds."""
AS_JSON = {"Accept": "application/json"}


class StabilityOptions(Section):
    """provider.options.* of Stability; which of them a model takes is in its file."""

    cfg_scale: float | None = Field(
        None, ge=1, le=10, description="how closely the prompt is followed (SD 3.5)"
    )
    grow_mask: int | None = Field(
        None, ge=0, le=100, description="pixels by which the mask is widened, with soft borders"
    )
    left: int | None = Field(None, ge=0, le=2000, description="outpaint: pixels on the left")
    right: int | None = Field(None, ge=0, le=2000, description="outpaint: pixels on the right")
    up: int | None = Field(None, ge=0, le=2000, description="outpaint: pixels above")
    down: int | None = Field(None, ge=0, le=2000, description="outpaint: pixels below")
    creativity: float | None = Field(
        None, ge=0, le=1, description="outpaint, upscalers: how freely to invent"
    )
    search_prompt: str | None = Field(
        None, max_length=10_000, description="search_replace: words for what to replace"
    )
    select_prompt: str | None = Field(
        None, max_length=10_000, description="search_recolor: words for what to recolor"
    )
    style_image: str | None = Field(
        None, description="style_transfer: a picture in the wanted style: a path"
    )
    style_strength: float | None = Field(
        None, ge=0, le=1, description="style_transfer: how much of the style is taken"
    )
    composition_fidelity: float | None = Field(
        None, ge=0, le=1, description="style_transfer: how closely the composition is kept"
    )


class StabilityProvider(HostedProvider):
    """Stable Image and its services, Stable Diffusion 3.5: one model per endpoint.

    The limit is 150 requests in ten seconds, per key over all endpoints.
    """

    name: ClassVar[str] = "stability"
    options_type = StabilityOptions

    def __init__(self, settings: VariantSettings) -> None:
        http = Http(
            settings,
            base_url=BASE_URL,
            variables=KEY_VARIABLES,
            rules=FaultRules(no_credit=frozenset({"payment_required"})),
        )
        self.options = validate(StabilityOptions, settings.provider.options, "provider.options")
        super().__init__(settings, http, self.options)
        self.jobs = Jobs(self.http, settings.timeout_s, SLOW)

    def identity(self) -> Mapping[str, Json]:
        """Like the default, with the style image counted by its content too."""
        options = self.model.identity()
        if self.options.style_image is not None:
            what = "provider.options.style_image"
            options["style_image"] = file_identity(self.options.style_image, what)
        return {**super().identity(), "options": options}

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """Send one form; follow the job where there is one."""
        fields = self.model.fields(call)
        fields.pop("style_image", None)
        parts = [
            Part(name, form_text(value))
            for name, value in {**self.model.prompt(call.params), **fields}.items()
        ]
        parts += await self._files(call.params)
        path = self.model.route.path
        reply = await self.http.send("POST", f"/{path}", form=parts, headers=AS_JSON)
        if path not in POLLED:
            return await self._answer(call, fields, reply.json(), reply.request_id)
        fact = {"job": reply.json().get("id"), "sent": fields}
        made = await self.jobs.run(call, fact, self._poll, listener)
        return await self._answer(call, fields, made.json(), text(fact["job"]))

    async def attach(self, call: Call, fact: Mapping[str, Json], listener: Listener) -> Answer:
        """Follow an upscaling that an earlier process began."""
        made = await self.jobs.follow(call, fact, self._poll, listener)
        return await self._answer(call, sent_fields(fact), made.json(), text(fact.get("job")))

    async def _files(self, params: CellParams) -> list[Part]:
        inputs = await self.model.inputs(params)
        if self.options.style_image is not None:
            what = "provider.options.style_image"
            inputs["style_image"] = [await self.model.read(self.options.style_image, what)]
        return [
            Part(name, image.data, image.name, image.mime)
            for name, images in inputs.items()
            for image in images
        ]

    async def _poll(self, job: str) -> Reply | Running:
        reply = await self.http.send("GET", f"/results/{job}", headers=AS_JSON)
        return Running("in-progress") if reply.status == 202 else reply

    async def _answer(
        self,
        call: Call,
        sent: Mapping[str, Json],
        made: Mapping[str, Any],
        request_id: str | None,
    ) -> Answer:
        reason, seed = made.get("finish_reason"), made.get("seed")
        found: Found | Missing = Found(
            text(made.get("image")) or text(made.get("result")),
            {"seed": seed} if isinstance(seed, int) else {},
        )
        if reason == "CONTENT_FILTERED":
            # What comes with it is a blurred picture.
            found = Missing(
                outcome="refused",
                kind="content_filter",
                code="CONTENT_FILTERED",
                message="the picture was filtered",
            )
        request_id = request_id or text(made.get("id"))
        return await self.answer(call, [found], sent=sent, request_id=request_id)


def form_text(value: Json) -> str:
    """A value as a form writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)

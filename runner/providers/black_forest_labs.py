"""Black Forest Labs: submit a task, journal its id, poll it, fetch the picture without the key.

``python -m runner provider=black_forest_labs prompt="a lighthouse" size=16:9 seed=7``
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from runner.providers.contract import (
    Answer,
    Call,
    Listener,
    ProviderError,
)
from runner.providers.hosted import as_base64
from runner.providers.hosted_provider import HostedProvider
from runner.providers.net import (
    FaultRules,
    Found,
    Http,
    JobError,
    Jobs,
    Running,
    one_line,
    sent_fields,
    text,
)
from runner.providers.net.jobs import POLL_TIMEOUT_S
from runner.providers.net.outputs import mapping
from runner.settings.cell import Json
from runner.settings.load import validate
from runner.settings.schema import Section, VariantSettings

BASE_URL = "https://api.bfl.ai/v1"
DOMAIN = "bfl.ai"
"""A task is polled where the answer says: ``api.us1.bfl.ai`` and the like."""
KEY_VARIABLES = ("BFL_API_KEY",)
MOST_TASKS = 24
"""Tasks that may be under way at once, on most endpoints."""
REFUSED = {"Request Moderated": "the request", "Content Moderated": "the picture"}
FAILED = frozenset({"Error", "Failed"})
RULES = FaultRules(
    no_credit=frozenset({"insufficient_credits"}), refused=frozenset({"request_moderated"})
)


class BlackForestLabsOptions(Section):
    """provider.options.* of Black Forest Labs; which of them a model takes is in its file."""

    images: tuple[str, ...] = Field((), description="further input images, where a model has them")
    safety_tolerance: int | None = Field(None, ge=0, le=6, description="0 is the strictest")
    prompt_upsampling: bool | None = Field(
        None, description="let the model write the prompt longer"
    )
    grounding: bool | None = Field(
        None, description="false: no search in the web for what the prompt names (FLUX 3)"
    )
    raw: bool | None = Field(None, description="less processed pictures (FLUX1.1 [pro] ultra)")
    top: int | None = Field(None, ge=0, le=2048, description="pixels to add above (Expand)")
    bottom: int | None = Field(None, ge=0, le=2048, description="pixels to add below (Expand)")
    left: int | None = Field(None, ge=0, le=2048, description="pixels to add on the left (Expand)")
    right: int | None = Field(
        None, ge=0, le=2048, description="pixels to add on the right (Expand)"
    )


def authorization(key: str) -> dict[str, str]:
    """The header of their own."""
    return {"x-key": key}


class BlackForestLabsProvider(HostedProvider):
    """FLUX from those who make it; regional hosts through ``provider.base_url``."""

    name: ClassVar[str] = "black_forest_labs"
    options_type = BlackForestLabsOptions

    def __init__(self, settings: VariantSettings) -> None:
        http = Http(
            settings,
            base_url=BASE_URL,
            variables=KEY_VARIABLES,
            auth=authorization,
            rules=RULES,
            domain=DOMAIN,
        )
        options = settings.provider.options
        self.options = validate(BlackForestLabsOptions, options, "provider.options")
        super().__init__(settings, http, self.options)
        self.jobs = Jobs(self.http, settings.timeout_s)

    def max_concurrency(self) -> int | None:
        """As many tasks as may be under way at once."""
        return MOST_TASKS

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """Submit a task and follow it."""
        fields = self.model.fields(call)
        files = await self.model.files(call.params, as_base64)
        body = {**self.model.prompt(call.params), **fields, **files}
        made = (await self.http.send("POST", f"/{self.model.route.path}", json=body)).json()
        fact = {
            "job": made.get("id"),
            "polling_url": made.get("polling_url"),
            "cost": made.get("cost"),
            "sent": fields,
        }
        found = await self.jobs.run(call, fact, self._poll(fact), listener)
        return await self._answer(call, fact, found)

    async def attach(self, call: Call, fact: Mapping[str, Json], listener: Listener) -> Answer:
        """Follow a task that an earlier process submitted."""
        found = await self.jobs.follow(call, fact, self._poll(fact), listener)
        return await self._answer(call, fact, found)

    def _poll(self, fact: Mapping[str, Json]) -> Any:
        told = text(fact.get("polling_url"))
        place = told if told and self.http.trusts(told) else None

        async def poll(job: str) -> Mapping[str, Any] | Running:
            query = None if place else {"id": job}
            path = place or "/get_result"
            found = (
                await self.http.send("GET", path, query=query, timeout_s=POLL_TIMEOUT_S)
            ).json()
            status = str(found.get("status"))
            if status == "Ready":
                return found
            if status == "Task not found":
                raise ProviderError("gone", f"task {job} is not there", code="not_found")
            if status in REFUSED:
                reasons = mapping(found.get("details")).get("Moderation Reasons")
                why = f": {one_line(', '.join(map(str, reasons)))}" if reasons else ""
                raise JobError(
                    "refused",
                    f"{REFUSED[status]} was moderated{why}",
                    code=status,
                    request_id=job,
                )
            if status in FAILED:
                said = self.http.keys.redact(one_line(str(found.get("error") or "no reason told")))
                raise JobError(
                    "transient", f"task {job} failed: {said}", code=status, request_id=job
                )
            progress = found.get("progress")
            return Running(status, progress if isinstance(progress, (int, float)) else None)

        return poll

    async def _answer(
        self, call: Call, fact: Mapping[str, Json], made: Mapping[str, Any]
    ) -> Answer:
        result = mapping(made.get("result"))
        seed = result.get("seed")
        credits = made.get("cost", fact.get("cost"))
        book = self.model.book
        figures = {name: made[name] for name in ("input_mp", "output_mp") if name in made}
        return await self.answer(
            call,
            [Found(text(result.get("sample")), {"seed": seed} if isinstance(seed, int) else {})],
            sent=sent_fields(fact),
            request_id=text(fact.get("job")),
            usage={**figures, "credits": credits} if credits is not None else figures,
            reported_usd=book.from_credits(credits) if book else None,
        )

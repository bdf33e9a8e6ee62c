"""fal.ai through its queue: submit, journal the id, poll, fetch the pictures without the key.

``python -m runner provider=fal prompt="a lighthouse" size=16:9 seed=7 n=4``
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from runner.providers.contract import (
    Answer,
    Call,
    Listener,
    Missing,
    ProviderError,
)
from runner.providers.hosted import as_data_url
from runner.providers.hosted_provider import HostedProvider
from runner.providers.net import (
    FaultRules,
    Found,
    Http,
    JobError,
    Jobs,
    Reply,
    Running,
    given,
    sent_fields,
    text,
)
from runner.providers.net.jobs import POLL_TIMEOUT_S
from runner.providers.net.outputs import mapping
from runner.settings.cell import Json
from runner.settings.load import validate
from runner.settings.schema import Section, VariantSettings

BASE_URL = "https://queue.fal.run"
KEY_VARIABLES = ("FAL_KEY",)
ONCE = {"X-Fal-No-Retry": "1", "X-App-Fal-Disable-Fallback": "1"}
"""Their queue would try again up to ten times, on other models too; here only our engine does."""
RULES = FaultRules(
    refused_words=("flagged by a content checker",),
    no_credit_words=("exhausted balance",),
)


class Lora(Section):
    """A LoRA to mix in."""

    path: str = Field(description="its https address or Hub id")
    scale: float = Field(1.0, ge=0, le=4, description="how much of it")


class FalOptions(Section):
    """provider.options.* of fal; which of them a model takes is in its file."""

    images: tuple[str, ...] = Field((), description="further input images, where a model has them")
    acceleration: Literal["none", "regular", "high"] | None = Field(
        None, description="faster, at some cost in quality"
    )
    enable_safety_checker: bool | None = Field(
        None, description="false: pictures are not blacked out, and come back with a warning"
    )
    safety_tolerance: Literal["1", "2", "3", "4", "5", "6"] | None = Field(
        None, description="1 is the strictest"
    )
    enhance_prompt: bool | None = Field(None, description="let the model write the prompt longer")
    enable_prompt_expansion: bool | None = Field(None, description="the same, for FLUX.2 [dev]")
    raw: bool | None = Field(None, description="less processed pictures (FLUX1.1 [pro] ultra)")
    loras: tuple[Lora, ...] = Field((), description="LoRAs: [{path, scale}]")
    preprocess_depth: bool | None = Field(
        None, description="false: the control image is a depth map already"
    )
    use_turbo: bool | None = Field(None, description="ten steps instead of thirty (Qwen-Image)")


def authorization(key: str) -> dict[str, str]:
    """The scheme of fal."""
    return {"Authorization": f"Key {key}"}


class FalProvider(HostedProvider):
    """Models on fal.ai."""

    name: ClassVar[str] = "fal"
    options_type = FalOptions

    def __init__(self, settings: VariantSettings) -> None:
        http = Http(
            settings,
            base_url=BASE_URL,
            variables=KEY_VARIABLES,
            auth=authorization,
            rules=RULES,
        )
        self.options = validate(FalOptions, settings.provider.options, "provider.options")
        super().__init__(settings, http, self.options)
        self.jobs = Jobs(self.http, settings.timeout_s)

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """Put a request into the queue and follow it."""
        fields = self.model.fields(call)
        files = await self.model.files(call.params, as_data_url)
        body = {**self.model.prompt(call.params), **fields, **files}
        reply = await self.http.send("POST", f"/{self.model.route.path}", json=body, headers=ONCE)
        made = reply.json()
        fact = {
            "job": made.get("request_id"),
            "status_url": made.get("status_url"),
            "response_url": made.get("response_url"),
            "sent": fields,
        }
        return await self._finish(call, fact, listener, submitted=True)

    async def attach(self, call: Call, fact: Mapping[str, Json], listener: Listener) -> Answer:
        """Follow a request that an earlier process put into the queue."""
        return await self._finish(call, fact, listener, submitted=False)

    async def _finish(
        self, call: Call, fact: Mapping[str, Json], listener: Listener, *, submitted: bool
    ) -> Answer:
        async def poll(job: str) -> Mapping[str, Any] | Running:
            status = (
                await self.http.send("GET", self._url(fact, "status"), timeout_s=POLL_TIMEOUT_S)
            ).json()
            word = str(status.get("status"))
            if word != "COMPLETED":
                return Running(word)
            if status.get("error"):
                raise failed(job, str(status.get("error")), text(status.get("error_type")))
            return (await self._result(job, fact)).json()

        follow = self.jobs.run if submitted else self.jobs.follow
        return await self._answer(call, fact, await follow(call, fact, poll, listener))

    async def _result(self, job: str, fact: Mapping[str, Json]) -> Reply:
        """What a finished request brought; how the model itself failed is an HTTP error here."""
        try:
            return await self.http.send("GET", self._url(fact, "response"))
        except ProviderError as fault:
            if fault.kind in {"refused", "invalid"}:
                raise JobError(fault.kind, fault.message, code=fault.code, request_id=job) from None
            raise

    def _url(self, fact: Mapping[str, Json], what: str) -> str:
        """Where the API says to ask; where that is another host, its documented place."""
        told = text(fact.get(f"{what}_url"))
        if told and self.http.trusts(told):
            return told
        owner, app = self.model.route.path.split("/")[:2]
        place = f"/{owner}/{app}/requests/{fact.get('job')}"
        return f"{place}/status" if what == "status" else place

    async def _answer(
        self, call: Call, fact: Mapping[str, Json], made: Mapping[str, Any]
    ) -> Answer:
        effective = {"seed": made["seed"]} if isinstance(made.get("seed"), int) else {}
        images, flags = made.get("images"), made.get("has_nsfw_concepts")
        images = images if isinstance(images, list) else [made["image"]] if "image" in made else []
        flags = flags if isinstance(flags, list) else []
        timings = made.get("timings")
        return await self.answer(
            call,
            [
                self._found(item, at < len(flags) and flags[at] is True, effective)
                for at, item in enumerate(images)
            ],
            sent=sent_fields(fact),
            request_id=text(fact.get("job")),
            usage={"timings": dict(timings)} if isinstance(timings, Mapping) else {},
        )

    def _found(self, item: object, flagged: bool, effective: Mapping[str, Json]) -> Found | Missing:
        source = text(mapping(item).get("url"))
        if not flagged:
            return Found(source, effective)
        if given(self.options).get("enable_safety_checker") is False:
            return Found(source, effective, ("fal marked this picture as not safe for work",))
        # What comes instead of a flagged picture is all black.
        return Missing(
            outcome="refused",
            kind="content_filter",
            code="has_nsfw_concepts",
            message="the picture was blacked out by the safety checker",
        )


def failed(job: str, message: str, code: str | None) -> JobError:
    """A request that the queue itself gave up; what failed on their side is not billed."""
    return JobError("transient", f"request {job} failed: {message}", code=code, request_id=job)

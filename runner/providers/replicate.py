"""Replicate: create a prediction, journal its id, poll it, fetch the pictures without the key.

``python -m runner provider=replicate prompt="a lighthouse" size=16:9 seed=7 n=4``
"""

from __future__ import annotations

import asyncio
import hashlib
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
    InputImage,
    JobError,
    Jobs,
    Part,
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

BASE_URL = "https://api.replicate.com/v1"
KEY_VARIABLES = ("REPLICATE_API_TOKEN",)
INLINE_BYTES = 256 * 1024
"""Larger input images are uploaded first, as the vendor asks."""
REFUSED_WORDS = ("nsfw", "flagged as sensitive", "(e005)", "content policy", "moderat")
"""What a failed prediction says when a safety system ended it: there is no code."""


class ReplicateOptions(Section):
    """provider.options.* of Replicate; which of them a model takes is in its file."""

    images: tuple[str, ...] = Field((), description="further input images, where a model has them")
    go_fast: bool | None = Field(
        None, description="faster, quantized; then the same seed does not repeat a picture"
    )
    megapixels: Literal["0.25", "1", "match_input"] | None = Field(
        None, description="about how large, beside an aspect ratio"
    )
    resolution: Literal["match_input_image", "0.5 MP", "1 MP", "2 MP", "4 MP"] | None = Field(
        None, description="about how large, beside an aspect ratio (FLUX.2)"
    )
    output_quality: int | None = Field(None, ge=0, le=100, description="of jpg and webp")
    disable_safety_checker: bool | None = Field(None, description="true: nothing is filtered out")
    safety_tolerance: int | None = Field(None, ge=1, le=6, description="1 is the strictest")
    prompt_upsampling: bool | None = Field(
        None, description="let the model write the prompt longer"
    )


class ReplicateProvider(HostedProvider):
    """Models on Replicate: official ones by name, any other by model.revision=VERSION.

    Official ones have a price per image; others are paid by the second of their hardware.
    """

    name: ClassVar[str] = "replicate"
    options_type = ReplicateOptions

    def __init__(self, settings: VariantSettings) -> None:
        rules = FaultRules(refused_words=REFUSED_WORDS)
        http = Http(settings, base_url=BASE_URL, variables=KEY_VARIABLES, rules=rules)
        self.options = validate(ReplicateOptions, settings.provider.options, "provider.options")
        super().__init__(settings, http, self.options)
        self.jobs = Jobs(self.http, settings.timeout_s)
        self._uploaded: dict[str, str] = {}
        self._turn = asyncio.Lock()

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """Create a prediction and follow it."""
        fields = self.model.fields(call)
        files = await self.model.files(call.params, self._put)
        body: dict[str, Json] = {"input": {**self.model.prompt(call.params), **fields, **files}}
        path = f"/models/{self.model.route.path}/predictions"
        version = self.settings.model.revision
        if version is not None:
            path, body = "/predictions", {"version": version, **body}
        made = (await self.http.send("POST", path, json=body)).json()
        fact = {"job": made.get("id"), "sent": fields}
        return await self._answer(call, fact, await self.jobs.run(call, fact, self._poll, listener))

    async def attach(self, call: Call, fact: Mapping[str, Json], listener: Listener) -> Answer:
        """Follow a prediction that an earlier process created."""
        found = await self.jobs.follow(call, fact, self._poll, listener)
        return await self._answer(call, fact, found)

    async def _put(self, image: InputImage) -> str:
        """A small file travels inside the request; a large one is uploaded, once."""
        if len(image.data) <= INLINE_BYTES:
            return await as_data_url(image)
        name = hashlib.sha256(image.data).hexdigest()
        async with self._turn:
            if name not in self._uploaded:
                self._uploaded[name] = await self._upload(image)
            return self._uploaded[name]

    async def _upload(self, image: InputImage) -> str:
        part = Part("content", image.data, image.name, image.mime)
        try:
            found = (await self.http.send("POST", "/files", form=[part])).json()
        except Exception as error:
            fault = self.http.classify(error)
            if fault.kind == "ambiguous":  # nothing was asked for yet
                fault.kind = "transient"
            raise fault from None
        place = text(mapping(found.get("urls")).get("get"))
        if place is None:
            raise ProviderError("transient", "no address of the upload", code="bad_response")
        return place

    async def _poll(self, job: str) -> Mapping[str, Any] | Running:
        found = (
            await self.http.send("GET", f"/predictions/{job}", timeout_s=POLL_TIMEOUT_S)
        ).json()
        status = str(found.get("status"))
        said = self.http.keys.redact(one_line(str(found.get("error") or "")))
        if status == "succeeded":
            return found
        if status == "failed":
            refused = any(word in said.lower() for word in REFUSED_WORDS)
            raise JobError(
                "refused" if refused else "transient",
                f"prediction {job} failed: {said}",
                code="failed",
                request_id=job,
            )
        if status in {"canceled", "aborted"}:
            # Somebody stopped it, or it outlived its own deadline: not for us to start again.
            raise JobError(
                "invalid",
                f"prediction {job} was {status} {said}".rstrip(),
                code=status,
                request_id=job,
            )
        return Running(status)

    async def _answer(
        self, call: Call, fact: Mapping[str, Json], made: Mapping[str, Any]
    ) -> Answer:
        output = made.get("output")
        found: list[Found | Missing] = [
            Found(text(item)) for item in (output if isinstance(output, list) else [output])
        ]
        if made.get("data_removed") is True:
            gone = "the pictures were deleted: Replicate keeps them for an hour"
            found = [Missing(outcome="failed", kind="result_lost", message=gone)] * len(call.cells)
        return await self.answer(
            call,
            found,
            sent=sent_fields(fact),
            model_reported=text(made.get("model")),
            request_id=text(fact.get("job")),
            usage=dict(mapping(made.get("metrics"))),
        )

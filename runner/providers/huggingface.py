"""Hugging Face: Inference Providers by name, and endpoints of your own, through huggingface_hub.

``python -m runner provider=huggingface prompt="a lighthouse" +provider.options.provider=together``
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any, ClassVar, Literal
from urllib.parse import quote

from pydantic import Field

from runner.images import BadImage
from runner.providers.contract import (
    Answer,
    Call,
    Capabilities,
    Listener,
    Missing,
    Param,
    Picture,
    Provider,
    ProviderError,
)
from runner.providers.huggingface_family.build import (
    ROUTER,
    TASKS,
    know_model,
    make_builder,
)
from runner.providers.huggingface_family.routes import (
    JOBS,
    RAW,
    RULES,
    found_in,
    job_of,
    poll,
    raw_picture,
)
from runner.providers.net import (
    Http,
    Inputs,
    Jobs,
    Reply,
    Running,
    bad_response,
    encode_data_url,
    given,
    json_object,
    native_fields,
    sent_fields,
)
from runner.providers.net.inputs import file_problems
from runner.providers.net.outputs import take_all
from runner.providers.net.sdk import Built, built_by
from runner.providers.sizes import Sizes, size_problems
from runner.settings.cell import CellParams, Json, PipelineKind
from runner.settings.errors import listed
from runner.settings.load import validate
from runner.settings.schema import Section, VariantSettings

KEY_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
Route = Literal[
    "auto", "hf-inference", "fal-ai", "nscale", "replicate", "together", "wavespeed", "zai-org"
]
NOT_TAKEN: Mapping[str, frozenset[str]] = {
    "nscale": frozenset({"steps"}),
    "zai-org": frozenset({"steps", "guidance_scale", "negative_prompt", "seed"}),
}
"""Keys that a route would lose without a word."""
DATA_URLS = frozenset({"fal-ai", "replicate", "together"})
"""Routes whose input image keeps its own type only as a ``data:`` URL."""


class HuggingFaceOptions(Section):
    """Who serves the model, and who pays."""

    provider: Route | None = Field(
        None,
        description="Inference Provider by name; auto: the first that serves the model. Without "
        "it, provider.base_url is an endpoint of your own, and there is auto otherwise",
    )
    provider_model: str | None = Field(
        None, description="the Inference Provider's own id of the model; asked of the Hub if unset"
    )
    bill_to: str | None = Field(None, description="organization that is billed")
    scheduler: str | None = Field(None, description="scheduler, where the model lets one choose")


class HuggingFaceTraits(Section):
    """What one model takes: data in ``conf/model/``."""

    sizes: Sizes = Field(description="sizes")
    pipelines: tuple[PipelineKind, ...] = Field(("text2img",), description="kinds of pipeline")
    keys: tuple[str, ...] = Field(
        (), description="of negative_prompt, steps, guidance_scale and strength, those it takes"
    )


class HuggingFaceProvider(Provider):
    """Hugging Face's router, and dedicated endpoints."""

    name: ClassVar[str] = "huggingface"
    options_type = HuggingFaceOptions
    http: Http

    def __init__(self, settings: VariantSettings) -> None:
        super().__init__(settings)
        self.options = validate(HuggingFaceOptions, settings.provider.options, "provider.options")
        self.traits = validate(HuggingFaceTraits, settings.model.traits, "model.traits")
        own = settings.provider.base_url is not None
        self.route: str = self.options.provider or ("endpoint" if own else "auto")
        self.http = Http(
            settings,
            base_url=ROUTER,
            variables=KEY_VARIABLES,
            key_required=self.route != "endpoint",
            rules=RULES,
            extra="huggingface",
            modules=("huggingface_hub", "aiohttp", "pybase64"),
        )
        self.jobs = Jobs(self.http, settings.timeout_s)
        self._inputs = Inputs(self.http)
        self._mapping: tuple[str, Mapping[str, Any]] | None = None
        self._looking = asyncio.Lock()

    def capabilities(self) -> Capabilities:
        """By the model's traits and the route; the API makes one picture per call."""
        edit = self.settings.pipeline.name == "img2img"
        taken = {*self.traits.keys, "seed"} - NOT_TAKEN.get(self.route, frozenset())
        params = {
            "prompt": Param(native="prompt" if edit else "inputs"),
            "size": Param(
                native="target_size" if edit else "width,height", note=self.traits.sizes.describe()
            ),
        }
        if "negative_prompt" in taken:
            params["negative_prompt"] = Param(native="negative_prompt")
        if "steps" in taken:
            params["steps"] = Param(native="num_inference_steps", minimum=1)
        if "guidance_scale" in taken:
            params["guidance_scale"] = Param(native="guidance_scale", minimum=0)
        if "seed" in taken:
            params["seed"] = Param(native="seed", minimum=0, maximum=2**32 - 1)
        if self.route in RAW:
            params["output_format"] = Param(native="accept", choices=("png", "jpeg", "webp"))
        if edit:
            params["image"] = Param(native="image")
            if "strength" in taken:
                params["strength"] = Param(native="strength", minimum=0, maximum=1)
        return Capabilities(
            pipelines=frozenset(self.traits.pipelines), params=params, seed_per_image=True
        )

    def identity(self) -> Mapping[str, Json]:
        """Like the default, without who is billed."""
        options = {name: held for name, held in given(self.options).items() if name != "bill_to"}
        return {**super().identity(), "options": {**options, "provider": self.route}}

    def quota_key(self) -> str:
        """Limits are per route and key."""
        return self.http.quota_key(str(self.route))

    def check(self, params: CellParams) -> Sequence[str]:
        """Sizes, and the input image of an edit."""
        problems = size_problems(self._size, params, self.settings.model.name)
        return [*problems, *file_problems(self.settings.pipeline.name, params)]

    def versions(self) -> Mapping[str, str]:
        """The SDK and what it sends through."""
        return {name: version(name) for name in ("huggingface_hub", "aiohttp")}

    def _size(self, params: CellParams) -> tuple[int, int] | None:
        chosen = self.traits.sizes.pixels(params.size) if params.size else None
        return (chosen.width, chosen.height) if chosen and chosen.width and chosen.height else None

    def fields(self, call: Call) -> dict[str, Json]:
        """What goes on the wire besides prompt and files, by the SDK's names."""
        params = call.params
        fields = native_fields(self.capabilities(), params, "size", "output_format")
        if size := self._size(params):
            shape = {"width": size[0], "height": size[1]}
            edit = self.settings.pipeline.name == "img2img"
            fields |= {"target_size": shape} if edit else shape
        if call.cells[0].image_seed is not None:
            fields["seed"] = call.cells[0].image_seed
        if self.options.scheduler is not None:
            fields["scheduler"] = self.options.scheduler
        return fields

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """One prompt, one picture; some routes make a job of it."""
        route, mapping = await self._served_by()
        fields, params = self.fields(call), call.params
        built = await self._build(route, mapping, params, fields)
        headers = dict(built.headers)
        sent: dict[str, Json] = {"model": self.settings.model.name, "provider": route, **fields}
        if route in RAW:
            headers["accept"] = f"image/{params.output_format or 'png'}"
            sent["accept"] = headers["accept"]
        base = self.http.base.text
        url = base + built.url.removeprefix(ROUTER) if built.url.startswith(ROUTER) else built.url
        reply = await replace(built, url=url, headers=headers).send(self.http)
        if route in RAW:
            return self._raw_answer(call, reply, sent)
        found = reply.json()
        fact = job_of(route, found) if route in JOBS else None
        if fact is None:
            return await self._answer(call, route, found, sent, reply.request_id)
        fact = {**fact, "route": route, "sent": sent}
        if not fact["path"]:
            raise bad_response("a job without an address", str(fact["job"]))
        found = await self.jobs.run(call, fact, self._poller(fact), listener)
        return await self._answer(call, route, found, sent, str(fact["job"]))

    async def attach(self, call: Call, fact: Mapping[str, Json], listener: Listener) -> Answer:
        """Take up a job that was submitted."""
        found = await self.jobs.follow(call, fact, self._poller(fact), listener)
        sent, route = sent_fields(fact), str(fact["route"])
        return await self._answer(call, route, found, sent, str(fact["job"]))

    def _poller(self, fact: Mapping[str, Json]) -> Any:
        headers = {"x-hf-bill-to": self.options.bill_to} if self.options.bill_to else {}

        async def ask(job: str) -> Mapping[str, Any] | Running:
            return await poll(self.http, str(fact["route"]), job, str(fact["path"]), headers)

        return ask

    async def _build(
        self,
        route: str,
        mapping: Mapping[str, Any],
        params: CellParams,
        fields: Mapping[str, Any],
    ) -> Built:
        model = self.settings.model.name
        if route == "endpoint":
            model = self.http.base.text
        elif route == "hf-inference":
            model = f"{ROUTER}/hf-inference/models/{model}"
        else:
            know_model(route, model, mapping)
        builder, extra = (
            make_builder(route, self.options.bill_to),
            self.settings.provider.extra_body,
        )
        if self.settings.pipeline.name == "text2img":
            return await built_by(
                builder.text_to_image(params.prompt, model=model, extra_body=extra, **fields)
            )
        image = await self._inputs.read(params.image or "")
        given_image: Any = image.data
        if route in DATA_URLS:
            given_image = encode_data_url(image.data, image.mime)
        return await built_by(
            builder.image_to_image(
                given_image, prompt=params.prompt, model=model, **fields, **extra
            )
        )

    async def _served_by(self) -> tuple[str, Mapping[str, Any]]:
        """The route, and what it calls the model.

        Raises:
            ProviderError: No route serves it, or the Hub does not tell.
        """
        task = TASKS[self.settings.pipeline.name]
        if self.route in RAW:
            return self.route, {}
        if self.options.provider_model is not None and self.route != "auto":
            own = {"providerId": self.options.provider_model, "task": task, "status": "live"}
            return self.route, own
        async with self._looking:
            if self._mapping is None:
                self._mapping = _choose(self.route, await self._look_up(), task, self.settings)
        return self._mapping

    async def _look_up(self) -> Mapping[str, Any]:
        """Which Inference Providers serve the model, as the Hub tells everyone."""
        hub = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or "https://huggingface.co"
        name = quote(self.settings.model.name, safe="/")
        try:
            data = await self.http.fetch(
                f"{hub}/api/models/{name}?expand=inferenceProviderMapping", limit=1 << 20
            )
        except BadImage as error:
            raise bad_response(str(error)) from None
        except ProviderError as error:
            raise ProviderError(
                "gone" if error.code in {"401", "404"} else "transient",
                f"the Hub does not tell who serves {name}: {error.message}",
                code=error.code,
            ) from None
        mapping = json_object(data).get("inferenceProviderMapping")
        if isinstance(mapping, list):
            mapping = {item["provider"]: item for item in mapping if "provider" in item}
        return mapping if isinstance(mapping, Mapping) else {}

    def _raw_answer(self, call: Call, reply: Reply, sent: Mapping[str, Json]) -> Answer:
        kind = reply.headers.get("content-type", "")
        output: Picture | Missing
        if kind.startswith("application/json"):
            said = str(reply.json().get("error") or "words instead of an image")
            message = self.http.keys.redact(said)
            output = Missing(outcome="failed", kind="no_image", message=message)
        else:
            found = raw_picture(reply.headers, reply.body)
            output = (
                Picture(data=found, seed_sent=call.cells[0].image_seed)
                if isinstance(found, bytes)
                else found
            )
        return Answer(outputs=(output,), params_sent=sent, request_id=reply.request_id)

    async def _answer(
        self,
        call: Call,
        route: str,
        found: Mapping[str, Any],
        sent: Mapping[str, Json],
        request_id: str | None,
    ) -> Answer:
        seed = sent.get("seed")
        outputs = await take_all(
            self.http,
            call,
            found_in(route, found),
            seed_sent=seed if isinstance(seed, int) else None,
        )
        return Answer(outputs=outputs, params_sent=sent, request_id=request_id)


def _choose(
    route: str, mapping: Mapping[str, Any], task: str, settings: VariantSettings
) -> tuple[str, Mapping[str, Any]]:
    """The Inference Provider that serves a model for a task, and its own words for it.

    Raises:
        ProviderError: None does, or not the one that was asked for.
    """
    known = [*JOBS, "nscale", "together"]
    serving = {
        name: held
        for name, held in mapping.items()
        if name in known and isinstance(held, Mapping) and held.get("task") == task
    }
    live = [name for name, held in serving.items() if held.get("status") == "live"]
    chosen = route if route in serving else next(iter(live), None) if route == "auto" else None
    if chosen is None:
        served = f"; it is served by {listed(sorted(serving))}" if serving else ""
        raise ProviderError(
            "gone",
            f"{settings.model.name} is not served by {route} for {task}{served}; "
            "choose with provider.options.provider, or name an endpoint with provider.base_url",
        )
    return chosen, serving[chosen]

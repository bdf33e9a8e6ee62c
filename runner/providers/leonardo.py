"""Leonardo.Ai: create a generation, journal its id, poll it, fetch the pictures without the key.

``python -m runner provider=leonardo prompt="a lighthouse" size=16:9 style=dynamic n=4``
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from runner.providers.contract import (
    UNKNOWN_PRICE,
    Answer,
    Call,
    Capabilities,
    Listener,
    Missing,
    Param,
    Picture,
    Price,
    Provider,
    ProviderError,
)
from runner.providers.leonardo_options import (
    PRESET_STYLES,
    LeonardoOptions,
    LeonardoTraits,
    native_options,
)
from runner.providers.leonardo_uploads import Uploads
from runner.providers.net import (
    FaultRules,
    Found,
    Http,
    JobError,
    Jobs,
    Running,
    file_identity,
    given,
    native_fields,
    sent_fields,
    take_all,
    text,
)
from runner.providers.net.inputs import file_problems
from runner.providers.net.jobs import POLL_TIMEOUT_S
from runner.providers.prices import price_book, settle
from runner.providers.sizes import Chosen, size_problems
from runner.settings.cell import CellParams, Json
from runner.settings.errors import RequestError, did_you_mean, listed
from runner.settings.load import validate
from runner.settings.schema import VariantSettings

BASE_URL = "https://cloud.leonardo.ai/api/rest/v1"
KEY_VARIABLES = ("LEONARDO_API_KEY",)
MOST_IMAGES = 8
LARGE_SIDE = 768
"""Above this side a generation makes at most half as many images."""
CONTRASTS = (1, 1.3, 1.8, 2.5, 3, 3.5, 4, 4.5)
REFERENCES = ("style_reference", "content_reference", "character_reference")
"""Guides that take five levels of strength instead of a weight."""
EFFECTIVE = ("seed", "imageWidth", "imageHeight", "inferenceSteps", "guidanceScale", "presetStyle")
"""What a finished generation says that it used."""
RULES = FaultRules(
    refused_words=("moderat", "nsfw"),
    no_credit_words=("not enough api tokens", "insufficient tokens"),
)


class LeonardoProvider(Provider):
    """Leonardo's production API, version 1."""

    name: ClassVar[str] = "leonardo"
    options_type = LeonardoOptions
    http: Http

    def __init__(self, settings: VariantSettings) -> None:
        super().__init__(settings)
        self.options = validate(LeonardoOptions, settings.provider.options, "provider.options")
        self.traits = validate(LeonardoTraits, settings.model.traits, "model.traits")
        self.book = price_book(settings.model)
        self.http = Http(settings, base_url=BASE_URL, variables=KEY_VARIABLES, rules=RULES)
        self.jobs = Jobs(self.http, settings.timeout_s)
        self._uploads = Uploads(self.http)
        if problems := tuple(self._option_problems()):
            raise RequestError(*problems)

    def _option_problems(self) -> list[str]:
        options, found = self.options, []
        if options.contrast is not None and options.contrast not in CONTRASTS:
            known = listed([f"{value:g}" for value in CONTRASTS])
            found.append(f"provider.options.contrast={options.contrast:g}: it is one of {known}")
        if options.alchemy and options.ultra:
            found.append("provider.options.ultra: it is not for use together with alchemy")
        named = [("control", options.control)]
        named += [
            (f"guides.{at}.control", guide.control) for at, guide in enumerate(options.guides)
        ]
        for where, control in named:
            if isinstance(control, str) and control not in self.traits.controls:
                near = did_you_mean(control, list(self.traits.controls))
                found.append(
                    f"provider.options.{where}={control}: this model has "
                    f"{listed(list(self.traits.controls)) or 'no guides'}{near}"
                )
        return found

    def capabilities(self) -> Capabilities:
        """By the model's traits and the kind of pipeline."""
        traits, kind = self.traits, self.settings.pipeline.name
        known = {
            "negative_prompt": Param(native="negative_prompt"),
            "steps": Param(native="num_inference_steps", minimum=10, maximum=60, default=15),
            "guidance_scale": Param(native="guidance_scale", minimum=1, maximum=20),
            "style": Param(native="styleUUID", choices=tuple(traits.styles))
            if traits.styles
            else Param(native="presetStyle", choices=tuple(PRESET_STYLES)),
        }
        params = {
            "prompt": Param(native="prompt", note="at most 1,500 characters"),
            "size": Param(native="width,height", note=traits.sizes.describe()),
            "seed": Param(native="seed", minimum=0, maximum=traits.seed_max),
            **{key: known[key] for key in traits.takes},
        }
        if kind in {"img2img", "inpaint"}:
            params["image"] = Param(native="init_image_id")
            params["strength"] = Param(
                native="init_strength",
                minimum=0.1,
                maximum=0.9,
                note="the API counts the other way round: sent is 1 - strength",
            )
        if kind == "inpaint":
            params["mask"] = Param(native="canvasMaskId", note="of the size of the image")
        if kind == "controlnet":
            params["control_image"] = Param(native="controlnets")
            params["control_scale"] = Param(native="controlnets", minimum=0, maximum=2)
        return Capabilities(
            pipelines=frozenset(traits.pipelines),
            params=params,
            max_images_per_call=MOST_IMAGES,
        )

    def images_per_call(self, params: CellParams) -> int:
        """Eight, and four where a side is longer than 768 pixels."""
        size = self._size(params)
        large = max(size.width or 0, size.height or 0) > LARGE_SIDE
        return MOST_IMAGES // 2 if large else MOST_IMAGES

    def identity(self) -> Mapping[str, Json]:
        """Like the default; guides count by content, and being shown in public not at all."""
        options = {name: value for name, value in given(self.options).items() if name != "public"}
        if self.options.guides:
            what = "provider.options.guides"
            options["guides"] = [
                {**given(guide), "image": file_identity(guide.image, what)}
                for guide in self.options.guides
            ]
        return {**super().identity(), "options": options}

    def check(self, params: CellParams) -> Sequence[str]:
        """Sizes, the length of the prompt, and whether image and mask fit."""
        found = list(file_problems(self.settings.pipeline.name, params))
        found += size_problems(self._size, params, self.settings.model.name)
        if len(params.prompt) > 1500:
            found.append(f"prompt: {len(params.prompt):,} characters, at most 1,500 are taken")
        return found

    def _size(self, params: CellParams) -> Chosen:
        return self.traits.sizes.pixels(params.size or self.traits.sizes.table[0])

    def estimate(self, params: CellParams) -> Price:
        """Prices depend on the plan and are published nowhere; the answer tells the cost."""
        return self.book.per_image(size=params.size) if self.book else UNKNOWN_PRICE

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """Upload what goes in, create the generation, follow it."""
        fields = await self._fields(call)
        body = {"prompt": call.params.prompt, **fields}
        reply = (await self.http.send("POST", "/generations", json=body)).json()
        made = reply.get("sdGenerationJob")
        made = made if isinstance(made, Mapping) else {}
        fact = {"job": made.get("generationId"), "sent": fields, "cost": made.get("cost")}
        found = await self.jobs.run(call, fact, self._poll, listener)
        return await self._answer(call, fact, found)

    async def attach(self, call: Call, fact: Mapping[str, Json], listener: Listener) -> Answer:
        """Follow a generation that an earlier process created."""
        found = await self.jobs.follow(call, fact, self._poll, listener)
        return await self._answer(call, fact, found)

    async def _fields(self, call: Call) -> dict[str, Json]:
        params, size = call.params, self._size(call.params)
        fields: dict[str, Json] = {
            "modelId": self.settings.model.name,
            "num_images": len(call.cells),
            "width": size.width,
            "height": size.height,
            **self.traits.defaults,
            **native_fields(self.capabilities(), params, "size", "style", "strength"),
        }
        fields.pop("controlnets", None)
        if params.style is not None:
            uuid = self.traits.styles.get(params.style)
            fields |= {"styleUUID": uuid} if uuid else {"presetStyle": params.style}
        if params.seed is not None:
            fields["seed"] = params.seed
        if params.strength is not None:
            fields["init_strength"] = round(1 - params.strength, 4)
        fields |= native_options(given(self.options))
        fields |= await self._input_fields(params)
        return {**fields, **self.settings.provider.extra_body}

    async def _input_fields(self, params: CellParams) -> dict[str, Json]:
        kind, fields = self.settings.pipeline.name, dict[str, Json]()
        if kind == "img2img" and params.image is not None:
            fields["init_image_id"] = await self._uploads.image(params.image)
        if kind == "inpaint" and params.image is not None and params.mask is not None:
            image, mask = await self._uploads.canvas(params.image, params.mask)
            fields |= {
                "canvasRequest": True,
                "canvasRequestType": "INPAINT",
                "canvasInitId": image,
                "canvasMaskId": mask,
            }
        guides: list[Json] = []
        if kind == "controlnet" and params.control_image is not None:
            control = self.options.control or next(iter(self.traits.controls))
            image = await self._uploads.image(params.control_image, "pipeline.control_image")
            guides.append(self._guide(image, control, params.control_scale))
        for guide in self.options.guides:
            image = await self._uploads.image(guide.image, "provider.options.guides")
            found = self._guide(image, guide.control, guide.weight)
            guides.append({**found, "strengthType": guide.strength} if guide.strength else found)
        if guides:
            fields["controlnets"] = guides
        return fields

    def _guide(self, image: str, control: str | int, scale: float | None) -> dict[str, Json]:
        number = control if isinstance(control, int) else self.traits.controls[control]
        fields: dict[str, Json] = {
            "initImageId": image,
            "initImageType": "UPLOADED",
            "preprocessorId": number,
        }
        if scale is None:
            return fields
        if control in REFERENCES:
            return {**fields, "strengthType": level(scale, str(control))}
        return {**fields, "weight": scale}

    async def _poll(self, job: str) -> Mapping[str, Any] | Running:
        reply = (
            await self.http.send("GET", f"/generations/{job}", timeout_s=POLL_TIMEOUT_S)
        ).json()
        found = reply.get("generations_by_pk")
        if not isinstance(found, Mapping):
            raise ProviderError("gone", f"generation {job} is not there", code="not_found")
        status = str(found.get("status"))
        if status == "FAILED":
            raise JobError("transient", f"generation {job} failed", code="FAILED", request_id=job)
        return found if status == "COMPLETE" else Running(status)

    async def _answer(
        self, call: Call, fact: Mapping[str, Json], made: Mapping[str, Any]
    ) -> Answer:
        effective = {name: made[name] for name in EFFECTIVE if made.get(name) is not None}
        images = made.get("generated_images")
        size = self._size(call.params)
        outputs = await take_all(
            self.http,
            call,
            [one_found(item, effective) for item in images] if isinstance(images, list) else [],
            seed_sent=call.params.seed,
            warnings=[size.warning] if size.warning else [],
        )
        cost = fact.get("cost")
        usd, basis = settle(
            sum(isinstance(output, Picture) for output in outputs),
            reported_usd=dollars(cost),
            book=self.estimate(call.params),
        )
        return Answer(
            outputs=outputs,
            params_sent=sent_fields(fact),
            model_reported=text(made.get("modelId")),
            request_id=text(fact.get("job")),
            usage={"cost": dict(cost)} if isinstance(cost, Mapping) else {},
            cost_usd=usd,
            cost_basis=basis,
        )


def one_found(item: object, effective: Mapping[str, Json]) -> Found | Missing:
    """One entry of ``generated_images``."""
    if not isinstance(item, Mapping):
        return Found(None)
    source, flagged = text(item.get("url")), item.get("nsfw") is True
    if source is None and flagged:
        return Missing(
            outcome="refused", kind="content_filter", code="nsfw", message="marked as not safe"
        )
    warnings = ("Leonardo marked this picture as not safe for work",) if flagged else ()
    return Found(source, effective, warnings)


def dollars(cost: object) -> float | None:
    """What the API says a generation cost; credits are worth what your plan says, so unknown."""
    if not isinstance(cost, Mapping) or cost.get("unit") != "DOLLARS":
        return None
    try:
        return float(cost["amount"])
    except (KeyError, OverflowError, TypeError, ValueError):
        return None


def level(scale: float, reference: str) -> str:
    """The level of a reference for a weight from 0 to 2, by the vendor's own table."""
    levels = ["Low", "Mid", "High", "Ultra", "Max"]
    if reference != "style_reference":
        del levels[3:]
    return levels[min(int(scale / 2 * len(levels)), len(levels) - 1)]

"""Xinference: image models on a server of one's own.

``python -m runner provider=xinference model=xinference/sd3_5_medium prompt="a lighthouse"``

What diffusers is to be told lies in ``kwargs``, a JSON text inside the request; at the top level
the server drops what it does not know. While the answer is waited for, its progress is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from runner.providers.contract import (
    FREE,
    Answer,
    Call,
    Capabilities,
    Listener,
    Param,
    Price,
    Provider,
    ProviderError,
)
from runner.providers.net import (
    FaultRules,
    Http,
    Inputs,
    Part,
    Reply,
    given,
    native_fields,
)
from runner.providers.net.inputs import InputImage, file_identity, file_problems, grey_mask
from runner.providers.openai_family.answers import read_answer
from runner.providers.prices import price_book
from runner.providers.sizes import SizeError, Sizes
from runner.settings.cell import CellParams, Json, PipelineKind
from runner.settings.errors import RequestError
from runner.settings.load import validate
from runner.settings.schema import Section, VariantSettings

BASE_URL = "http://127.0.0.1:9997/v1"
KEY_VARIABLES = ("XINFERENCE_API_KEY",)
RULES = FaultRules(gone_words=("model not found",))
MOST_SEEDS = 2**31
"""The server takes seeds below this."""
POLL_S = 0.5
"""Seconds between two questions about progress."""
POLL_TIMEOUT_S = 5.0

Sampler = Literal[
    "default",
    "DPM++ 2M",
    "DPM++ 2M Karras",
    "DPM++ 2M SDE",
    "DPM++ 2M SDE Karras",
    "DPM++ SDE",
    "DPM++ SDE Karras",
    "DPM2",
    "DPM2 Karras",
    "DPM2 a",
    "DPM2 a Karras",
    "Euler",
    "Euler a",
    "Heun",
    "LMS",
    "LMS Karras",
]
Tunable = Literal["negative_prompt", "steps", "guidance_scale", "strength"]


class XinferenceOptions(Section):
    """What Xinference takes beyond the neutral keys. ``provider.extra_body`` goes into kwargs."""

    sampler_name: Sampler | None = Field(
        None, description="sampler, by its name in the Stable Diffusion web UI; not for FLUX"
    )
    true_cfg_scale: float | None = Field(
        None, ge=0, description="real guidance of distilled models (Qwen-Image, FLUX)"
    )
    clip_skip: int | None = Field(None, ge=0, description="last layers of CLIP that are left out")
    padding_image_to_multiple: int | None = Field(
        None, ge=1, description="pad input images to a multiple of so many pixels (SD3: 16)"
    )
    mask_blur: int | None = Field(None, ge=0, description="blur the mask by so many pixels")
    images: tuple[str, ...] = Field(
        (), description="further input images after pipeline.image: paths (Qwen-Image-Edit)"
    )
    seed_list: bool = Field(
        True,
        description="send one seed per image, as servers from 4.1 take it; false: one image a call",
    )


IN_KWARGS = (
    "sampler_name",
    "true_cfg_scale",
    "clip_skip",
    "padding_image_to_multiple",
    "mask_blur",
)
"""Options that diffusers is told."""


class XinferenceTraits(Section):
    """What one model takes: data in ``conf/model/xinference/``."""

    sizes: Sizes = Field(description="sizes")
    pipelines: tuple[PipelineKind, ...] = Field(
        ("text2img", "img2img", "inpaint"),
        description="kinds of pipeline; controlnet: launched with one on the server",
    )
    takes: tuple[Tunable, ...] = Field(
        ("negative_prompt", "steps", "guidance_scale", "strength"),
        description="keys that the model's pipeline heeds; the server drops others in silence",
    )
    resizes: bool = Field(False, description="img2img takes a size other than the input's")
    max_n: int = Field(4, ge=1, description="most images of one call")


class XinferenceProvider(Provider):
    """Xinference 4 and its predecessors: generations, variations and inpainting."""

    name: ClassVar[str] = "xinference"
    options_type = XinferenceOptions

    def __init__(self, settings: VariantSettings) -> None:
        super().__init__(settings)
        self.options = validate(XinferenceOptions, settings.provider.options, "provider.options")
        self.traits = validate(XinferenceTraits, settings.model.traits, "model.traits")
        self.pipeline = settings.pipeline.name
        self.book = price_book(settings.model)
        self.http = Http(
            settings,
            base_url=BASE_URL,
            variables=KEY_VARIABLES,
            key_required=False,
            rules=RULES,
        )
        self._inputs = Inputs(self.http)
        self._capabilities = self._make_capabilities()
        if self.options.images and self.pipeline != "img2img":
            raise RequestError(
                "provider.options.images: they go with pipeline=img2img pipeline.image=FILE"
            )

    def capabilities(self) -> Capabilities:
        """By the model's traits and the kind of pipeline."""
        return self._capabilities

    def _make_capabilities(self) -> Capabilities:
        traits, pipeline = self.traits, self.pipeline
        params = {"prompt": Param(native="prompt")}
        if pipeline != "img2img" or traits.resizes:
            params["size"] = Param(native="size", note=traits.sizes.describe())
        params["seed"] = Param(native="kwargs.seed", minimum=0, maximum=MOST_SEEDS - 1)
        tunable = {
            # Beside an image it is a field of its own, and an error inside kwargs.
            "negative_prompt": Param(
                native="kwargs.negative_prompt" if pipeline == "text2img" else "negative_prompt"
            ),
            "steps": Param(native="kwargs.num_inference_steps", minimum=1),
            "guidance_scale": Param(native="kwargs.guidance_scale", minimum=0),
            "strength": Param(native="kwargs.strength", minimum=0, maximum=1),
        }
        with_strength = pipeline in {"img2img", "inpaint"}
        params |= {
            key: param
            for key, param in tunable.items()
            if key in traits.takes and (key != "strength" or with_strength)
        }
        if pipeline in {"img2img", "inpaint"}:
            params["image"] = Param(native="image")
        if pipeline == "inpaint":
            params["mask"] = Param(native="mask_image", note="of the size of the input image")
        if pipeline == "controlnet":
            params["control_image"] = Param(native="image")
            params["control_scale"] = Param(native="kwargs.controlnet_conditioning_scale")
        return Capabilities(
            pipelines=frozenset(traits.pipelines),
            params=params,
            max_images_per_call=traits.max_n,
            shared_call_keys=frozenset({"seed"} if self.options.seed_list else ()),
            seed_per_image=True,
            reproducible=True,
            resend_safe=True,
            billed=self.book is not None,
        )

    def images_per_call(self, params: CellParams) -> int:
        """One where the server takes one seed only: its images would share their noise."""
        alone = params.seed is not None and not self.options.seed_list
        return 1 if alone else self.traits.max_n

    def identity(self) -> Mapping[str, Json]:
        """Like the default; a file counts by its content, the way seeds travel not at all."""
        options = given(self.options)
        options.pop("seed_list", None)
        if self.options.images:
            options["images"] = [
                file_identity(path, "provider.options.images") for path in self.options.images
            ]
        return {**super().identity(), "options": options}

    def quota_key(self) -> str:
        """The server counts the requests of each model."""
        return f"{self.name}:{self.http.base.text}:{self.settings.model.name}"

    def check(self, params: CellParams) -> Sequence[str]:
        """Sizes and input files."""
        problems = []
        if params.size is not None:
            try:
                self.traits.sizes.pixels(params.size)
            except SizeError as error:
                problems.append(str(error))
        problems += file_problems(self.pipeline, params)
        return problems

    def estimate(self, params: CellParams) -> Price:
        """Nothing, unless the model's file has a price."""
        return self.book.per_image(size=params.size) if self.book else FREE

    def check_ready(self) -> None:
        """The packages; a key only where the server wants one."""
        self.http.check_ready()

    def classify(self, error: Exception) -> ProviderError:
        """By HTTP status; a model that is not launched is ``gone``."""
        return self.http.classify(error)

    async def open(self) -> None:
        """Make the session."""
        await self.http.open()

    async def close(self) -> None:
        """Close the session."""
        await self.http.close()

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """Ask for images, and for the progress while they are made."""
        params = call.params
        request = uuid.uuid4().hex
        size = self.traits.sizes.pixels(params.size) if params.size else None
        fields: dict[str, Json] = {
            "model": self.settings.model.name,
            "n": len(call.cells),
            # Asked for a URL, the server answers with a path on its own disk.
            "response_format": "b64_json",
        }
        if size is not None:
            fields["size"] = size.native.replace("x", "*")
        neutral = native_fields(self._capabilities, params, "size")
        kwargs = {
            name.removeprefix("kwargs."): value
            for name, value in neutral.items()
            if name.startswith("kwargs.")
        }
        fields |= {name: value for name, value in neutral.items() if not name.startswith("kwargs.")}
        options = given(self.options)
        kwargs |= {name: options[name] for name in IN_KWARGS if name in options}
        seeds = self._seeds(call)
        if seeds[0] is not None:
            kwargs["seed"] = seeds[0] if len(seeds) == 1 else list(seeds)
        kwargs |= self.settings.provider.extra_body
        async with self._watched(call, request, listener):
            reply = await self._send(params, fields, {**kwargs, "request_id": request})
        return await read_answer(
            call,
            _without_paths(reply.json()),
            http=self.http,
            sent={**fields, **{f"kwargs.{name}": value for name, value in kwargs.items()}},
            request_id=reply.request_id or request,
            book=self.book,
            price=self.estimate(params),
            seeds=seeds,
            warnings=[size.warning] if size and size.warning else [],
        )

    def _seeds(self, call: Call) -> list[int | None]:
        found = [cell.image_seed for cell in call.cells]
        return [None if seed is None else seed % MOST_SEEDS for seed in found]

    async def _send(
        self, params: CellParams, fields: Mapping[str, Json], kwargs: Mapping[str, Json]
    ) -> Reply:
        text = json.dumps(kwargs)
        if self.pipeline == "text2img":
            body = {"prompt": params.prompt, **fields, "kwargs": text}
            return await self.http.send("POST", "/images/generations", json=body)
        form = [Part("prompt", params.prompt), Part("kwargs", text)]
        form += [Part(name, str(value)) for name, value in fields.items()]
        form += [_part("image", image) for image in await self._images(params)]
        if self.pipeline == "inpaint" and params.mask is not None:
            mask = await self._inputs.read(params.mask, "pipeline.mask")
            form.append(_part("mask_image", await asyncio.to_thread(grey_mask, mask)))
            return await self.http.send("POST", "/images/inpainting", form=form)
        return await self.http.send("POST", "/images/variations", form=form)

    async def _images(self, params: CellParams) -> list[InputImage]:
        if self.pipeline == "controlnet":
            return [await self._inputs.read(str(params.control_image), "pipeline.control_image")]
        first = await self._inputs.read(str(params.image))
        more = [
            await self._inputs.read(path, "provider.options.images") for path in self.options.images
        ]
        return [first, *more]

    @contextlib.asynccontextmanager
    async def _watched(self, call: Call, request: str, listener: Listener) -> AsyncIterator[None]:
        watching = asyncio.create_task(self._watch(call, request, listener))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, call: Call, request: str, listener: Listener) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            # No answer, or an odd one, is no reason to lose the picture.
            with contextlib.suppress(Exception):
                reply = await self.http.send(
                    "GET", f"/requests/{request}/progress", timeout_s=POLL_TIMEOUT_S
                )
                share = float(reply.json()["progress"])
                listener.progress(call, round(100 * min(max(share, 0.0), 1.0)), 100)


def _without_paths(reply: dict[str, Any]) -> dict[str, Any]:
    """The reply without what it calls URLs: they are paths on the server's own disk."""
    items = reply.get("data")
    if not isinstance(items, list):
        return reply
    kept = [{"b64_json": item.get("b64_json")} for item in items if isinstance(item, dict)]
    return {**reply, "data": kept}


def _part(name: str, image: InputImage) -> Part:
    return Part(name, image.data, image.name, image.mime)

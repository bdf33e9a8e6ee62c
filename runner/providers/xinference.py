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
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from runner.providers.contract import (
    FREE,
    Answer,
    Call,
    Capabilities,
    Listener,
    Param,
    Price,
    Provider,
)
from runner.providers.net import (
    FaultRules,
    Http,
    Inputs,
    Part,
    Reply,
    encode_data_url,
    given,
    native_fields,
)
from runner.providers.net.inputs import InputImage, file_identity, file_problems, grey_mask
from runner.providers.openai_family.answers import read_answer
from runner.providers.prices import price_book
from runner.providers.sizes import Chosen, size_problems
from runner.providers.xinference_options import (
    GOES_WITH,
    IN_KWARGS,
    NOT_BY_NAME,
    XinferenceOptions,
    XinferenceTraits,
)
from runner.settings.cell import Cell, CellParams, Json
from runner.settings.errors import RequestError
from runner.settings.load import validate
from runner.settings.schema import VariantSettings

BASE_URL = "http://127.0.0.1:9997/v1"
KEY_VARIABLES = ("XINFERENCE_API_KEY",)
RULES = FaultRules(
    gone_words=("model not found",),
    invalid_words=("does not support", "is not for creating image", "unknown sampler"),
)
"""Whatever goes wrong inside a model is a 500."""
MOST_SEEDS = 2**31
"""The server takes seeds below this."""
POLL_S = 0.5
"""Seconds between two questions about progress."""
POLL_TIMEOUT_S = 5.0


class XinferenceProvider(Provider):
    """Xinference 4 and its predecessors: generations, variations and inpainting."""

    name: ClassVar[str] = "xinference"
    options_type = XinferenceOptions
    http: Http

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
        self._by_name = self.pipeline == "controlnet" and self.options.control_model is not None
        self._capabilities = self._make_capabilities()
        problems = tuple(self._option_problems())
        if problems:
            raise RequestError(*problems)

    def _option_problems(self) -> Iterator[str]:
        for name in given(self.options):
            kinds = GOES_WITH.get(name, (self.pipeline,))
            if self.pipeline not in kinds:
                yield f"provider.options.{name}: it goes with pipeline={' or '.join(kinds)}"
            elif self._by_name and name in NOT_BY_NAME:
                yield f"provider.options.{name}: it does not go with control_model"
            elif name == "control_module" and self.options.control_model is None:
                yield f"provider.options.{name}: it goes with control_model"

    def capabilities(self) -> Capabilities:
        """By the model's traits and the kind of pipeline."""
        return self._capabilities

    def _make_capabilities(self) -> Capabilities:
        traits, pipeline, by_name = self.traits, self.pipeline, self._by_name
        params = {"prompt": Param(native="prompt")}
        if pipeline != "img2img" or traits.resizes:
            native = "width,height" if by_name else "size"
            params["size"] = Param(native=native, note=traits.sizes.describe())
        seed = "seed" if by_name else "kwargs.seed"
        params["seed"] = Param(native=seed, minimum=0, maximum=MOST_SEEDS - 1)
        # Beside an image it is a field of its own, and an error inside kwargs.
        negative = "kwargs.negative_prompt" if pipeline == "text2img" else "negative_prompt"
        steps = "steps" if by_name else "kwargs.num_inference_steps"
        guidance = "cfg_scale" if by_name else "kwargs.guidance_scale"
        tunable = {
            "negative_prompt": Param(native=negative),
            "steps": Param(native=steps, minimum=1),
            "guidance_scale": Param(native=guidance, minimum=0, default=7.0 if by_name else None),
        }
        if pipeline in {"img2img", "inpaint"}:
            params["image"] = Param(native="image")
            tunable["strength"] = Param(native="kwargs.strength", minimum=0, maximum=1)
        params |= {key: param for key, param in tunable.items() if key in traits.takes}
        if pipeline == "inpaint":
            params["mask"] = Param(native="mask_image", note="of the size of the input image")
        if pipeline == "controlnet":
            params["control_image"] = Param(native="image")
            weight = "controlnet.weight" if by_name else "kwargs.controlnet_conditioning_scale"
            params["control_scale"] = Param(native=weight, minimum=0, default=1.0)
        return Capabilities(
            pipelines=frozenset(traits.pipelines),
            params=params,
            max_images_per_call=1 if by_name else traits.max_n,
            shared_call_keys=frozenset({"seed"} if self.options.seed_list and not by_name else ()),
            seed_per_image=True,
            reproducible=True,
            resend_safe=True,
            billed=self.book is not None,
        )

    def images_per_call(self, params: CellParams) -> int:
        """One where the server takes one seed only: its images would share their noise."""
        alone = params.seed is not None and not self.options.seed_list
        return 1 if alone else self._capabilities.max_images_per_call

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
        return self.http.quota_key(self.settings.model.name)

    def check(self, params: CellParams) -> Sequence[str]:
        """Sizes and input files."""
        problems = size_problems(self.traits.sizes.pixels, params.size, self.settings.model.name)
        return [*problems, *file_problems(self.pipeline, params)]

    def estimate(self, params: CellParams) -> Price:
        """Nothing, unless the model's file has a price."""
        return self.book.per_image(size=params.size) if self.book else FREE

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """Ask for images, and for the progress while they are made."""
        params = call.params
        seeds = [_seed(cell) for cell in call.cells]
        request = uuid.uuid4().hex
        size = self.traits.sizes.pixels(params.size) if params.size else None
        async with self._watched(call, request, listener):
            if self._by_name:
                control = await self._control(params)
                size = size or self.traits.sizes.near(control.width or 512, control.height or 512)
                fields = self._sdapi_fields(params, size, seeds[0])
                reply = await self._send_sdapi(params, fields, control, request)
            else:
                fields, kwargs = self._fields(params, size, seeds)
                reply = await self._send(params, fields, {**kwargs, "request_id": request})
                fields |= {f"kwargs.{name}": value for name, value in kwargs.items()}
        return await read_answer(
            call,
            _as_listed(reply.json()),
            http=self.http,
            sent=fields,
            request_id=reply.request_id or request,
            book=self.book,
            estimate=self.estimate,
            seeds=seeds,
            warnings=[size.warning] if size and size.warning else [],
        )

    def _fields(
        self, params: CellParams, size: Chosen | None, seeds: Sequence[int | None]
    ) -> tuple[dict[str, Json], dict[str, Json]]:
        """The fields of a request, and what diffusers is told."""
        fields: dict[str, Json] = {
            "model": self.settings.model.name,
            "n": len(seeds),
            # Asked for a URL, the server answers with a path on its own disk.
            "response_format": "b64_json",
        }
        if size is not None:
            fields["size"] = size.native.replace("x", "*")
        kwargs: dict[str, Json] = {}
        for name, value in native_fields(self._capabilities, params, "size").items():
            inside, dot, key = name.partition("kwargs.")
            (kwargs if dot else fields)[key or inside] = value
        options = given(self.options)
        kwargs |= {name: options[name] for name in IN_KWARGS if name in options}
        if seeds[0] is not None:
            kwargs["seed"] = seeds[0] if len(seeds) == 1 else list(seeds)
        return fields, {**kwargs, **self.settings.provider.extra_body}

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
        if self.pipeline == "inpaint":
            mask = await self._inputs.mask(str(params.mask), grey_mask)
            form.append(_part("mask_image", mask))
            return await self.http.send("POST", "/images/inpainting", form=form)
        return await self.http.send("POST", "/images/variations", form=form)

    async def _images(self, params: CellParams) -> list[InputImage]:
        if self.pipeline == "controlnet":
            return [await self._control(params)]
        more = [
            await self._inputs.read(path, "provider.options.images") for path in self.options.images
        ]
        return [await self._inputs.read(str(params.image)), *more]

    async def _control(self, params: CellParams) -> InputImage:
        return await self._inputs.read(str(params.control_image), "pipeline.control_image")

    def _sdapi_fields(self, params: CellParams, size: Chosen, seed: int | None) -> dict[str, Json]:
        """The fields of the routes of the Stable Diffusion web UI, the control image left out."""
        fields: dict[str, Json] = {
            "model": self.settings.model.name,
            "batch_size": 1,
            "width": size.width,
            "height": size.height,
            **native_fields(self._capabilities, params, "size"),
            "controlnet.model": self.options.control_model,
            "controlnet.module": self.options.control_module or "none",
        }
        if seed is not None:
            fields["seed"] = seed
        if self.options.sampler_name is not None:
            fields["sampler_name"] = self.options.sampler_name
        return {**fields, **self.settings.provider.extra_body}

    async def _send_sdapi(
        self, params: CellParams, fields: Mapping[str, Json], control: InputImage, request: str
    ) -> Reply:
        head = "controlnet."
        unit = {name.removeprefix(head): fields[name] for name in fields if name.startswith(head)}
        unit |= {"enabled": True, "image": encode_data_url(control.data, control.mime)}
        body = {name: value for name, value in fields.items() if not name.startswith(head)}
        body |= {"prompt": params.prompt, "request_id": request}
        body["alwayson_scripts"] = {"ControlNet": {"args": [unit]}}
        root = self.http.base.text.removesuffix("/v1")
        return await self.http.send("POST", f"{root}/sdapi/v1/txt2img", json=body)

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


def _seed(cell: Cell) -> int | None:
    seed = cell.image_seed
    return None if seed is None else seed % MOST_SEEDS


def _as_listed(reply: dict[str, Any]) -> dict[str, Any]:
    """The reply in OpenAI's shape, without what it calls URLs: paths on the server's own disk."""
    if isinstance(texts := reply.get("images"), list):
        return {"data": [{"b64_json": text} for text in texts]}
    items = reply.get("data")
    if not isinstance(items, list):
        return reply
    kept = [{"b64_json": item.get("b64_json")} for item in items if isinstance(item, dict)]
    return {**reply, "data": kept}


def _part(name: str, image: InputImage) -> Part:
    return Part(name, image.data, image.name, image.mime)

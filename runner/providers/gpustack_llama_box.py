"""GPUStack up to 0.7, whose images were made by llama-box (stable-diffusion.cpp).

``python -m runner provider=gpustack_llama_box provider.base_url=https://HOST/v1-openai …``

Seed, steps and all else are heeded only beside a sampler, and an edit without steps makes the
server read past its end: both always go along. Progress comes in the answer's own events.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal

from pydantic import Field

from runner.providers.contract import (
    UNKNOWN_PRICE,
    Answer,
    Call,
    Capabilities,
    Listener,
    Param,
    Price,
    Provider,
)
from runner.providers.image_events import ImageEvents, receive
from runner.providers.net import FaultRules, Http, Inputs, Part, given, native_fields
from runner.providers.net.inputs import InputImage, file_problems, grey_mask
from runner.providers.net.limits import ImageLimits
from runner.providers.openai_family.answers import read_answer
from runner.providers.prices import price_book
from runner.providers.seeds import in_runs
from runner.providers.sizes import Chosen, Sizes, size_problems
from runner.settings.cell import Cell, CellParams, Json, PipelineKind
from runner.settings.errors import RequestError
from runner.settings.load import validate
from runner.settings.schema import Section, VariantSettings

KEY_VARIABLES = ("GPUSTACK_API_KEY",)
RULES = FaultRules(gone_words=("not allowed to do image operation",))
"""What a model that makes no images answers with 403."""
MOST_SEEDS = 2**32 - 1
"""The server takes seeds below this; this one itself means: any."""
STEP = 64
"""Sides of pictures are multiples of this."""
INPUTS = ImageLimits(mimes=("image/png", "image/jpeg", "image/gif"))
"""What stb_image, which reads the server's inputs, makes out."""

Sampler = Literal[
    "euler_a",
    "euler",
    "heun",
    "dpm2",
    "dpm++2s_a",
    "dpm++2m",
    "dpm++2mv2",
    "ipndm",
    "ipndm_v",
    "lcm",
    "ddim_trailing",
    "tcd",
]


class Lora(Section):
    """The weight of a LoRA that the server was started with."""

    id: int = Field(ge=0, description="its place among the server's LoRAs")
    scale: float = Field(description="its weight; those that are not named weigh nothing")


class LlamaBoxOptions(Section):
    """What llama-box takes beyond the neutral keys."""

    sampler: Sampler | None = Field(None, description="sampler; by default the model file's")
    schedule: Literal["default", "discrete", "karras", "exponential", "ays", "gits"] | None = Field(
        None, description="how the noise falls over the steps"
    )
    guidance: float | None = Field(None, ge=0, description="guidance of distilled models (FLUX)")
    slg_scale: float | None = Field(None, ge=0, description="skip-layer guidance; 0: none")
    slg_start: float | None = Field(None, ge=0, le=1, description="share of steps before it")
    slg_end: float | None = Field(None, ge=0, le=1, description="share of steps until its end")
    control_canny: bool | None = Field(None, description="draw the control image's edges first")
    lora: tuple[Lora, ...] = Field((), description="weights of the server's LoRAs")
    chunk_size: int | None = Field(
        None, ge=64, description="let the picture come in parts of so many characters"
    )
    preview: bool = Field(False, description="keep pictures of the way beside the image")


EDIT_ONLY = frozenset({"control_canny"})
HOW_IT_COMES = frozenset({"chunk_size", "preview"})


class LlamaBoxTraits(Section):
    """What one model takes: data in ``conf/model/gpustack_llama_box/``."""

    sizes: Sizes = Field(description="sizes")
    default_size: str = Field(description="sent when no size is asked: the server's is 256x256")
    sampler: Sampler = Field(description="sent when no sampler is asked")
    steps: int = Field(ge=1, description="sent when no steps are asked")
    pipelines: tuple[PipelineKind, ...] = Field(
        ("text2img", "img2img", "inpaint", "controlnet"),
        description="kinds of pipeline; controlnet: the server was started with one",
    )
    max_n: int = Field(4, ge=1, description="most images of one call, as the server was started")


class GPUStackLlamaBoxProvider(Provider):
    """Generations, edits with or without a mask, and edits led by a control image."""

    name: ClassVar[str] = "gpustack_llama_box"
    options_type = LlamaBoxOptions
    http: Http

    def __init__(self, settings: VariantSettings) -> None:
        super().__init__(settings)
        self.options = validate(LlamaBoxOptions, settings.provider.options, "provider.options")
        self.traits = validate(LlamaBoxTraits, settings.model.traits, "model.traits")
        self.pipeline = settings.pipeline.name
        self.book = price_book(settings.model)
        self.http = Http(settings, base_url=None, variables=KEY_VARIABLES, rules=RULES)
        self._inputs = Inputs(self.http)
        self._capabilities = self._make_capabilities()
        for name in EDIT_ONLY & given(self.options).keys():
            if self.pipeline != "controlnet":
                raise RequestError(f"provider.options.{name}: it goes with pipeline=controlnet")

    def capabilities(self) -> Capabilities:
        """By the model's traits and the kind of pipeline."""
        return self._capabilities

    def _make_capabilities(self) -> Capabilities:
        traits, pipeline = self.traits, self.pipeline
        params = {"prompt": Param(native="prompt")}
        if pipeline != "controlnet":  # there the control image says
            params["size"] = Param(native="size", note=traits.sizes.describe())
        params |= {
            "seed": Param(native="seed", minimum=0, maximum=MOST_SEEDS - 1),
            "negative_prompt": Param(native="negative_prompt"),
            "steps": Param(native="sample_steps", minimum=1, default=traits.steps),
            "guidance_scale": Param(native="cfg_scale", minimum=0, note="1: none"),
        }
        if pipeline in {"img2img", "inpaint"}:
            params["image"] = Param(native="image", note="PNG or JPEG, in color")
            params["strength"] = Param(native="strength", minimum=0, maximum=1)
        if pipeline == "inpaint":
            params["mask"] = Param(native="mask", note="of the size of the input image")
        if pipeline == "controlnet":
            params["control_image"] = Param(native="control", note="PNG or JPEG, in color")
            params["control_scale"] = Param(native="control_strength", minimum=0, default=0.9)
        return Capabilities(
            pipelines=frozenset(traits.pipelines),
            params=params,
            max_images_per_call=1 if self.options.preview else traits.max_n,
            seed_per_image=True,
            reproducible=True,
            resend_safe=True,
        )

    def identity(self) -> Mapping[str, Json]:
        """Like the default, without how the picture comes."""
        options = given(self.options)
        kept = {name: value for name, value in options.items() if name not in HOW_IT_COMES}
        return {**super().identity(), "options": kept}

    def check(self, params: CellParams) -> Sequence[str]:
        """Sizes and input files."""
        problems = size_problems(self.traits.sizes.pixels, params.size, self.settings.model.name)
        problems += file_problems(self.pipeline, params)
        for key in ("image", "control_image"):
            if problem := INPUTS.problem(getattr(params, key), f"pipeline.{key}"):
                problems.append(problem)
        return problems

    def estimate(self, params: CellParams) -> Price:
        """What the model's file says: nothing, on a server of one's own."""
        return self.book.per_image(size=params.size) if self.book else UNKNOWN_PRICE

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """Ask for a stream of progress, with the images at its end."""
        ask = partial(self._ask, on_progress=lambda share: listener.progress(call, share, 100))
        return await in_runs(call, ask, self.http.classify)

    async def _ask(self, call: Call, *, on_progress: Callable[[int], None]) -> Answer:
        files = await self._files(call.params)
        size = self._size(call.params, files)
        seeds = [_seed(cell) for cell in call.cells]
        fields = self._fields(call.params, len(call.cells), size, seeds[0])
        preview, chunk_size = self.options.preview, self.options.chunk_size
        stream: dict[str, Json] = {"include_usage": True}
        if preview:
            stream["preview"] = True
        if chunk_size is not None:
            stream |= {"chunk_result": True, "chunk_size": chunk_size}
        events = ImageEvents(len(call.cells), previews=preview)
        asked: dict[str, Json] = {"prompt": call.params.prompt, **fields, "stream": True}
        if files:
            form = _form(asked, stream)
            form += [Part(name, file.data, file.name, file.mime) for name, file in files.items()]
            reply, request = await receive(
                self.http, "/images/edits", events, on_progress, form=form
            )
        else:
            reply, request = await receive(
                self.http,
                "/images/generations",
                events,
                on_progress,
                json={**asked, "stream_options": stream},
            )
        return await read_answer(
            call,
            reply,
            http=self.http,
            sent={**fields, "stream": True, "stream_options": stream},
            request_id=request,
            book=self.book,
            estimate=self.estimate,
            seeds=seeds,
            warnings=[size.warning] if size and size.warning else [],
            extras=events.previews(),
        )

    def _fields(
        self, params: CellParams, count: int, size: Chosen | None, seed: int | None
    ) -> dict[str, Json]:
        fields: dict[str, Json] = {
            "model": self.settings.model.name,
            "n": count,
            "response_format": "b64_json",
            "sampler": self.traits.sampler,
            "sample_steps": self.traits.steps,
            **native_fields(self._capabilities, params, "size"),
        }
        if size is not None:
            fields["size"] = size.native
        if seed is not None:
            fields["seed"] = seed
        if self.pipeline == "controlnet":
            fields["strength"] = 1.0  # nothing of the image that an edit has to start from
        options = given(self.options)
        fields |= {name: options[name] for name in options if name not in HOW_IT_COMES}
        return {**fields, **self.settings.provider.extra_body}

    async def _files(self, params: CellParams) -> dict[str, InputImage]:
        """The files of an edit, by field."""
        if self.pipeline == "text2img":
            return {}
        if self.pipeline == "controlnet":
            path = str(params.control_image)
            control = await self._inputs.read(path, "pipeline.control_image")
            if (control.width or 1) % STEP or (control.height or 1) % STEP:
                raise RequestError(
                    f"pipeline.control_image={path}: {control.width}x{control.height} pixels; the "
                    f"picture gets its size, so both sides must be multiples of {STEP}"
                )
            return {"image": control, "control": control}
        files = {"image": await self._inputs.read(str(params.image))}
        if self.pipeline == "inpaint":
            files["mask"] = await self._inputs.mask(str(params.mask), grey_mask)
        return files

    def _size(self, params: CellParams, files: Mapping[str, InputImage]) -> Chosen | None:
        """The size asked for; of an edit else the nearest to its input, not the server's own."""
        sizes = self.traits.sizes
        if self.pipeline == "controlnet":
            return None
        if params.size is not None or not files:
            return sizes.pixels(params.size or self.traits.default_size)
        image = files["image"]
        return sizes.near(image.width or STEP, image.height or STEP)


def _seed(cell: Cell) -> int | None:
    seed = cell.image_seed
    return None if seed is None else seed % MOST_SEEDS


def _form(fields: Mapping[str, Json], stream: Mapping[str, Json]) -> list[Part]:
    """Fields as texts. ``stream`` is there or not: to GPUStack any value of it means yes."""
    flat = {**fields, **{f"stream_options_{name}": value for name, value in stream.items()}}
    if "negative_prompt" in flat:
        # The last versions of the server read it under this name.
        flat["negative_sampler"] = flat["negative_prompt"]
    return [
        Part(name, value if isinstance(value, str) else json.dumps(value))
        for name, value in flat.items()
    ]

"""Imagen on Vertex AI: text to image, edits with and without a mask, control images, upscaling.

Google has retired it; where an endpoint still serves it, it is asked through google-genai.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from runner.providers.contract import (
    UNKNOWN_PRICE,
    Answer,
    Call,
    Capabilities,
    Missing,
    Param,
    Picture,
    Price,
)
from runner.providers.net import Http, Inputs, binary_mask, given, one_line, size_problem
from runner.providers.net.outputs import Found, take_all, text
from runner.providers.net.sdk import built_by
from runner.providers.prices import price_book, settle
from runner.providers.sizes import Chosen, Sizes, parse_size, size_problems
from runner.settings.cell import CellParams, Json, PipelineKind
from runner.settings.errors import RequestError, listed
from runner.settings.load import validate
from runner.settings.schema import Section, VariantSettings

if TYPE_CHECKING:
    from google import genai

EDIT_MODES: Mapping[str, str] = {
    "inpaint": "EDIT_MODE_INPAINT_INSERTION",
    "remove": "EDIT_MODE_INPAINT_REMOVAL",
    "outpaint": "EDIT_MODE_OUTPAINT",
    "background": "EDIT_MODE_BGSWAP",
    "product": "EDIT_MODE_PRODUCT_IMAGE",
}
"""Tasks with a mask, by the names that Google has for them."""


class ImagenOptions(Section):
    """Native parameters of Imagen."""

    task: Literal["edit", "upscale", "inpaint", "remove", "outpaint", "background", "product"] = (
        Field(
            "edit",
            description="with pipeline=img2img: edit or upscale; with pipeline=inpaint: inpaint "
            "(the default there), remove, outpaint, background or product",
        )
    )
    mask_mode: Literal["background", "foreground", "semantic"] | None = Field(
        None, description="let the model find the mask, instead of pipeline.mask"
    )
    mask_classes: tuple[int, ...] = Field(
        (), max_length=5, description="kinds of things that mask_mode=semantic selects, by number"
    )
    mask_dilation: float | None = Field(None, ge=0, le=1, description="grow the mask: share of it")
    control_type: Literal["canny", "scribble", "face_mesh"] = Field(
        "canny", description="what pipeline.control_image shows; the prompt calls it [1]"
    )
    compute_control: bool = Field(
        False, description="let the model draw the control image from the given picture"
    )
    upscale_factor: Literal["x2", "x4"] = Field("x2", description="for task=upscale")
    enhance_input_image: bool | None = Field(
        None, description="for task=upscale: remove noise and artifacts of jpeg first"
    )
    image_preservation_factor: float | None = Field(
        None, ge=0, le=1, description="for task=upscale: how closely to keep the picture"
    )
    add_watermark: bool | None = Field(
        None, description="invisible watermark; false is needed for a seed"
    )
    enhance_prompt: bool | None = Field(
        None, description="let a language model rewrite the prompt; true forbids a seed"
    )
    language: str | None = Field(None, description="language of the prompt: auto, en, ja …")
    person_generation: Literal["dont_allow", "allow_adult", "allow_all"] | None = Field(
        None, description="which people may be shown"
    )
    safety_filter_level: (
        Literal["block_low_and_above", "block_medium_and_above", "block_only_high", "block_none"]
        | None
    ) = Field(None, description="strictness of the content filter")
    compression_quality: int | None = Field(
        None, ge=0, le=100, description="quality of a jpeg, in per cent"
    )


UPSCALE_ONLY = frozenset({"upscale_factor", "enhance_input_image", "image_preservation_factor"})
INPAINT_ONLY = frozenset({"mask_mode", "mask_classes", "mask_dilation"})
CONTROL_ONLY = frozenset({"control_type", "compute_control"})
GENERATE_ONLY = frozenset({"enhance_prompt"})
NOT_UPSCALE = frozenset({"add_watermark", "language"})


class ImagenTraits(Section):
    """What one model takes: data in ``conf/model/``."""

    api: Literal["imagen"]
    sizes: Sizes = Field(description="aspect ratios, and levels where it has some")
    pipelines: tuple[PipelineKind, ...] = Field(description="kinds of pipeline")
    tasks: tuple[str, ...] = Field((), description="values of task")
    keys: tuple[str, ...] = Field(
        (), description="of negative_prompt, guidance_scale and steps, those that it takes"
    )
    max_n: int = Field(4, ge=1, description="most pictures of one call")


class ImagenImages:
    """Imagen for one variant.

    Args:
        settings: The variant.
        http: Its base URL, credentials and downloads.
        options: The native parameters.

    Raises:
        RequestError: Options, traits or prices are wrong.
    """

    def __init__(self, settings: VariantSettings, http: Http, options: ImagenOptions) -> None:
        self.http = http
        self.model = settings.model.name
        self.pipeline = settings.pipeline.name
        self.options = options
        self.traits = validate(ImagenTraits, settings.model.traits, "model.traits")
        self.book = price_book(settings.model)
        self._inputs = Inputs(http)
        default = "inpaint" if self.pipeline == "inpaint" else "edit"
        self.task = default if options.task == "edit" else options.task
        if problems := tuple(self._option_problems()):
            raise RequestError(*problems)

    @property
    def _upscales(self) -> bool:
        return self.pipeline == "img2img" and self.task == "upscale"

    def _option_problems(self) -> Iterator[str]:
        place, kind = "provider.options.imagen", self.pipeline
        tasks = {"img2img": ("edit", "upscale"), "inpaint": tuple(EDIT_MODES)}.get(kind, ("edit",))
        if self.task not in tasks:
            yield f"{place}.task={self.task}: pipeline={kind} has {listed(tasks)}"
        elif kind in {"img2img", "inpaint"} and self.task not in self.traits.tasks:
            yield (
                f"{place}.task={self.task}: model {self.model} has {listed(self.traits.tasks)}"
                if self.traits.tasks
                else f"pipeline={kind}: model {self.model} has no edits"
            )
        for names, fits, where in (
            (UPSCALE_ONLY, self._upscales, "pipeline=img2img with task=upscale"),
            (INPAINT_ONLY, kind == "inpaint", "pipeline=inpaint"),
            (CONTROL_ONLY, kind == "controlnet", "pipeline=controlnet"),
            (GENERATE_ONLY, kind == "text2img", "pipeline=text2img"),
            (NOT_UPSCALE, not self._upscales, "all but task=upscale"),
        ):
            for name in sorted(names & given(self.options).keys()):
                if not fits:
                    yield f"{place}.{name}: it is for {where}"
        if bool(self.options.mask_classes) != (self.options.mask_mode == "semantic"):
            yield f"{place}.mask_classes: it belongs to mask_mode=semantic, and that to it"

    def capabilities(self) -> Capabilities:
        """By the model's traits, the pipeline and the task."""
        params = {"prompt": Param(native="prompt")}
        if not self._upscales:
            if self.pipeline in {"text2img", "controlnet"}:
                native = "aspectRatio,sampleImageSize"
                params["size"] = Param(native=native, note=self.traits.sizes.describe())
            if "negative_prompt" in self.traits.keys:
                params["negative_prompt"] = Param(native="negativePrompt")
            if "guidance_scale" in self.traits.keys:
                params["guidance_scale"] = Param(native="guidanceScale", minimum=0, maximum=500)
            if "steps" in self.traits.keys and self.pipeline != "text2img":
                params["steps"] = Param(native="baseSteps", minimum=1)
            # A watermark would not let the same seed give the same picture.
            if self.options.add_watermark is False and not self.options.enhance_prompt:
                params["seed"] = Param(
                    native="seed", minimum=1, maximum=2**31 - 1, note="one seed per call"
                )
        params["output_format"] = Param(native="mimeType", choices=("png", "jpeg"))
        if self.pipeline in {"img2img", "inpaint"}:
            params["image"] = Param(native="referenceImages")
        if self.pipeline == "inpaint":
            params["mask"] = Param(native="referenceImages", note="of the size of the image")
        if self.pipeline == "controlnet":
            params["control_image"] = Param(native="referenceImages")
        return Capabilities(
            pipelines=frozenset(self.traits.pipelines),
            params=params,
            max_images_per_call=1 if self._upscales else self.traits.max_n,
            reproducible="seed" in params,
        )

    def identity(self) -> dict[str, Json]:
        """The options that change the picture."""
        return given(self.options)

    def check(self, params: CellParams) -> Sequence[str]:
        """Sizes and input files."""
        problems = size_problems(self._size, params, self.model)
        needed = {
            "img2img": ("image",),
            "inpaint": ("image",) if self.options.mask_mode else ("image", "mask"),
            "controlnet": ("control_image",),
        }.get(self.pipeline, ())
        problems += [
            f"pipeline.{key}: pipeline={self.pipeline} needs it: pipeline.{key}=FILE"
            for key in needed
            if getattr(params, key) is None
        ]
        if problem := size_problem(params.image, params.mask):
            problems.append(problem)
        return problems

    def estimate(self, params: CellParams) -> Price:
        """By the price per image."""
        return self.book.per_image(pipeline=self.pipeline) if self.book else UNKNOWN_PRICE

    def _size(self, params: CellParams) -> tuple[Chosen | None, str | None]:
        if params.size is None:
            return None, None
        sizes, size = self.traits.sizes, parse_size(params.size)
        shaped = size.pixels or size.ratio or size.word
        return sizes.ratio(params.size) if shaped else None, sizes.level(params.size)

    def fields(self, call: Call) -> tuple[dict[str, Json], list[str]]:
        """What goes on the wire besides prompt and files, by native name, and what to warn of."""
        params, (ratio, level) = call.params, self._size(call.params)
        neutral: dict[str, Json] = {
            "model": self.model,
            "sampleCount": len(call.cells),
            "aspectRatio": ratio.native if ratio else None,
            "sampleImageSize": level,
            "negativePrompt": params.negative_prompt,
            "guidanceScale": params.guidance_scale,
            "baseSteps": params.steps,
            "seed": params.seed,
            "mimeType": f"image/{params.output_format}" if params.output_format else None,
            "task": self.task if self.pipeline in {"img2img", "inpaint"} else None,
            # An API that rewrites the prompt by default would make the seed worthless.
            "enhance_prompt": (
                False if params.seed is not None and self.pipeline == "text2img" else None
            ),
        }
        sent = {name: value for name, value in neutral.items() if value is not None}
        return {**sent, **given(self.options)}, [ratio.warning] if ratio and ratio.warning else []

    async def generate(
        self, client: genai.Client, call: Call, labels: Mapping[str, str] | None = None
    ) -> Answer:
        """Make the pictures of one call.

        Args:
            client: Of :func:`~runner.providers.google_family.client.make_client`.
            call: What is asked.
            labels: For the bill.

        Raises:
            ProviderError: Refused, or any other fault, already classified.
        """
        sent, notes = self.fields(call)
        config = self._config(sent, labels or {})
        models, prompt = client.aio.models, call.params.prompt
        if self.pipeline == "text2img":
            calling: Any = models.generate_images(model=self.model, prompt=prompt, config=config)
        elif self._upscales:
            image = await self._image(call.params.image, "pipeline.image")
            calling = models.upscale_image(
                model=self.model,
                image=image,
                upscale_factor=self.options.upscale_factor,
                config=config,
            )
        else:
            calling = models.edit_image(
                model=self.model,
                prompt=prompt,
                reference_images=await self._references(call.params),
                config=config,
            )
        reply = await (await built_by(calling)).send(self.http)
        found = reply.json().get("predictions")
        outputs = await take_all(
            self.http,
            call,
            [self._found(item) for item in found] if isinstance(found, list) else [],
            seed_sent=call.params.seed,
            warnings=notes,
        )
        if not found:  # a filter that took every picture leaves nothing behind
            refused = Missing(
                outcome="refused", kind="content_filter", message="no picture passed the filter"
            )
            outputs = (refused,) * len(call.cells)
        cost, basis = settle(
            sum(isinstance(output, Picture) for output in outputs), book=self.estimate(call.params)
        )
        return Answer(
            outputs=outputs,
            params_sent=sent,
            request_id=reply.request_id,
            cost_usd=cost,
            cost_basis=basis,
        )

    def _config(self, sent: Mapping[str, Any], labels: Mapping[str, str]) -> Any:
        """The SDK's config of this operation; what is ``None`` is not sent."""
        options = self.options
        common: dict[str, Any] = {
            "person_generation": options.person_generation,
            "safety_filter_level": options.safety_filter_level,
            "include_rai_reason": True,
            "output_mime_type": sent.get("mimeType"),
            "output_compression_quality": options.compression_quality,
            "labels": dict(labels) or None,
        }
        if self._upscales:
            return {
                **common,
                "enhance_input_image": options.enhance_input_image,
                "image_preservation_factor": options.image_preservation_factor,
            }
        common |= {
            "number_of_images": sent["sampleCount"],
            "aspect_ratio": sent.get("aspectRatio"),
            "negative_prompt": sent.get("negativePrompt"),
            "guidance_scale": sent.get("guidanceScale"),
            "seed": sent.get("seed"),
            "language": options.language,
            "add_watermark": options.add_watermark,
        }
        if self.pipeline == "text2img":
            enhance = {"enhance_prompt": sent.get("enhance_prompt")}
            return {**common, **enhance, "image_size": sent.get("sampleImageSize")}
        mode = EDIT_MODES.get(self.task) if self.pipeline == "inpaint" else None
        if self.pipeline == "img2img":
            mode = "EDIT_MODE_DEFAULT"
        return {**common, "edit_mode": mode, "base_steps": sent.get("baseSteps")}

    async def _image(self, path: str | None, what: str) -> Any:
        from google.genai import types

        image = await self._inputs.read(path or "", what)
        return types.Image(image_bytes=image.data, mime_type=image.mime)

    async def _references(self, params: CellParams) -> list[Any]:
        from google.genai import types

        options = self.options
        if self.pipeline == "controlnet":
            drawn = await self._image(params.control_image, "pipeline.control_image")
            return [
                types.ControlReferenceImage(
                    reference_id=1,
                    reference_image=drawn,
                    config=types.ControlReferenceConfig(
                        control_type=types.ControlReferenceType(
                            f"CONTROL_TYPE_{options.control_type.upper()}"
                        ),
                        enable_control_image_computation=options.compute_control,
                    ),
                )
            ]
        image = await self._image(params.image, "pipeline.image")
        found: list[Any] = [types.RawReferenceImage(reference_id=1, reference_image=image)]
        if self.pipeline == "inpaint":
            mask = None
            if options.mask_mode is None:
                drawn_mask = await self._inputs.mask(params.mask or "", binary_mask)
                mask = types.Image(image_bytes=drawn_mask.data, mime_type=drawn_mask.mime)
            mode = (options.mask_mode or "user_provided").upper()
            found.append(
                types.MaskReferenceImage(
                    reference_id=2,
                    reference_image=mask,
                    config=types.MaskReferenceConfig(
                        mask_mode=types.MaskReferenceMode(f"MASK_MODE_{mode}"),
                        segmentation_classes=list(options.mask_classes) or None,
                        mask_dilation=options.mask_dilation,
                    ),
                )
            )
        return found

    def _found(self, prediction: object) -> Found | Missing:
        if not isinstance(prediction, Mapping):
            return Missing(outcome="failed", kind="no_image", message="no image in the answer")
        if source := text(prediction.get("bytesBase64Encoded")):
            rewritten = text(prediction.get("prompt"))
            return Found(source, effective={"prompt": rewritten} if rewritten else {})
        reason = text(prediction.get("raiFilteredReason"))
        return Missing(
            outcome="refused" if reason else "failed",
            kind="content_filter" if reason else "no_image",
            message=self.http.keys.redact(one_line(reason or "no image in the answer")),
        )

"""Titan Image Generator and Nova Canvas: one body, one answer, two sets of fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.images import BadImage
from runner.providers.bedrock_family.body import as_base64, merged
from runner.providers.bedrock_family.client import ACCESS, SHARED, Bedrock, Invoked
from runner.providers.bedrock_family.options import AmazonTraits, NovaCanvasOptions, TitanOptions
from runner.providers.bedrock_family.tasks import TASKS, USUAL
from runner.providers.bedrock_family.try_on import try_on_fields
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
from runner.providers.net import (
    InputImage,
    Inputs,
    binary_mask,
    file_identity,
    given,
    inverted_mask,
    one_line,
    size_problem,
)
from runner.providers.net.payload import decode_base64
from runner.providers.prices import price_book, settle
from runner.providers.sizes import Chosen, size_problems
from runner.settings.cell import CellParams, Json
from runner.settings.errors import RequestError, listed
from runner.settings.load import validate
from runner.settings.schema import VariantSettings

MOST_IMAGES = 5
LAST_SEED = 2_147_483_646
LEAST_SIMILARITY = 0.2
_ONE_K = 1024 * 1024


class AmazonImages:
    """One of Amazon's models for one variant.

    Args:
        settings: The variant.
        options: Its native options.
        bedrock: The way to it.

    Raises:
        RequestError: Options, traits or prices are wrong.
    """

    def __init__(
        self,
        settings: VariantSettings,
        options: TitanOptions | NovaCanvasOptions,
        bedrock: Bedrock,
    ) -> None:
        self._settings = settings
        self._model = settings.model.name
        self._pipeline = settings.pipeline.name
        self._options = options
        self._try_on = options.try_on if isinstance(options, NovaCanvasOptions) else None
        self._bedrock = bedrock
        self._inputs = Inputs(bedrock.http)
        self._traits = validate(AmazonTraits, settings.model.traits, "model.traits")
        self._book = price_book(settings.model)
        self._name = options.task or USUAL[self._pipeline]
        self._task = TASKS[self._name]
        problems = tuple(self._option_problems())
        if problems:
            raise RequestError(*problems)
        self.capabilities = self._make_capabilities()

    # ------------------------------------------------------------------ what is taken

    def _option_problems(self) -> Iterator[str]:
        chosen, traits, task = given(self._options), self._traits, self._task
        if self._name not in traits.tasks and self._options.task is not None:
            yield (
                f"provider.options.task={self._name}: model {self._model} does not do it; it does "
                f"{listed(traits.tasks)}"
            )
        if self._pipeline not in task.pipelines:
            yield (
                f"provider.options.task={self._name}: it goes with "
                f"pipeline={' or '.join(sorted(task.pipelines))}"
            )
        for name in sorted(chosen.keys() - SHARED - {"task"}):
            fitting = [each for each in traits.tasks if name in TASKS[each].options]
            if name == "return_mask":
                fitting = [each for each in fitting if each in traits.masks]
            if self._name not in fitting:
                yield (
                    f"provider.options.{name}: {self._name} does not take it; "
                    f"{listed(fitting) or 'no task of this model'} does"
                )
        if self._name == "COLOR_GUIDED_GENERATION" and not self._options.colors:
            yield "provider.options.colors: COLOR_GUIDED_GENERATION needs 1 to 10 of them"
        if self._name == "VIRTUAL_TRY_ON" and self._try_on is None:
            yield (
                "provider.options.try_on: VIRTUAL_TRY_ON needs a picture of what is put on: "
                "provider.options.try_on.reference_image=FILE"
            )
        if self._options.control_mode and self._pipeline != "controlnet":
            yield "provider.options.control_mode: it is for pipeline=controlnet"

    def _make_capabilities(self) -> Capabilities:
        traits, task, name = self._traits, self._task, self._name
        note = f"at most {traits.max_text:,} characters"
        params: dict[str, Param] = {}
        if task.text != "none":
            params["prompt"] = Param(native="text", note=note)
            params["negative_prompt"] = Param(native="negativeText", note=note)
        if task.config:
            params["seed"] = Param(native="seed", minimum=0, maximum=LAST_SEED)
            params["guidance_scale"] = Param(
                native="cfgScale", minimum=1.1, maximum=10, default=traits.guidance
            )
        if name in traits.sized:
            params["size"] = Param(native="width,height", note=traits.sizes.describe())
        if name in traits.leveled:
            params["quality"] = Param(
                native="quality", choices=("standard", "premium"), default="standard"
            )
        if name == "TEXT_IMAGE" and traits.styles:
            params["style"] = Param(native="style", choices=traits.styles)
        if self._pipeline in {"img2img", "inpaint"}:
            params["image"] = Param(native=task.image or "image")
        if name == "IMAGE_VARIATION":
            params["strength"] = Param(
                native="similarityStrength",
                minimum=0,
                maximum=1 - LEAST_SIMILARITY,
                note="sent as similarityStrength = 1 - strength",
            )
        if self._pipeline == "inpaint":
            params["mask"] = Param(
                native="maskImage", note="of the size of the image; greys become black or white"
            )
        if self._pipeline == "controlnet":
            params["control_image"] = Param(native="conditionImage")
            params["control_scale"] = Param(
                native="controlStrength", minimum=0, maximum=1, default=0.7
            )
        pipelines = {kind for each in traits.tasks for kind in TASKS[each].pipelines}
        return Capabilities(
            pipelines=frozenset(pipelines - (set() if traits.conditioning else {"controlnet"})),
            params=params,
            max_images_per_call=MOST_IMAGES if task.config else 1,
            mask_polarity=task.repaints,
        )

    def identity(self) -> dict[str, Json]:
        """The options that change the picture; a file counts by its content, not by its path."""
        found = {name: value for name, value in given(self._options).items() if name not in ACCESS}
        if self._options.images:
            found["images"] = [
                file_identity(path, "provider.options.images") for path in self._options.images
            ]
        if self._try_on is not None:
            found["try_on"] = {
                **given(self._try_on),
                "reference_image": file_identity(
                    self._try_on.reference_image, "provider.options.try_on.reference_image"
                ),
            }
        return found

    def check(self, params: CellParams) -> Iterator[str]:
        """Problems of one cell."""
        traits, name = self._traits, self._name
        if name in traits.sized:
            yield from size_problems(traits.sizes.pixels, params.size, self._model)
        if not params.prompt and self._task.text == "required":
            yield f"prompt: {name} needs one"
        for key in ("prompt", "negative_prompt"):
            text = getattr(params, key) or ""
            if len(text) > traits.max_text:
                yield (
                    f"{key}: {len(text):,} characters; model {self._model} takes "
                    f"{traits.max_text:,}"
                )
        if self._pipeline in {"img2img", "inpaint"} and params.image is None:
            yield f"pipeline.image: {name} needs an input image: pipeline.image=FILE"
        if self._pipeline == "controlnet" and params.control_image is None:
            yield "pipeline.control_image: pipeline=controlnet needs one"
        yield from self._mask_problems(params)
        files = [
            (params.image, "pipeline.image"),
            (params.control_image, "pipeline.control_image"),
            *((path, "provider.options.images") for path in self._options.images),
        ]
        if self._try_on is not None:
            path = self._try_on.reference_image
            files.append((path, "provider.options.try_on.reference_image"))
        for file, what in files:
            if problem := traits.inputs.problem(file, what):
                yield problem
        if problem := size_problem(params.image, params.mask):
            yield problem

    def _mask_problems(self, params: CellParams) -> Iterator[str]:
        if self._try_on is not None:
            told = [params.mask, self._try_on.garment_class, self._try_on.mask_prompt]
            if sum(found is not None for found in told) != 1:
                yield (
                    "provider.options.try_on: what is repainted is told by exactly one of "
                    "pipeline.mask (with pipeline=inpaint), try_on.garment_class and "
                    "try_on.mask_prompt"
                )
        elif self._pipeline == "inpaint":
            words = self._options.mask_prompt
            if (params.mask is None) == (words is None):
                yield (
                    "pipeline.mask: pipeline=inpaint needs a mask (white = repaint): either "
                    "pipeline.mask=FILE, or words for it in provider.options.mask_prompt"
                )

    def estimate(self, params: CellParams) -> Price:
        """The price of one image: by its size and level, where they are known."""
        if self._book is None:
            return UNKNOWN_PRICE
        leveled = self._name in self._traits.leveled
        return self._book.per_image(
            size=self._price_size(params),
            quality=(params.quality if leveled else None) or "standard",
        )

    def _price_size(self, params: CellParams) -> str | None:
        """The name of a size in the price book; ``None`` where the input image decides."""
        sizes = self._traits.sizes
        if params.image is not None and params.size is None:
            return None
        chosen = sizes.pixels(params.size or "1024x1024")
        if sizes.table:
            return chosen.native
        return "1K" if (chosen.width or 0) * (chosen.height or 0) <= _ONE_K else "2K"

    # ------------------------------------------------------------------ what is sent

    async def generate(self, call: Call) -> Answer:
        """Make the images of one call.

        Raises:
            ProviderError: Refused, or any other fault, already classified.
        """
        params, task = call.params, self._task
        size = self._size(params)
        hidden = await self._hidden(params)
        shown = self._shown(params)
        config = self._config(call, size)
        body: dict[str, Json] = {"taskType": self._name, task.section: {**hidden, **shown}}
        if task.config:
            body["imageGenerationConfig"] = config
        extra = self._settings.provider.extra_body
        reply = await self._bedrock.invoke(merged(body, extra))
        sent = {"model": self._model, "taskType": self._name, **shown, **config, **extra}
        return await self._answer(call, reply, sent, size)

    def _size(self, params: CellParams) -> Chosen | None:
        taken = params.size is not None and self._name in self._traits.sized
        return self._traits.sizes.pixels(params.size) if taken and params.size else None

    def _config(self, call: Call, size: Chosen | None) -> dict[str, Json]:
        if not self._task.config:
            return {}
        params = call.params
        config: dict[str, Json] = {"numberOfImages": len(call.cells)}
        if params.quality is not None:
            config["quality"] = params.quality
        if params.guidance_scale is not None:
            config["cfgScale"] = params.guidance_scale
        if size is not None:
            config |= {"width": size.width, "height": size.height}
        if params.seed is not None:
            # A second call for one point with the same seed would bring the same images again.
            config["seed"] = (params.seed + call.cells[0].image_index) % (LAST_SEED + 1)
        return config

    def _shown(self, params: CellParams) -> dict[str, Json]:
        """What of the task's section may stand in the record."""
        options = self._options
        fields: dict[str, Json] = {
            "negativeText": params.negative_prompt or None,
            "style": params.style,
            "controlMode": options.control_mode,
            "controlStrength": params.control_scale,
            "similarityStrength": (
                None if params.strength is None else round(1 - params.strength, 6)
            ),
            "colors": list(options.colors) or None,
            "maskPrompt": options.mask_prompt,
            "outPaintingMode": options.outpainting_mode,
            "returnMask": True if options.return_mask else None,
        }
        if self._try_on is not None:
            fields |= try_on_fields(self._try_on, masked=params.mask is not None)
        return {name: value for name, value in fields.items() if value is not None}

    async def _hidden(self, params: CellParams) -> dict[str, Json]:
        """Text and files of the task's section."""
        fields: dict[str, Json] = {}
        if params.prompt and self._task.text != "none":
            fields["text"] = params.prompt
        if params.image is not None and self._task.image is not None:
            first = await self._read(params.image)
            fields[self._task.image] = first
            if self._name == "IMAGE_VARIATION":
                more = [
                    await self._read(path, "provider.options.images")
                    for path in self._options.images
                ]
                fields["images"] = [first, *more]
        if params.control_image is not None:
            fields["conditionImage"] = await self._read(
                params.control_image, "pipeline.control_image"
            )
        if params.mask is not None:
            encoded = as_base64(await self._inputs.mask(params.mask, self._mask))
            if self._try_on is not None:
                fields["imageBasedMask"] = {"maskImage": encoded}
            else:
                fields["maskImage"] = encoded
        if self._try_on is not None:
            fields["referenceImage"] = await self._read(
                self._try_on.reference_image, "provider.options.try_on.reference_image"
            )
        return fields

    def _mask(self, mask: InputImage) -> InputImage:
        pure = binary_mask(mask)
        return pure if self._task.repaints == "white" else inverted_mask(pure)

    async def _read(self, path: str, what: str = "pipeline.image") -> str:
        return as_base64(await self._inputs.read(path, what))

    # ------------------------------------------------------------------ what came

    async def _answer(
        self, call: Call, reply: Invoked, sent: Mapping[str, Json], size: Chosen | None
    ) -> Answer:
        found = reply.body.get("images")
        images: list[Any] = list(found) if isinstance(found, list) else []
        warnings = [size.warning] if size is not None and size.warning else []
        seed = sent.get("seed")
        extras = self._returned_mask(reply)
        outputs: list[Picture | Missing] = []
        for at in range(len(call.cells)):
            image = images[at] if at < len(images) else None
            if isinstance(image, str) and image:
                outputs.append(
                    await self._bedrock.http.take(
                        image,
                        seed_sent=seed if isinstance(seed, int) else None,
                        warnings=warnings,
                        extras=extras if at == 0 else None,
                    )
                )
            else:
                outputs.append(self._missing(reply))
        pictures = sum(isinstance(output, Picture) for output in outputs)
        cost, basis = settle(pictures, book=self.estimate(call.params))
        return Answer(
            outputs=tuple(outputs),
            params_sent=sent,
            request_id=reply.request_id,
            cost_usd=cost,
            cost_basis=basis,
        )

    def _missing(self, reply: Invoked) -> Missing:
        """Why an image is not there: both models say a refusal with HTTP 200 and ``error``."""
        said = reply.body.get("error")
        if (isinstance(said, str) and said) or reply.intervened:
            return Missing(
                outcome="refused",
                kind="guardrail" if reply.intervened else "content_filter",
                message=self._bedrock.redact(one_line(str(said or "a guardrail intervened"))),
            )
        return Missing(outcome="failed", kind="no_image", message="fewer images than asked")

    def _returned_mask(self, reply: Invoked) -> dict[str, bytes]:
        mask = reply.body.get("maskImage")
        if not self._options.return_mask or not isinstance(mask, str):
            return {}
        try:
            return {"mask.png": decode_base64(mask)}
        except BadImage:
            return {}

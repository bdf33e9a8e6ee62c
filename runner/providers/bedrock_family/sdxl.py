"""SDXL's body on Bedrock, that of Stability's first REST API: weighted prompts, one artifact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from runner.providers.bedrock_family.body import as_base64, merged
from runner.providers.bedrock_family.client import (
    ACCESS,
    SHARED,
    Bedrock,
    GuardrailOption,
    Invoked,
    Profile,
    Region,
)
from runner.providers.bedrock_family.stability import SEED_NOTE
from runner.providers.bedrock_family.stability_options import STYLE_PRESETS
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
from runner.providers.net import Inputs, given, grey_mask, native_fields
from runner.providers.net.inputs import file_problems
from runner.providers.net.limits import ImageLimits
from runner.providers.prices import price_book, settle
from runner.providers.sizes import Sizes, size_problems
from runner.settings.cell import CellParams, Json
from runner.settings.errors import RequestError
from runner.settings.load import validate
from runner.settings.schema import Section, VariantSettings

LONGEST_PROMPT = 2000
LAST_SEED = 4_294_967_295


class WeightedPrompt(Section):
    """A further prompt, and how much it counts."""

    text: str = Field(min_length=1, max_length=LONGEST_PROMPT, description="the text")
    weight: float = Field(1, ge=-10, le=10, description="below 0: what should not be there")


class SdxlOptions(Section):
    """Native parameters of SDXL on Bedrock that have no neutral name."""

    prompt_weight: float = Field(1, gt=0, le=10, description="weight of the prompt")
    negative_weight: float = Field(-1, ge=-10, lt=0, description="weight of the negative prompt")
    text_prompts: tuple[WeightedPrompt, ...] = Field(
        (), description="further prompts, each with its weight"
    )
    clip_guidance_preset: (
        Literal["FAST_BLUE", "FAST_GREEN", "NONE", "SIMPLE", "SLOW", "SLOWER", "SLOWEST"] | None
    ) = Field(None, description="CLIP guidance")
    sampler: (
        Literal[
            "DDIM",
            "DDPM",
            "K_DPMPP_2M",
            "K_DPMPP_2S_ANCESTRAL",
            "K_DPM_2",
            "K_DPM_2_ANCESTRAL",
            "K_EULER",
            "K_EULER_ANCESTRAL",
            "K_HEUN",
            "K_LMS",
        ]
        | None
    ) = Field(None, description="sampler")
    init_image_mode: Literal["IMAGE_STRENGTH", "STEP_SCHEDULE"] | None = Field(
        None, description="img2img: how the strength is told; as image_strength by default"
    )
    step_schedule_end: float | None = Field(
        None, ge=0, le=1, description="img2img with STEP_SCHEDULE: where the steps end"
    )
    extras: dict[str, Any] = Field(
        default_factory=dict, description="experimental parameters of the model"
    )
    region: Region = None
    profile: Profile = None
    guardrail: GuardrailOption = None


IMG2IMG_ONLY = frozenset({"init_image_mode", "step_schedule_end"})
PROMPTS = frozenset({"prompt_weight", "negative_weight", "text_prompts"})


class SdxlTraits(Section):
    """What one version of SDXL takes: data in ``conf/model/``."""

    sizes: Sizes = Field(description="sizes of text to image")
    inputs: ImageLimits = Field(
        default_factory=ImageLimits, description="what an input image may be"
    )


class SdxlImages:
    """SDXL for one variant.

    Args:
        settings: The variant.
        options: Its native options.
        bedrock: The way to it.

    Raises:
        RequestError: Options, traits or prices are wrong.
    """

    def __init__(self, settings: VariantSettings, options: SdxlOptions, bedrock: Bedrock) -> None:
        self._settings = settings
        self._pipeline = settings.pipeline.name
        self._options = options
        self._bedrock = bedrock
        self._inputs = Inputs(bedrock.http)
        self._traits = validate(SdxlTraits, settings.model.traits, "model.traits")
        self._book = price_book(settings.model)
        wrong = sorted(IMG2IMG_ONLY & given(options).keys())
        if wrong and self._pipeline != "img2img":
            raise RequestError(*(f"provider.options.{name}: it is for img2img" for name in wrong))
        if options.step_schedule_end is not None and options.init_image_mode != "STEP_SCHEDULE":
            raise RequestError(
                "provider.options.step_schedule_end: it needs "
                "provider.options.init_image_mode=STEP_SCHEDULE"
            )
        self.capabilities = self._make_capabilities()

    # ------------------------------------------------------------------ what is taken

    def _make_capabilities(self) -> Capabilities:
        note = f"at most {LONGEST_PROMPT:,} characters"
        params = {
            "prompt": Param(native="text_prompts", note=note),
            "negative_prompt": Param(native="text_prompts", note=f"{note}; a weight below 0"),
            "seed": Param(native="seed", minimum=1, maximum=LAST_SEED, note=SEED_NOTE),
            "steps": Param(native="steps", minimum=10, maximum=50, default=30),
            "guidance_scale": Param(native="cfg_scale", minimum=0, maximum=35, default=7),
            "style": Param(native="style_preset", choices=STYLE_PRESETS),
        }
        if self._pipeline == "text2img":
            params["size"] = Param(native="width,height", note=self._traits.sizes.describe())
        else:
            params["image"] = Param(native="init_image")
        if self._pipeline == "img2img":
            stepped = self._options.init_image_mode == "STEP_SCHEDULE"
            params["strength"] = Param(
                native="step_schedule_start" if stepped else "image_strength",
                minimum=0,
                maximum=1,
                default=0.65,
                note="" if stepped else "sent as image_strength = 1 - strength",
            )
        if self._pipeline == "inpaint":
            params["mask"] = Param(native="mask_image", note="of the size of the image")
        return Capabilities(
            pipelines=frozenset({"text2img", "img2img", "inpaint"}),
            params=params,
            seed_per_image=True,
        )

    def identity(self) -> dict[str, Json]:
        """The options that change the picture."""
        return {name: value for name, value in given(self._options).items() if name not in ACCESS}

    def check(self, params: CellParams) -> Iterator[str]:
        """Problems of one cell."""
        if self._pipeline == "text2img":
            model = self._settings.model.name
            yield from size_problems(self._traits.sizes.pixels, params.size, model)
        if not params.prompt:
            yield "prompt: SDXL needs one"
        for key in ("prompt", "negative_prompt"):
            text = getattr(params, key) or ""
            if len(text) > LONGEST_PROMPT:
                yield f"{key}: {len(text):,} characters; SDXL takes {LONGEST_PROMPT:,}"
        if problem := self._traits.inputs.problem(params.image, "pipeline.image"):
            yield problem
        yield from file_problems(self._pipeline, params)

    def estimate(self, params: CellParams) -> Price:
        """The price of one image."""
        return self._book.per_image(size=params.size) if self._book else UNKNOWN_PRICE

    # ------------------------------------------------------------------ what is sent

    async def generate(self, call: Call) -> Answer:
        """Make the image of one call.

        Raises:
            ProviderError: Any fault, already classified.
        """
        params, warnings = call.params, list[str]()
        shown: dict[str, Json] = {"samples": 1}
        shown |= native_fields(self.capabilities, params, "size", "negative_prompt", "strength")
        if params.size is not None and self._pipeline == "text2img":
            size = self._traits.sizes.pixels(params.size)
            shown |= {"width": size.width, "height": size.height}
            warnings += [size.warning] if size.warning else []
        seed = call.cells[0].image_seed
        if seed is not None:
            seed = 1 + (seed - 1) % LAST_SEED
            shown["seed"] = seed
        left_out = SHARED | PROMPTS
        options = given(self._options).items()
        shown |= {name: value for name, value in options if name not in left_out}
        shown |= self._image_fields(params)
        prompts = self._prompts(params)
        extra = self._settings.provider.extra_body
        body = {"text_prompts": prompts, **await self._files(params), **shown}
        reply = await self._bedrock.invoke(merged(body, extra))
        output = await self._output(reply, seed, warnings)
        cost, basis = settle(isinstance(output, Picture), book=self.estimate(params))
        return Answer(
            outputs=(output,),
            params_sent={
                "model": self._settings.model.name,
                # The prompt itself has a place of its own.
                "text_prompts": [{"weight": self._options.prompt_weight}, *prompts[1:]],
                **shown,
                **extra,
            },
            request_id=reply.request_id,
            cost_usd=cost,
            cost_basis=basis,
        )

    def _prompts(self, params: CellParams) -> list[Json]:
        options = self._options
        prompts: list[Json] = [{"text": params.prompt, "weight": options.prompt_weight}]
        if params.negative_prompt:
            prompts.append({"text": params.negative_prompt, "weight": options.negative_weight})
        prompts += [{"text": each.text, "weight": each.weight} for each in options.text_prompts]
        return prompts

    def _image_fields(self, params: CellParams) -> dict[str, Json]:
        if self._pipeline == "inpaint":
            return {"mask_source": "MASK_IMAGE_WHITE"}
        if self._pipeline != "img2img":
            return {}
        mode = self._options.init_image_mode or "IMAGE_STRENGTH"
        fields: dict[str, Json] = {"init_image_mode": mode}
        if params.strength is not None and mode == "STEP_SCHEDULE":
            fields["step_schedule_start"] = params.strength
        elif params.strength is not None:
            fields["image_strength"] = round(1 - params.strength, 6)  # 1 keeps the image
        return fields

    async def _files(self, params: CellParams) -> dict[str, Json]:
        fields: dict[str, Json] = {}
        if params.image is not None:
            fields["init_image"] = as_base64(await self._inputs.read(params.image))
        if params.mask is not None:
            fields["mask_image"] = as_base64(await self._inputs.mask(params.mask, grey_mask))
        return fields

    # ------------------------------------------------------------------ what came

    async def _output(
        self, reply: Invoked, seed: int | None, warnings: list[str]
    ) -> Picture | Missing:
        found = reply.body.get("artifacts")
        artifact = found[0] if isinstance(found, list) and found else None
        if reply.intervened:
            return Missing(outcome="refused", kind="guardrail", message="a guardrail intervened")
        if not isinstance(artifact, dict):
            return Missing(outcome="failed", kind="no_image", message="no image in the answer")
        reason = str(artifact.get("finishReason") or "SUCCESS")
        if reason == "CONTENT_FILTERED":
            # The image that comes along is blurred beyond use.
            return Missing(
                outcome="refused",
                kind="content_filter",
                code=reason,
                message="the picture was blurred by the content filter",
            )
        if reason != "SUCCESS":
            return Missing(
                outcome="failed", kind="inference_error", code=self._bedrock.redact(reason[:80])
            )
        used, image = artifact.get("seed"), artifact.get("base64")
        return await self._bedrock.http.take(
            image if isinstance(image, str) else None,
            seed_sent=seed,
            effective={"seed": used} if isinstance(used, int) else {},
            warnings=warnings,
        )

"""Native parameters and model traits of OpenAI's Images API and its relatives, typed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from runner.providers.sizes import Sizes
from runner.settings.cell import PipelineKind
from runner.settings.schema import Section


class SvgOptions(Section):
    """Who writes the SVG, for ``output_format=svg``."""

    model: str | None = Field(None, description="model that writes the SVG")
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = Field(
        None, description="its reasoning effort"
    )


class ImagesOptions(Section):
    """Native parameters of OpenAI's Images API that have no neutral name."""

    moderation: Literal["auto", "low"] | None = Field(
        None, description="strictness of the content filter (generations only)"
    )
    complexity: Literal["low", "medium", "high"] | None = Field(
        None, description="computation spent on planning the image, apart from its quality"
    )
    output_compression: int | None = Field(
        None, ge=0, le=100, description="compression in per cent, for jpeg and webp"
    )
    partial_images: int | None = Field(
        None, ge=0, le=3, description="stream the image and keep so many partial ones beside it"
    )
    input_fidelity: Literal["low", "high"] | None = Field(
        None, description="how closely edits keep the input image"
    )
    images: tuple[str, ...] = Field(
        (), max_length=15, description="further input images after pipeline.image: paths"
    )
    markup: str | None = Field(
        None, description="transparent PNG drawn over the first input image, to guide the edit"
    )
    frame_count: int | None = Field(None, ge=2, le=16, description="frames of a gif; 9 by default")
    frame_duration_ms: int | None = Field(
        None, ge=10, le=655_350, description="milliseconds per frame of a gif; 200 by default"
    )
    svg: SvgOptions | None = Field(None, description="who writes the SVG")
    safety_identifier: str | None = Field(
        None, description="stable, hashed id of your end user, for the vendor's safety checks"
    )


class OpenAIOptions(ImagesOptions):
    """Those of OpenAI itself: who is billed."""

    organization: str | None = Field(None, description="organization that is billed")
    project: str | None = Field(None, description="project that is billed")


class AzureOptions(ImagesOptions):
    """Those of Azure: which deployment, by which version of the API, and who asks."""

    deployment: str | None = Field(
        None, description="name of your deployment; the model's name by default"
    )
    api_version: str | None = Field(
        None,
        pattern=r"^(\d{4}-\d\d-\d\d(-preview)?|v1|preview)$",
        description="2025-04-01-preview or another date: the older endpoint per deployment; "
        "nothing, v1 or preview: the v1 endpoint",
    )
    auth: Literal["auto", "api_key", "entra"] = Field(
        "auto",
        description="api_key: the resource's key; entra: a token of Microsoft Entra ID; auto: the "
        "key if it is set, then the token's variable, then azure-identity",
    )
    scope: str = Field(
        "https://cognitiveservices.azure.com/.default",
        description="what azure-identity asks a token for",
    )


class DiffusionOptions(ImagesOptions):
    """Those of OpenAI's API as servers of diffusion models extend it: vLLM-Omni, SGLang, others."""

    true_cfg_scale: float | None = Field(
        None, ge=0, description="real classifier-free guidance of models that are distilled"
    )
    guidance_scale_2: float | None = Field(
        None, ge=0, description="guidance of the second stage of a model (edits only)"
    )
    flow_shift: float | None = Field(None, description="shift of the flow-matching schedule")
    generator_device: str | None = Field(
        None, description="device of the random generator: cpu, cuda"
    )
    max_sequence_length: int | None = Field(None, ge=1, description="most tokens of the prompt")
    lora: dict[str, Any] | None = Field(
        None, description="LoRA of this request: name, path on the server, scale, int_id"
    )
    layers: int | None = Field(None, ge=2, le=10, description="layers of a layered model")
    resolution: int | None = Field(
        None, ge=1, description="resolution of a layered model, instead of a size (edits only)"
    )
    reference_image: str | None = Field(
        None, description="image to take the look from, besides pipeline.image: a path"
    )
    system_prompt: str | None = Field(None, description="system prompt of models that have one")
    use_system_prompt: (
        Literal[
            "dynamic", "en_vanilla", "en_recaption", "en_think_recaption", "en_unified", "custom"
        ]
        | None
    ) = Field(None, description="which system prompt (generations only)")
    sys_type: str | None = Field(None, description="which system prompt (edits only)")
    bot_task: str | None = Field(None, description="the model's own task mode, such as cot")
    task_type: str | None = Field(None, description="one of the tasks that the server offers")
    enhance_prompt: bool | None = Field(None, description="let the server rewrite the prompt")
    extra_params: dict[str, Any] | None = Field(
        None, description="model-specific parameters, passed on as they are (generations only)"
    )
    diffusers_kwargs: dict[str, Any] | None = Field(
        None, description="arguments for the diffusers back end (generations only)"
    )
    output_quality: Literal["default", "maximum", "high", "medium", "low"] | None = Field(
        None, description="quality of the file, where output_compression is not given"
    )
    enable_teacache: bool | None = Field(None, description="skip steps that change little")
    enable_cache_dit: bool | None = Field(None, description="cache blocks of the transformer")
    cache_dit_params: dict[str, Any] | None = Field(
        None, description="how blocks of the transformer are cached"
    )
    enable_upscaling: bool | None = Field(None, description="upscale the picture afterwards")
    upscaling_model_path: str | None = Field(
        None, description="upscaling model: a Hub id, or a path on the server"
    )
    upscaling_scale: int | None = Field(None, ge=1, description="factor of the upscaling")
    progressive_mode: str | None = Field(
        None, description="make the picture in growing resolutions (generations only)"
    )
    progressive_levels: int | None = Field(
        None, ge=1, description="number of those resolutions (generations only)"
    )
    progressive_delta: float | None = Field(
        None, description="noise between those resolutions (generations only)"
    )


ACCOUNT = frozenset({"organization", "project", "deployment", "api_version", "auth", "scope"})
"""Options that say where a request goes and who is billed: no fields, no change of the picture."""

FILES = frozenset({"images", "markup", "reference_image"})
"""Options that are files."""

EDIT_ONLY = FILES | {"input_fidelity", "guidance_scale_2", "resolution", "sys_type"}
GENERATE_ONLY = frozenset(
    {
        "moderation",
        "flow_shift",
        "max_sequence_length",
        "use_system_prompt",
        "extra_params",
        "diffusers_kwargs",
        "progressive_mode",
        "progressive_levels",
        "progressive_delta",
    }
)
GIF_ONLY = frozenset({"frame_count", "frame_duration_ms"})
JSON_TEXT = frozenset({"lora", "cache_dit_params"})
"""Options that a multipart form carries as JSON text."""

TextKey = Literal["negative_prompt", "quality", "style", "background", "output_format"]
NumberKey = Literal["seed", "steps", "guidance_scale", "strength"]


class KeyTrait(Section):
    """How a model takes a cell-level key that OpenAI's own models do not have."""

    native: str = Field(description="its name on the wire")
    minimum: float | None = Field(None, description="smallest number")
    maximum: float | None = Field(None, description="largest number")
    default: float | str | None = Field(None, description="what is used when it is not sent")
    pipelines: tuple[PipelineKind, ...] = Field((), description="kinds that take it; none: all")
    note: str = Field("", description="a rule that the range cannot say")


class OpenAITraits(Section):
    """What one model of the family takes: data in ``conf/model/``."""

    sizes: Sizes = Field(description="sizes")
    pipelines: tuple[PipelineKind, ...] = Field(
        ("text2img", "img2img", "inpaint"), description="kinds of pipeline"
    )
    qualities: tuple[str, ...] = Field((), description="quality levels, auto included")
    backgrounds: tuple[str, ...] = Field((), description="kinds of background")
    output_formats: tuple[str, ...] = Field((), description="file formats; the default first")
    styles: tuple[str, ...] = Field((), description="styles")
    options: tuple[str, ...] = Field((), description="names under provider.options that it takes")
    input_fidelities: tuple[str, ...] = Field((), description="values of input_fidelity")
    max_n: int = Field(10, ge=1, description="most images of one call")
    max_prompt: int = Field(32_000, ge=1, description="longest prompt in characters")
    max_input_images: int = Field(16, ge=1, description="most input images of an edit")
    response_format: Literal["b64_json"] | None = Field(
        None, description="sent only to models that need it"
    )
    keys: dict[TextKey | NumberKey, KeyTrait] = Field(
        default_factory=dict, description="further cell-level keys"
    )
    seed_per_image: bool = Field(False, description="image i is made with seed s + i")
    reproducible: bool = Field(False, description="the same request gives the same picture")
    mask_field: str = Field("mask", description="name of the mask's field")
    mask_polarity: Literal["transparent", "white", "black"] = Field(
        "transparent", description="what in the mask is painted anew"
    )
    default_size: str | None = Field(
        None, description="what is made when no size is asked, for the price"
    )

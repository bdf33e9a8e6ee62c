"""Native parameters and model traits of Xinference, typed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runner.providers.sizes import Sizes
from runner.settings.cell import PipelineKind
from runner.settings.schema import Section

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
    control_model: str | None = Field(
        None,
        description="ControlNet of the model, by its name on the server: canny, depth, openpose …; "
        "by default the one that the model was launched with",
    )
    control_module: str | None = Field(
        None,
        description="what draws the control image from the picture first: canny, hed …; by "
        "default nothing (with control_model)",
    )
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

GOES_WITH: dict[str, tuple[PipelineKind, ...]] = {
    "padding_image_to_multiple": ("img2img", "inpaint"),
    "mask_blur": ("inpaint",),
    "control_model": ("controlnet",),
    "control_module": ("controlnet",),
    "images": ("img2img",),
}
"""Kinds of pipeline that an option is for; any, where it is not named."""
NOT_BY_NAME = ("true_cfg_scale", "clip_skip")
"""Options that the route which takes a ControlNet by name has no place for."""


class XinferenceTraits(Section):
    """What one model takes: data in ``conf/model/xinference/``."""

    sizes: Sizes = Field(description="sizes")
    pipelines: tuple[PipelineKind, ...] = Field(
        ("text2img", "img2img", "inpaint"),
        description="kinds of pipeline",
    )
    takes: tuple[Tunable, ...] = Field(
        ("negative_prompt", "steps", "guidance_scale", "strength"),
        description="keys that the model's pipeline heeds; the server drops others in silence",
    )
    resizes: bool = Field(False, description="img2img takes a size other than the input's")
    max_n: int = Field(4, ge=1, description="most images of one call")

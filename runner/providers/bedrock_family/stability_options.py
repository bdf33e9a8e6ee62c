"""Native parameters of Stability's models on Bedrock, and the traits of a model, typed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runner.providers.bedrock_family.client import GuardrailOption, Profile, Region
from runner.providers.net.limits import ImageLimits
from runner.providers.sizes import Sizes
from runner.settings.cell import PipelineKind
from runner.settings.schema import Section

STYLE_PRESETS = (
    "3d-model",
    "analog-film",
    "anime",
    "cinematic",
    "comic-book",
    "digital-art",
    "enhance",
    "fantasy-art",
    "isometric",
    "line-art",
    "low-poly",
    "modeling-compound",
    "neon-punk",
    "origami",
    "photographic",
    "pixel-art",
    "tile-texture",
)
SIDES = ("left", "right", "up", "down")


class StabilityOptions(Section):
    """Native parameters of Stability's models that have no neutral name."""

    left: int | None = Field(None, ge=0, le=2000, description="outpaint: pixels on the left")
    right: int | None = Field(None, ge=0, le=2000, description="outpaint: pixels on the right")
    up: int | None = Field(None, ge=0, le=2000, description="outpaint: pixels above")
    down: int | None = Field(None, ge=0, le=2000, description="outpaint: pixels below")
    creativity: float | None = Field(
        None,
        ge=0.1,
        le=1,
        description="outpaint: how freely to invent; upscalers: the same, at most 0.5",
    )
    grow_mask: int | None = Field(
        None, ge=0, le=20, description="pixels by which the mask is widened, with soft borders"
    )
    search_prompt: str | None = Field(
        None,
        min_length=1,
        max_length=10_000,
        description="search_replace: words for what to replace",
    )
    select_prompt: str | None = Field(
        None,
        min_length=1,
        max_length=10_000,
        description="search_recolor: words for what to recolor",
    )
    fidelity: float | None = Field(
        None, ge=0, le=1, description="style_guide: how closely the style of the image is followed"
    )
    style_image: str | None = Field(
        None, description="style_transfer: picture in the wanted style: a path"
    )
    style_strength: float | None = Field(
        None, ge=0, le=1, description="style_transfer: how much of the style is taken"
    )
    composition_fidelity: float | None = Field(
        None, ge=0, le=1, description="style_transfer: how closely the composition is kept"
    )
    region: Region = None
    profile: Profile = None
    guardrail: GuardrailOption = None


class StabilityTraits(Section):
    """What one of Stability's models takes: data in ``conf/model/``."""

    pipelines: tuple[PipelineKind, ...] = Field(description="kinds of pipeline")
    prompt: Literal["required", "optional", "none"] = Field(
        "required", description="whether it takes a prompt"
    )
    negative_prompt: bool = Field(True, description="it takes a negative prompt")
    last_seed: int | None = Field(
        4_294_967_294, description="greatest seed; null: it takes no seed"
    )
    styled: bool = Field(False, description="it takes the style presets")
    output_formats: tuple[str, ...] = Field(
        ("png", "jpeg", "webp"), description="file formats; the default first"
    )
    sizes: Sizes = Field(default_factory=Sizes, description="aspect ratios")
    sized: tuple[PipelineKind, ...] = Field((), description="pipelines that take an aspect ratio")
    mode: bool = Field(False, description="it is told text-to-image or image-to-image")
    image: str = Field("image", description="native field of the input image")
    strength: str | None = Field(None, description="native field of the strength of img2img")
    least_strength: float = Field(0, ge=0, le=1, description="smallest strength")
    strength_default: float | None = Field(None, description="strength where none is sent")
    max_prompt: int = Field(10_000, ge=1, description="longest prompts in characters")
    options: tuple[str, ...] = Field((), description="names under provider.options that it takes")
    needs: tuple[str, ...] = Field((), description="those of them that must be there")
    max_creativity: float = Field(1, description="greatest creativity")
    inputs: ImageLimits = Field(
        default_factory=ImageLimits, description="what an input image may be"
    )

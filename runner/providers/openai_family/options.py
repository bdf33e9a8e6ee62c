"""Native parameters and model traits of OpenAI's Images API, typed."""

from __future__ import annotations

from typing import Literal

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


class OpenAIOptions(Section):
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
    organization: str | None = Field(None, description="organization that is billed")
    project: str | None = Field(None, description="project that is billed")


NOT_SENT = frozenset({"images", "markup", "organization", "project"})
"""Options that are files or headers, not fields of the request."""

EDIT_ONLY = frozenset({"input_fidelity", "images", "markup"})
GENERATE_ONLY = frozenset({"moderation"})
GIF_ONLY = frozenset({"frame_count", "frame_duration_ms"})


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

"""The tasks of Amazon's own image models: which section each has, and what goes into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from runner.providers.bedrock_family.options import TaskName
from runner.settings.cell import PipelineKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task of InvokeModel.

    Attributes:
        section: Name of its parameters in the body.
        pipelines: Kinds of pipeline that it goes with.
        text: Whether it takes a prompt, and with it a negative one.
        image: Native field of ``pipeline.image``, where it takes one.
        options: Options that only some tasks take.
        config: Whether it takes an ``imageGenerationConfig``.
        repaints: Value of the mask where the picture changes.
    """

    section: str
    pipelines: frozenset[PipelineKind]
    text: Literal["required", "optional", "none"] = "required"
    image: str | None = None
    options: frozenset[str] = frozenset()
    config: bool = True
    repaints: Literal["black", "white"] = "black"


TASKS: Mapping[TaskName, Task] = {
    "TEXT_IMAGE": Task(
        section="textToImageParams",
        pipelines=frozenset({"text2img", "controlnet"}),
        options=frozenset({"control_mode"}),
    ),
    "COLOR_GUIDED_GENERATION": Task(
        section="colorGuidedGenerationParams",
        pipelines=frozenset({"text2img", "img2img"}),
        image="referenceImage",
        options=frozenset({"colors"}),
    ),
    "IMAGE_VARIATION": Task(
        section="imageVariationParams",
        pipelines=frozenset({"img2img"}),
        text="optional",
        image="images",
        options=frozenset({"images"}),
    ),
    "INPAINTING": Task(
        section="inPaintingParams",
        pipelines=frozenset({"inpaint"}),
        text="optional",  # without words, what the mask covers is removed
        image="image",
        options=frozenset({"mask_prompt", "return_mask"}),
    ),
    "OUTPAINTING": Task(
        section="outPaintingParams",
        pipelines=frozenset({"inpaint"}),
        image="image",
        options=frozenset({"mask_prompt", "return_mask", "outpainting_mode"}),
        repaints="white",
    ),
    "BACKGROUND_REMOVAL": Task(
        section="backgroundRemovalParams",
        pipelines=frozenset({"img2img"}),
        text="none",
        image="image",
        config=False,
    ),
    "VIRTUAL_TRY_ON": Task(
        section="virtualTryOnParams",
        pipelines=frozenset({"img2img", "inpaint"}),
        text="none",
        image="sourceImage",
        options=frozenset({"try_on", "return_mask"}),
    ),
}

USUAL: Mapping[PipelineKind, TaskName] = {
    "text2img": "TEXT_IMAGE",
    "img2img": "IMAGE_VARIATION",
    "inpaint": "INPAINTING",
    "controlnet": "TEXT_IMAGE",
}
"""What a kind of pipeline means where no task is chosen."""

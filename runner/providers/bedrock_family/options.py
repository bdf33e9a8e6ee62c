"""Native parameters of Amazon's own image models, and the traits of a model, typed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runner.providers.bedrock_family.client import GuardrailOption, Profile, Region
from runner.providers.net.limits import ImageLimits
from runner.providers.sizes import Sizes
from runner.settings.schema import Section

TaskName = Literal[
    "TEXT_IMAGE",
    "COLOR_GUIDED_GENERATION",
    "IMAGE_VARIATION",
    "INPAINTING",
    "OUTPAINTING",
    "BACKGROUND_REMOVAL",
    "VIRTUAL_TRY_ON",
]

ControlMode = Annotated[
    Literal["CANNY_EDGE", "SEGMENTATION"] | None,
    Field(description="pipeline=controlnet: follow the edges or the areas of the control image"),
]
Colors = Annotated[
    tuple[Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$")], ...],
    Field(max_length=10, description="COLOR_GUIDED_GENERATION: 1 to 10 colors, '#rrggbb'"),
]
Images = Annotated[
    tuple[str, ...],
    Field(
        max_length=4,
        description="IMAGE_VARIATION: further input images after pipeline.image: paths",
    ),
]
MaskPrompt = Annotated[
    str | None,
    Field(
        min_length=1,
        description="pipeline=inpaint without pipeline.mask: words for what to repaint; in "
        "OUTPAINTING for what to keep",
    ),
]
OutpaintingMode = Annotated[
    Literal["DEFAULT", "PRECISE"] | None,
    Field(description="OUTPAINTING: a soft or an exact border of the mask"),
]
ReturnMask = Annotated[
    bool, Field(description="keep the mask that the model used beside the picture")
]


class TitanOptions(Section):
    """Native parameters of Titan Image Generator that have no neutral name."""

    task: (
        Literal[
            "TEXT_IMAGE",
            "COLOR_GUIDED_GENERATION",
            "IMAGE_VARIATION",
            "INPAINTING",
            "OUTPAINTING",
            "BACKGROUND_REMOVAL",
        ]
        | None
    ) = Field(
        None,
        description="what to do. By itself text2img and controlnet mean TEXT_IMAGE, img2img "
        "IMAGE_VARIATION, inpaint INPAINTING; OUTPAINTING goes with inpaint, BACKGROUND_REMOVAL "
        "with img2img, COLOR_GUIDED_GENERATION with text2img, or img2img for a reference image",
    )
    control_mode: ControlMode = None
    colors: Colors = ()
    images: Images = ()
    mask_prompt: MaskPrompt = None
    outpainting_mode: OutpaintingMode = None
    return_mask: ReturnMask = False
    region: Region = None
    profile: Profile = None
    guardrail: GuardrailOption = None


class GarmentStyling(Section):
    """How a garment is worn in the picture."""

    long_sleeve: Literal["SLEEVE_DOWN", "SLEEVE_UP"] | None = Field(
        None, description="long sleeves down or rolled up"
    )
    tucking: Literal["UNTUCKED", "TUCKED"] | None = Field(
        None, description="upper garments over or in the trousers"
    )
    outer_layer: Literal["CLOSED", "OPEN"] | None = Field(
        None, description="jackets closed or open"
    )


class TryOn(Section):
    """VIRTUAL_TRY_ON: put what one picture shows into another.

    What is repainted is told by one of pipeline.mask, ``garment_class`` and ``mask_prompt``.
    """

    reference_image: str = Field(description="picture of what is put on: a path")
    garment_class: (
        Literal[
            "UPPER_BODY",
            "LOWER_BODY",
            "FULL_BODY",
            "FOOTWEAR",
            "LONG_SLEEVE_SHIRT",
            "SHORT_SLEEVE_SHIRT",
            "NO_SLEEVE_SHIRT",
            "OTHER_UPPER_BODY",
            "LONG_PANTS",
            "SHORT_PANTS",
            "OTHER_LOWER_BODY",
            "LONG_DRESS",
            "SHORT_DRESS",
            "FULL_BODY_OUTFIT",
            "OTHER_FULL_BODY",
            "SHOES",
            "BOOTS",
            "OTHER_FOOTWEAR",
        ]
        | None
    ) = Field(None, description="kind of garment; the model finds where it goes")
    styling: GarmentStyling | None = Field(None, description="how the garment is worn")
    mask_prompt: str | None = Field(
        None, min_length=1, description="words for what is repainted, instead of a garment"
    )
    mask_shape: Literal["CONTOUR", "BOUNDING_BOX", "DEFAULT"] | None = Field(
        None, description="shape of the mask that the model makes"
    )
    preserve_body_pose: Literal["ON", "OFF", "DEFAULT"] | None = Field(
        None, description="keep the pose of a person"
    )
    preserve_hands: Literal["ON", "OFF", "DEFAULT"] | None = Field(
        None, description="keep the hands of a person"
    )
    preserve_face: Literal["ON", "OFF", "DEFAULT"] | None = Field(
        None, description="keep the face of a person"
    )
    merge_style: Literal["BALANCED", "SEAMLESS", "DETAILED"] | None = Field(
        None, description="how both pictures are joined"
    )


class NovaCanvasOptions(Section):
    """Native parameters of Nova Canvas that have no neutral name."""

    task: TaskName | None = Field(
        None,
        description="what to do. By itself text2img and controlnet mean TEXT_IMAGE, img2img "
        "IMAGE_VARIATION, inpaint INPAINTING; OUTPAINTING goes with inpaint, BACKGROUND_REMOVAL "
        "with img2img, COLOR_GUIDED_GENERATION with text2img, or img2img for a reference image; "
        "VIRTUAL_TRY_ON with img2img, or inpaint for a mask",
    )
    control_mode: ControlMode = None
    colors: Colors = ()
    images: Images = ()
    mask_prompt: MaskPrompt = None
    outpainting_mode: OutpaintingMode = None
    try_on: TryOn | None = Field(None, description="VIRTUAL_TRY_ON: what is put on, and how")
    return_mask: ReturnMask = False
    region: Region = None
    profile: Profile = None
    guardrail: GuardrailOption = None


class AmazonTraits(Section):
    """What one of Amazon's models takes: data in ``conf/model/``."""

    tasks: tuple[TaskName, ...] = Field(description="what it does")
    sizes: Sizes = Field(description="sizes")
    conditioning: bool = Field(True, description="TEXT_IMAGE takes a control image")
    styles: tuple[str, ...] = Field((), description="styles of TEXT_IMAGE")
    max_text: int = Field(ge=1, description="longest prompt and negative prompt in characters")
    guidance: float = Field(description="cfgScale where none is sent")
    sized: tuple[TaskName, ...] = Field(description="tasks that take a size")
    leveled: tuple[TaskName, ...] = Field(description="tasks that take a quality level")
    masks: tuple[TaskName, ...] = Field((), description="tasks that return their mask on request")
    inputs: ImageLimits = Field(
        default_factory=ImageLimits, description="what an input image may be"
    )

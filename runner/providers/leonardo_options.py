"""What users set under ``provider.options`` for Leonardo, and what its model files hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from runner.providers.sizes import Sizes
from runner.settings.cell import Scalar
from runner.settings.schema import Section

PRESET_STYLES = (
    "ANIME",
    "BOKEH",
    "CINEMATIC",
    "CINEMATIC_CLOSEUP",
    "CREATIVE",
    "DYNAMIC",
    "ENVIRONMENT",
    "FASHION",
    "FILM",
    "FOOD",
    "GENERAL",
    "HDR",
    "ILLUSTRATION",
    "LEONARDO",
    "LONG_EXPOSURE",
    "MACRO",
    "MINIMALISTIC",
    "MONOCHROME",
    "MOODY",
    "NONE",
    "NEUTRAL",
    "PHOTOGRAPHY",
    "PORTRAIT",
    "RAYTRACED",
    "RENDER_3D",
    "RETRO",
    "SKETCH_BW",
    "SKETCH_COLOR",
    "STOCK_PHOTO",
    "VIBRANT",
    "UNPROCESSED",
)
"""Every value of ``presetStyle``."""

Scheduler = Literal[
    "KLMS",
    "EULER_ANCESTRAL_DISCRETE",
    "EULER_DISCRETE",
    "DDIM",
    "DPM_SOLVER",
    "PNDM",
    "LEONARDO",
]
Strength = Literal["Low", "Mid", "High", "Ultra", "Max"]
Contrast = Annotated[float, Field(json_schema_extra={"enum": [1, 1.3, 1.8, 2.5, 3, 3.5, 4, 4.5]})]


class Element(Section):
    """A style LoRA of Leonardo's, mixed in."""

    akUUID: str = Field(description="id of the element, from Leonardo's list of elements")  # noqa: N815
    weight: float = Field(1.0, ge=-1, le=2, description="how much of it")


class UserElement(Section):
    """A style LoRA that you trained."""

    userLoraId: int = Field(description="id of your own element")  # noqa: N815
    weight: float = Field(1.0, ge=-1, le=2, description="how much of it")


class Guide(Section):
    """A further guide image beside pipeline.control_image."""

    image: str = Field(description="the guide image: a path or an https address")
    control: str | int = Field(
        description="what it guides: a name that the model has, or a preprocessor's number"
    )
    weight: float | None = Field(None, ge=0, le=2, description="how strongly, 0 to 2")
    strength: Strength | None = Field(
        None, description="how strongly, for style, character and content references"
    )


class LeonardoOptions(Section):
    """provider.options.* of Leonardo."""

    control: str | int | None = Field(
        None,
        description="what pipeline.control_image guides: a name that the model has "
        "(style_reference, content_reference, character_reference, edge, depth, pose …) or a "
        "preprocessor's number; null: the model's first",
    )
    guides: tuple[Guide, ...] = Field((), description="further guide images (ControlNets)")
    alchemy: bool | None = Field(None, description="Leonardo's quality pipeline")
    ultra: bool | None = Field(None, description="larger and finer; not together with alchemy")
    contrast: Contrast | None = Field(
        None, description="1, 1.3, 1.8, 2.5, 3, 3.5, 4 or 4.5; from 2.5 with alchemy"
    )
    contrast_ratio: float | None = Field(None, ge=0, le=1, description="contrast within alchemy")
    scheduler: Scheduler | None = Field(None, description="the sampler")
    style_uuid: str | None = Field(None, description="a style by its id, instead of style=NAME")
    photo_real: bool | None = Field(None, description="the photorealistic pipeline; needs alchemy")
    photo_real_version: Literal["v1", "v2"] | None = Field(None, description="of photo_real")
    photo_real_strength: float | None = Field(
        None, description="depth of field of photo_real: 0.55 low, 0.5 medium, 0.45 high"
    )
    prompt_magic: bool | None = Field(None, description="Leonardo's older prompt pipeline")
    prompt_magic_version: Literal["v2", "v3"] | None = Field(None, description="of prompt_magic")
    prompt_magic_strength: float | None = Field(
        None, ge=0.1, le=1, description="how far prompt_magic may go"
    )
    high_contrast: bool | None = Field(None, description="of prompt_magic; false is its raw mode")
    high_resolution: bool | None = Field(None, description="of prompt_magic")
    expanded_domain: bool | None = Field(None, description="of alchemy")
    enhance_prompt: bool | None = Field(None, description="let Leonardo write the prompt longer")
    enhance_prompt_instruction: str | None = Field(None, description="how enhance_prompt writes")
    elements: tuple[Element, ...] = Field((), description="style LoRAs: [{akUUID, weight}]")
    user_elements: tuple[UserElement, ...] = Field(
        (), description="your own LoRAs: [{userLoraId, weight}]"
    )
    tiling: bool | None = Field(None, description="pictures that repeat seamlessly")
    transparency: Literal["disabled", "foreground_only"] | None = Field(
        None, description="foreground_only: a transparent background"
    )
    public: bool | None = Field(None, description="show the pictures in Leonardo's public feed")


NATIVE = {
    "contrast_ratio": "contrastRatio",
    "style_uuid": "styleUUID",
    "photo_real": "photoReal",
    "photo_real_version": "photoRealVersion",
    "photo_real_strength": "photoRealStrength",
    "prompt_magic": "promptMagic",
    "prompt_magic_version": "promptMagicVersion",
    "prompt_magic_strength": "promptMagicStrength",
    "high_contrast": "highContrast",
    "high_resolution": "highResolution",
    "expanded_domain": "expandedDomain",
    "enhance_prompt": "enhancePrompt",
    "enhance_prompt_instruction": "enhancePromptInstruction",
    "user_elements": "userElements",
}
"""Options whose native name is another."""


class LeonardoTraits(Section):
    """What one model takes: the data in conf/model/leonardo/."""

    sizes: Sizes
    seed_max: int = Field(9_999_999_998, description="largest seed")
    takes: tuple[str, ...] = Field((), description="cell-level keys beyond prompt, size and seed")
    styles: dict[str, str] = Field(
        default_factory=dict, description="name to styleUUID; empty: the model takes presetStyle"
    )
    controls: dict[str, int] = Field(
        default_factory=dict, description="name to preprocessorId; the first is the default"
    )
    pipelines: tuple[str, ...] = Field(("text2img",), description="kinds of pipeline")
    defaults: dict[str, Scalar] = Field(
        default_factory=dict, description="native fields that the model needs when you set none"
    )


def native_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options that go on the wire as they are, by native name."""
    own = {"control", "guides"}
    return {NATIVE.get(name, name): value for name, value in options.items() if name not in own}

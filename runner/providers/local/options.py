"""Native options of local pipelines: ``provider.options.*``."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field

from runner.settings.cell import Json
from runner.settings.schema import Section

Offload = Literal["none", "model", "sequential", "group"]
Quantization = Literal["bitsandbytes_4bit", "bitsandbytes_8bit", "quanto_int8", "torchao_int8"]
StepCache = Literal["first_block", "taylorseer", "pyramid"]


LARGEST_TRIED = 16
"""Largest batch that ``device.batch_size=auto`` tries."""

CALLS_LOOKED_AT = 64
"""So many of the calls that are to be made tell it what is wanted."""


class Lora(Section):
    """One LoRA."""

    name: str = Field(description="a .safetensors file, a folder, or a Hub id")
    file: str | None = Field(None, description="which .safetensors file of the folder or Hub id")
    weight: float = Field(1.0, description="how much it counts; 0 is as if it were not there")


class TextualInversion(Section):
    """A word that was learned from pictures."""

    name: str = Field(description="a .safetensors file with the embedding")
    token: str = Field(description="the word that stands for it in prompts, such as <cat-toy>")


class IpAdapter(Section):
    """A picture that prompts beside the text."""

    name: str = Field(description="folder or Hub id, such as h94/IP-Adapter")
    file: str = Field(description="its .safetensors file")
    subfolder: str = Field("", description="folder of the file, such as models")
    image: str = Field(description="the picture: a path")
    scale: float = Field(0.6, ge=0, le=1, description="how much the picture counts")
    image_encoder: str | None = Field(
        None,
        description="folder or Hub id of what sees the picture, such as "
        "openai/clip-vit-large-patch14 for FLUX; null: it is in name",
    )
    encoder_folder: str | None = Field(
        None,
        description="its folder there; null: image_encoder beside the file, or with image_encoder "
        "the uppermost",
    )

    def encoder(self) -> tuple[str, str]:
        """Folder or Hub id of the image encoder, and its folder there."""
        beside = "" if self.image_encoder else str(PurePosixPath(self.subfolder, "image_encoder"))
        folder = beside if self.encoder_folder is None else self.encoder_folder
        return self.image_encoder or self.name, folder


class Refiner(Section):
    """A second model that does the last steps."""

    name: str = Field(
        description="folder or Hub id, such as stabilityai/stable-diffusion-xl-refiner-1.0"
    )
    revision: str | None = Field(None, description="Hub branch, tag or commit")
    variant: str | None = Field(None, description="weights variant (fp16)")
    high_noise_frac: float = Field(
        0.8, gt=0, lt=1, description="share of the steps that the base does before it"
    )


class DiffusersOptions(Section):
    """Options of local pipelines. What a model cannot take is refused before it is loaded."""

    scheduler: str | None = Field(
        None,
        description="euler_a, dpm++2m_karras, unipc, flow_heun …; null: the model's own",
    )
    clip_skip: int | None = Field(
        None, ge=1, le=12, description="layers of CLIP to leave out at its end"
    )
    guidance_rescale: float | None = Field(
        None, ge=0, le=1, description="takes back the glare of high guidance; 0.7 is usual"
    )
    prompt_weighting: Literal["compel"] | None = Field(
        None,
        description="read (words)1.3, (words:1.3), word++ and word-- in prompts, and prompts "
        "beyond the 77 tokens of CLIP in pieces; null: prompts are plain text",
    )
    loras: list[Lora] = Field(default_factory=list, description="LoRAs, applied together")
    fuse_loras: bool = Field(
        False, description="melt the LoRAs into the weights: faster, equal but for rounding"
    )
    textual_inversions: list[TextualInversion] = Field(
        default_factory=list, description="learned words"
    )
    ip_adapter: IpAdapter | None = Field(None, description="a picture that prompts")
    refiner: Refiner | None = Field(
        None, description="SDXL: a model that takes over where little noise is left"
    )
    drop_t5: bool = Field(
        False, description="do without the T5 text encoder, the largest part of SD3"
    )
    quantization: Quantization | None = Field(
        None, description="weights of the network that denoises, in fewer bits"
    )
    step_cache: StepCache | None = Field(
        None, description="skip what hardly changes from step to step: faster, nearly the same"
    )
    step_cache_threshold: float = Field(
        0.05, gt=0, le=1, description="first_block: how much may change until it is computed anew"
    )
    keep_unmasked: bool = Field(
        False,
        description="inpaint: put the untouched pixels of the input back outside the mask, exactly",
    )
    depth_model: str = Field(
        "depth-anything/Depth-Anything-V2-Small-hf",
        description="pipeline.preprocessor=depth: folder or Hub id of its network",
    )
    person_model: str = Field(
        "PekingU/rtdetr_r50vd_coco_o365",
        description="pipeline.preprocessor=pose: folder or Hub id of what finds persons",
    )
    pose_model: str = Field(
        "usyd-community/vitpose-base-simple",
        description="pipeline.preprocessor=pose: folder or Hub id of what finds their joints",
    )
    offload: Offload | None = Field(
        None,
        description="keep on the CPU what is not needed: model by model, layer by layer "
        "(sequential, slowest), or in groups of layers; null: as device.memory says",
    )
    vae_slicing: bool = Field(False, description="decode the images of a batch one by one")
    vae_tiling: bool | None = Field(
        None, description="decode large images in tiles; null: as device.memory says"
    )
    attention: str | None = Field(
        None, description="attention backend of diffusers: native, flash_hub, sage, xformers …"
    )
    channels_last: bool = Field(False, description="memory layout that convolutions like on a GPU")
    compile: bool = Field(
        False, description="compile the repeated blocks: slow first batch, faster others"
    )
    prompt_memo_mb: int = Field(
        512, ge=0, description="memory for encoded prompts; each unique prompt is encoded once"
    )

    def recipe(self) -> dict[str, Json]:
        """The options that say how an image is computed, not which one; those that were set."""
        return self.model_dump(mode="json", exclude_defaults=True, include=_RECIPE - {"offload"})


_RECIPE = {
    "offload",
    "vae_slicing",
    "vae_tiling",
    "attention",
    "channels_last",
    "compile",
    "fuse_loras",
}
NOT_IDENTITY = _RECIPE | {"prompt_memo_mb"}
"""Options that do not belong to a cell's id."""

"""The built-in model: a small Stable Diffusion 3 pipeline that draws captioned shapes."""

from pathlib import Path
from typing import Final, TypedDict


class Defaults(TypedDict):
    """Arguments of a call to the pipeline."""

    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float


MODEL_DIR: Final = Path(__file__).parent / "model"
"""Folder with the weights, in the layout that ``DiffusionPipeline.from_pretrained`` reads."""

DEFAULTS: Final[Defaults] = {
    "width": 64,
    "height": 64,
    "num_inference_steps": 20,
    "guidance_scale": 3.0,
}
"""Settings at which the model's published figures were measured."""

__all__ = ["DEFAULTS", "MODEL_DIR", "Defaults"]

"""The built-in model: a small Stable Diffusion 3 pipeline that draws captioned shapes."""

from pathlib import Path
from typing import Final, TypedDict


class Defaults(TypedDict):
    """Arguments of a call to the pipeline."""

    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    max_sequence_length: int


MODEL_DIR: Final = Path(__file__).parent / "model"
"""Folder with the weights, in the layout that ``DiffusionPipeline.from_pretrained`` reads."""

CONTROLNET_DIR: Final = Path(__file__).parent / "controlnet"
"""Folder with the ControlNet for edges, in the layout that ``AutoModel.from_pretrained`` reads."""

DEFAULTS: Final[Defaults] = {
    "width": 64,
    "height": 64,
    "num_inference_steps": 16,
    "guidance_scale": 4.0,
    "max_sequence_length": 32,
}
"""Settings at which the model's published figures were measured.

``max_sequence_length`` is the number of zero tokens that stand in for T5. The pipeline's own 256
works too, at three times the cost.
"""

__all__ = ["CONTROLNET_DIR", "DEFAULTS", "MODEL_DIR", "Defaults"]

"""Preprocessors by name: what makes a control image of a picture.

``canny`` and ``softedge`` are arithmetic. ``depth`` is a network of its own, in safetensors, that
transformers loads. There is no ``pose``: its usual detectors come as pickles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.settings.errors import PrerequisiteError, RequestError, did_you_mean, listed

if TYPE_CHECKING:
    from PIL.Image import Image

Preprocess = Callable[["Image"], "Image"]

NAMES = ("canny", "softedge", "depth")


def check_preprocessor(name: str) -> None:
    """Make sure that a preprocessor is known.

    Raises:
        RequestError: There is none of that name.
    """
    if name == "pose":
        raise RequestError(
            "pipeline.preprocessor=pose: the usual pose detectors come as pickles, which are never "
            "read; draw the pose elsewhere and give it as pipeline.control_image"
        )
    if name not in NAMES:
        raise RequestError(
            f"pipeline.preprocessor={name}: no such preprocessor{did_you_mean(name, NAMES)}; "
            f"choose from {listed(NAMES)}"
        )


def make_preprocessor(name: str, depth_model: str, commit: str | None = None) -> Preprocess:
    """Load a preprocessor.

    Args:
        name: One of :data:`NAMES`.
        depth_model: Folder or Hub id of the network for ``depth``.
        commit: The commit to take of a Hub id; ``None``: the newest.

    Raises:
        PrerequisiteError: Its weights cannot be had.
    """
    from runner.providers.local.canny import canny, soft_edges

    if name == "canny":
        return canny
    return soft_edges if name == "softedge" else _depth(depth_model, commit)


def _depth(name: str, commit: str | None) -> Preprocess:
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    try:
        processor = AutoImageProcessor.from_pretrained(name, revision=commit)
        network = AutoModelForDepthEstimation.from_pretrained(
            name, revision=commit, use_safetensors=True
        ).eval()
    except (OSError, ValueError) as error:
        raise PrerequisiteError(
            f"pipeline.preprocessor=depth: {name!r} cannot be loaded; run `hf download {name}` "
            "where there is a network, or set provider.options.depth_model to a folder"
        ) from error

    def near_is_white(picture: Image.Image) -> Image.Image:
        with torch.no_grad():
            depth = network(**processor(images=picture, return_tensors="pt")).predicted_depth
        depth = torch.nn.functional.interpolate(
            depth[:, None].float(), picture.size[::-1], mode="bicubic"
        )[0, 0]
        spread = (depth.max() - depth.min()).clamp_min(1e-6)
        return Image.fromarray(((depth - depth.min()) / spread * 255).byte().numpy())

    return near_is_white

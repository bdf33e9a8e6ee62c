"""Preprocessors by name: what makes a control image of a picture.

``canny`` and ``softedge`` are arithmetic. ``depth`` and ``pose`` are networks of their own, in
safetensors, that transformers loads: the usual detectors of poses come as pickles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from runner.settings.errors import PrerequisiteError, RequestError, did_you_mean, listed

if TYPE_CHECKING:
    from PIL.Image import Image

    from runner.providers.local.options import DiffusersOptions
    from runner.settings.schema import PipelineSettings

Preprocess = Callable[["Image"], "Image"]

NAMES = ("canny", "softedge", "depth", "pose")


def check_preprocessor(name: str) -> None:
    """Make sure that a preprocessor is known.

    Raises:
        RequestError: There is none of that name.
    """
    if name not in NAMES:
        raise RequestError(
            f"pipeline.preprocessor={name}: no such preprocessor{did_you_mean(name, NAMES)}; "
            f"choose from {listed(NAMES)}"
        )


def names_of(pipeline: PipelineSettings) -> list[str]:
    """The preprocessors that were asked for: one for all control images, or one for each."""
    given = pipeline.preprocessor
    return [given] if isinstance(given, str) else given or []


def networks(name: str, options: DiffusersOptions) -> tuple[str, ...]:
    """Folders or Hub ids of what a preprocessor loads."""
    if name == "depth":
        return (options.depth_model,)
    return (options.person_model, options.pose_model) if name == "pose" else ()


def make_preprocessor(
    name: str, options: DiffusersOptions, commits: Mapping[str, str]
) -> Preprocess:
    """Load a preprocessor.

    Args:
        name: One of :data:`NAMES`.
        options: Which networks it takes.
        commits: Hub id to the commit to take; those that are missing: the newest.

    Raises:
        PrerequisiteError: Its weights cannot be had.
    """
    from runner.providers.local.canny import canny, soft_edges
    from runner.providers.local.pose import load_pose

    if name == "canny":
        return canny
    if name == "softedge":
        return soft_edges
    if name == "pose":
        return load_pose(options.person_model, options.pose_model, commits)
    return _depth(options.depth_model, commits.get(options.depth_model))


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

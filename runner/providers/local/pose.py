"""Poses: a detector finds the persons of a picture, a network their joints, and those are drawn.

Both networks are loaded by transformers, from safetensors. The drawing is the one that ControlNets
for poses were trained on: OpenPose's body of 18 joints, https://arxiv.org/abs/1812.08008.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runner.settings.errors import PrerequisiteError

if TYPE_CHECKING:
    from PIL.Image import Image

Point = tuple[float, float]

# The joints of COCO, in the order in which the network tells them.
JOINTS = (
    "nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder",
    "left elbow", "right elbow", "left wrist", "right wrist", "left hip", "right hip", "left knee",
    "right knee", "left ankle", "right ankle",
)  # fmt: skip

_ORDER = (
    "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow",
    "left wrist", "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle",
    "right eye", "left eye", "right ear", "left ear",
)  # fmt: skip
"""OpenPose's joints; the neck lies between the shoulders."""

_LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12),
    (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip

_COLORS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0),
    (0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255),
    (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
"""Color of each joint, and at 60 % of each limb."""

_LIMB_SHARE = 0.6
_WIDTH = 1 / 128
"""Half the width of a limb, as a share of the shorter side: 4 pixels of 512."""

LEAST = 0.3
"""Confidence below which neither a person nor a joint counts."""


def draw_poses(persons: Sequence[Mapping[str, Point]], size: tuple[int, int]) -> Image:
    """Draw the joints and limbs of persons on black.

    Args:
        persons: Name of a joint, as in :data:`JOINTS`, to its place in pixels; those that were not
            found are left out.
        size: Width and height in pixels.
    """
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", size)
    pen = ImageDraw.Draw(picture)
    half = max(1, round(min(size) * _WIDTH))
    for person in persons:
        places = dict(person)
        if {"left shoulder", "right shoulder"} <= places.keys():
            (x1, y1), (x2, y2) = places["left shoulder"], places["right shoulder"]
            places["neck"] = (x1 + x2) / 2, (y1 + y2) / 2
        body = [places.get(name) for name in _ORDER]
        for (start, end), color in zip(_LIMBS, _COLORS, strict=False):
            if (first := body[start]) is not None and (last := body[end]) is not None:
                shade = tuple(math.floor(_LIMB_SHARE * part) for part in color)
                pen.line([first, last], shade, 2 * half)
        for place, color in zip(body, _COLORS, strict=True):
            if place is not None:
                x, y = place
                pen.ellipse((x - half, y - half, x + half, y + half), color)
    return picture


def load_pose(
    person_model: str, pose_model: str, commits: Mapping[str, str]
) -> Callable[[Image], Image]:
    """Load both networks.

    Args:
        person_model: Folder or Hub id of an object detector that knows persons.
        pose_model: Folder or Hub id of a ViTPose network of COCO's 17 joints.
        commits: Hub id to the commit to take; those that are missing: the newest.

    Raises:
        PrerequisiteError: Their weights cannot be had.
    """
    import torch
    from transformers import (
        AutoImageProcessor,
        AutoModelForObjectDetection,
        VitPoseForPoseEstimation,
        VitPoseImageProcessorPil,
    )

    find_processor, finder = _loaded(
        "person_model", person_model, commits, AutoImageProcessor, AutoModelForObjectDetection
    )
    read_processor, reader = _loaded(
        "pose_model", pose_model, commits, VitPoseImageProcessorPil, VitPoseForPoseEstimation
    )
    person = next((at for at, name in finder.config.id2label.items() if name == "person"), 0)

    def persons(picture: Image) -> list[list[float]]:
        """Left, top, width and height of each person."""
        seen = finder(**find_processor(images=picture, return_tensors="pt"))
        (found,) = find_processor.post_process_object_detection(
            seen, threshold=LEAST, target_sizes=[picture.size[::-1]]
        )
        boxes = found["boxes"][found["labels"] == person].tolist()
        return [[left, top, right - left, bottom - top] for left, top, right, bottom in boxes]

    def pose(picture: Image) -> Image:
        with torch.no_grad():
            boxes = persons(picture)
            if not boxes:
                return draw_poses([], picture.size)
            given = read_processor(picture, boxes=[boxes], return_tensors="pt")
            (bodies,) = read_processor.post_process_pose_estimation(
                reader(**given), boxes=[boxes], threshold=LEAST
            )
        joints = [
            {
                JOINTS[label]: (x, y)
                for label, (x, y) in zip(
                    body["labels"].tolist(), body["keypoints"].tolist(), strict=True
                )
            }
            for body in bodies
        ]
        return draw_poses(joints, picture.size)

    return pose


def _loaded(
    option: str, name: str, commits: Mapping[str, str], processor: Any, network: Any
) -> tuple[Any, Any]:
    commit = commits.get(name)
    try:
        return (
            processor.from_pretrained(name, revision=commit),
            network.from_pretrained(name, revision=commit, use_safetensors=True).eval(),
        )
    except (OSError, ValueError) as error:
        raise PrerequisiteError(
            f"pipeline.preprocessor=pose: {name!r} cannot be loaded; run `hf download {name}` "
            f"where there is a network, or set provider.options.{option} to a folder"
        ) from error

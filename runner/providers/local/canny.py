"""Edges of a picture, in numpy and Pillow alone: Canny's thin lines, and soft ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    import numpy.typing as npt

    Number = TypeVar("Number", bound=np.generic)

LOW, HIGH = 100.0, 200.0
"""Thresholds that suit photographs and drawings alike; in grey levels, as OpenCV counts them."""


def canny(
    image: Image.Image, low: float = LOW, high: float = HIGH, sigma: float = 0.7
) -> Image.Image:
    """White lines, one pixel wide, on black.

    Every color channel is looked at, and the steepest one counts at each pixel: red beside green
    of the same brightness is an edge too.

    Args:
        image: Any picture.
        low: Weakest slope that may continue a line.
        high: Slope that starts a line.
        sigma: Radius in pixels of the blur that comes first; noise wants more, small pictures less.

    Returns:
        A grey picture of the same size, of 0 and 255.
    """
    across, down, strength = _steepest(image, sigma)
    ridge = np.where(_is_ridge(strength, across, down), strength, 0.0)
    edges = _connected(ridge >= high, ridge >= low)
    return Image.fromarray(edges.astype(np.uint8) * 255)


def soft_edges(image: Image.Image, sigma: float = 1.0) -> Image.Image:
    """How steep the picture is at each pixel, the steepest white: wide grey lines.

    Made for ControlNets that were trained on soft edges; it is no network like HED and tells the
    outline of a thing from its texture no better than its steepness does.
    """
    strength = _steepest(image, sigma)[2]
    shown = np.sqrt(strength / max(float(strength.max()), 1.0))
    return Image.fromarray((shown * 255).astype(np.uint8))


def _steepest(
    image: Image.Image, sigma: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Slopes to the right and downwards, and their length, of the steepest channel per pixel."""
    soft = image.convert("RGB").filter(ImageFilter.GaussianBlur(sigma))
    across, down = _slopes(np.asarray(soft, dtype=np.float32))
    strength = np.hypot(across, down)
    channel = strength.argmax(axis=2)[..., None]
    first, second, third = (
        np.take_along_axis(values, channel, axis=2)[..., 0] for values in (across, down, strength)
    )
    return first, second, third


def _slopes(
    levels: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Sobel's slopes to the right and downwards; the border continues outwards."""
    padded = np.pad(levels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    columns = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2]


def _is_ridge(
    strength: npt.NDArray[np.float32],
    across: npt.NDArray[np.float32],
    down: npt.NDArray[np.float32],
) -> npt.NDArray[np.bool_]:
    """Where no neighbor along the slope is steeper; of two equals the first counts."""
    eighth = np.rint(np.arctan2(down, across) / (np.pi / 4)).astype(np.int8) % 4
    ridge = np.zeros(strength.shape, dtype=bool)
    for direction, (x, y) in enumerate(((1, 0), (1, 1), (0, 1), (-1, 1))):
        steepest = (strength > _moved(strength, -x, -y)) & (strength >= _moved(strength, x, y))
        ridge |= (eighth == direction) & steepest
    return ridge


def _connected(
    seeds: npt.NDArray[np.bool_], allowed: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """All that is allowed and hangs together with a seed."""
    found, front = seeds.copy(), seeds
    while front.any():
        near = np.zeros_like(found)
        for x in (-1, 0, 1):
            for y in (-1, 0, 1):
                near |= _moved(front, x, y)
        front = near & allowed & ~found
        found |= front
    return found


def _moved(values: npt.NDArray[Number], x: int, y: int) -> npt.NDArray[Number]:
    """What lies ``x`` to the right and ``y`` below; zero outside."""
    padded = np.pad(values, 1)
    height, width = values.shape
    return padded[1 + y : 1 + y + height, 1 + x : 1 + x + width]

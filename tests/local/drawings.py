"""Input pictures for tests, drawn as the built-in model was taught to see them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from runner.providers.local.builtin import scenes
from runner.providers.local.canny import canny

Pixels = np.ndarray[Any, Any]
SIDE = 64


@dataclass(frozen=True)
class Drawings:
    """Paths of input pictures.

    Attributes:
        image: A green star on yellow.
        other: A blue circle on white.
        mask: White = repaint: the right half.
        edges: Canny's edges of ``image``.
        wide: 128 x 64 pixels, left half red, right half blue.
    """

    image: str
    other: str
    mask: str
    edges: str
    wide: str


def scene(shape: str, color: str, background: str) -> Image.Image:
    """One large thing in the middle."""
    thing = scenes.Thing(shape, color, "large", "center", 0.5, 0.5, 0.7)
    return scenes.render(scenes.Scene((thing,), background), SIDE)


def draw(folder: Path) -> Drawings:
    """Draw the pictures into a folder."""
    star = scene("star", "green", "yellow")
    mask = Image.new("L", star.size)
    ImageDraw.Draw(mask).rectangle((SIDE // 2, 0, SIDE - 1, SIDE - 1), fill=255)
    wide = Image.new("RGB", (2 * SIDE, SIDE), "red")
    wide.paste("blue", (SIDE, 0, 2 * SIDE, SIDE))
    pictures = {
        "image": star,
        "other": scene("circle", "blue", "white"),
        "mask": mask,
        "edges": canny(star),
        "wide": wide,
    }
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png")
    return Drawings(**{name: str(folder / f"{name}.png") for name in pictures})


def pixels(picture: bytes | str) -> Pixels:
    """A picture as numbers, height x width x channels."""
    source = io.BytesIO(picture) if isinstance(picture, bytes) else picture
    return np.asarray(Image.open(source).convert("RGB")).astype(np.float32)


def distance(one: Pixels, other: Pixels) -> float:
    """Mean difference of the levels, 0 to 255."""
    return float(np.abs(one - other).mean())

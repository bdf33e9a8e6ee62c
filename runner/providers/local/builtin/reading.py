"""Read a picture of shapes back by geometry: which shapes, which colours, where, how large.

No network takes part: pixels are named by the nearest colour, connected pixels make a thing, and
its shape is the one whose drawing overlaps it best. True drawings are read almost without error.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runner.providers.local.builtin.scenes import (
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    Asked,
    Caption,
    Thing,
    coverage,
    outline,
)

Pixels = NDArray[np.float64]

_NAMES = tuple(COLOURS)
_PALETTE: Pixels = np.array([COLOURS[name] for name in _NAMES], dtype=np.float64)
_DIFFERENT = 45.0
"""Distance in RGB from which a pixel is not background; no two named colours are within 90."""

_SPECK = 0.003
"""Share of the canvas under which connected pixels are no thing."""

_OFF_CENTRE = 0.1


@dataclass(frozen=True, slots=True)
class Reading:
    """What is seen in a picture."""

    things: tuple[Thing, ...]
    background: str


def read(image: Image.Image) -> Reading:
    """Name what a square picture shows."""
    pixels: Pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    names = [_nearest(pixel) for pixel in border]
    background = Counter(names).most_common(1)[0][0]
    ground = np.median(border[[name == background for name in names]], axis=0)
    labels = _components(np.linalg.norm(pixels - ground, axis=-1) > _DIFFERENT)
    areas = Counter(labels[labels > 0].tolist())
    found = [label for label, area in areas.items() if area >= _SPECK * labels.size]
    things = tuple(_name(pixels, ground, labels, label) for label in found)
    return Reading(things, background)


def judge(caption: Caption, reading: Reading) -> dict[str, list[bool]]:
    """Compare a picture with what its caption says.

    Args:
        caption: What was asked for.
        reading: What is seen.

    Returns:
        For each attribute, one verdict per claim of the caption. A thing that is missing has all
        its attributes wrong; things are paired in the way that suits the picture best.
    """
    seen = [*reading.things, *[None] * max(0, len(caption.asked) - len(reading.things))]
    pairings = [
        [_compare(asked, thing) for asked, thing in zip(caption.asked, chosen, strict=True)]
        for chosen in itertools.permutations(seen, len(caption.asked))
    ]
    best = max(pairings, key=lambda pairing: sum(sum(verdict.values()) for verdict in pairing))
    verdicts: dict[str, list[bool]] = {"count": [len(reading.things) == len(caption.asked)]}
    if caption.background is not None:
        verdicts["background"] = [reading.background == caption.background]
    for verdict in best:
        for attribute, right in verdict.items():
            verdicts.setdefault(attribute, []).append(right)
    return verdicts


def place_of(x: float, y: float) -> str:
    """Name the place of a point given in fractions of the canvas."""
    cell = tuple((value > _OFF_CENTRE) - (value < -_OFF_CENTRE) for value in (x - 0.5, y - 0.5))
    return next(name for name, place in PLACES.items() if place == cell)


def _compare(asked: Asked, thing: Thing | None) -> dict[str, bool]:
    return {
        attribute: thing is not None and getattr(thing, attribute) == getattr(asked, attribute)
        for attribute in ("shape", "colour", "size", "place")
        if getattr(asked, attribute) is not None
    }


def _nearest(pixel: Pixels) -> str:
    return _NAMES[int(np.linalg.norm(_PALETTE - pixel, axis=-1).argmin())]


def _components(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number the groups of touching pixels from 1."""
    labels = np.zeros(mask.shape, dtype=np.int64)
    height, width = mask.shape
    for number, start in enumerate(zip(*np.nonzero(mask), strict=True), 1):
        stack = [start]
        while stack:
            row, column = stack.pop()
            if mask[row, column] and not labels[row, column]:
                labels[row, column] = number
                stack += [
                    (r, c)
                    for r in range(max(0, row - 1), min(height, row + 2))
                    for c in range(max(0, column - 1), min(width, column + 2))
                ]
    return labels


def _name(pixels: Pixels, ground: Pixels, labels: NDArray[np.int64], label: int) -> Thing:
    own = labels == label
    distances = np.linalg.norm(pixels[own] - ground, axis=-1)
    pure = pixels[own][distances >= 0.85 * np.percentile(distances, 90)]
    colour = np.median(pure, axis=0)
    towards = (colour - ground) / np.square(colour - ground).sum()
    covered = np.clip((pixels - ground) @ towards, 0, 1) * (own | (labels == 0))
    thing = max(
        (fit for shape in SHAPES for fit in _fits(shape, covered > 0.5, own)),
        key=lambda fit: _overlap(covered, fit),
    )
    size = min(SIZES, key=lambda name: abs(math.log(SIZES[name] / thing.diameter)))
    place = place_of(thing.x, thing.y)
    return Thing(thing.shape, _nearest(colour), size, place, thing.x, thing.y, thing.diameter)


def _fits(shape: str, solid: NDArray[np.bool_], own: NDArray[np.bool_]) -> list[Thing]:
    """Drawings of a shape with about the extent of the pixels."""
    inside = solid & own if (solid & own).any() else own
    side = inside.shape[0]
    rows, columns = np.nonzero(inside)
    points = np.array(outline(shape))
    low, high = points.min(axis=0), points.max(axis=0)
    first = np.array([columns.min(), rows.min()]) / side
    last = np.array([columns.max() + 1, rows.max() + 1]) / side
    diameter = float(np.mean((last - first) / (high - low))) * 2
    x, y = (first + last) / 2 - (low + high) / 2 * diameter / 2
    return [
        Thing(shape, "", "", "", float(x), float(y), diameter * stretch)
        for stretch in (0.95, 1.0, 1.05)
    ]


def _overlap(covered: Pixels, thing: Thing) -> float:
    drawn = np.asarray(coverage(thing, covered.shape[0]), dtype=np.float64) / 255
    return float(np.minimum(covered, drawn).sum() / np.maximum(covered, drawn).sum())

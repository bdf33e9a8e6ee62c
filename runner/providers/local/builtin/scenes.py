"""Scenes of one or two shapes: how they are drawn and how they are put into words.

A scene is sampled first; its caption is sampled from it. What a caption leaves out is mostly the
ordinary case (medium size, centre), so the trained model fills silence with something sensible.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 32, 38),
    "orange": (255, 138, 0),
    "yellow": (252, 222, 40),
    "green": (28, 158, 62),
    "cyan": (50, 205, 215),
    "blue": (35, 72, 220),
    "purple": (132, 40, 170),
    "pink": (252, 140, 190),
    "brown": (118, 68, 30),
    "black": (14, 14, 16),
    "gray": (128, 130, 134),
    "white": (250, 250, 250),
}

COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson", "scarlet"),
    "orange": ("orange", "tangerine"),
    "yellow": ("yellow", "golden", "lemon"),
    "green": ("green", "emerald"),
    "cyan": ("cyan", "turquoise", "teal"),
    "blue": ("blue", "azure"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rosy"),
    "brown": ("brown", "chocolate"),
    "black": ("black", "ebony"),
    "gray": ("gray", "grey"),
    "white": ("white", "ivory"),
}

SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc", "disk", "ball", "dot"),
    "square": ("square", "box"),
    "triangle": ("triangle", "pyramid"),
    "star": ("star",),
    "heart": ("heart",),
    "diamond": ("diamond", "rhombus"),
    "cross": ("cross", "plus"),
    "ring": ("ring", "donut", "hoop"),
}

SHAPES = tuple(SHAPE_WORDS)

SIZES: dict[str, float] = {"small": 0.27, "medium": 0.40, "large": 0.60}
"""Diameter of the circle around a shape, as a fraction of the canvas."""

SIZE_WORDS: dict[str, tuple[str, ...]] = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium", "medium-sized"),
    "large": ("large", "big", "huge"),
}

PLACES: dict[str, tuple[int, int]] = {
    "top left": (-1, -1),
    "top": (0, -1),
    "top right": (1, -1),
    "left": (-1, 0),
    "center": (0, 0),
    "right": (1, 0),
    "bottom left": (-1, 1),
    "bottom": (0, 1),
    "bottom right": (1, 1),
}

_EDGE_PHRASES = ("on the {0}", "at the {0}", "on the {0} side", "{0}", "to the {0}")
_VERTICAL_WORDS = {"top": ("top", "upper"), "bottom": ("bottom", "lower")}
_CENTER_PHRASES = ("in the center", "in the middle", "in the centre", "centered", "center")
_CORNER_PHRASES = (
    "in the {0} {1} corner",
    "in the {0} {1}",
    "at the {0} {1}",
    "on the {0} {1}",
    "{0} {1}",
    "{0}-{1}",
)
_BACKGROUND_AFTER = (
    "on a {0} background",
    "on a {0} background",
    "on a {0} background",
    "against a {0} backdrop",
    "against a {0} background",
    "with a {0} background",
    "over a {0} background",
    "on {0}",
    "background: {0}",
    ", {0} background",
    ", the background is {0}",
)
_BACKGROUND_BEFORE = (
    "on a {0} background",
    "{0} background with",
    "a {0} background and",
    "background: {0};",
    "{0} backdrop,",
)
_OPENINGS = ("a picture of", "a drawing of", "an image of", "there is", "draw", "a photo of")
_ANY_SHAPE = ("shape", "thing", "object", "figure", "form")
_RELATIONS: dict[tuple[str, str], tuple[str, ...]] = {
    ("left", "right"): ("to the left of", "left of"),
    ("right", "left"): ("to the right of", "right of"),
    ("top", "bottom"): ("above", "over"),
    ("bottom", "top"): ("below", "under", "beneath"),
}
_JOINTS = ("and", "and", "and", ",", "with", "next to", "beside")

_PLACE_OFFSET = 0.265
_MARGIN = 0.03
_GAP = 0.045
_OVERSAMPLING = 4
_HOLD_OUT_ONE_IN = 10


@dataclass(frozen=True, slots=True)
class Thing:
    """One drawn shape: its names, and where it is in fractions of the canvas."""

    shape: str
    colour: str
    size: str
    place: str
    x: float
    y: float
    diameter: float


@dataclass(frozen=True, slots=True)
class Scene:
    """One or two shapes on a plain background."""

    things: tuple[Thing, ...]
    background: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caption says about one shape; ``None`` where it is silent."""

    shape: str | None
    colour: str | None
    size: str | None
    place: str | None


@dataclass(frozen=True, slots=True)
class Caption:
    """A text with the claims that it makes, in the order of the scene's things."""

    text: str
    asked: tuple[Asked, ...]
    background: str | None


def outline(shape: str) -> list[tuple[float, float]]:
    """Corners of a shape inside the square from -1 to 1, y pointing down."""
    match shape:
        case "circle" | "ring":
            return _round(0.93)
        case "square":
            return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
        case "triangle":
            return [(0.0, -0.92), (0.98, 0.8), (-0.98, 0.8)]
        case "star":
            spikes = [(1.04 if i % 2 == 0 else 0.44, math.pi * i / 5) for i in range(10)]
            return [(r * math.sin(a), 0.06 - r * math.cos(a)) for r, a in spikes]
        case "heart":
            return [_heart(2 * math.pi * i / 48) for i in range(48)]
        case "diamond":
            return [(0.0, -1.0), (0.72, 0.0), (0.0, 1.0), (-0.72, 0.0)]
        case "cross":
            w, e = 0.32, 0.95
            return [
                *((-w, -e), (w, -e), (w, -w), (e, -w), (e, w), (w, w)),
                *((w, e), (-w, e), (-w, w), (-e, w), (-e, -w), (-w, -w)),
            ]
    raise ValueError(f"unknown shape {shape!r}: one of {', '.join(SHAPES)}")


def coverage(thing: Thing, pixels: int) -> Image.Image:
    """How much of every pixel a shape covers, as an 8-bit grey image."""
    fine = pixels * _OVERSAMPLING
    mask = Image.new("L", (fine, fine))
    pen = ImageDraw.Draw(mask)

    def scaled(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        r = thing.diameter / 2
        return [((thing.x + r * px) * fine, (thing.y + r * py) * fine) for px, py in points]

    pen.polygon(scaled(outline(thing.shape)), fill=255)
    if thing.shape == "ring":
        pen.polygon(scaled(_round(0.5)), fill=0)
    return mask.reduce(_OVERSAMPLING)


def render(scene: Scene, pixels: int = 64) -> Image.Image:
    """Draw a scene, with smooth edges."""
    image = Image.new("RGB", (pixels, pixels), COLOURS[scene.background])
    for thing in scene.things:
        image.paste(COLOURS[thing.colour], mask=coverage(thing, pixels))
    return image


def held_out(scene: Scene) -> bool:
    """Whether a scene belongs to the tenth of all combinations that training never draws."""
    return any(_is_held(t.shape, t.colour, scene.background) for t in scene.things)


def sample_scene(rng: random.Random, *, count: int | None = None, held: bool = False) -> Scene:
    """Sample a scene.

    Args:
        rng: Source of all choices.
        count: Number of things, 1 or 2; sampled when ``None``.
        held: Sample from the held-out combinations instead of those used in training.

    Returns:
        A scene for which ``held_out`` is ``held``.
    """
    number = count or rng.choices((1, 2), (50, 50))[0]
    while True:
        names = rng.sample(tuple(COLOURS), number + 1)
        things = _one(rng, names[1]) if number == 1 else _two(rng, names[1], names[2])
        scene = Scene(things, names[0])
        if held_out(scene) == held and _are_apart(things):
            return scene


def describe(scene: Scene, rng: random.Random, *, where: bool = True) -> Caption:
    """Put a scene into words, leaving some of them out; without ``where``, sizes and places too."""
    asked = tuple(_choose(thing, rng) for thing in scene.things)
    if not where:
        asked = tuple(replace(one, size=None, place=None) for one in asked)
    background = scene.background if rng.random() < 0.88 else None
    if len(asked) == 1:
        text = _with_place(asked[0], rng)
    else:
        text, asked = _join(asked, rng)
    if rng.random() < 0.12:
        text = f"{rng.choice(_OPENINGS)} {text}"
    if background is not None:
        word = rng.choice(_weighted(COLOUR_WORDS[background]))
        if rng.random() < 0.8:
            text = f"{text} {rng.choice(_BACKGROUND_AFTER).format(word)}".replace(" ,", ",")
        else:
            text = f"{rng.choice(_BACKGROUND_BEFORE).format(word)} {text}"
    return Caption(text, asked, background)


def blur(text: str, rng: random.Random, unknown: str) -> str:
    """Insert a few unknown words, so that the model learns that they carry no meaning."""
    words = text.split()
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        words.insert(rng.randint(0, len(words)), unknown)
    return " ".join(words)


def vocabulary() -> list[str]:
    """All words that captions are made of, sorted."""
    texts: list[str] = []
    for table in (COLOUR_WORDS, SHAPE_WORDS, SIZE_WORDS, _VERTICAL_WORDS):
        texts += [word for words in table.values() for word in words]
    for phrases in (_EDGE_PHRASES, _CENTER_PHRASES, _CORNER_PHRASES, _JOINTS, _ANY_SHAPE):
        texts += phrases
    texts += [*_BACKGROUND_AFTER, *_BACKGROUND_BEFORE, *_OPENINGS, *PLACES, "that is"]
    texts += [phrase for phrases in _RELATIONS.values() for phrase in phrases]
    letters = "".join(c if c.isalpha() else " " for c in " ".join(texts))
    return sorted(set(letters.split()))


def _round(radius: float) -> list[tuple[float, float]]:
    angles = [2 * math.pi * i / 64 for i in range(64)]
    return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]


def _heart(t: float) -> tuple[float, float]:
    y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
    return 0.95 * math.sin(t) ** 3, -(y + 2.5) / 15.5


def _is_held(shape: str, colour: str, background: str) -> bool:
    digest = hashlib.sha256(f"{shape} {colour} {background}".encode()).digest()
    return digest[0] % _HOLD_OUT_ONE_IN == 0


def _put(rng: random.Random, shape: str, colour: str, size: str, place: str) -> Thing:
    diameter = SIZES[size] * rng.uniform(0.95, 1.05)
    low = diameter / 2 + _MARGIN
    x, y = (
        min(max(0.5 + _PLACE_OFFSET * cell + rng.uniform(-0.02, 0.02), low), 1 - low)
        for cell in PLACES[place]
    )
    return Thing(shape, colour, size, place, x, y, diameter)


def _one(rng: random.Random, colour: str) -> tuple[Thing, ...]:
    place = "center" if rng.random() < 0.3 else rng.choice(tuple(PLACES))
    size = rng.choices(("small", "medium", "large"), (30, 40, 30))[0]
    return (_put(rng, rng.choice(SHAPES), colour, size, place),)


def _two(rng: random.Random, first: str, second: str) -> tuple[Thing, ...]:
    places = rng.choice(tuple(_RELATIONS)) if rng.random() < 0.6 else rng.sample(tuple(PLACES), 2)
    sizes = rng.choices(("small", "medium", "large"), (30, 50, 20), k=2)
    return tuple(
        _put(rng, rng.choice(SHAPES), colour, size, place)
        for colour, size, place in zip((first, second), sizes, places, strict=True)
    )


def _are_apart(things: tuple[Thing, ...]) -> bool:
    if len(things) < 2:
        return True
    a, b = things
    return math.hypot(a.x - b.x, a.y - b.y) >= (a.diameter + b.diameter) / 2 + _GAP


def _choose(thing: Thing, rng: random.Random) -> Asked:
    ordinary = thing.place == "center"
    return Asked(
        shape=thing.shape if rng.random() < 0.96 else None,
        colour=thing.colour if rng.random() < 0.94 else None,
        size=thing.size if rng.random() < (0.15 if thing.size == "medium" else 0.97) else None,
        place=thing.place if rng.random() < (0.4 if ordinary else 0.97) else None,
    )


def _weighted(words: tuple[str, ...]) -> tuple[str, ...]:
    """The plain word half of the time, synonyms otherwise."""
    return (words[0],) * max(1, len(words) - 1) + words[1:]


def _noun(asked: Asked, rng: random.Random) -> str:
    noun = rng.choice(_weighted(SHAPE_WORDS[asked.shape]) if asked.shape else _ANY_SHAPE)
    adjectives = [
        rng.choice(_weighted(table[name]))
        for table, name in ((SIZE_WORDS, asked.size), (COLOUR_WORDS, asked.colour))
        if name is not None
    ]
    if rng.random() < 0.2:
        adjectives.reverse()
    style = rng.random()
    if adjectives and style < 0.05:
        return f"{noun}, {', '.join(adjectives)}"
    if adjectives and style < 0.1:
        return f"a {' '.join([*adjectives[:-1], noun])} that is {adjectives[-1]}"
    return " ".join([*(["a"] if style < 0.85 else []), *adjectives, noun])


def _where(place: str, rng: random.Random) -> str:
    if place == "center":
        return rng.choice(_CENTER_PHRASES)
    words = place.split()
    if words[0] in _VERTICAL_WORDS and len(words) == 2:
        words[0] = rng.choice(_weighted(_VERTICAL_WORDS[words[0]]))
    return rng.choice(_EDGE_PHRASES if len(words) == 1 else _CORNER_PHRASES).format(*words)


def _with_place(asked: Asked, rng: random.Random) -> str:
    noun = _noun(asked, rng)
    if asked.place is None:
        return noun
    where = _where(asked.place, rng)
    return f"{where}: {noun}" if rng.random() < 0.15 else f"{noun} {where}"


def _join(asked: tuple[Asked, ...], rng: random.Random) -> tuple[str, tuple[Asked, ...]]:
    """Two things: each with its place, in relation to each other, or without any place."""
    one, two = asked
    relation = _RELATIONS.get((one.place or "", two.place or ""))
    style = rng.random()
    if relation and style < 0.35:
        return f"{_noun(one, rng)} {rng.choice(relation)} {_noun(two, rng)}", asked
    joint = rng.choice(_JOINTS)
    if relation and style < 0.5:
        silent = replace(one, place=None), replace(two, place=None)
        return f"{_noun(one, rng)} {joint} {_noun(two, rng)}".replace(" ,", ","), silent
    joint = rng.choice(("and", "and", ",", "with"))
    return f"{_with_place(one, rng)} {joint} {_with_place(two, rng)}".replace(" ,", ","), asked

"""Scenes, captions and the geometry that reads pictures back."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys

import pytest
from PIL import Image

from runner.providers.local.builtin import scenes
from runner.providers.local.builtin.reading import judge, place_of, read
from runner.providers.local.builtin.scenes import Asked, Caption, Scene, Thing


def thing(shape: str = "circle", colour: str = "red", **changes: object) -> Thing:
    values: dict[str, object] = {"size": "medium", "place": "center", "x": 0.5, "y": 0.5}
    values |= {"diameter": scenes.SIZES["medium"], **changes}
    return Thing(shape, colour, **values)  # type: ignore[arg-type]


def sampled(number: int, **options: object) -> list[Scene]:
    rng = random.Random(11)
    return [scenes.sample_scene(rng, **options) for _ in range(number)]  # type: ignore[arg-type]


def test_importing_the_package_does_not_import_torch() -> None:
    code = (
        "import sys, runner.providers.local.builtin.scenes, runner.providers.local.builtin.reading;"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_and_held_out_scenes_share_no_combination() -> None:
    def combinations(held: bool) -> set[tuple[str, str, str]]:
        drawn = sampled(400, count=1, held=held)
        return {(t.shape, t.colour, s.background) for s in drawn for t in s.things}

    assert combinations(held=True).isdisjoint(combinations(held=False))


def test_no_training_scene_contains_a_held_out_thing() -> None:
    for scene in sampled(200, count=2):
        for single in scene.things:
            assert not scenes.held_out(Scene((single,), scene.background))


def test_held_out_share_is_about_a_tenth() -> None:
    names = itertools.product(scenes.SHAPES, scenes.COLOURS, scenes.COLOURS)
    held = [scenes.held_out(Scene((thing(s, c),), b)) for s, c, b in names if c != b]
    assert 0.06 < sum(held) / len(held) < 0.14


def test_sampling_repeats_with_the_same_seed() -> None:
    assert sampled(20) == sampled(20)


def test_things_stay_on_the_canvas_and_apart() -> None:
    for scene in sampled(300):
        for one in scene.things:
            assert one.diameter / 2 <= one.x <= 1 - one.diameter / 2
            assert one.diameter / 2 <= one.y <= 1 - one.diameter / 2
            assert place_of(one.x, one.y) == one.place
        assert len({scene.background, *(one.colour for one in scene.things)}) == 1 + len(
            scene.things
        )


def test_captions_claim_only_what_the_scene_shows() -> None:
    rng = random.Random(3)
    for scene in sampled(300):
        caption = scenes.describe(scene, rng)
        assert caption.background in (None, scene.background)
        for asked, one in zip(caption.asked, scene.things, strict=True):
            assert asked.shape in (None, one.shape)
            assert asked.colour in (None, one.colour)
            assert asked.size in (None, one.size)
            assert asked.place in (None, one.place)


def test_captions_name_what_they_claim() -> None:
    rng = random.Random(4)
    for scene in sampled(300):
        caption = scenes.describe(scene, rng)
        words = set(caption.text.replace("-", " ").replace(",", " ").replace(":", " ").split())
        for asked in caption.asked:
            for name, table in (
                (asked.shape, scenes.SHAPE_WORDS),
                (asked.colour, scenes.COLOUR_WORDS),
            ):
                assert name is None or words & set(table[name]), caption.text


def test_every_word_of_a_caption_is_in_the_vocabulary() -> None:
    rng = random.Random(5)
    known = set(scenes.vocabulary())
    for scene in sampled(300):
        text = scenes.describe(scene, rng).text
        assert set("".join(c if c.isalpha() else " " for c in text).split()) <= known


def test_blur_keeps_the_words_in_order() -> None:
    blurred = scenes.blur("a red circle", random.Random(0), "fox").split()
    assert [word for word in blurred if word != "fox"] == ["a", "red", "circle"]
    assert "fox" in blurred


def test_render_draws_colour_and_background() -> None:
    image = scenes.render(Scene((thing(),), "blue"), 64)
    assert image.size == (64, 64)
    assert image.getpixel((32, 32)) == scenes.COLOURS["red"]
    assert image.getpixel((0, 0)) == scenes.COLOURS["blue"]


def test_unknown_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown shape 'blob': one of circle"):
        scenes.outline("blob")


def test_named_colours_are_far_apart() -> None:
    for one, other in itertools.combinations(scenes.COLOURS.values(), 2):
        assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) > 90**2


@pytest.mark.parametrize("shape", scenes.SHAPES)
@pytest.mark.parametrize("size", scenes.SIZES)
def test_reading_names_a_drawn_shape(shape: str, size: str) -> None:
    drawn = thing(shape, "yellow", size=size, diameter=scenes.SIZES[size])
    reading = read(scenes.render(Scene((drawn,), "black")))
    (seen,) = reading.things
    assert (seen.shape, seen.colour, seen.size, seen.place) == (shape, "yellow", size, "center")
    assert reading.background == "black"


def test_reading_true_drawings_is_almost_always_right() -> None:
    rng = random.Random(6)
    verdicts = [
        verdict
        for scene in sampled(40)
        for claims in judge(scenes.describe(scene, rng), read(scenes.render(scene))).values()
        for verdict in claims
    ]
    assert sum(verdicts) / len(verdicts) > 0.98


def test_judge_counts_a_missing_thing_as_wrong_in_everything() -> None:
    asked = Asked("circle", "red", "medium", "center")
    caption = Caption("", (asked, Asked("star", "green", None, None)), "blue")
    verdicts = judge(caption, read(scenes.render(Scene((thing(),), "blue"))))
    assert verdicts == {
        "count": [False],
        "background": [True],
        "shape": [True, False],
        "colour": [True, False],
        "size": [True],
        "place": [True],
    }


def test_judge_sees_a_swap_of_colours() -> None:
    drawn = (
        thing("circle", "green", place="left", x=0.24, diameter=0.4),
        thing("square", "red", place="right", x=0.76, diameter=0.4),
    )
    asked = Asked("circle", "red", None, "left"), Asked("square", "green", None, "right")
    verdicts = judge(Caption("", asked, None), read(scenes.render(Scene(drawn, "white"))))
    assert verdicts["shape"] == [True, True]
    assert verdicts["colour"] == [False, False]


def test_reading_an_empty_picture_finds_nothing() -> None:
    reading = read(Image.new("RGB", (64, 64), scenes.COLOURS["purple"]))
    assert reading.things == ()
    assert reading.background == "purple"

"""Values of an axis, from YAML, from Hydra's grammar and from overrides."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from runner.plan.grammar import (
    FloatRange,
    axes_from,
    axis_values,
    from_override,
    values_from_json,
    values_to_json,
)
from runner.settings.errors import RequestError
from tests.conftest import REPOSITORY


def override(text: str) -> tuple[str, list[object]]:
    key, values = from_override(OverridesParser.create().parse_override(text))
    return key, list(values)


@pytest.mark.parametrize(
    ("key", "data", "values"),
    [
        ("seed", [3, 1, 2], [3, 1, 2]),
        ("seed", 7, [7]),
        ("seed", "7", [7]),
        ("seed", None, [None]),
        ("seed", "range(0,4)", [0, 1, 2, 3]),
        ("seed", "range(4)", [0, 1, 2, 3]),
        ("seed", "range(10,0,-4)", [10, 6, 2]),
        ("seed", "sort(3,1,2)", [1, 2, 3]),
        ("seed", "sort(choice(3,1,2),reverse=true)", [3, 2, 1]),
        ("seed", "int(choice(1.0,2.0))", [1, 2]),
        ("seed", "float(range(0,3))", [0, 1, 2]),
        ("guidance_scale", "range(0,1,0.25)", [0.0, 0.25, 0.5, 0.75]),
        ("guidance_scale", [5, "7.5"], [5.0, 7.5]),
        ("pipeline.strength", "choice(0.3,0.6)", [0.3, 0.6]),
        ("strength", 0.5, [0.5]),
        ("size", [512, "640x480", "16:9"], ["512x512", "640x480", "16:9"]),
        ("size", "range(256,769,256)", ["256x256", "512x512", "768x768"]),
        ("quality", "choice(low,'high, hd')", ["low", "high, hd"]),
        # A text is one value unless it is a whole call of the grammar.
        ("prompt", "a fox, in the snow", ["a fox, in the snow"]),
        ("prompt", "choice(s) of the people", ["choice(s) of the people"]),
        ("prompt", "range of hills (at dawn)", ["range of hills (at dawn)"]),
        ("prompt", "it's 100% {braces}", ["it's 100% {braces}"]),
        ("prompt", ["range(0,3)"], ["range(0,3)"]),
    ],
)
def test_values(key: str, data: object, values: list[object]) -> None:
    found = list(axis_values(key, data))
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_ranges_stay_lazy() -> None:
    assert axis_values("seed", "range(0,1000000000)") == range(1_000_000_000)
    floats = axis_values("guidance_scale", "range(0,1000,0.000001)")
    assert isinstance(floats, FloatRange)
    assert len(floats) == 1_000_000_000
    assert floats[123_456_789] == 123.456789


def test_floats_do_not_drift() -> None:
    tenths = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert list(axis_values("guidance_scale", "range(0,1,0.1)")) == tenths
    down = list(axis_values("guidance_scale", "range(1,0,-0.1)"))
    assert down == [1.0, *reversed(tenths[1:])]
    assert list(axis_values("guidance_scale", "range(1,4)")) == [1.0, 2.0, 3.0]


@given(
    st.integers(-10_000, 10_000), st.integers(-10_000, 10_000), st.sampled_from([1, 3, 25, -7, -50])
)
def test_float_range_is_the_range_of_hundredths(start: int, stop: int, step: int) -> None:
    from decimal import Decimal

    made = FloatRange(Decimal(start) / 100, Decimal(stop) / 100, Decimal(step) / 100)
    assert list(made) == [hundredth / 100 for hundredth in range(start, stop, step)]


def test_shuffle_is_an_order_of_its_own_but_always_the_same() -> None:
    once = list(axis_values("seed", "shuffle(range(0,50))"))
    assert sorted(once) == list(range(50))
    assert once != list(range(50))
    assert once == list(axis_values("seed", "shuffle(range(0,50))"))
    assert list(axis_values("seed", "shuffle(range(0,5))")) == [0, 2, 1, 4, 3]
    code = (
        "from runner.plan.grammar import axis_values;"
        "print(list(axis_values('seed', 'shuffle(range(0,50))')))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "17"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert child.stdout.strip() == str(once)


@pytest.mark.parametrize(
    ("key", "data", "parts"),
    [
        ("seed", -1, ["sweep.axes.seed", "-1", "greater than or equal to 0"]),
        ("seed", 2**63, ["sweep.axes.seed", str(2**63)]),
        ("seed", "range(-5,5)", ["-5", "greater than or equal to 0"]),
        ("seed", [1, 2.5], ["2.5", "integer"]),
        ("seed", True, ["True", "whole number"]),
        ("seed", "fox", ["'fox'", "integer"]),
        ("seed", [[1, 2]], ["[1, 2]"]),
        ("seed", {"a": 1}, ["list of values"]),
        ("seed", [], ["no value"]),
        ("seed", "range(3,3)", ["no value"]),
        ("seed", "range(0,8,0)", ["step is not 0"]),
        ("seed", f"range(0,{10**30})", ["too long"]),
        ("seed", "interval(0,1)", ["interval()", "range(0,1,STEP)"]),
        ("seed", "glob(*)", ["glob()"]),
        ("seed", "shuffle([7])", ["[7]", "without brackets"]),
        ("seed", "choice([1],2)", ["[1]"]),
        ("seed", "shuffle(range(0,1000001))", ["1000001", "at most 1000000"]),
        ("seed", "range(0,x)", ["cannot read", "range(0,x)"]),
        ("prompt", "choice(s) of (people)", ["list of one"]),
        ("prompt", [1984], ["1984", "quotes"]),
        ("prompt", ["a\0b"], ["NUL"]),
        ("prompt", ["\ud83d"], ["U+D83D"]),
        ("guidance_scale", float("nan"), ["finite"]),
        ("control_scale", float("inf"), ["finite"]),
        ("strength", 1.5, ["1.5", "less than or equal to 1"]),
        ("steps", 0, ["0", "greater than or equal to 1"]),
        ("sede", 1, ["'sede'", "did you mean 'seed'?"]),
        ("pipeline.seed", 1, ["'pipeline.seed'"]),
        ("n", [1, 2], ["n is not an axis", "seed"]),
        ("provider", ["a"], ["'provider'", "-m"]),
    ],
)
def test_wrong_values_are_named(key: str, data: object, parts: list[str]) -> None:
    with pytest.raises(RequestError) as caught:
        axis_values(key, data)
    assert caught.value.exit_code == 2
    for part in parts:
        assert part in str(caught.value)


def test_all_wrong_axes_are_told_at_once() -> None:
    with pytest.raises(RequestError) as caught:
        axes_from({"seed": -1, "steps": "x", "size": ["1x1"], "sedes": 1})
    assert len(caught.value.problems) == 3
    with pytest.raises(RequestError, match="twice"):
        axes_from({"strength": 0.1, "pipeline.strength": 0.2})


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("seed=1,2,3", "seed", [1, 2, 3]),
        ("seed=range(0,3)", "seed", [0, 1, 2]),
        ("seed=5", "seed", [5]),
        ("+seed=null,4", "seed", [None, 4]),
        ("prompt='a fox, red',\"a cat\"", "prompt", ["a fox, red", "a cat"]),
        ("prompt=a fox,a cat", "prompt", ["a fox", "a cat"]),
        ("guidance_scale=range(0,0.3,0.1)", "guidance_scale", [0.0, 0.1, 0.2]),
        ("pipeline.strength=0.2,0.4", "strength", [0.2, 0.4]),
        ("size=512,1024x768", "size", ["512x512", "1024x768"]),
    ],
)
def test_overrides(text: str, key: str, values: list[object]) -> None:
    assert override(text) == (key, values)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("seed=[1,2],[3]", "[1, 2]"),
        ("seed=interval(0,5)", "interval()"),
        ("seed=-1,2", "seed=-1,2"),
        ("seed=-1,2", "seed cannot be -1"),
        ("prompt={a:1},b", "{'a': 1}"),
    ],
)
def test_wrong_overrides(text: str, part: str) -> None:
    with pytest.raises(RequestError) as caught:
        override(text)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    "data", ["range(3,90,7)", "range(0,1,0.1)", [1, 2.5, None], "shuffle(range(0,9))"]
)
def test_values_survive_json(data: object) -> None:
    values = axis_values("guidance_scale" if "0.1" in str(data) else "control_scale", data)
    again = values_from_json(values_to_json(values))
    assert again == values
    assert type(again) is type(values)

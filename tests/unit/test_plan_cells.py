"""Cells of a plan, against a plain expansion of the same spec."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.plan import PromptFile
from runner.settings.cell import cell_id, digest
from runner.settings.errors import RequestError
from runner.settings.schema import PromptStyle
from tests.unit.plan_stub import API, plan_of, variant

Spec = dict[str, Any]

VALUES: dict[str, list[Any]] = {
    "seed": [0, 1, 2, 3, 4],
    "steps": [1, 20, 30],
    "guidance_scale": [0.0, 5.0, 7.5, 8.25],
    "size": ["64x64", "64x128", "2K"],
}


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """A random small sweep."""
    axes: dict[str, Any] = {}
    for key in draw(st.permutations(list(VALUES))):
        if draw(st.booleans()):
            axes[key] = draw(
                st.lists(st.sampled_from(VALUES[key]), min_size=1, max_size=4, unique=True)
            )
    if "seed" in axes and draw(st.booleans()):
        axes["seed"] = f"range({axes['seed'][0]},{axes['seed'][0] + 4})"
    groups: list[list[str]] = []
    pairs = [pair for pair in itertools.combinations(axes, 2) if _size(axes, *pair)]
    if pairs and draw(st.booleans()):
        groups = [list(draw(st.sampled_from(pairs)))]
    point = st.fixed_dictionaries(
        {}, optional={key: st.sampled_from(values) for key, values in VALUES.items()}
    )
    either = {
        key: st.one_of(st.sampled_from(values), st.lists(st.sampled_from(values), min_size=1))
        for key, values in VALUES.items()
    }
    either["who"] = st.sampled_from(["x", "y"])
    rule = st.fixed_dictionaries({}, optional=either).filter(bool)
    return {
        "axes": axes,
        "zip": groups,
        "cells": draw(st.lists(point, max_size=3)),
        "exclude": draw(st.lists(rule, max_size=3)),
        "n": draw(st.lists(st.integers(1, 3), min_size=2, max_size=2)),
    }


def _values(data: Any) -> list[Any]:
    return list(range(*map(int, data[6:-1].split(",")))) if isinstance(data, str) else data


def _size(axes: Mapping[str, Any], first: str, second: str) -> bool:
    return len(_values(axes[first])) == len(_values(axes[second]))


def expanded(spec: Spec, label: str, base: Mapping[str, Any]) -> list[dict[str, Any] | None]:
    """Every point by the plainest means; ``None`` where a rule leaves it out."""
    axes = {key: _values(data) for key, data in spec["axes"].items()}
    columns: list[list[dict[str, Any]]] = []
    for key, values in axes.items():
        group = next((names for names in spec["zip"] if key in names), [key])
        first = min(group, key=list(axes).index)
        if key == first:
            columns.append([{name: axes[name][i] for name in group} for i in range(len(values))])
    points: list[dict[str, Any]] = []
    if axes or not spec["cells"]:
        for parts in itertools.product(*columns):
            points.append({key: value for part in parts for key, value in part.items()})
    points += spec["cells"]

    def left_out(point: Mapping[str, Any]) -> bool:
        values = {"who": label, **base, **point}
        return any(
            all(
                values.get(key) in (wanted if isinstance(wanted, list) else [wanted])
                for key, wanted in rule.items()
            )
            for rule in spec["exclude"]
        )

    return [None if left_out(point) else {**base, **point} for point in points]


@settings(max_examples=200, deadline=None)
@given(specs())
def test_a_plan_is_its_plain_expansion(spec: Spec) -> None:
    base = {"prompt": "a fox", "seed": 4, "steps": 20}
    variants = [
        variant(0, {"who": "x"}, n=spec["n"][0], **base),
        variant(1, {"who": "y"}, n=spec["n"][1], **base),
    ]
    wanted: list[tuple[int, int, int, dict[str, Any]]] = []
    index = 0
    for number, label in enumerate("xy"):
        for point in expanded(spec, label, base):
            for image in range(spec["n"][number]):
                if point is not None:
                    wanted.append((index, number, image, point))
                index += 1
    arguments = {key: spec[key] for key in ("axes", "zip", "cells", "exclude")}
    if not wanted:
        with pytest.raises(RequestError, match="leaves nothing"):
            plan_of(variants=variants, **arguments)
        return
    plan = plan_of(variants=variants, **arguments)
    cells = list(plan.cells())
    assert len(plan) == index
    assert plan.count() == len(cells) == len(wanted)
    identity = digest({"provider": "stub", "model": "one", "pipeline": "text2img",
                       "options": {}, "extra_body": {}})  # fmt: skip
    for cell, (place, number, image, point) in zip(cells, wanted, strict=True):
        assert (cell.index, cell.variant, cell.image_index) == (place, number, image)
        asked = {key: getattr(cell.params, key) for key in VALUES}
        assert asked == {key: point.get(key) for key in VALUES}
        assert cell.params.prompt == "a fox"
        assert cell.cell_id == cell_id(identity, point, image)
        assert plan[cell.index] == cell
        assert not plan.left_out(cell.index)
    alive = {place for place, *_ in wanted}
    assert [plan.left_out(i) for i in range(index)] == [i not in alive for i in range(index)]
    for outside in (-1, index):
        with pytest.raises(IndexError):
            plan[outside]


def test_order_and_axes() -> None:
    plan = plan_of(
        axes={"size": ["64x64", "128x128"], "seed": "range(5,7)"},
        config={"prompt": "a fox", "n": 2},
        cells=[{"pipeline.strength": 0.5, "seed": 9}],
    )
    assert [cell.axes for cell in plan][::2] == [
        (("size", "64x64"), ("seed", 5)),
        (("size", "64x64"), ("seed", 6)),
        (("size", "128x128"), ("seed", 5)),
        (("size", "128x128"), ("seed", 6)),
        (("strength", 0.5), ("seed", 9)),
    ]
    assert [cell.image_index for cell in plan] == [0, 1] * 5
    assert [cell.image_seed for cell in plan][:4] == [5, 6, 6, 7]


def test_only_cells_when_there_are_no_axes() -> None:
    plan = plan_of(cells=[{"seed": 1}, {"seed": 2, "steps": 3}], config={"prompt": "a fox"})
    assert [(cell.params.seed, cell.params.steps) for cell in plan] == [(1, None), (2, 3)]
    assert [cell.params.seed for cell in plan_of(config={"seed": 3})] == [3]


def test_what_sets_a_key_and_what_is_stronger(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(
        "prompt,negative_prompt,size,what\nfox,ugly,64x64,snow\ncat,,,sea\n"
    )
    file = PromptFile.open(tmp_path / "p.csv")
    config = {
        "prompt": "a {prompt} by the {what}",
        "negative_prompt": "blur",
        "quality": "of {{{what}}}",
        "model": {"name": "one", "preset": {"steps": 9, "guidance_scale": 3, "size": "1x1"}},
    }
    plan = plan_of(axes={"guidance_scale": [None, 5]}, prompts=file, config={**config, "seed": 1})
    asked = [cell.params for cell in plan]
    assert [params.prompt for params in asked[::2]] == ["a fox by the snow", "a cat by the sea"]
    assert [params.negative_prompt for params in asked[::2]] == ["ugly", "blur"]
    assert [params.quality for params in asked[::2]] == ["of {snow}", "of {sea}"]
    assert [params.size for params in asked[::2]] == ["64x64", "1x1"]
    assert [params.guidance_scale for params in asked] == [3, 5, 3, 5]
    assert {params.steps for params in asked} == {9}
    assert plan[2].axes == (
        ("prompt", "a cat by the sea"),
        ("negative_prompt", None),
        ("size", None),
        ("guidance_scale", None),
    )


def test_templates_on_axes_and_braces_without_a_file(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a {fox}\na cat\n")
    file = PromptFile.open(tmp_path / "p.txt")
    axes = {"negative_prompt": ["no {prompt}", "{{x}}", None]}
    plan = plan_of(axes=axes, prompts=file, config={"seed": 1})
    assert [(cell.params.prompt, cell.params.negative_prompt) for cell in plan] == [
        ("a {fox}", "no a {fox}"), ("a {fox}", "{x}"), ("a {fox}", None),
        ("a cat", "no a cat"), ("a cat", "{x}"), ("a cat", None),
    ]  # fmt: skip
    assert plan[0].axes == (("prompt", "a {fox}"), ("negative_prompt", "no {prompt}"))
    plain = plan_of(axes={"prompt": ["{a}", "{{b}}"]}, config={"negative_prompt": "}{"})
    assert [(cell.params.prompt, cell.params.negative_prompt) for cell in plain] == [
        ("{a}", "}{"), ("{{b}}", "}{"),
    ]  # fmt: skip


def test_styles_on_an_axis() -> None:
    styles = {"oil": PromptStyle(name="oil", prefix="oil painting of ", negative_prompt="photo")}
    plan = plan_of(
        axes={"style": ["oil", "vivid", None]},
        styles=styles,
        config={"prompt": "a fox", "seed": 1, "style": {"suffix": "4k"}},
        cells=[{"prompt": "a cat"}],
    )
    assert [(p.prompt, p.negative_prompt, p.style) for p in (cell.params for cell in plan)] == [
        ("oil painting of a fox", "photo", None),
        ("a fox", None, "vivid"),
        ("a fox", None, None),
        ("a cat, 4k", None, None),
    ]
    assert [cell.axes[0][1] for cell in plan][:3] == ["oil", "vivid", None]
    for cell in plan:
        identity = plan.variants[0].identity
        asked = {"prompt": cell.params.prompt, "negative_prompt": cell.params.negative_prompt,
                 "seed": 1, "style": cell.params.style}  # fmt: skip
        assert cell.cell_id == cell_id(identity, asked, 0)


def test_a_prompt_file_may_advance_with_an_axis(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a\nb\nc\n")
    file = PromptFile.open(tmp_path / "p.txt")
    plan = plan_of(
        axes={"steps": [1, 2], "seed": "range(7,10)"}, zip=[["prompt", "seed"]], prompts=file
    )
    assert [(c.params.prompt, c.params.seed, c.params.steps) for c in plan] == [
        (prompt, seed, steps) for prompt, seed in zip("abc", (7, 8, 9), strict=True)
        for steps in (1, 2)
    ]  # fmt: skip


def test_exclude_by_column_label_and_config(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,kind,steps\na,x,1\nb,y,2\nc,x,\n")
    file = PromptFile.open(tmp_path / "p.csv")
    variants = [variant(0, {"model": "m"}, seed=1), variant(1, {"model": "k"}, seed=2)]

    def made(*rules: Mapping[str, object]) -> list[tuple[int, str]]:
        plan = plan_of(variants=variants, prompts=file, exclude=rules)
        assert plan.warnings == ()
        return [(cell.variant, cell.params.prompt) for cell in plan]

    assert made({"kind": "x"}) == [(0, "b"), (1, "b")]
    assert made({"kind": "x", "model": "k"}) == [(0, "a"), (0, "b"), (0, "c"), (1, "b")]
    assert made({"steps": [1, 2]}) == [(0, "c"), (1, "c")]
    assert made({"seed": 1}) == [(1, "a"), (1, "b"), (1, "c")]
    assert made({"seed": 2, "prompt": ["a", "b"]}, {"model": "m"}) == [(1, "c")]


def test_a_rule_about_a_choice_holds_for_a_single_variant_too() -> None:
    for rule in (
        {"provider": "stub", "seed": 2},
        {"model": "one", "pipeline": "text2img", "seed": 2},
    ):
        plan = plan_of(axes={"seed": [1, 2]}, exclude=[rule])
        assert [cell.params.seed for cell in plan] == [1]
    other = plan_of(axes={"seed": [1, 2]}, exclude=[{"provider": "other", "seed": 2}])
    assert other.count() == 2
    assert len(other.warnings) == 1


def test_a_rule_that_leaves_nothing_out_is_told() -> None:
    plan = plan_of(
        axes={"seed": "range(0,3)"},
        exclude=[{"seed": 7}, {"seed": 1}, {"seed": 1, "steps": 4}],
    )
    assert plan.warnings == (
        "sweep.exclude[0] leaves nothing out: no point has these values",
        "sweep.exclude[2] leaves nothing out: no point has these values",
    )


def spec_error(tmp_path: Path, **spec: Any) -> Sequence[str]:
    if "file" in spec:
        (tmp_path / "p.csv").write_text(spec.pop("file"))
        spec["prompts"] = PromptFile.open(tmp_path / "p.csv")
    with pytest.raises(RequestError) as caught:
        plan_of(capabilities=API, **spec)
    return caught.value.problems


@pytest.mark.parametrize(
    ("spec", "problems"),
    [
        (
            {"axes": {"seed": [1, 2], "steps": [1, 2, 3]}, "zip": [["seed", "steps"]]},
            [["sweep.zip[0]", "seed has 2 values", "steps has 3"]],
        ),
        (
            {"axes": {"seed": [1, 2]}, "zip": [["seed", "step"], ["seed"]]},
            [["sweep.zip[0]: 'step' is not an axis"], ["sweep.zip[1]", "'seed'", "twice"]],
        ),
        ({"axes": {"guidance_scale": [7, 5, 7.0]}}, [["sweep.axes.guidance_scale", "7.0", "n "]]),
        (
            {"exclude": [{"sede": 1}, {"seed": "x"}, {}]},
            [["sweep.exclude[0]", "'sede'", "'seed'"], ["exclude[1]", "'x'"], ["[2]: an empty"]],
        ),
        (
            {"cells": [{"n": 1}, {"seed": -1}]},
            [["sweep.cells[0]: n is not an axis"], ["sweep.cells[1]: seed cannot be -1"]],
        ),
        ({"file": "prompt\na\n", "axes": {"prompt": ["b"]}}, [["sweep.axes.prompt", "p.csv"]]),
        ({"file": "prompt,seed\na,1\n", "axes": {"seed": [2]}}, [["sweep.axes.seed", "p.csv"]]),
        ({"file": "text,x\na,1\n"}, [["no column 'prompt'", "text, x", "prompt='{text}'"]]),
        (
            {"file": "prompt\na\n", "config": {"prompt": "b"}},
            [["prompt 'b' would replace every prompt", "prompt=null"]],
        ),
        (
            {"file": "prompt\na\n", "config": {"prompt": "{promt}", "negative_prompt": "{x"}},
            [["prompt: ", "'promt'", "'prompt'"], ["negative_prompt: ", "lone '{'"]],
        ),
        (
            {
                "file": "prompt\na\n",
                "config": {"negative_prompt": "{prompt}!"},
                "cells": [{"prompt": "b"}, {"negative_prompt": "c"}],
            },
            [["sweep.cells[0] needs its own negative_prompt"], ["cells[1] needs its own prompt"]],
        ),
        (
            {"config": {"model": {"name": "one", "preset": {"stepz": 1, "seed": "x"}}}},
            [["the preset of model one", "'stepz'", "'steps'"], ["seed cannot be 'x'"]],
        ),
        ({"axes": {"seed": [1]}, "exclude": [{"seed": 1}]}, [["leaves nothing to make"]]),
        (
            {"axes": {"seed": f"range(0,{2**61})", "steps": [1, 2, 3]}, "config": {"n": 1000}},
            [["shorten an axis"]],
        ),
    ],
)  # fmt: skip
def test_wrong_specs(tmp_path: Path, spec: Spec, problems: list[list[str]]) -> None:
    told = spec_error(tmp_path, **spec)
    assert len(told) == len(problems), told
    for text, parts in zip(told, problems, strict=True):
        for part in parts:
            assert part in text


def test_seeds_are_drawn_once_and_pinned() -> None:
    drawn = {plan_of(config={"n": 3}).spec.seed for _ in range(4)}
    assert len(drawn) == 4
    assert all(seed is not None and 0 <= seed < 2**32 - 2 for seed in drawn)
    plan = plan_of(config={"n": 3}, axes={"steps": [1, 2]})
    assert {cell.params.seed for cell in plan} == {plan.spec.seed}
    assert plan_of(config={"n": 3}, seed=5)[0].params.seed == 5
    given = plan_of(config={"seed": 0}, seed=5)
    assert (given[0].params.seed, given.spec.seed) == (0, None)
    axis = plan_of(axes={"seed": [None, 3]}, seed=5)
    assert [cell.params.seed for cell in axis] == [5, 3]
    assert plan_of(axes={"seed": "range(0,3)"}).spec.seed is None
    assert plan_of(cells=[{"seed": 1}, {"steps": 2}], seed=5)[1].params.seed == 5
    preset = {"model": {"name": "one", "preset": {"seed": 8}}}
    assert [cell.params.seed for cell in plan_of(config=preset, seed=5)] == [8]


def test_a_plan_far_too_long_for_a_list() -> None:
    plan = plan_of(axes={"seed": "range(0,1000000000000)", "steps": [1, 2]}, config={"n": 3})
    assert len(plan) == plan.count() == 6 * 10**12
    cell = plan[6 * 10**12 - 1]
    assert (cell.params.seed, cell.params.steps, cell.image_index) == (10**12 - 1, 2, 2)
    assert next(plan.cells()).index == 0

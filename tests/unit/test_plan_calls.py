"""Calls: every wanted cell once, full batches, and never two that do not belong together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.plan import Plan, PromptFile
from runner.providers.contract import Capabilities
from runner.settings.cell import CELL_KEYS, Cell
from runner.settings.schema import PromptStyle
from tests.unit.plan_stub import EVERYTHING, SHARED, StubProvider, local, plan_of, variant


def stubs(plan: Plan, capabilities: Capabilities, **answers: Any) -> list[StubProvider]:
    return [StubProvider(one.settings, capabilities, **answers) for one in plan.variants]


def calls(plan: Plan, capabilities: Capabilities, **answers: Any) -> list[tuple[Cell, ...]]:
    return list(plan.calls(stubs(plan, capabilities, **answers), lambda index: True))


def shape(groups: Sequence[Sequence[Cell]]) -> list[list[int]]:
    return [[cell.index for cell in group] for group in groups]


AXES: dict[str, list[Any]] = {
    "prompt": ["a", "b", "c"],
    "seed": [1, 2, 3, 4],
    "steps": [5, 6],
    "guidance_scale": [1.0, 2.0, 3.0],
}


@settings(max_examples=200, deadline=None)
@given(
    order=st.permutations(list(AXES)),
    used=st.sets(st.sampled_from(list(AXES))),
    zipped=st.booleans(),
    shared=st.sampled_from(
        [frozenset(), SHARED, SHARED | {"guidance_scale"}, frozenset(CELL_KEYS)]
    ),
    most=st.integers(1, 9),
    n=st.integers(1, 5),
    cells=st.lists(
        st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in AXES.items()}),
        max_size=4,
    ),
    exclude=st.lists(
        st.fixed_dictionaries(
            {}, optional={key: st.sampled_from(values) for key, values in AXES.items()}
        ).filter(bool),
        max_size=2,
    ),
    done=st.sets(st.integers(0, 400)),
)  # fmt: skip
def test_calls_hold_every_wanted_cell_once(
    order: list[str], used: set[str], zipped: bool, shared: frozenset[str], most: int, n: int,
    cells: list[dict[str, Any]], exclude: list[dict[str, Any]], done: set[int],
) -> None:  # fmt: skip
    axes = {key: AXES[key] for key in order if key in used}
    plan = plan_of(
        variants=[variant(0, n=n, prompt="x", seed=9), variant(1, prompt="x", seed=9)],
        axes=axes,
        zip=[["prompt", "guidance_scale"]]
        if zipped and {"prompt", "guidance_scale"} <= used
        else [],
        cells=[*cells, {"size": "2K"}],
        exclude=exclude,
    )
    capabilities = Capabilities(
        params=EVERYTHING, max_images_per_call=most, shared_call_keys=shared
    )
    providers = stubs(plan, capabilities)
    wanted = {cell.index for cell in plan if cell.index not in done}
    groups = list(plan.calls(providers, lambda index: index not in done))
    assert sorted(cell.index for group in groups for cell in group) == sorted(wanted)
    for group in groups:
        assert 1 <= len(group) <= most
        assert all(cell == plan[cell.index] for cell in group)
        assert len({cell.variant for cell in group}) == 1
        agreed = [
            tuple(getattr(cell.params, key) for key in CELL_KEYS if key not in shared)
            for cell in group
        ]
        assert len(set(agreed)) == 1
        if not shared:
            first = [cell.index - cell.image_index for cell in group]
            assert len(set(first)) == 1
    everything = list(plan.calls(providers, lambda index: True))
    assert plan.summary(providers).calls == len(everything)


def test_images_of_a_point_share_a_call_of_an_api() -> None:
    plan = plan_of(axes={"prompt": ["a", "b"]}, config={"n": 5, "seed": 1})
    api = Capabilities(params=EVERYTHING, max_images_per_call=3)
    assert shape(calls(plan, api)) == [[0, 1, 2], [3, 4], [5, 6, 7], [8, 9]]
    assert shape(plan.calls(stubs(plan, api), lambda index: index % 2 == 0)) == [
        [0, 2, 4], [6, 8],
    ]  # fmt: skip


def test_a_call_may_be_smaller_for_some_parameters() -> None:
    plan = plan_of(axes={"size": ["1K", "2K"], "prompt": ["a", "b"]}, config={"n": 4, "seed": 1})
    answers = {"images_per_call": lambda params: 1 if params.size == "2K" else 3}
    api = Capabilities(params=EVERYTHING, max_images_per_call=3)
    sizes = [len(group) for group in calls(plan, api, **answers)]
    assert sizes == [3, 1, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    assert plan.summary(stubs(plan, api, **answers)).calls == 12
    batches = calls(plan, local(8), images_per_call=lambda p: 2 if p.size == "2K" else 8)
    assert [len(group) for group in batches] == [8, 2, 2, 2, 2]


def test_shared_axes_vary_fastest_whatever_their_order() -> None:
    plan = plan_of(axes={"seed": "range(0,4)", "steps": [10, 20], "prompt": ["a", "b"]})
    groups = calls(plan, local(4))
    assert [{cell.params.steps for cell in group} for group in groups] == [{10}] * 2 + [{20}] * 2
    assert all(len(group) == 4 for group in groups)
    assert [cell.params.seed for cell in groups[0]] == [0, 0, 1, 1]


def test_batches_stay_full_in_a_file_with_columns_that_may_not_differ(tmp_path: Path) -> None:
    lines = ["prompt,seed,steps", *(f"p{i},{i},{10 if i < 6 else 20}" for i in range(10))]
    (tmp_path / "p.csv").write_text("\n".join(lines))
    plan = plan_of(prompts=PromptFile.open(tmp_path / "p.csv"))
    groups = calls(plan, local(4))
    assert shape(groups) == [[0, 1, 2, 3], [4, 5], [6, 7, 8, 9]]
    assert plan.summary(stubs(plan, local(4))).calls == 3


def test_styles_of_text_only_do_not_break_batches() -> None:
    styles = {name: PromptStyle(name=name, suffix=name) for name in ("oil", "ink")}
    text_only = plan_of(
        axes={"style": ["oil", "ink"], "steps": [1, 2]}, styles=styles, config={"seed": 1}
    )
    assert [len(group) for group in calls(text_only, local(4))] == [2, 2]
    native = plan_of(axes={"style": ["vivid", "ink"]}, styles=styles, config={"seed": 1})
    assert [len(group) for group in calls(native, local(4))] == [1, 1]


def test_dropped_keys_do_not_break_batches_and_keep_their_cells() -> None:
    params = {key: EVERYTHING[key] for key in ("prompt", "seed")}
    capabilities = Capabilities(params=params, max_images_per_call=8, shared_call_keys=SHARED)
    plan = plan_of(
        axes={"steps": [1, 2, 3], "seed": [1, 2]}, capabilities=capabilities, unsupported="drop"
    )
    assert [len(group) for group in calls(plan, capabilities)] == [6]
    assert plan[0].axes == (("steps", 1), ("seed", 1))
    assert plan[0].cell_id == plan[2].cell_id
    assert plan.count() == 6


def test_explicit_points_that_agree_share_a_batch() -> None:
    cells = [{"prompt": p, "steps": s} for p, s in (("a", 1), ("b", 1), ("c", 2), ("d", 1))]
    plan = plan_of(cells=cells, config={"seed": 1})
    assert shape(calls(plan, local(4))) == [[0, 1], [2], [3]]


def test_calls_are_lazy_and_ask_before_they_make() -> None:
    plan = plan_of(axes={"seed": "range(0,1000000000)", "steps": [1, 2]})
    asked: list[int] = []

    def todo(index: int) -> bool:
        asked.append(index)
        return index >= 10

    first = next(plan.calls(stubs(plan, local(2)), todo))
    assert [cell.index for cell in first] == [10, 12]
    assert len(asked) < 20


@pytest.mark.parametrize("index", [0, 1])
def test_calls_of_one_variant(index: int) -> None:
    plan = plan_of(variants=[variant(0, n=2, seed=1), variant(1, n=3, seed=1)])
    provider = stubs(plan, local(8))[index]
    groups = list(plan.variant_calls(index, provider, lambda place: True))
    assert shape(groups) == [[[0, 1]], [[2, 3, 4]]][index]

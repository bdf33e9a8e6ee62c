"""What is asked against what models take: every problem at once, nothing told that is not so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from runner.plan import Plan, PromptFile
from runner.providers.contract import Capabilities, Param
from runner.settings.cell import CellParams
from runner.settings.errors import RequestError
from runner.settings.schema import PromptStyle
from tests.unit.plan_stub import EVERYTHING, StubProvider, plan_of, variant

NARROW = Capabilities(
    params={
        "prompt": Param(native="text"),
        "seed": Param(native="seed", minimum=0, maximum=858_993_459),
        "size": Param(native="size", choices=("512x512", "1024x1024")),
        "guidance_scale": Param(native="cfg", minimum=1.1, maximum=10, note="1.1 is the least"),
    },
    pipelines=frozenset({"text2img"}),
)


def problems(**arguments: Any) -> Sequence[str]:
    arguments.setdefault("capabilities", NARROW)
    with pytest.raises(RequestError) as caught:
        plan_of(**arguments)
    assert caught.value.exit_code == 2
    return caught.value.problems


def narrow(**arguments: Any) -> Plan:
    return plan_of(capabilities=NARROW, **arguments)


def test_every_problem_is_told_with_its_place_and_its_fix() -> None:
    told = problems(
        axes={"guidance_scale": [0, 5, 11], "steps": [10], "seed": "range(0,1000000000)"},
        config={"size": "512x51", "negative_prompt": "blur", "pipeline": {"name": "img2img"}},
        cells=[{"quality": "hd"}],
    )
    assert told == (
        "stub one: this model has no pipeline 'img2img'; it has text2img; set pipeline=…",
        "stub one: this model does not take negative_prompt (set by negative_prompt); it takes "
        "prompt, seed, size, guidance_scale; remove negative_prompt, or leave it out with "
        "unsupported=drop",
        "stub one: this model does not take steps (set by sweep.axes.steps); it takes prompt, "
        "seed, size, guidance_scale; remove steps, or leave it out with unsupported=drop",
        "stub one: this model does not take quality (set by sweep.cells[0]); it takes prompt, "
        "seed, size, guidance_scale; remove quality, or leave it out with unsupported=drop",
        "stub one: size cannot be '512x51' (set by size): it takes 512x512, 1024x1024; did you "
        "mean '512x512'?",
        "stub one: guidance_scale cannot be 0.0 (set by sweep.axes.guidance_scale): it takes at "
        "least 1.1 and at most 10; 1.1 is the least",
        "stub one: guidance_scale cannot be 11.0 (set by sweep.axes.guidance_scale): it takes at "
        "least 1.1 and at most 10; 1.1 is the least",
        "stub one: seed cannot be 999999999 (set by sweep.axes.seed): it takes at least 0 and at "
        "most 858993459",
    )


def test_many_wrong_values_of_one_key_are_counted() -> None:
    told = problems(axes={"size": [f"{i}x{i}" for i in range(1, 8)]}, config={"seed": 1})
    assert len(told) == 4
    assert told[-1] == "stub one: … and 4 more values of size"


def test_every_variant_is_checked() -> None:
    wide = Capabilities(params=EVERYTHING)
    variants = [variant(i, {"provider": name}, steps=3) for i, name in enumerate("abc")]
    providers = [
        StubProvider(one.settings, capabilities)
        for one, capabilities in zip(variants, (NARROW, wide, NARROW), strict=True)
    ]
    with pytest.raises(RequestError) as caught:
        plan_of(variants=variants, providers=providers)
    assert [text.partition(":")[0] for text in caught.value.problems] == [
        "provider=a", "provider=c",
    ]  # fmt: skip


@pytest.mark.parametrize("unsupported", ["warn", "drop"])
def test_unsupported_keys_are_left_out_on_request(unsupported: str) -> None:
    styles = {"oil": PromptStyle(name="oil", negative_prompt="photo")}
    plan = narrow(
        axes={"steps": [10, 20], "style": ["oil", "vivid"]},
        styles=styles,
        unsupported=unsupported,
        config={"prompt": "a fox", "seed": 3, "model": {"name": "one", "preset": {"quality": "h"}}},
    )
    assert set(plan.variants[0].dropped) == {"steps", "negative_prompt", "style", "quality"}
    assert [cell.params for cell in plan] == [CellParams(prompt="a fox", seed=3)] * 4
    assert [dict(cell.axes)["steps"] for cell in plan] == [10, 10, 20, 20]
    summary = plan.summary([StubProvider(plan.variants[0].settings, NARROW)])
    assert summary.variants[0].dropped == plan.variants[0].dropped
    warnings = summary.variants[0].warnings
    if unsupported == "drop":
        assert warnings == ()
    else:
        assert len(warnings) == 4
        assert (
            "stub one: this model does not take quality (set by the preset of model one); "
            "it is left out" in warnings
        )


def test_a_seed_is_not_sent_where_none_is_taken() -> None:
    seedless = Capabilities(params={"prompt": Param(native="prompt")})
    plan = plan_of(capabilities=seedless, config={"prompt": "a fox"})
    assert (plan[0].params.seed, plan.spec.seed, plan.variants[0].dropped) == (None, None, ())
    assert "does not take seed" in problems(capabilities=seedless, config={"seed": 1})[0]
    dropped = plan_of(capabilities=seedless, config={"seed": 1}, unsupported="drop")
    assert (dropped[0].params.seed, dropped.variants[0].dropped) == (None, ("seed",))


def test_drawn_seeds_fit_every_model() -> None:
    tiny = Capabilities(params={"prompt": Param(native="p"),
                                "seed": Param(native="s", minimum=1, maximum=12)})  # fmt: skip
    seeds = {plan_of(capabilities=tiny, config={"n": 10}).spec.seed for _ in range(60)}
    assert seeds == {1, 2, 3}


def test_a_value_that_is_left_out_everywhere_is_no_problem() -> None:
    variants = [variant(0, {"who": "x"}, seed=1), variant(1, {"who": "y"}, seed=1)]
    wide = Capabilities(params=EVERYTHING)
    providers = [
        StubProvider(variants[0].settings, NARROW),
        StubProvider(variants[1].settings, wide),
    ]
    for many in (1, 2000):  # few points are checked one by one, many value by value
        axes = {"size": ["512x512", "2K"], "steps": [None, 4], "guidance_scale": [2, 3],
                "seed": f"range(0,{many})"}  # fmt: skip
        exclude: list[dict[str, object]] = [
            {"who": "x", "size": "2K"}, {"who": "x", "steps": 4, "guidance_scale": [2, 3]},
        ]  # fmt: skip
        plan = plan_of(variants=variants, providers=providers, axes=axes, exclude=exclude)
        assert plan.variants[0].dropped == ()
        with pytest.raises(RequestError) as caught:
            plan_of(variants=variants, providers=providers, axes=axes, exclude=exclude[1:])
        assert len(caught.value.problems) == 1
        assert "size cannot be '2K'" in caught.value.problems[0]
        exclude[1]["guidance_scale"] = 2
        with pytest.raises(RequestError) as caught:
            plan_of(variants=variants, providers=providers, axes=axes, exclude=exclude)
        assert "does not take steps" in caught.value.problems[0]


def test_columns_are_checked_with_their_line(tmp_path: Path) -> None:
    lines = ["prompt,size,seed", *(f"p{i},512x512,{i}" for i in range(3000))]
    lines[1500] = "x,513x513,7"
    lines[2500] = "x,512x512,858993460"
    path = tmp_path / "p.csv"
    path.write_text("\n".join(lines))
    told = problems(prompts=PromptFile.open(path))
    assert set(told) == {
        f"stub one: seed cannot be 858993460 (set by {path}, line 2501): it takes at least 0 and "
        "at most 858993459",
        f"stub one: size cannot be '513x513' (set by {path}, line 1501): it takes 512x512, "
        "1024x1024; did you mean '512x512'?",
    }
    path.write_text("prompt,w\n" + "p,512\n" * 1500 + "p,513\n" + "p,512\n" * 500)
    told = problems(prompts=PromptFile.open(path), config={"size": "{w}x{w}", "seed": 1})
    assert len(told) == 1
    assert "'513x513'" in told[0]
    assert "line 1502" in told[0]


def test_providers_have_their_say_once_for_each_sentence(tmp_path: Path) -> None:
    seen: list[CellParams] = []

    def check(params: CellParams) -> list[str]:
        seen.append(params)
        return [f"prompt {len(params.prompt)} is too long"] if len(params.prompt) > 9 else []

    one = variant(seed=1, n=2)
    provider = StubProvider(one.settings, NARROW, check=check)
    prompts = ["short", "much too long", "tall too long", "a fox", "way too long of a prompt"]
    with pytest.raises(RequestError) as caught:
        plan_of(variants=[one], providers=[provider], axes={"prompt": prompts, "size": ["512x512"]})
    assert caught.value.problems == (
        "stub one: prompt 13 is too long",
        "stub one: prompt 24 is too long",
    )
    path = tmp_path / "p.txt"
    path.write_text("short\n" * 1200 + "this one is the longest\n" + "short\n" * 100)
    with pytest.raises(RequestError, match="prompt 23 is too long"):
        plan_of(variants=[one], providers=[provider], prompts=PromptFile.open(path))
    seen.clear()
    plan_of(
        variants=[one], providers=[provider], unsupported="drop",
        axes={"steps": [1, 2], "seed": "range(0,5000)"}, config={},
    )  # fmt: skip
    assert {params.steps for params in seen} == {None}
    assert {params.seed for params in seen} == {0, 4999}


def test_values_that_a_model_does_not_take_are_not_shown_to_its_check() -> None:
    def check(params: CellParams) -> list[str]:
        assert params.size in (None, "512x512")
        return []

    one = variant(seed=1)
    provider = StubProvider(one.settings, NARROW, check=check)
    with pytest.raises(RequestError, match="size cannot be"):
        plan_of(variants=[one], providers=[provider], axes={"size": ["x", "512x512"]})

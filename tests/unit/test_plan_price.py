"""Prices: the sum over every cell, without looking at every cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.plan import PriceRange, PromptFile
from runner.providers.contract import FREE, UNKNOWN_PRICE, Price
from runner.settings.cell import CellParams
from tests.unit.plan_stub import StubProvider, plan_of, variant


def rate(params: CellParams) -> Price:
    """A price in whole dollars, so that sums are exact."""
    low = {"64x64": 1, "128x128": 4}.get(params.size or "", 2) * (params.steps or 10)
    return Price(low, low * (3 if params.quality == "hd" else 1), "price_book")


VALUES: dict[str, list[Any]] = {
    "size": ["64x64", "128x128", None],
    "steps": [1, 5, 20],
    "quality": ["hd", "sd"],
    "seed": [1, 2, 3, 4, 5],
    "prompt": ["a", "b"],
}


@settings(max_examples=100, deadline=None)
@given(
    order=st.permutations(list(VALUES)),
    used=st.sets(st.sampled_from(list(VALUES))),
    zipped=st.booleans(),
    cells=st.lists(
        st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in VALUES.items()}),
        max_size=3,
    ),
    exclude=st.lists(
        st.fixed_dictionaries(
            {}, optional={k: st.sampled_from(v) for k, v in VALUES.items()}
        ).filter(bool),
        max_size=3,
    ),
    preset=st.fixed_dictionaries({}, optional={"quality": st.just("hd"), "steps": st.just(7)}),
)  # fmt: skip
def test_a_price_is_the_sum_over_all_cells(
    order: list[str], used: set[str], zipped: bool, cells: list[dict[str, Any]],
    exclude: list[dict[str, Any]], preset: dict[str, Any],
) -> None:  # fmt: skip
    model = {"name": "one", "preset": preset}
    plan = plan_of(
        variants=[variant(0, seed=1, n=3, model=model), variant(1, seed=1, size="64x64")],
        axes={key: VALUES[key] for key in order if key in used},
        zip=[["size", "steps"]] if zipped and {"size", "steps"} <= used else [],
        # No rule leaves this one out.
        cells=[*cells, {"background": "auto", "seed": 99, "size": "9x9"}],
        exclude=[{**rule, "size": rule.get("size", "64x64")} for rule in exclude],
    )
    providers = [StubProvider(one.settings, estimate=rate) for one in plan.variants]
    summary = plan.summary(providers)
    for line in summary.variants:
        made = [cell for cell in plan if cell.variant == line.index]
        assert line.cells == len(made)
        if made:
            prices = [rate(cell.params) for cell in made]
            assert line.price.low_usd == sum(price.low_usd or 0 for price in prices)
            assert line.price.high_usd == sum(price.high_usd or 0 for price in prices)
            assert line.price.bases == ("price_book",)
    assert plan.price(providers) == summary.price
    assert summary.cells == plan.count() == sum(line.cells for line in summary.variants)
    assert summary.price.low_usd == sum(line.price.low_usd or 0 for line in summary.variants)


def test_a_million_cells_take_a_few_estimates() -> None:
    plan = plan_of(axes={"seed": "range(0,1000000)", "size": ["64x64", "128x128"]})
    provider = StubProvider(plan.variants[0].settings, estimate=rate)
    assert plan.price([provider]) == PriceRange(50_000_000, 50_000_000, 0, ("price_book",))
    assert len(provider.estimated) == 2


def test_unknown_stays_unknown() -> None:
    def partly(params: CellParams) -> Price:
        return UNKNOWN_PRICE if params.size == "2K" else Price(0.5, 1.0, "estimate")

    variants = [variant(0, seed=1, n=2), variant(1, seed=1, size="1K")]
    plan = plan_of(variants=variants, axes={"quality": ["a", "b", "c"]}, cells=[{"size": "2K"}])
    providers = [
        StubProvider(variants[0].settings, estimate=partly),
        StubProvider(variants[1].settings, estimate=lambda params: FREE),
    ]
    summary = plan.summary(providers)
    assert summary.variants[0].price == PriceRange(None, None, 2, ("estimate", "unknown"))
    assert summary.variants[1].price == PriceRange(0.0, 0.0, 0, ("free",))
    assert summary.price == PriceRange(None, None, 2, ("estimate", "unknown", "free"))


@pytest.mark.parametrize("size", ["{side}x{side}", None])
def test_prices_of_rows(tmp_path: Path, size: str | None) -> None:
    path = tmp_path / "p.csv"
    path.write_text("prompt,side,size,steps\na,64,64x64,1\nb,128,128x128,2\nc,64,64x64,\n")
    file = PromptFile.open(path)
    plan = plan_of(prompts=file, config={"size": size, "seed": 1, "n": 2})
    provider = StubProvider(plan.variants[0].settings, estimate=rate)
    assert plan.price([provider]).low_usd == 2 * (1 * 1 + 4 * 2 + 1 * 10)
    crossed = plan_of(
        prompts=PromptFile.open(_plain(tmp_path)), axes={"size": ["{side}x{side}", None]}, seed=1
    )
    assert crossed.price([provider]).low_usd == 10 + 40 + 2 * 20


def _plain(folder: Path) -> Path:
    path = folder / "plain.csv"
    path.write_text("prompt,side\na,64\nb,128\n")
    return path

"""What the report reads out of a run folder: axes, layout, totals, columns."""

from __future__ import annotations

import itertools
import json
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.report.axes import IMAGE, VARIANT, Axis, Layout, choose_layout
from runner.report.gallery import Gallery, load
from runner.report.table import Column, Table, plain
from runner.report.text import moment, quantile, seconds, shorten, usd
from runner.settings.cell import Json, Scalar
from runner.settings.errors import RequestError
from tests.report_fixture import PROMPTS, RunFolder, comparison, encode, picture, single_wall

json_values: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    return load(comparison(tmp_path_factory.mktemp("runs") / "comparison", large=32))


def run_with_axes(
    root: Path, *points: dict[str, Scalar], provider: str = "diffusers", **more: object
) -> Gallery:
    run = RunFolder(root)
    data = encode(picture("p", 1, (8, 8)))
    for point in points:
        run.add_image(data, axes=point, provider=provider, **more)
    run.write()
    return load(root)


def product(**axes: list[Scalar]) -> list[dict[str, Scalar]]:
    return [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]


# Axes and layout


def test_providers_stand_side_by_side_for_each_prompt(compared: Gallery) -> None:
    assert compared.layout == Layout("prompt", VARIANT)
    axes = {axis.key: axis for axis in compared.axes}
    assert axes[VARIANT].label == "provider"
    assert axes[VARIANT].values == ("openai", "google_ai_studio", "diffusers")
    assert axes["prompt"].values == PROMPTS
    assert axes["seed"].values == (0, 1, 2, 3)


def test_two_models_of_one_provider_are_told_apart_by_model(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    data = encode(picture("p", 1, (8, 8)))
    for variant, model in enumerate(("small", "large")):
        run.add_image(data, axes={}, variant=variant, model=model)
    run.write()
    (axis,) = load(tmp_path).axes
    assert (axis.label, axis.values) == ("model", ("small", "large"))


def test_one_axis_is_a_wall_and_two_are_a_matrix(tmp_path: Path) -> None:
    wall = run_with_axes(tmp_path / "a", *product(seed=[1, 2, 3]))
    assert wall.layout == Layout()
    matrix = run_with_axes(tmp_path / "b", *product(seed=[1, 2, 3], steps=[4, 8]))
    assert matrix.layout == Layout("seed", "steps")


def test_an_axis_with_one_value_is_a_fact_and_not_an_axis(tmp_path: Path) -> None:
    gallery = run_with_axes(tmp_path, *product(seed=[1, 2], steps=[8]))
    assert [axis.key for axis in gallery.axes] == ["seed"]
    assert gallery.header.fixed == (("steps", "8"),)


def test_the_images_of_a_point_are_an_axis(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    data = encode(picture("p", 1, (8, 8)))
    for prompt, number in itertools.product("ab", range(3)):
        run.add_image(data, axes={"prompt": prompt}, prompt=prompt, image_index=number)
    run.write()
    gallery = load(tmp_path)
    assert gallery.layout == Layout("prompt", IMAGE)
    assert next(axis for axis in gallery.axes if axis.key == IMAGE).values == (1, 2, 3)


def test_axes_that_advance_together_make_no_matrix(tmp_path: Path) -> None:
    points = [{"prompt": f"p{at}", "negative_prompt": f"n{at}"} for at in range(6)]
    assert run_with_axes(tmp_path, *points).layout == Layout()


def test_numbers_ascend_although_they_finished_in_another_order(tmp_path: Path) -> None:
    points = [{"seed": seed, "steps": steps} for seed, steps in ((9, 2), (9, 1), (3, 1), (3, 2))]
    axes = {axis.key: axis for axis in run_with_axes(tmp_path, *points).axes}
    assert axes["seed"].values == (3, 9)
    assert [axes["seed"].values[place] for place in axes["seed"].at] == [9, 9, 3, 3]


def made_axis(key: str, places: list[int]) -> Axis:
    return Axis(key, key, tuple(range(max(places) + 1)), array("i", places))


def test_what_would_crowd_a_cell_becomes_sections() -> None:
    points = list(itertools.product(range(3), range(4), range(20)))
    axes = [
        made_axis(key, [point[at] for point in points])
        for at, key in enumerate(("prompt", "steps", "seed"))
    ]
    assert choose_layout(axes) == Layout("prompt", "seed")
    wide = list(itertools.product(range(2), range(20), range(15)))
    axes = [
        made_axis(key, [point[at] for point in wide])
        for at, key in enumerate(("prompt", "seed", "steps"))
    ]
    assert choose_layout(axes) == Layout("prompt", "seed", "steps")


def test_a_thousand_values_run_down_and_not_across() -> None:
    points = list(itertools.product(range(4), range(1000)))
    axes = [
        made_axis(key, [point[at] for point in points]) for at, key in enumerate(("prompt", "seed"))
    ]
    assert choose_layout(axes) == Layout("seed", "prompt")


# Totals


def test_totals_by_provider(compared: Gallery) -> None:
    openai, google, local = compared.header.providers
    assert (openai.label, openai.images, openai.failures) == ("openai", 14, 2)
    assert (openai.cost, openai.cost_note, openai.per_image) == ("$0.588", "from usage", "$0.042")
    assert (google.images, google.failures, google.cost) == (16, 0, "$0.624")
    assert (local.cost, local.cost_note, local.per_image) == ("free", "", "")
    latencies = sorted(
        float(str(compared.get("latency_s", entry)))
        for entry in range(len(compared))
        if compared.get("provider", entry) == "openai" and compared.get("status", entry) == "done"
    )
    assert openai.p50 == seconds((latencies[6] + latencies[7]) / 2)


def test_the_head_of_the_page(compared: Gallery) -> None:
    header = compared.header
    assert header.counts == ((46, "images"), (1, "refused"), (1, "failed"))
    assert (header.missing, header.cost) == (0, "$1.21")
    assert header.cost_note == "from usage, price book"
    assert (header.when, header.took) == ("1 Nov 2026, 14:03 UTC", "1 min 12 s")
    assert header.command == "python -m runner -m 'seed=range(0,4)' 'prompt=a fox,a cat'"


def test_an_unknown_price_is_never_free(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    data = encode(picture("p", 1, (8, 8)))
    run.add_image(data, axes={}, cost_usd=None, cost_basis="unknown")
    run.write(cost_usd=None, cost_unknown_worst_usd=None)
    header = load(tmp_path).header
    assert (header.cost, header.providers[0].cost) == ("unknown", "unknown")
    run.add_image(data, axes={}, cost_usd=0.5, cost_basis="reported")
    run.write(cost_usd=0.5, cost_unknown_worst_usd=0.25)
    header = load(tmp_path).header
    assert header.cost == "$0.50"
    assert header.cost_note == (
        "as reported; 1 of unknown price; up to $0.25 more for calls without an answer"
    )


def test_a_provider_without_any_image_yet_is_listed(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    variants = [{"index": 0, "provider": "openai", "model": "gpt-image-1.5"}]
    run.write(variants=variants, cells=8, status="running", ended_at=None, cost_usd=None)
    header = load(tmp_path).header
    assert header.missing == 8
    assert [(line.label, line.images, line.p50) for line in header.providers] == [("openai", 0, "")]


def test_cells_beyond_the_limit_are_counted_but_not_kept(tmp_path: Path) -> None:
    root = single_wall(tmp_path, count=5)
    gallery = load(root, most=3)
    assert (len(gallery), gallery.hidden) == (3, 2)
    assert gallery.header.counts == ((5, "images"),)


def test_a_folder_without_a_manifest_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="not a run folder"):
        load(tmp_path)


# Columns


@given(st.lists(st.none() | json_values, max_size=30))
def test_a_column_gives_back_what_was_put_in(values: list[Json]) -> None:
    table = Table()
    for value in values:
        table.append([] if value is None else [("name", value)])
    for row, value in enumerate(values):
        assert repr(table.get("name", row)) == repr(None if value is None else plain(value))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.randoms())
def test_a_packed_column_is_read_back_in_any_order(values: list[int], random: object) -> None:
    column = Column()
    for row, value in enumerate(values):
        if value:
            column.put(row, value)
    order = list(reversed(range(len(values))))
    packed = column.packed(order)
    places = packed.get("i", [0] * len(values))
    found = [packed["v"][place] if place >= 0 else 0 for place in places]  # type: ignore[index]
    assert found == [values[row] for row in order]


@given(json_values)
def test_plain_values_survive_strict_json_and_javascript_numbers(value: Json) -> None:
    text = json.dumps(plain(value), allow_nan=False)

    def check(item: Json) -> None:
        if isinstance(item, int) and not isinstance(item, bool):
            assert int(float(item)) == item
        for member in item.values() if isinstance(item, dict) else []:
            check(member)
        for member in item if isinstance(item, list) else []:
            check(member)

    check(json.loads(text))


def test_one_and_true_are_two_values() -> None:
    column = Column()
    for row, value in enumerate([1, True, 1.0, "1", None, 0, False]):
        column.put(row, value)
    assert [repr(column.get(row)) for row in range(7)] == [
        "1", "True", "1.0", "'1'", "None", "0", "False",
    ]  # fmt: skip


# Words


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "$0"), (12.3, "$12.30"), (1234.5, "$1,234.50"), (0.042, "$0.042"), (0.5, "$0.50"),
     (0.00012, "$0.00012"), (0.0000301, "$0.00003")],
)  # fmt: skip
def test_money(amount: float, text: str) -> None:
    assert usd(amount) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.311, "0.31 s"), (12.44, "12.4 s"), (185, "3 min 5 s"), (7800, "2 h 10 min"),
     (119.6, "2 min 0 s")],
)  # fmt: skip
def test_durations(value: float, text: str) -> None:
    assert seconds(value) == text


def test_a_quantile_lies_between_its_neighbours() -> None:
    assert quantile([5.0], 0.95) == 5.0
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert quantile([0.0, 10.0], 0.95) == 9.5


def test_a_moment_that_is_none_stays_as_it_is() -> None:
    assert moment("2026-03-04T05:06:07+02:00") == "4 Mar 2026, 03:06 UTC"
    assert moment("soon") == "soon"


@given(st.text(), st.integers(2, 40))
def test_a_shortened_text_is_one_line_within_its_limit(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert len(short) <= limit
    assert short.split() == short.split("\n")[0].split()
    if " ".join(text.split()) == text and len(text) <= limit:
        assert short == text

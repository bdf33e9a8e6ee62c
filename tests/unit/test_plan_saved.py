"""plan.json: expands again exactly, on any machine, or says why not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from runner.plan import Plan, PromptFile
from runner.settings.errors import RequestError
from runner.settings.schema import PromptStyle
from tests.unit.plan_stub import API, plan_of, variant


def read_again(plan: Plan, root: Path | None = None) -> Plan:
    return Plan.from_json(json.loads(json.dumps(plan.to_json())), root)


def copy_inputs(plan: Plan, root: Path) -> None:
    for file in plan.inputs():
        (root / file.copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.source, root / file.copy)


@pytest.fixture
def rich(tmp_path: Path) -> Plan:
    """A plan with everything in it."""
    rows = f"prompt,what,image\na fox,snow,\na cat,sea,{tmp_path / 'b.png'}\n"
    (tmp_path / "my prompts.csv").write_text(rows)
    for name in "abm":
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    variants = [
        variant(0, {"model": "one"}, n=2, pipeline={"image": f"{tmp_path}/a.png"},
                prompt="{prompt} in {what}", seed=3),
        variant(1, {"model": "two"}, prompt="{{{prompt}}}", style={"suffix": "4k"},
                model={"name": "two", "preset": {"steps": 5}}),
    ]  # fmt: skip
    return plan_of(
        variants=variants,
        prompts=PromptFile.open(tmp_path / "my prompts.csv"),
        axes={
            "steps": [1, 2, 3], "guidance_scale": "range(0,0.3,0.1)", "style": ["oil", "vivid"],
            "strength": [None, 0.25], "mask": [f"{tmp_path}/m.png", None],
        },
        zip=[["guidance_scale", "steps"]],
        exclude=[{"steps": [2, 7], "model": "two"}, {"what": "sea", "style": "oil"}],
        cells=[{"prompt": "x", "image": f"{tmp_path}/a.png"}, {"prompt": "y", "seed": 9}],
        styles={"oil": PromptStyle(name="oil", prefix="oil painting of ")},
        unsupported="error",
        capabilities=API,
    )  # fmt: skip


def test_round_trip(rich: Plan) -> None:
    again = read_again(rich)
    assert list(again) == list(rich)
    assert len(list(rich)) > 50
    assert (len(again), again.count(), again.hash) == (len(rich), rich.count(), rich.hash)
    assert again.to_json() == rich.to_json()
    assert again.variants == rich.variants
    assert again.spec.seed == rich.spec.seed is not None


def test_ranges_stay_compact() -> None:
    plan = plan_of(axes={"seed": "range(0,1000000000)", "guidance_scale": "range(0,100,0.001)"})
    text = json.dumps(plan.to_json())
    assert len(text) < 3000
    again = read_again(plan)
    assert again[10**13 + 7] == plan[10**13 + 7]


def test_a_run_folder_holds_all_that_it_needs(rich: Plan, tmp_path: Path) -> None:
    root = tmp_path / "run"
    copy_inputs(rich, root)
    names = sorted(file.copy for file in rich.inputs())
    assert len(names) == 4
    assert all(name.startswith("inputs/") and name[23] == "-" for name in names)
    assert any(name.endswith("-my prompts.csv") for name in names)
    ids = [cell.cell_id for cell in rich]
    moved = rich.moved(root)
    for file in rich.inputs():
        file.source.write_bytes(b"changed\n")
    moved_on = shutil.move(root, tmp_path / "elsewhere")
    root.mkdir()
    copied = Path(moved_on)
    again = read_again(rich, copied)
    assert [cell.cell_id for cell in again] == ids
    assert again.hash == rich.hash == moved.hash
    images = {cell.params.image for cell in again} - {None}
    assert images == {str(copied / file.copy) for file in rich.inputs()
                      if file.path.endswith(("a.png", "b.png"))}  # fmt: skip
    wanted = {cell.axes for cell in again}
    assert any(("mask", f"{tmp_path}/m.png") in axes for axes in wanted)
    assert again.to_json() == rich.to_json()
    with pytest.raises(RequestError, match="has changed since the plan was made"):
        read_again(rich)


def test_moved_reads_the_copies(rich: Plan, tmp_path: Path) -> None:
    root = tmp_path / "run"
    with pytest.raises(RequestError, match="does not exist"):
        rich.moved(root)
    copy_inputs(rich, root)
    cells = [(cell.cell_id, cell.params.prompt, cell.axes) for cell in rich]
    moved = rich.moved(root)
    for file in rich.inputs():
        file.source.unlink()
    assert [(cell.cell_id, cell.params.prompt, cell.axes) for cell in moved] == cells
    assert moved.to_json() == rich.to_json()


@pytest.mark.parametrize("which", [0, 1])
def test_changed_and_missing_inputs_are_refused(rich: Plan, tmp_path: Path, which: int) -> None:
    copy_inputs(rich, tmp_path / "run")
    copy = tmp_path / "run" / rich.inputs()[which].copy
    copy.write_bytes(b"prompt\nother\n")
    with pytest.raises(RequestError) as caught:
        read_again(rich, tmp_path / "run")
    assert str(copy) in str(caught.value)
    assert "has changed since the plan was made" in str(caught.value)
    copy.unlink()
    with pytest.raises(RequestError, match="does not exist"):
        read_again(rich, tmp_path / "run")


def test_the_hash_is_of_what_is_made_and_in_which_order(tmp_path: Path) -> None:
    for name in ("a.png", "same.png"):
        (tmp_path / name).write_bytes(b"A")
    (tmp_path / "b.png").write_bytes(b"B")

    def hashed(**arguments: Any) -> str:
        return plan_of(**{"axes": {"seed": [1, 2], "steps": [3]}, **arguments}).hash

    one = hashed()
    assert hashed(config={"device": {"batch_size": 4}, "limits": {"timeout_s": 9}}) == one
    assert hashed(seed=7) == one, "no point needs the base seed"
    assert hashed(axes={"steps": [3], "seed": [1, 2]}) != one
    assert hashed(axes={"seed": [2, 1], "steps": [3]}) != one
    assert hashed(config={"n": 2}) != one
    assert hashed(config={"model": {"name": "two"}}) != one
    assert hashed(exclude=[{"seed": 1}]) != one
    assert hashed(cells=[{"seed": 4}]) != one
    assert hashed(axes={"steps": [3]}, seed=7) != hashed(axes={"steps": [3]}, seed=8)

    def of_image(name: str) -> set[str]:
        path = f"{tmp_path}/{name}"
        return {
            hashed(config={"pipeline": {"image": path}}),
            hashed(axes={"seed": [1], "image": [path]}),
            hashed(cells=[{"image": path, "seed": 1}]),
        }

    assert of_image("a.png") == of_image("same.png")
    assert of_image("a.png").isdisjoint(of_image("b.png"))
    hashes = []
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p.txt").write_text("a\nb\n")
        hashes.append(plan_of(prompts=PromptFile.open(tmp_path / folder / "p.txt"), seed=1).hash)
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"schema_version": 2}, "schema version 2; this program reads 1"),
        ({"seed": 8}, "does not match its hash"),
        ({"axes": {"steps": [1]}}, "does not match its hash"),
        ({"hash": 5}, "damaged at hash"),
        ({"more": 1}, "damaged at more"),
        ({"variants": [{}]}, "damaged at variants.0"),
    ],
)
def test_damaged_plans_are_refused(change: dict[str, Any], part: str) -> None:
    data = plan_of(axes={"steps": [1, 2]}, seed=7).to_json()
    with pytest.raises(RequestError) as caught:
        Plan.from_json({**data, **change})
    assert part in str(caught.value)


def test_long_names_of_inputs_stay_legal(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 120 + ".png")
    path.write_bytes(b"A")
    plan = plan_of(config={"pipeline": {"image": str(path)}, "seed": 1})
    copy_inputs(plan, tmp_path / "run")
    assert plan.moved(tmp_path / "run")[0].cell_id == plan[0].cell_id

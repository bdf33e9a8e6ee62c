"""Ids of cells: fixed for ever, and dependent on nothing but what is asked."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.plan import PromptFile
from runner.settings.cell import FILE_KEYS, cell_id
from runner.settings.errors import RequestError
from tests.conftest import REPOSITORY
from tests.unit.plan_stub import plan_of, variant

PROMPTS = 'prompt,who\n"a fox, ""red"" é中😀\nsecond line",x\n'

GOLDEN_IDS = [
    "eceb0c734acaeef62534d9dbeaa1269d294e14bfd490006bdf9b05d34271588a",
    "b1a72b1c20d0186cc9237c6aa13d989163e79d7d7a05671e612f04592d4f9a84",
    "827e100f226607fbfebf7eae0104b3f134b6e6cce8a73700cf939d08314aa5d2",
    "0748a161414869fdc68fdc58356a4a394f95f849e754dc2221d7f2a5885485d7",
    "faae00815c5a3ea7d0a8e045ff5a07c9b74d25d1cad229c40880b156b7ee8bff",
]


def golden(folder: Path) -> list[str]:
    """Ids of a few cells that must never change."""
    (folder / "p.csv").write_bytes(PROMPTS.encode())
    plan = plan_of(
        axes={"guidance_scale": "range(0,1,0.1)", "seed": [0, 2**63 - 1]},
        prompts=PromptFile.open(folder / "p.csv"),
        config={
            "prompt": "{prompt} by {who}",
            "size": "64x64",
            "n": 2,
            "model": {"name": "one", "preset": {"steps": 20}},
        },
        cells=[{"prompt": "", "strength": 1e-7, "control_scale": 1e22, "seed": 1}],
    )
    return [plan[index].cell_id for index in (0, 1, 2, 28, 40)]


def test_golden(tmp_path: Path) -> None:
    assert golden(tmp_path) == GOLDEN_IDS


@pytest.mark.parametrize("env", [
    {"PYTHONHASHSEED": "0", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONHASHSEED": "4242", "LC_ALL": "de_DE.UTF-8", "TZ": "Asia/Tokyo"},
])  # fmt: skip
def test_golden_in_another_process(tmp_path: Path, env: dict[str, str]) -> None:
    code = (
        "import pathlib, sys; from tests.unit.test_plan_ids import golden;"
        "print(*golden(pathlib.Path(sys.argv[1])))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, **env},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert child.stdout.split() == GOLDEN_IDS


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "prompt": TEXTS,
        "negative_prompt": TEXTS,
        "seed": st.integers(0, 2**63 - 1),
        "size": TEXTS,
        "steps": st.integers(1, 10_000),
        "guidance_scale": st.floats(0, 1000),
        "quality": TEXTS,
        "background": TEXTS,
        "strength": st.floats(0, 1),
        "control_scale": st.floats(0, allow_infinity=False),
    },
)


@settings(max_examples=200, deadline=None)
@given(PARAMS, PARAMS, st.integers(1, 3), st.randoms(use_true_random=False))
def test_ids_are_those_of_the_definition(
    base: dict[str, Any], cell: dict[str, Any], n: int, shuffler: Any
) -> None:
    """Whatever is fixed, swept or given as a point: pieces make the same text as the whole."""
    axes = {"steps": [7], **{key: [cell[key]] for key in cell if key in base}}
    pipeline = {key: base[key] for key in base if key in ("strength", "control_scale")}
    config = {key: value for key, value in base.items() if key not in pipeline}
    plan = plan_of(
        axes=axes,
        cells=[cell],
        config={**config, "pipeline": pipeline, "n": n},
        seed=5,
    )
    identity = plan.variants[0].identity
    points = ({**base, **{key: values[0] for key, values in axes.items()}}, {**base, **cell})
    for point, asked in enumerate(points):
        asked = {"prompt": "", "seed": 5, **asked}
        keys = list(asked)
        shuffler.shuffle(keys)
        for image in range(n):
            expected = cell_id(identity, {key: asked[key] for key in keys}, image)
            assert plan[point * n + image].cell_id == expected


def test_ids_do_not_depend_on_how_a_value_is_written() -> None:
    def ids(axes: dict[str, object], **config: Any) -> list[str]:
        return [cell.cell_id for cell in plan_of(axes=axes, config={"seed": 1, **config})]

    numbers = ids({"guidance_scale": [7, 7.5]})
    assert numbers == ids({"guidance_scale": [7.0, "7.50"]})
    assert numbers == ids({"guidance_scale": "range(7,8,0.5)"})
    assert numbers == ids({"guidance_scale": "choice(7,75e-1)"})
    assert numbers[0] == ids({}, guidance_scale=7)[0] == ids({}, guidance_scale=7.0)[0]
    assert ids({"steps": [1, 2], "seed": [3]}) == ids({"seed": [3], "steps": [1, 2]})
    assert ids({"size": [512]}) == ids({"size": ["512x512"]}) == ids({}, size=512)
    assert numbers[0] != numbers[1]
    assert ids({}) == ids({"steps": [None]})


def test_ids_do_not_depend_on_where_and_how_it_runs() -> None:
    def first(**config: Any) -> str:
        return plan_of(config={"seed": 1, "prompt": "a fox", **config})[0].cell_id

    one = first()
    stub = {"name": "stub"}
    assert first(provider={**stub, "base_url": "https://x.example", "api_key_env": "K"}) == one
    assert first(device={"batch_size": 8, "dtype": "float16"}) == one
    assert first(limits={"timeout_s": 5, "max_concurrency": 1}) == one
    assert first(output={"format": "webp"}) == one
    assert first(model={"name": "one", "price": {"x": 1}}) == one
    assert first(model={"name": "two"}) != one
    assert first(model={"name": "one", "revision": "v2"}) != one
    assert first(provider={**stub, "options": {"x": 1}}) != one
    assert first(seed=2) != one


def test_a_file_is_named_by_its_content(tmp_path: Path) -> None:
    for name, content in {"a.png": b"A", "also_a.png": b"A", "b.png": b"B"}.items():
        (tmp_path / name).write_bytes(content)

    def plan(**pipeline: str) -> Any:
        return plan_of(config={"seed": 1, "pipeline": {"name": "img2img", **pipeline}})

    cell = plan(image=f"{tmp_path}/a.png")[0]
    assert cell.params.image == f"{tmp_path}/a.png"
    sha = hashlib.sha256(b"A").hexdigest()
    variants = plan(image=f"{tmp_path}/a.png").variants
    expected = cell_id(variants[0].identity, {"prompt": "", "seed": 1, "image": sha}, 0)
    assert cell.cell_id == expected
    assert plan(image=f"{tmp_path}/also_a.png")[0].cell_id == expected
    assert plan(image=f"{tmp_path}/b.png")[0].cell_id != expected
    address = "https://example.com/a.png"
    assert plan(image=address)[0].cell_id == cell_id(
        variants[0].identity, {"prompt": "", "seed": 1, "image": address}, 0
    )
    for key in sorted(FILE_KEYS):
        axis = plan_of(axes={key: [f"{tmp_path}/a.png", None, f"{tmp_path}/b.png"]}, seed=1)
        assert [getattr(cell.params, key) for cell in axis][::2] == [
            f"{tmp_path}/a.png", f"{tmp_path}/b.png",
        ]  # fmt: skip
        assert axis[0].cell_id == cell_id(
            axis.variants[0].identity, {"prompt": "", "seed": 1, key: sha}, 0
        )


def test_missing_files_are_all_told(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,image,mask\na,x.png,\nb,y.png,\nc,x.png,\n")
    with pytest.raises(RequestError) as caught:
        plan_of(
            prompts=PromptFile.open(tmp_path / "p.csv"),
            axes={"control_image": [f"{tmp_path}/c.png", None]},
            config={"pipeline": {"mask": "{prompt}.png"}},
        )
    missing = [text.split()[1].rpartition("/")[2] for text in caught.value.problems]
    assert sorted(missing) == ["a.png", "b.png", "c.png", "c.png", "x.png", "y.png"]


def test_many_missing_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,image\n" + "".join(f"p,{i}.png\n" for i in range(25)))
    with pytest.raises(RequestError) as caught:
        plan_of(prompts=PromptFile.open(tmp_path / "p.csv"))
    assert len(caught.value.problems) == 11
    assert caught.value.problems[-1] == "… and 15 more input files"


def test_only_files_and_https_are_read() -> None:
    with pytest.raises(RequestError, match="give a file or an https address"):
        plan_of(config={"pipeline": {"image": "http://x/a.png"}})


def test_variants_have_ids_of_their_own() -> None:
    plan = plan_of(variants=[variant(i, model={"name": f"m{i}"}, seed=1) for i in range(3)])
    assert len({cell.cell_id for cell in plan}) == 3

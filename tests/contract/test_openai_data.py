"""``provider=openai`` without a wire: its rules, its identity, its model files."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from runner.providers.openai_family.options import ImagesOptions
from runner.providers.registry import make_provider
from runner.settings.cell import CellParams
from runner.settings.errors import RequestError
from runner.settings.schema import VariantSettings
from tests.contract.support import variant
from tests.servers.loopback import picture


def openai(*overrides: str) -> VariantSettings:
    """The provider's own config."""
    return variant("provider=openai", *overrides)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("+provider.options.input_fidelity=high",), ("input_fidelity", "gpt-image-2")),
        (("+provider.options.complexity=low", "model=openai/gpt_image_1_5"), ("complexity",)),
        (("pipeline.name=img2img", "+provider.options.moderation=low"), ("moderation",)),
        (("+provider.options.images=[a.png]",), ("images", "img2img")),
        (
            (
                "pipeline.name=inpaint",
                "+provider.options.markup=a.png",
                "model=openai/gpt_image_2_5_flare",
            ),
            ("markup", "mask"),
        ),
        (
            (
                "pipeline.name=img2img",
                "+provider.options.input_fidelity=high",
                "model=openai/gpt_image_1_mini",
            ),
            ("input_fidelity=high", "low"),
        ),
        (("+provider.options.partial_images=4",), ("partial_images", "3")),
        (("+provider.options.output_compression=-1",), ("output_compression",)),
    ],
)
def test_options_that_do_not_fit(overrides: tuple[str, ...], words: tuple[str, ...]) -> None:
    with pytest.raises(RequestError) as caught:
        make_provider(openai(*overrides))
    assert len(caught.value.problems) == 1
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("overrides", "params", "word"),
    [
        ((), {"background": "transparent", "output_format": "jpeg"}, "background"),
        (("+provider.options.output_compression=5",), {}, "output_compression"),
        (("+provider.options.partial_images=1",), {"output_format": "gif"}, "partial_images"),
        (("+provider.options.frame_count=3",), {}, "frame_count"),
        (("+provider.options.svg.model=x",), {}, "svg"),
        (
            ("pipeline.name=inpaint",),
            {"output_format": "gif", "image": "a.png", "mask": "m.png"},
            "gif",
        ),
        ((), {"prompt": "x" * 32_001}, "32,001"),
        ((), {"size": "640x640"}, "640x640"),
        ((), {"size": "4:1"}, "4:1"),
        ((), {"size": "huge"}, "huge"),
    ],
)
def test_cells_that_do_not_fit(
    overrides: tuple[str, ...], params: dict[str, str], word: str
) -> None:
    problems = make_provider(openai(*overrides)).check(CellParams(**params))
    assert len(problems) == 1
    assert word in problems[0]


def test_identity_is_what_changes_the_picture(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    for path, number in ((one, 1), (same, 1), (other, 2)):
        path.write_bytes(picture(number))

    def identity(*options: str) -> object:
        return make_provider(openai("pipeline.name=img2img", *options)).identity()

    base = identity(f"+provider.options.images=['{one}']")
    assert identity(f"+provider.options.images=['{same}']") == base
    assert identity(f"+provider.options.images=['{other}']") != base
    assert (
        identity(f"+provider.options.images=['{one}']", "+provider.options.organization=x") == base
    )
    assert identity("+provider.options.input_fidelity=low", "model=openai/gpt_image_1_5") != (
        identity("model=openai/gpt_image_1_5")
    )


def test_quota_is_per_model_and_key() -> None:
    keys = {
        make_provider(openai(*overrides)).quota_key()
        for overrides in (
            (),
            ("model=openai/gpt_image_1_5",),
            ("provider.api_key_env=OTHER",),
            ("provider.base_url=https://eu.api.openai.com/v1",),
        )
    }
    assert len(keys) == 4


def test_snapshots_are_their_model() -> None:
    for family in ("gpt_image_2", "gpt_image_2_5_flare", "gpt_image_2_5_sunburst"):
        base = variant("provider=openai", f"model=openai/{family}").model
        found = [path.stem for path in Path("conf/model/openai").glob(f"{family}_2026*.yaml")]
        for name in found:
            snapshot = variant("provider=openai", f"model=openai/{name}").model
            assert snapshot.name.startswith(base.name)
            assert snapshot.model_copy(update={"name": base.name}) == base
        assert found


def test_every_model_of_the_sdk_has_a_file() -> None:

    from openai.types import ImageModel

    names = {
        variant("provider=openai", f"model=openai/{path.stem}").model.name
        for path in Path("conf/model/openai").glob("*.yaml")
    }
    assert set(get_args(ImageModel)) <= names


def test_every_option_is_taken_by_some_model() -> None:
    taken = {
        option
        for path in Path("conf/model/openai").glob("*.yaml")
        for option in variant("provider=openai", f"model=openai/{path.stem}").model.traits.get(
            "options", ()
        )
    }
    assert taken == set(ImagesOptions.model_fields)


@pytest.mark.parametrize(
    ("pipeline", "files", "words"),
    [
        ("img2img", {}, ["pipeline.image"]),
        ("inpaint", {}, ["pipeline.image", "pipeline.mask"]),
        ("inpaint", {"image": "big.png", "mask": "small.png"}, ["16x12"]),
        ("inpaint", {"image": "big.png", "mask": "page.png"}, ["HTML"]),
        ("inpaint", {"image": "big.png", "mask": "big.png"}, []),
        ("inpaint", {"image": "https://example.com/a.png", "mask": "big.png"}, []),
    ],
)
def test_input_files_are_checked_before_anything_is_sent(
    pipeline: str, files: dict[str, str], words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "big.png").write_bytes(picture(1, size=(32, 24)))
    (tmp_path / "small.png").write_bytes(picture(1))
    (tmp_path / "page.png").write_bytes(b"<!doctype html><html></html>")
    paths = {key: name if "://" in name else str(tmp_path / name) for key, name in files.items()}
    provider = make_provider(openai(f"pipeline.name={pipeline}"))
    problems = provider.check(CellParams(prompt="x", **paths))
    assert len(problems) == len(words), problems
    assert all(word in problem for word, problem in zip(words, problems, strict=True))

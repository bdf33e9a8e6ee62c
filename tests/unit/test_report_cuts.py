"""The contact sheet as PDF and WebP, as strips, as an animation."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from runner.report.cuts import write_animation, write_sheet_as, write_strips
from runner.settings.errors import RequestError
from tests.report_fixture import PROMPTS, comparison


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return comparison(tmp_path_factory.mktemp("cuts") / "run", large=96)


def test_a_pdf_has_the_pages(run: Path) -> None:
    (path,) = write_sheet_as(run, "pdf")
    data = path.read_bytes()
    assert data.startswith(b"%PDF-")
    assert data.rstrip().endswith(b"%%EOF")
    assert b"/Type /Page" in data


def test_webp_has_the_pixels_of_the_png(run: Path) -> None:
    (png,) = write_sheet_as(run, "png")
    (webp,) = write_sheet_as(run, "webp")
    with Image.open(png) as one, Image.open(webp) as other:
        assert other.format == "WEBP"
        assert one.size == other.size


def test_a_strip_per_prompt(run: Path) -> None:
    paths = write_strips(run, "prompt")
    assert [path.name for path in paths] == [f"prompt-{n:03d}.png" for n in range(len(PROMPTS))]
    images = [Image.open(path) for path in paths]
    assert len({image.tobytes() for image in images}) == len(PROMPTS)
    (whole,) = write_sheet_as(run, "png")
    assert max(image.height for image in images) < Image.open(whole).height


@pytest.mark.parametrize(("form", "kind"), [("webp", "WEBP"), ("gif", "GIF")])
def test_frames_are_the_values_of_an_axis(run: Path, form: str, kind: str) -> None:
    path = write_animation(run, "seed", form)  # type: ignore[arg-type]
    with Image.open(path) as image:
        assert image.format == kind
        assert image.n_frames == 4
        frames = set()
        for number in range(4):
            image.seek(number)
            frames.add(image.convert("RGB").tobytes())
    assert len(frames) == 4


def test_a_wrong_axis_gets_the_nearest(run: Path) -> None:
    with pytest.raises(RequestError, match="did you mean 'prompt'"):
        write_strips(run, "promt")

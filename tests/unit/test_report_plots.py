"""Plots: what they say, that they are well-formed, that no text breaks out of them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from runner.report import write_page
from runner.report.gallery import load
from runner.report.plots import MOST_BARS, plots
from tests.report_fixture import HOSTILE, RunFolder, comparison, encode, many, picture, single_wall

SVG = "{http://www.w3.org/2000/svg}"


def drawn(root: Path) -> dict[str, ElementTree.Element]:
    return {plot.name: ElementTree.fromstring(plot.svg) for plot in plots(load(root))}


def words(svg: ElementTree.Element) -> str:
    return " | ".join(text.text or "" for text in svg.iter(f"{SVG}text"))


def test_a_comparison_is_plotted_by_provider_and_by_axis(tmp_path: Path) -> None:
    found = drawn(comparison(tmp_path / "run", large=64))
    assert set(found) == {"time", "cost", "success-provider", "success-prompt", "success-seed"}
    assert "logarithmic" in words(found["time"])
    assert "$0.042" in words(found["cost"])
    assert "free" in words(found["cost"])
    assert "14 done, 1 refused, 1" in (found["success-provider"].get("aria-label") or "")
    bars = found["cost"].findall(f".//{SVG}rect")
    widths = [float(bar.get("width", 0)) for bar in bars]
    assert widths[1] / widths[0] == pytest.approx(0.039 / 0.042, abs=0.01)


def test_a_handful_of_free_pictures_has_a_time_and_nothing_else(tmp_path: Path) -> None:
    assert set(drawn(single_wall(tmp_path / "run"))) == {"time"}
    assert drawn(single_wall(tmp_path / "few", count=2)) == {}


def test_many_values_show_the_worst(tmp_path: Path) -> None:
    found = drawn(many(tmp_path / "run", rows=60, columns=10))
    labels = found["success-prompt"].findall(f"./{SVG}text")
    assert len(labels) == 1 + 2 * MOST_BARS
    assert "the worst 24 of 60" in words(found["success-prompt"])
    assert "failed" in (labels[2].text or "")


def test_no_text_breaks_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    for number, prompt in enumerate(HOSTILE):
        folder.add_image(
            encode(picture("p", number, (32, 32))),
            axes={"prompt": prompt},
            prompt=prompt,
            latency_s=1.0 + number,
        )
        folder.add_failure(axes={"prompt": prompt}, prompt=prompt, provider="diffusers", variant=0)
    root = folder.write()
    for svg in drawn(root).values():
        kinds = {element.tag.removeprefix(SVG) for element in svg.iter()}
        assert kinds <= {"svg", "text", "g", "rect", "path"}


def test_files_follow_the_run(tmp_path: Path) -> None:
    root = comparison(tmp_path / "run", large=64)
    write_page(root)
    assert {path.name for path in (root / "plots").iterdir()} >= {"time.svg", "cost.svg"}
    assert 'class="plot"' in (root / "index.html").read_text()
    (root / "plots" / "success-old.svg").write_text("<svg/>")
    write_page(root)
    assert not (root / "plots" / "success-old.svg").exists()

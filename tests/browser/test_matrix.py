"""Matrix and wall: arranging, filtering, and drawing only what is in view."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from runner.report import write_page
from tests.browser.conftest import Open
from tests.browser.driving import focused, select, tiles, until
from tests.report_fixture import PROMPTS, RunFolder, encode, picture


def test_the_matrix_has_headers_and_says_what_failed(open_page: Open, compared: Path) -> None:
    page = open_page(compared)
    heads = page.locator("#grid thead th").all_inner_texts()
    assert heads[1:] == ["openai", "google_ai_studio", "diffusers"]
    assert page.locator("#grid tbody th").first.inner_text() == PROMPTS[0]
    page.locator("#grid tbody th", has_text=PROMPTS[2]).scroll_into_view_if_needed()
    assert page.get_by_text("Refused: content filter", exact=True).is_visible()
    retried = page.locator(".badge", has_text="retried 1")
    assert retried.count() == 1


def test_any_two_axes_make_the_matrix_and_a_reload_keeps_them(
    open_page: Open, compared: Path
) -> None:
    page = open_page(compared)
    select(page, "Columns").select_option("seed")
    select(page, "Rows").select_option("@variant")
    assert page.locator("#grid thead th").all_inner_texts()[1:] == [
        f"seed {seed}" for seed in range(4)
    ]
    select(page, "prompt").select_option(f"={PROMPTS[1]}")
    page.reload()
    assert page.locator("#grid tbody th").all_inner_texts() == [
        "openai",
        "google_ai_studio",
        "diffusers",
    ]
    assert page.locator("#count").inner_text() == "12 of 48 cells"
    page.get_by_role("button", name="Swap rows and columns").click()
    assert page.locator("#grid thead th").all_inner_texts()[1] == "openai"


def test_sections_group_the_rows(open_page: Open, compared: Path) -> None:
    address = "#rows=seed&columns=%40variant&group=prompt&size=64"
    page = open_page(compared, address, viewport={"width": 1280, "height": 2400})
    headings = page.locator("tr.heading").all_inner_texts()
    assert [heading.replace("prompt", "", 1).strip() for heading in headings] == list(PROMPTS)
    assert page.locator("#grid tbody th[scope=row]").count() == 16


def test_an_empty_cell_says_why(open_page: Open, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    data = encode(picture("p", 1, (32, 32)))
    for prompt, seed in (("a", 1), ("a", 2), ("b", 1)):
        run.add_image(data, axes={"prompt": prompt, "seed": seed}, prompt=prompt)
    said = []
    for changes in ({}, {"cells": 4, "status": "running"}, {"cells": 4, "status": "interrupted"}):
        run.write(**changes)
        write_page(tmp_path)
        page = open_page(tmp_path)
        said.append(page.locator(".empty").inner_text())
    assert said == ["not in the plan", "not made yet", "no image"]
    page = open_page(tmp_path, "#time.min=99")
    assert "No cell passes" in page.locator(".nothing").inner_text()


def test_filters_narrow_and_the_count_follows(open_page: Open, compared: Path) -> None:
    page = open_page(compared)
    page.get_by_role("searchbox").fill("LIGHTHOUSE")
    page.locator("#count", has_text="12 of 48 cells").wait_for()
    page.get_by_role("button", name="Filter and order").click()
    select(page, "status").select_option("=done")
    page.get_by_label("cost from").fill("0.04")
    page.get_by_label("cost from").press("Enter")
    page.locator("#count", has_text=re.compile("^4 of 48 cells")).wait_for()
    page.reload()
    assert page.locator("#count").inner_text() == "4 of 48 cells"
    page.get_by_role("button", name=re.compile("Filter and order")).click()
    page.get_by_role("button", name="Clear filters").click()
    assert page.locator("#count").inner_text() == "48 cells"


def test_the_wall_is_sorted(open_page: Open, compared: Path) -> None:
    page = open_page(compared, "#view=wall&only.status=done")
    page.get_by_role("button", name=re.compile("Filter and order")).click()
    select(page, "order").select_option("slowest")
    times = [
        float(found.group(1))
        for text in page.locator(".tile .meta").all_inner_texts()
        if (found := re.search(r"([\d.]+) s", text))
    ]
    assert len(times) > 6
    assert times == sorted(times, reverse=True)


def test_small_pictures_are_enlarged_by_whole_pixels(open_page: Open, small: Path) -> None:
    page = open_page(small)
    picture_box = page.locator(".tile img").first
    assert picture_box.bounding_box()["width"] == 256
    assert picture_box.evaluate("(image) => getComputedStyle(image).imageRendering") == "pixelated"


def test_pictures_of_all_shapes_are_shown_whole(open_page: Open, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    sizes = [(300, 100), (100, 300), (200, 200)]
    for prompt, size in itertools.product("ab", sizes):
        axes = {"prompt": prompt, "size": "{}x{}".format(*size)}
        run.add_image(encode(picture(prompt, 1, size)), axes=axes, prompt=prompt, size=size)
    run.write()
    write_page(tmp_path)
    for address in ("", "#view=wall"):
        page = open_page(tmp_path, address)
        frames = page.locator(".tile").evaluate_all(
            """(tiles) => tiles.map((tile) => {
              const [frame, image] = [tile.querySelector(".picture"), tile.querySelector("img")]
                .map((element) => element.getBoundingClientRect());
              return [frame.width - image.width, frame.height - image.height];
            })"""
        )
        assert frames == [[0, 0]] * 6
        fits = page.locator(".tile img").evaluate_all(
            "(images) => images.map((image) => getComputedStyle(image).objectFit)"
        )
        assert set(fits) == {"contain"}


def test_a_full_cell_leads_to_all_its_pictures(open_page: Open, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    data = encode(picture("p", 1, (16, 16)))
    for prompt in ("a", "b"):
        for steps in (1, 2):
            for number in range(20 if (prompt, steps) == ("a", 1) else 2):
                run.add_image(
                    data, axes={"prompt": prompt, "steps": steps}, prompt=prompt, image_index=number
                )
    run.write()
    write_page(tmp_path)
    page = open_page(tmp_path, "#rows=prompt&columns=steps")
    page.get_by_role("button", name="+ 9 more").click()
    assert page.locator("#count").inner_text() == "20 of 26 cells"
    assert tiles(page).count() == 20


def test_a_lost_file_is_said_and_breaks_nothing(open_page: Open, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for number in range(3):
        run.add_image(encode(picture("p", number, (32, 32))), axes={}, image_index=number)
    run.write()
    write_page(tmp_path)
    (tmp_path / "images" / run.images[1].file_name).unlink()
    page = open_page(tmp_path, allow_missing=True)
    assert tiles(page).nth(1).get_by_text("The file is missing or damaged.").is_visible()
    assert tiles(page).nth(0).locator("img").count() == 1
    tiles(page).nth(1).locator(".picture").click()
    page.locator("#detail").get_by_text("The file is missing or damaged.").wait_for()


# Many cells


def test_ten_thousand_cells_draw_only_what_is_in_view(open_page: Open, big: Path) -> None:
    page = open_page(big)
    assert page.locator("#count").inner_text() == "10,000 cells"

    def drawn() -> int:
        return int(page.evaluate("document.querySelectorAll('#grid .tile').length"))

    assert 20 < drawn() < 600
    height = page.evaluate("document.documentElement.scrollHeight")
    assert height > 250 * 120
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    page.locator("#grid tbody th", has_text="prompt 249:").wait_for()
    assert drawn() < 600
    assert page.evaluate("document.documentElement.scrollHeight") == height
    page.evaluate("scrollTo(document.documentElement.scrollWidth, 0)")
    page.locator("#grid thead th", has_text="seed 39").wait_for()
    assert page.locator("#grid tbody th", has_text="prompt 0:").is_visible()
    assert drawn() < 600


def test_rows_stand_where_they_are_computed(open_page: Open, big: Path) -> None:
    page = open_page(big)
    page.evaluate("scrollTo(0, 9000)")
    until(page, "Number(document.querySelector('tr[data-row]').dataset.row) > 10")
    gaps = page.evaluate(
        """() => {
          const rows = [...document.querySelectorAll("tr[data-row]")];
          const top = (element) => element.getBoundingClientRect().top;
          const step = top(rows[1]) - top(rows[0]);
          const first = top(document.querySelector("#grid tbody"));
          return rows.map((row) => top(row) - first - step * row.dataset.row);
        }"""
    )
    assert max(map(abs, gaps)) < 1


def test_the_keyboard_reaches_the_last_of_ten_thousand(open_page: Open, big: Path) -> None:
    page = open_page(big)
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("End")
    assert focused(page).startswith("prompt 249:")
    assert focused(page).endswith("seed 39")
    page.keyboard.press("PageUp")
    assert not focused(page).startswith("prompt 249:")
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") > 0


def test_the_wall_of_ten_thousand_is_windowed_too(open_page: Open, big: Path) -> None:
    page = open_page(big, "#view=wall&q=prompt 24")
    page.locator("#count", has_text="440 of 10,000 cells").wait_for()
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    page.locator(".tile .prompt", has_text="prompt 249:").last.wait_for()
    assert tiles(page).count() < 200


def test_all_rows_are_there_on_paper(open_page: Open, compared: Path) -> None:
    page = open_page(compared, viewport={"width": 1280, "height": 400})
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tiles(page).count() == 48
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tiles(page).count() < 48

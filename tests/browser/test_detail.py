"""One picture, several compared, and all of it with the keyboard."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from runner.report import write_page
from tests.browser.conftest import Open
from tests.browser.driving import focused, tiles, until
from tests.report_fixture import PROMPTS, RunFolder, encode, picture


def test_the_detail_tells_requested_sent_and_effective(open_page: Open, compared: Path) -> None:
    page = open_page(compared)
    tiles(page).first.locator(".picture").click()
    rows = page.locator("#detail table tbody tr").all_inner_texts()
    table = {
        row.split("\t")[0].strip(): [cell.strip() for cell in row.split("\t")[1:]] for row in rows
    }
    assert table["seed"] == ["0", "dropped", "—"]
    assert table["quality"] == ["medium", "medium", "medium"]
    assert table["output_format"] == ["—", "—", "png"]
    text = page.locator("#detail").inner_text()
    for part in ("Revised by the provider", "gpt-image-1.5-2026-09-12", "c2pa", "$0.042 (usage)"):
        assert part in text


def test_one_to_one_is_one_screen_pixel(open_page: Open, compared: Path) -> None:
    page = open_page(compared, device_scale_factor=2)
    tiles(page).first.locator(".picture").click()
    page.get_by_role("radio", name="One image pixel on one screen pixel").check()
    box = page.locator("#detail .stage img").bounding_box()
    assert (box["width"], box["height"]) == (200, 200)
    assert page.locator("#detail .zoom").inner_text() == "100 %"


def test_a_link_opens_its_cell_and_back_closes_it(open_page: Open, compared: Path) -> None:
    page = open_page(compared)
    tiles(page).nth(1).locator(".picture").click()
    address = page.evaluate("location.hash")
    assert re.fullmatch(r"#cell=[0-9a-f]{64}", address)
    shown = page.locator("#detail .stage img").get_attribute("alt")
    page.go_back()
    assert not page.locator("#detail").is_visible()
    other = open_page(compared, address)
    assert other.locator("#detail .stage img").get_attribute("alt") == shown
    other.keyboard.press("Escape")
    until(other, "location.hash === ''")


def test_what_is_copied_is_the_prompt_and_the_row(open_page: Open, compared: Path) -> None:
    page = open_page(compared, permissions=["clipboard-read", "clipboard-write"])
    tiles(page).first.locator(".picture").click()
    page.get_by_role("button", name="Copy prompt", exact=True).click()
    page.get_by_role("button", name="Copied").or_(page.get_by_text("Copied")).first.wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == PROMPTS[0]
    page.get_by_role("button", name="Copy all as JSON").click()
    until(page, "navigator.clipboard.readText().then((text) => text.startsWith('{'))")
    row = page.evaluate("navigator.clipboard.readText().then(JSON.parse)")
    assert row["axes"] == {"prompt": PROMPTS[0], "seed": 0}
    assert row["params_sent"]["quality"] == "medium"
    assert row["params_dropped"] == ["seed"]


# Compare


def test_pinned_pictures_share_zoom_and_pan(open_page: Open, compared: Path) -> None:
    page = open_page(compared)
    for number in range(3):
        tiles(page).nth(number).hover()
        tiles(page).nth(number).get_by_role("button", name="Pin to compare").click()
    page.get_by_role("button", name="Compare 3").click()
    panes = page.locator("#compare .panes")
    panes.press("+")
    panes.press("ArrowLeft")
    boxes = page.locator("#compare .pane").evaluate_all(
        """(panes) => panes.map((pane) => {
          const [frame, image] = [pane, pane.firstChild].map((box) => box.getBoundingClientRect());
          return [image.left - frame.left, image.top - frame.top, image.width].map(Math.round);
        })"""
    )
    assert len(boxes) == 3
    assert all(abs(a - b) <= 1 for box in boxes for a, b in zip(box, boxes[0], strict=True))
    assert boxes[0][2] > page.locator("#compare .pane").first.bounding_box()["width"]
    assert "What differs" in page.locator("#compare").inner_text()
    page.reload()
    assert page.get_by_role("button", name="Compare 3").is_visible()


@pytest.mark.parametrize(("motion", "blinks"), [("no-preference", True), ("reduce", False)])
def test_blinking_obeys_reduced_motion(
    open_page: Open, compared: Path, motion: str, blinks: bool
) -> None:
    page = open_page(compared, reduced_motion=motion)
    page.clock.install()
    for number in range(2):
        tiles(page).nth(number).locator(".picture").focus()
        page.keyboard.press("p")
    page.get_by_role("button", name="Compare 2").click()
    page.get_by_role("radio", name="Blink").check()
    fronts = []
    for _ in range(3):
        fronts.append(page.locator("#compare figure:visible img").get_attribute("alt"))
        page.clock.run_for(710)
    assert (fronts[0] != fronts[1]) is blinks
    assert fronts[0] == fronts[2]
    page.get_by_role("button", name="Next").click()
    page.keyboard.press("Escape")
    assert focused(page) == "Compare 2"


# Keyboard


def test_a_walk_with_the_keyboard_alone(open_page: Open, compared: Path) -> None:
    page = open_page(compared)
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the images"
    page.keyboard.press("Enter")
    assert focused(page) == f"{PROMPTS[0]} – openai gpt-image-1.5, seed 0"
    page.keyboard.press("ArrowRight")
    assert focused(page).endswith("openai gpt-image-1.5, seed 1")
    page.keyboard.press("ArrowRight")
    assert focused(page).endswith("google_ai_studio gemini-3-pro-image, seed 0")
    page.keyboard.press("ArrowDown")
    assert focused(page).endswith("google_ai_studio gemini-3-pro-image, seed 2")
    page.keyboard.press("ArrowDown")
    assert focused(page).startswith(f"{PROMPTS[1]} – google_ai_studio")
    page.keyboard.press("p")
    assert page.locator("#tray").is_visible()
    page.keyboard.press("Enter")
    assert page.locator("#detail").is_visible()
    page.keyboard.press("ArrowRight")
    assert page.locator("#detail .place").inner_text() == "18 of 48"
    page.keyboard.press("Escape")
    page.locator("#detail").wait_for(state="hidden")
    until(page, "document.activeElement.querySelector('img')?.alt.endsWith('image, seed 1')")
    page.keyboard.press("End")
    assert focused(page).startswith(f"{PROMPTS[3]} – diffusers")
    page.keyboard.press("Tab")
    assert focused(page) == "Pin to compare"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#tray') !== null")


def test_a_cut_header_shows_all_of_itself_on_focus(open_page: Open, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    data = encode(picture("p", 1, (32, 32)))
    long = "a very long prompt, and longer still, " * 20
    for prompt, seed in itertools.product((long, "short"), (1, 2)):
        run.add_image(data, axes={"prompt": prompt, "seed": seed}, prompt=prompt)
    run.write()
    write_page(tmp_path)
    page = open_page(tmp_path)
    page.locator("#grid tbody th .long").first.focus()
    assert page.locator("#tip").text_content() == long
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()
    assert page.locator("#grid tbody th .long[tabindex]").count() == 1

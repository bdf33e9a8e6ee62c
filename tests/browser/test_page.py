"""The page works from a disk and from a server, without scripts too, and nothing in it can act."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import threading
from pathlib import Path
from typing import Any

import pytest

from runner.report import write_page
from tests.browser.conftest import Open
from tests.browser.driving import loaded, tiles
from tests.report_fixture import HOSTILE, RunFolder, encode, picture


def test_pictures_are_shown_from_the_disk(open_page: Open, compared: Path) -> None:
    page = open_page(compared)
    loaded(page)
    assert page.locator("h1").inner_text() == "Run run"
    assert page.locator("#count").inner_text() == "48 cells"
    assert tiles(page).count() > 12


def test_pictures_are_shown_from_a_server(open_page: Open, compared: Path) -> None:
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = functools.partial(quiet, directory=str(compared))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = open_page(compared)
        page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        loaded(page)
        assert tiles(page).count() > 12
        page.context.close()
        server.shutdown()


def test_the_policy_stops_foreign_code(browser: Any, compared: Path) -> None:
    page = browser.new_page()
    page.goto((compared / "index.html").as_uri())
    stopped = page.evaluate(
        """() => new Promise((resolve) => {
          const seen = [];
          addEventListener("securitypolicyviolation", (event) => {
            seen.push(event.effectiveDirective);
            if (seen.length === 3) resolve(seen.sort());
          });
          const script = document.createElement("script");
          script.textContent = "window.owned = true";
          const style = document.createElement("style");
          style.textContent = "body { display: none }";
          const image = new Image();
          image.src = "https://example.invalid/x.png";
          document.body.append(script, style, image);
        })"""
    )
    assert stopped == ["img-src", "script-src-elem", "style-src-elem"]
    assert page.evaluate("window.owned") is None
    page.close()


def test_hostile_text_is_text(open_page: Open, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    data = encode(picture("p", 1, (32, 32)))
    for seed in (1, 2):
        for text in HOSTILE:
            run.add_image(
                data,
                axes={"prompt": text, "seed": seed},
                prompt=text,
                model=text,
                revised_prompt=text,
                warnings=(text,),
                params_sent={text: text},
            )
    run.add_failure(
        axes={"prompt": HOSTILE[0], "seed": 3},
        prompt=HOSTILE[0],
        message=HOSTILE[2],
        kind=HOSTILE[0],
        model=HOSTILE[0],
    )
    run.write(run_id=HOSTILE[0], command=HOSTILE[:6])
    write_page(tmp_path)
    page = open_page(tmp_path)
    scripts = page.locator("script").count()
    tiles(page).first.locator(".picture").click()
    prompts = []
    for _ in range(2 * len(HOSTILE) + 1):
        prompts.append(page.locator("#detail .text").first.text_content())
        page.keyboard.press("ArrowRight")
    # The record's own files cannot hold half a surrogate pair.
    assert set(prompts) == {text.replace("\ud83d", "?") for text in HOSTILE}
    assert page.locator("script").count() == scripts
    assert page.locator("h1").text_content() == f"Run {HOSTILE[0]}"


def test_without_scripts_the_pictures_are_there(open_page: Open, compared: Path) -> None:
    page = open_page(compared, java_script_enabled=False)
    assert page.locator(".plain-wall li").count() == 48
    box = page.locator(".plain-wall img").first.bounding_box()
    assert box["width"] > 100
    reasons = page.locator(".plain-wall .reason")
    assert reasons.all_inner_texts() == ["refused: content filter", "failed: rate limit"]
    assert page.locator("button:visible").count() == 0


def test_a_drawing_is_shown_but_never_opened_by_itself(open_page: Open, tmp_path: Path) -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><rect/></svg>'
    run = RunFolder(tmp_path)
    row = run.add_image(svg, axes={}, suffix=".svg")
    run.images[0] = dataclasses.replace(row, mime="image/svg+xml", width=None, height=None)
    run.write()
    write_page(tmp_path)
    page = open_page(tmp_path)
    loaded(page)
    tiles(page).first.locator(".picture").click()
    assert page.locator("#detail .stage img").bounding_box()["width"] > 100
    assert f"images/{row.file_name}" in page.locator("#detail .facts").inner_text()
    assert page.locator("#detail a").count() == 0


# Narrow windows, both themes, and everyone


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_needs_no_sideways_scrolling_but_for_the_matrix(
    open_page: Open, compared: Path, width: int
) -> None:
    page = open_page(compared, "#view=wall", viewport={"width": width, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.get_by_role("button", name="Options").click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    tiles(page).first.locator(".picture").click()
    assert page.evaluate("document.querySelector('#detail').scrollWidth") <= width


VIEWS = {
    "matrix": ("", ()),
    "phone": ("", (".toggle",)),
    "wall": ("#view=wall", (".toggle",)),
    "failure": ("", ("[data-entry='9'] .picture",)),
    "detail": ("", ("[data-entry='0'] .picture",)),
    "compare": ("", ("[data-entry='0'] .pin", "[data-entry='16'] .pin", "#tray .main")),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious(open_page: Open, compared: Path, view: str, scheme: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python", reason="axe-core is missing: pip install axe-playwright-python"
    )
    source = Path(axe.__file__).with_name("axe.min.js").read_text("utf-8")
    address, clicks = VIEWS[view]
    width = 390 if view == "phone" else 1280
    page = open_page(
        compared, address, color_scheme=scheme, viewport={"width": width, "height": 800}
    )
    for click in clicks:
        page.locator(click).first.scroll_into_view_if_needed()
        page.locator(click).first.click(force=True)
    # The policy of the page allows no added script; the debugger's door is not the page's.
    page.evaluate(source + ";undefined")
    result = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    serious = [
        f"{found['id']}: {node['target']} {node['failureSummary']}"
        for found in result["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]
    assert serious == []
    assert [found["id"] for found in result["violations"]] == []


def test_plots_unfold(open_page: Open, compared: Path) -> None:
    page = open_page(compared)
    assert not page.locator("svg.plot").first.is_visible()
    page.locator(".plots > summary").click()
    found = page.locator("svg.plot")
    assert found.count() == 5
    assert found.first.is_visible()
    assert "median" in found.first.get_attribute("aria-label")

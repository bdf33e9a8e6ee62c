"""A headless Chromium, and pages opened from the disk as a person opens them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.report import write_page
from tests.report_fixture import comparison, many, single_wall

Open = Callable[..., Any]

QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium (or Chrome), driven by Playwright; no browser is downloaded.

    One for each module, because while Playwright runs, so does its event loop, and no other test
    of the same process could start one.
    """
    api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is missing: pip install playwright"
    )
    names = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=[*QUIET, *sandbox])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Open ``index.html`` of a run folder; whatever the browser complains about fails the test."""
    contexts, complaints = [], []

    def open_one(root: Path, hash: str = "", *, allow_missing: bool = False, **options: Any) -> Any:
        options.setdefault("viewport", {"width": 1280, "height": 800})
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)

        def complain(message: Any) -> None:
            if message.type in ("error", "warning") and not (
                allow_missing and "ERR_FILE_NOT_FOUND" in message.text
            ):
                complaints.append(message.text)

        page.on("console", complain)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.goto((root / "index.html").as_uri() + hash)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []


def _written(root: Path) -> Path:
    write_page(root)
    return root


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 providers × 4 prompts × 4 seeds."""
    return _written(comparison(tmp_path_factory.mktemp("compared") / "run", large=400))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small pictures of one prompt."""
    return _written(single_wall(tmp_path_factory.mktemp("small") / "run"))


@pytest.fixture(scope="session")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """250 prompts × 40 seeds."""
    return _written(many(tmp_path_factory.mktemp("big") / "run"))

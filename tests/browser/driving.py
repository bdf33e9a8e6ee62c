"""Words for what a person does and sees on the page."""

from __future__ import annotations

from typing import Any


def tiles(page: Any) -> Any:
    return page.locator("#grid .tile")


def focused(page: Any) -> str:
    """What has the focus, as a screen reader would name it."""
    return str(
        page.evaluate(
            """() => {
              const at = document.activeElement;
              const image = at.querySelector("img");
              return at.getAttribute("aria-label") ?? image?.alt ?? at.textContent;
            }"""
        )
    )


def select(page: Any, label: str) -> Any:
    return page.locator(f"#toolbar label:has(> span:text-is('{label}')) select")


def until(page: Any, condition: str) -> None:
    """Wait for an expression: Playwright's own way is an eval, which the page's policy forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {condition}")


def loaded(page: Any) -> None:
    """Wait until every picture in view is there."""
    until(
        page,
        """[...document.images]
             .filter((image) => image.getBoundingClientRect().top < innerHeight)
             .every((image) => image.complete && image.naturalWidth > 0)""",
    )

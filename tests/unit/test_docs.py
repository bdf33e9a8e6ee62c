"""The docs keep up with the code: generated pages are fresh, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runner.cli import provider_docs
from runner.settings.docs import TARGET, config_page
from tests.conftest import REPOSITORY

PAGES = sorted(
    [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *REPOSITORY.glob("docs/*.md")]
)


def test_the_config_page_is_what_the_settings_say() -> None:
    assert TARGET.read_text() == config_page(), "run `python -m runner.settings.docs`"


def test_the_providers_page_is_what_the_providers_say() -> None:
    fresh = provider_docs.providers_page()
    assert provider_docs.TARGET.read_text() == fresh, "run `python -m runner.cli.provider_docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_promise_names_a_test_that_exists() -> None:
    text = (REPOSITORY / "docs/reliability.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)
    assert len(named) > 30
    for path, name in named:
        assert f"def {name}(" in (REPOSITORY / path).read_text(), f"{path}::{name}"


def test_the_readme_names_only_commands_that_exist() -> None:
    from runner.cli.main import COMMANDS

    text = (REPOSITORY / "README.md").read_text()
    for name in re.findall(r"python -m runner ([a-z]+)(?= )", text):
        assert name in COMMANDS, name

"""``runner providers``: who can make images, what each takes, what is missing here."""

from __future__ import annotations

from runner.providers.registry import BUILT_IN
from tests.conftest import RunCli


def test_every_provider_is_listed(run_cli: RunCli) -> None:
    done = run_cli("providers", env={"COLUMNS": "240"})
    assert done.code == 0
    first_words = [line.split()[0] for line in done.out.splitlines() if line.split()]
    for name in BUILT_IN:
        assert any(word.startswith(name[:12]) for word in first_words), name
    assert "export OPENAI_API_KEY" in done.out


def test_one_provider_is_told_whole(run_cli: RunCli) -> None:
    done = run_cli("providers", "openai", env={"COLUMNS": "240"})
    assert done.code == 0
    for text in ("openai/gpt_image_2 ", "retired, 2026-05-12", "output_format", "moderation"):
        assert text in done.out, text


def test_a_wrong_name_gets_the_nearest(run_cli: RunCli) -> None:
    done = run_cli("providers", "opnai")
    assert done.code == 2
    assert "did you mean 'openai'" in done.err

"""Writes ``docs/providers.md`` from code and config: ``python -m runner.cli.provider_docs``.

A test compares the file with what this makes, so the docs never lag behind the code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra.core.config_loader import ConfigLoader

from runner.cli.catalog import (
    Entry,
    allowed_text,
    gather,
    lifecycle_text,
    models,
    option_rows,
    price_text,
)
from runner.cli.composer import group_options, make_hydra, parse_flags

TARGET = Path(__file__).resolve().parents[2] / "docs" / "providers.md"

_INTRO = """\
<!-- Written by `python -m runner.cli.provider_docs` from the providers and conf/. -->
# Providers

`python -m runner providers` shows this table with what is missing on your machine, and
`python -m runner providers NAME` one provider. A key that a model does not take is an error that
lists what it takes; `unsupported=warn` or `drop` leaves it out for comparisons, and the row says
so. The price is that of one image at the model's own defaults, from the dated price data in
`conf/model/`; *unknown* where nobody publishes one. [Add your own](add_a_provider.md).
"""


def providers_page() -> str:
    """The whole page, as Markdown."""
    loader = make_hydra(parse_flags([])).config_loader
    entries = gather(loader, group_options(loader, "provider"), [])
    overview = _table(
        ("provider", "default model", "lifecycle", "pipelines", "an image"),
        (
            (
                f"[{entry.name}](#{entry.name})",
                f"`{entry.settings.model.name}`",
                lifecycle_text(entry.settings.model),
                ", ".join(entry.pipelines),
                price_text(entry.price),
            )
            for entry in entries
        ),
    )
    sections = [_section(loader, entry) for entry in entries]
    return "\n".join([_INTRO, overview, "", *sections])


def _section(loader: ConfigLoader, entry: Entry) -> str:
    command, *rest = entry.intro or ("",)
    parts = [f"## {entry.name}", "", f"```\n{command}\n```", ""]
    if told := "\n".join(rest).strip():
        parts += [told, ""]
    found = models(loader, entry)
    if found:
        rows = (
            (
                f"`{model.choice}`",
                f"`{model.settings.name}`",
                lifecycle_text(model.settings),
                price_text(model.price),
            )
            for model in found
        )
        parts += [_table(("model=", "name", "lifecycle", "an image"), rows), ""]
    keys = (
        (
            f"`{key}`",
            f"`{param.native}`",
            allowed_text(param),
            "" if param.default is None else str(param.default),
            param.note,
        )
        for key, param in entry.params.items()
    )
    parts += [_table(("key", "sent as", "allowed", "default", "note"), keys), ""]
    options = [(f"`{name}`", *rest) for name, *rest in option_rows(entry)]
    if options:
        parts += [_table(("provider.options.", "type", "default", "what"), options), ""]
    return "\n".join(parts)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(_cell(text) for text in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    TARGET.write_text(providers_page(), encoding="utf-8")

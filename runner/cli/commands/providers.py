"""``runner providers [NAME]``: who can make images, what each takes, what is missing here."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runner.cli.catalog import (
    Entry,
    ModelEntry,
    allowed_text,
    gather,
    lifecycle_text,
    models,
    option_rows,
    price_text,
)
from runner.cli.composer import group_options, make_hydra, parse_flags
from runner.providers.registry import provider_names
from runner.settings.errors import RequestError, did_you_mean, listed


def command(argv: list[str]) -> int:
    """List every provider, or tell all of one."""
    flags = parse_flags([text for text in argv if "=" in text or text.startswith("-")])
    names = [text for text in argv if "=" not in text and not text.startswith("-")]
    loader = make_hydra(flags).config_loader
    known = group_options(loader, "provider")
    for name in names:
        if name not in known:
            raise RequestError(
                f"{name}: no such provider{did_you_mean(name, known)}; known: {listed(known)}"
            )
    entries = gather(loader, names or known, flags.overrides)
    console = Console(highlight=False)
    if names:
        for entry in entries:
            _tell(console, entry, models(loader, entry))
    else:
        _list(console, entries)
    return 0


def _table(*titles: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _list(console: Console, entries: list[Entry]) -> None:
    table = _table("provider", "default model", "lifecycle", "pipelines", "an image", "keys taken")
    for entry in entries:
        table.add_row(
            entry.name if not entry.missing else f"{entry.name} [dim]·[/dim]",
            escape(entry.settings.model.name),
            lifecycle_text(entry.settings.model),
            " ".join(entry.pipelines),
            price_text(entry.price),
            " ".join(entry.params),
        )
    for name in sorted(set(provider_names()) - {entry.settings.provider.name for entry in entries}):
        table.add_row(name, "", "", "", "", f"third party: +provider.name={name}")
    console.print(table)
    missing = [entry for entry in entries if entry.missing]
    if missing:
        console.print("· not ready on this machine:")
        for entry in missing:
            console.print(f"  [dim]{escape(entry.missing)}[/dim]")
    console.print("python -m runner providers NAME tells all of one")


def _tell(console: Console, entry: Entry, found: list[ModelEntry]) -> None:
    command_line, *rest = entry.intro or ("",)
    console.print(f"[bold]{entry.name}[/bold]  {escape(' '.join(line for line in rest if line))}")
    console.print(f"try        {escape(command_line)}")
    console.print(f"pipelines  {', '.join(entry.pipelines)}")
    console.print(f"here       {escape(entry.missing) or 'ready'}")
    if found:
        table = _table("model=", "name", "lifecycle", "an image")
        for model in found:
            table.add_row(
                model.choice,
                escape(model.settings.name),
                lifecycle_text(model.settings),
                price_text(model.price),
            )
        console.print(table)
    keys = _table("key", "sent as", "allowed", "default", "note")
    for key, param in entry.params.items():
        default = "" if param.default is None else str(param.default)
        keys.add_row(key, param.native, allowed_text(param), default, escape(param.note))
    console.print(keys)
    options = option_rows(entry)
    if options:
        table = _table("provider.options.", "type", "default", "what")
        for row in options:
            table.add_row(*(escape(text.replace("`", "")) for text in row))
        console.print(table)

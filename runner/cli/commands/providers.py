"""``runner providers [NAME]``: who can make images, what each takes, what is missing here."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from runner.cli.composer import CONFIG_NAME, group_options, make_hydra, parse_flags
from runner.cli.expand import expand
from runner.providers.contract import Capabilities, Param, Price, Provider
from runner.providers.registry import make_provider, provider_names
from runner.settings.cell import CellParams
from runner.settings.errors import PrerequisiteError, RequestError, did_you_mean, listed
from runner.settings.schema import ModelSettings, VariantSettings


@dataclass(frozen=True, slots=True)
class Entry:
    """One provider with its default model."""

    name: str
    settings: VariantSettings
    provider: Provider
    capabilities: Capabilities
    missing: str


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
    entries = []
    for name in names or known:
        expanded = expand(
            loader, CONFIG_NAME, [f"provider={name}", *flags.overrides], multirun=False
        )
        settings = expanded.variants[0].settings.variant()
        provider = make_provider(settings)
        entries.append(Entry(name, settings, provider, provider.capabilities(), _missing(provider)))
    console = Console()
    if names:
        for entry in entries:
            _tell(console, entry)
    else:
        _list(console, entries)
    return 0


def _missing(provider: Provider) -> str:
    try:
        provider.check_ready()
    except PrerequisiteError as error:
        return str(error)
    return ""


def _list(console: Console, entries: list[Entry]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("provider", "default model", "lifecycle", "pipelines", "image", "here"):
        table.add_column(title, overflow="fold")
    for entry in entries:
        table.add_row(
            entry.name,
            entry.settings.model.name,
            lifecycle_text(entry.settings.model),
            " ".join(sorted(entry.capabilities.pipelines)),
            price_text(entry.provider.estimate(CellParams())),
            entry.missing or "ready",
        )
    for name in sorted(set(provider_names()) - {entry.settings.provider.name for entry in entries}):
        table.add_row(name, "", "", "", "", f"third party: +provider.name={name}")
    console.print(table)
    console.print("[dim]python -m runner providers NAME tells all of one[/dim]")


def _tell(console: Console, entry: Entry) -> None:
    console.print(f"[bold]{entry.name}[/bold]  {entry.settings.model.name}", highlight=False)
    console.print(f"lifecycle  {lifecycle_text(entry.settings.model)}", highlight=False)
    console.print(f"pipelines  {', '.join(sorted(entry.capabilities.pipelines))}", highlight=False)
    console.print(f"here       {entry.missing or 'ready'}", highlight=False)
    keys = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("key", "sent as", "allowed", "default", "note"):
        keys.add_column(title, overflow="fold")
    for key, param in entry.capabilities.params.items():
        default = "" if param.default is None else str(param.default)
        keys.add_row(key, param.native, allowed_text(param), default, param.note)
    console.print(keys)
    if entry.provider.options_type is None:
        return
    options = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("provider.options.", "type", "default", "what"):
        options.add_column(title, overflow="fold")
    for name, option in entry.provider.options_type.model_fields.items():
        kind = getattr(option.annotation, "__name__", None) or str(option.annotation)
        default = (
            "required"
            if option.is_required()
            else str(option.get_default(call_default_factory=True, validated_data={}))
        )
        options.add_row(name, kind.replace("typing.", ""), default, option.description or "")
    console.print(options)


def allowed_text(param: Param) -> str:
    """The allowed values of a key, as a short text."""
    if param.choices:
        return " ".join(param.choices)
    if param.minimum is None and param.maximum is None:
        return ""
    low = "" if param.minimum is None else f"{param.minimum:g}"
    high = "" if param.maximum is None else f"{param.maximum:g}"
    return f"{low} … {high}"


def price_text(price: Price) -> str:
    """A price per image, as a short text."""
    if price.basis == "free":
        return "free"
    if price.low_usd is None or price.high_usd is None:
        return "unknown"
    if price.low_usd == price.high_usd:
        return f"${price.low_usd:.4g}"
    return f"${price.low_usd:.4g} to ${price.high_usd:.4g}"


def lifecycle_text(model: ModelSettings) -> str:
    """State, date and replacement of a model."""
    lifecycle = model.lifecycle
    parts: list[str] = [lifecycle.state]
    if lifecycle.date:
        parts.append(str(lifecycle.date))
    if lifecycle.replacement:
        parts.append(f"use {lifecycle.replacement}")
    return ", ".join(parts)

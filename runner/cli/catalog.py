"""What every provider can do, gathered from code and config: for tables, help and docs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_loader import ConfigLoader

from runner.cli.composer import CONFIG_NAME, group_options
from runner.cli.expand import expand
from runner.providers.contract import Capabilities, Param, Price, Provider
from runner.providers.registry import make_provider
from runner.settings.cell import CellParams
from runner.settings.confdir import conf_dir
from runner.settings.docs import default_text, type_text
from runner.settings.errors import PrerequisiteError, RequestError, RunnerError
from runner.settings.schema import ModelSettings, VariantSettings

_CHOSEN_MODEL = re.compile(r"- override /model@_global_\.model: ((\S+)/\S+)")


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model of a provider.

    Attributes:
        choice: What to write: ``model=CHOICE``.
        settings: Its file.
        price: Of one image at the model's own defaults.
    """

    choice: str
    settings: ModelSettings
    price: Price


@dataclass(frozen=True, slots=True)
class Entry:
    """One provider with its default model.

    Attributes:
        name: What to write: ``provider=NAME``.
        intro: The comment of its file: the command first, then what to know.
        settings: As composed.
        provider: The object of the default model.
        params: Keys taken by any of its pipelines.
        missing: What is missing to use it on this machine; empty: nothing.
    """

    name: str
    intro: tuple[str, ...]
    settings: VariantSettings
    provider: Provider
    params: Mapping[str, Param]
    missing: str

    @property
    def capabilities(self) -> Capabilities:
        """Of the default model."""
        return self.provider.capabilities()

    @property
    def pipelines(self) -> list[str]:
        """Kinds of pipeline, the plain one first."""
        return sorted(self.capabilities.pipelines, key=lambda kind: (kind != "text2img", kind))

    @property
    def price(self) -> Price:
        """Of one image at the default model's own defaults."""
        return self.provider.estimate(CellParams())


def gather(loader: ConfigLoader, names: Sequence[str], overrides: Sequence[str]) -> list[Entry]:
    """Compose providers and ask them what they take.

    Args:
        loader: Hydra's config loader.
        names: Choices of the group ``provider``.
        overrides: Further overrides of each.

    Raises:
        RequestError: A config or an override is wrong.
    """
    return [_entry(loader, name, overrides) for name in names]


def models(loader: ConfigLoader, entry: Entry) -> list[ModelEntry]:
    """Every model file of a provider's family, its default model first.

    Args:
        loader: Hydra's config loader.
        entry: The provider.
    """
    family, default = _default_model(entry.name)
    if family is None:
        return []
    found = []
    for choice in group_options(loader, f"model/{family}"):
        composed = _settings(loader, [f"provider={entry.name}", f"model={family}/{choice}"])
        settings = composed.model_copy(update={"provider": entry.settings.provider})
        price = make_provider(settings).estimate(CellParams())
        found.append(ModelEntry(f"{family}/{choice}", settings.model, price))
    return sorted(found, key=lambda model: model.choice != default)


def _entry(loader: ConfigLoader, name: str, overrides: Sequence[str]) -> Entry:
    settings = _settings(loader, [f"provider={name}", *overrides])
    missing = ""
    try:
        provider = make_provider(settings)
    except RequestError as error:
        if settings.provider.base_url is not None or "provider.base_url" not in str(error):
            raise
        # A server without an address of its own: any address will do to ask what it takes.
        missing = str(error)
        reachable = settings.provider.model_copy(update={"base_url": "https://127.0.0.1"})
        settings = settings.model_copy(update={"provider": reachable})
        provider = make_provider(settings)
    params = dict(provider.capabilities().params)
    for kind in sorted(provider.capabilities().pipelines - {settings.pipeline.name}):
        pipeline = settings.pipeline.model_copy(update={"name": kind})
        with suppress(RunnerError):  # a kind may need more than the model: a ControlNet, say
            chosen = make_provider(settings.model_copy(update={"pipeline": pipeline}))
            params = {**chosen.capabilities().params, **params}
    return Entry(name, _intro(name), settings, provider, params, missing or _missing(provider))


def _settings(loader: ConfigLoader, overrides: Sequence[str]) -> VariantSettings:
    expanded = expand(loader, CONFIG_NAME, list(overrides), multirun=False)
    return expanded.variants[0].settings.variant()


def _missing(provider: Provider) -> str:
    try:
        provider.check_ready()
    except PrerequisiteError as error:
        return str(error)
    return ""


def _file(name: str) -> str:
    path = Path(conf_dir(), "provider", f"{name}.yaml")
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _intro(name: str) -> tuple[str, ...]:
    lines = itertools.takewhile(lambda line: line.startswith("#"), _file(name).splitlines())
    return tuple(line.lstrip("#").strip() for line in lines)


def _default_model(name: str) -> tuple[str | None, str | None]:
    """Family and choice of a provider's default model."""
    found = _CHOSEN_MODEL.search(_file(name))
    return (found[2], found[1]) if found else (None, None)


def option_rows(entry: Entry) -> list[tuple[str, str, str, str]]:
    """Name, type, default and meaning of every native option."""
    kind = entry.provider.options_type
    return [
        (name, type_text(field), default_text(field), field.description or "")
        for name, field in (kind.model_fields.items() if kind else ())
    ]


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

"""One command line becomes variants and axes.

Choices of groups, and keys that are not cell-level, make one composed config each; every
cell-level key becomes an axis and is never composed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig

from runner.cli.composer import (
    compose,
    explain,
    group_options,
    is_group,
    one_line,
    task_config,
)
from runner.cli.overrides import cell_key, key_of, prepare, quoted
from runner.plan.grammar import AxisValues, axis_values, from_override
from runner.plan.pictures import every_picture, stands_for_many
from runner.settings.cell import FILE_KEYS, PIPELINE_KEYS
from runner.settings.errors import RequestError
from runner.settings.load import read_settings, validate
from runner.settings.schema import PromptStyle, Settings
from runner.settings.secrets import refuse_secrets

MAX_VARIANTS = 10_000
"""Most configs that are composed, one after the other, for one plan."""


@dataclass(frozen=True, slots=True)
class Composed:
    """One variant: what was chosen, and the config that came of it.

    Attributes:
        choices: Group or key to the value that makes this variant differ from the others.
        settings: The validated config.
        config: The same as plain containers, for the record.
    """

    choices: dict[str, str]
    settings: Settings
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Expanded:
    """Everything that one command line asks for.

    Attributes:
        variants: At least one.
        axes: Cell-level key to its values, in the order in which they were given.
        styles: Prompt styles that an axis names, by name.
        hydra_config: The first composed config with Hydra's own section.
        overrides: As given to Hydra.
    """

    variants: tuple[Composed, ...]
    axes: dict[str, AxisValues]
    styles: dict[str, PromptStyle]
    hydra_config: DictConfig
    overrides: tuple[str, ...] = field(default=())

    @property
    def settings(self) -> Settings:
        """The first variant's settings: for everything that variants share."""
        return self.variants[0].settings


def expand(
    loader: ConfigLoader, config_name: str, overrides: Sequence[str], *, multirun: bool
) -> Expanded:
    """Compose what must be composed, and leave the rest to the plan.

    Args:
        loader: Hydra's config loader.
        config_name: Name of the primary config.
        overrides: Overrides as typed.
        multirun: Whether several values of one key make a sweep.

    Raises:
        RequestError: Every mistake, one sentence each.
    """
    prepared = prepare(
        overrides, multirun=multirun, options_of=lambda group: group_options(loader, group)
    )
    # Without -m nothing is swept, and Hydra itself parses what was typed.
    fixed, swept = ([], list(prepared)) if multirun else (list(prepared), [])
    dimensions: dict[str, list[str]] = {}
    axes: dict[str, AxisValues] = {}
    for text, override in zip(swept, _parse(swept, loader, config_name), strict=True):
        key = override.get_key_element().lstrip("+~")
        if not override.is_sweep_override():
            fixed.append(text)
        elif _axis_key(key) or key == "n":
            name, values = from_override(override)
            axes[name] = values
        else:
            dimensions[key] = _points(override, loader)
    first = [choices[0] for choices in dimensions.values()]
    base = compose(loader, config_name, [*fixed, *first])
    pinned = {cell for text in fixed if (cell := cell_key(key_of(text)))}
    if any(key_of(text) == "prompts" and not text.endswith("=null") for text in fixed):
        pinned.add("prompt")  # the file's prompts, not those that a config lists
    from_files: dict[str, AxisValues] = {}
    task = task_config(base)
    for key, config_values in _file_axes(task, axes, pinned).items():
        if cell := _axis_key(key):
            from_files[cell] = axis_values(key, config_values)
        elif key not in dimensions:
            dimensions[key] = _choices(loader, key, config_values)
    axes = _with_pictures({**from_files, **axes}, task.get("pipeline") or {})
    # What a file sweeps is known only now, and not in the base.
    is_first = len(first) == len(dimensions)
    variants = _variants(loader, config_name, fixed, dimensions, task if is_first else None)
    styles = _styles(loader, config_name, axes)
    return Expanded(tuple(variants), axes, styles, base, tuple(prepared))


def _with_pictures(axes: dict[str, AxisValues], pipeline: dict[str, Any]) -> dict[str, AxisValues]:
    """The axes with folders, patterns and runs written out; a lone one becomes an axis."""
    for key in sorted(FILE_KEYS):
        if key in axes:
            if any(map(stands_for_many, axes[key])):
                axes[key] = every_picture(axes[key], f"pipeline.{key}")
        elif stands_for_many(pipeline.get(key)):
            axes[key] = every_picture([pipeline[key]], f"pipeline.{key}")
    return axes


def _parse(prepared: Sequence[str], loader: ConfigLoader, config_name: str) -> list[Override]:
    try:
        parsed: list[Override] = OverridesParser.create().parse_overrides(list(prepared))
    except HydraException as error:
        raise RequestError(explain(error, loader, config_name)) from error
    return parsed


def _points(override: Override, loader: ConfigLoader) -> list[str]:
    """One override for each value of a sweep that has to be composed.

    Raises:
        RequestError: There are too many, or it has no list of values.
    """
    key = override.get_key_element()
    override.config_loader = loader  # glob() asks it for the choices of a group
    try:
        values = list(itertools.islice(override.sweep_string_iterator(), MAX_VARIANTS + 1))
    except (HydraException, ValueError) as error:
        raise RequestError(f"{override.input_line}: {one_line(error)}") from error
    if not values:
        raise RequestError(f"{override.input_line}: there is no such value")
    _refuse_many(len(values), key)
    return [f"{key}={value}" for value in values]


def _refuse_many(variants: int, what: str) -> None:
    if variants > MAX_VARIANTS:
        raise RequestError(
            f"{what}: more than {MAX_VARIANTS:,} configs to compose; only cell-level keys (prompt, "
            "seed, steps, …) may have so many values"
        )


def _axis_key(key: str) -> str | None:
    """The cell-level key of an axis, written short or in full."""
    if key.startswith("sweep.axes."):
        key = key.removeprefix("sweep.axes.")
    return "style" if key == "style" else (key if key in PIPELINE_KEYS else cell_key(key))


def _file_axes(
    task: dict[str, Any], given: dict[str, AxisValues], pinned: set[str]
) -> dict[str, Any]:
    """Axes that the files ask for: lists at cell-level keys, and ``sweep.axes``.

    What the command line fixes or sweeps wins over a file's axis of the same key.
    """
    lists = {
        key: value
        for key, value in {
            **task,
            **{f"pipeline.{name}": value for name, value in (task.get("pipeline") or {}).items()},
        }.items()
        if cell_key(key)
        and isinstance(value, list)
        and _axis_key(key) not in given
        and not (key == "prompt" and task.get("prompts"))  # the file's own stand instead
    }
    swept = {
        key: value
        for key, value in (task.get("sweep", {}).get("axes") or {}).items()
        if _axis_key(key) not in {*given, *pinned}
    }
    return {**lists, **swept}


def _choices(loader: ConfigLoader, key: str, values: Any) -> list[str]:
    """Override texts for an axis of a file that must be composed: one variant per value."""
    if key in {"n", "prompts"}:
        raise RequestError(f"sweep.axes.{key}: not an axis; set {key} itself")
    listed_values = values if isinstance(values, list) else [values]
    if is_group(loader, key):
        return [f"{key}={value}" for value in listed_values]
    return [
        f"{key}={quoted(value) if isinstance(value, str) else value}" for value in listed_values
    ]


def _variants(
    loader: ConfigLoader,
    config_name: str,
    fixed: list[str],
    dimensions: dict[str, list[str]],
    first: dict[str, Any] | None,
) -> list[Composed]:
    """One composed config per combination; ``first`` is that of the first, if it is there yet."""
    variants: list[Composed] = []
    problems: list[str] = []
    _refuse_many(math.prod(map(len, dimensions.values())), " × ".join(dimensions))
    for point in itertools.product(*dimensions.values()):
        config = first or task_config(compose(loader, config_name, [*fixed, *point]))
        first = None
        try:
            refuse_secrets(config)
            settings = read_settings(without_axis_lists(config), {key_of(text) for text in fixed})
        except RequestError as error:
            problems += [text for text in error.problems if text not in problems]
            continue
        choices = {key: text.partition("=")[2] for key, text in zip(dimensions, point, strict=True)}
        variants.append(Composed(choices, settings, config))
    if problems:
        raise RequestError(*problems)
    return variants


def without_axis_lists(config: dict[str, Any]) -> dict[str, Any]:
    """The config with its axis lists taken out: they are axes, not values."""
    cleaned = {
        key: None if cell_key(key) and isinstance(value, list) else value
        for key, value in config.items()
    }
    pipeline = cleaned.get("pipeline")
    if isinstance(pipeline, dict):
        cleaned["pipeline"] = {
            key: None if key in PIPELINE_KEYS and isinstance(value, list) else value
            for key, value in pipeline.items()
        }
    return cleaned


def _styles(
    loader: ConfigLoader, config_name: str, axes: dict[str, AxisValues]
) -> dict[str, PromptStyle]:
    """The style files that a style axis names; other names are the provider's own styles."""
    known = group_options(loader, "style") if "style" in axes else []
    found: dict[str, PromptStyle] = {}
    for name in axes.get("style", ()):
        if name in known:
            config = task_config(compose(loader, config_name, [f"style={name}"]))
            found[str(name)] = validate(PromptStyle, config["style"], "style")
    return found

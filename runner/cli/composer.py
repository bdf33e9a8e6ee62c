"""Hydra, held at arm's length: composing configs, and its own flags."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.errors import (
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.settings.confdir import conf_dir
from runner.settings.errors import RequestError, did_you_mean, listed

CONFIG_NAME = "config"

ANY_MODEL = "model=hub/any"
"""What ``model.name`` alone stands for: the built-in model's settings are for no other one."""

SWEEPER_MODULE = "hydra_plugins.runner_sweeper"
"""Where Hydra believes that our sweeper lives; see :mod:`runner.cli.sweeper`."""

_SWEEP_WITHOUT_FLAG = re.compile(
    r"Ambiguous value for argument '(.+?)'$|Sweep parameters '(.+?)' requires", re.MULTILINE
)


def parse_flags(argv: Sequence[str]) -> argparse.Namespace:
    """Hydra's own flags and overrides."""
    return get_args_parser().parse_intermixed_args(list(argv))


def make_hydra(flags: argparse.Namespace) -> Hydra:
    """Hydra over our config tree, and the user's own ones before it.

    Raises:
        RequestError: ``--config-dir`` does not exist.
    """
    version.setbase("1.3")
    ConfigStore.instance().store(
        group="hydra/sweeper",
        name="runner",
        node={"_target_": f"{SWEEPER_MODULE}.RunnerSweeper"},
        provider="runner",
    )
    main = flags.config_path or str(conf_dir())
    search_path = create_config_search_path(str(Path(main).resolve()))
    if flags.config_dir is not None:
        folder = Path(flags.config_dir).resolve()
        if not folder.is_dir():
            raise RequestError(f"--config-dir {flags.config_dir}: no such folder")
        search_path.prepend(
            provider="command-line", path=f"file://{folder}", anchor=SearchPathQuery("schema", None)
        )
    GlobalHydra.instance().clear()
    return Hydra.create_main_hydra2(task_name="runner", config_search_path=search_path)


def group_options(loader: ConfigLoader, group: str) -> list[str]:
    """Every choice of a group, those in its subfolders by their path."""
    found = list(loader.get_group_options(group, ObjectType.CONFIG))
    for folder in loader.get_group_options(group, ObjectType.GROUP):
        found += [f"{folder}/{name}" for name in group_options(loader, f"{group}/{folder}")]
    return sorted(found)


def is_group(loader: ConfigLoader, key: str) -> bool:
    """Whether a key names a folder of choices."""
    return "." not in key and bool(group_options(loader, key))


def compose(
    loader: ConfigLoader, config_name: str, overrides: Sequence[str], mode: RunMode = RunMode.RUN
) -> DictConfig:
    """Compose one config.

    Raises:
        RequestError: What Hydra refused, as one sentence.
    """
    config = _load(loader, config_name, overrides, mode)
    if _names_another_model(config, overrides):
        config = _load(loader, config_name, [*overrides, ANY_MODEL], mode)
    HydraConfig.instance().set_config(config)
    return config


def as_composed(loader: ConfigLoader, config_name: str, overrides: Sequence[str]) -> list[str]:
    """The overrides that :func:`compose` composes with, for those who ask Hydra itself."""
    asked = list(overrides)
    if any(override.startswith("model.name=") for override in asked):
        config = _load(loader, config_name, asked, RunMode.MULTIRUN)
        asked += [ANY_MODEL] * _names_another_model(config, asked)
    return asked


def _names_another_model(config: DictConfig, overrides: Sequence[str]) -> bool:
    """Whether the built-in model's file was chosen by nobody, and another model was named."""
    chosen = any(override.startswith("model=") for override in overrides)
    if chosen or config.hydra.runtime.choices.get("model") != "builtin/shapes":
        return False
    from runner.providers.local.source import BUILT_IN  # `--cfg` needs no schema

    try:
        return str(OmegaConf.select(config, "model.name")) not in BUILT_IN
    except OmegaConfBaseException:
        return False  # whoever resolves the config says what is wrong with it


def _load(
    loader: ConfigLoader, config_name: str, overrides: Sequence[str], mode: RunMode
) -> DictConfig:
    try:
        return loader.load_configuration(
            config_name=config_name,
            overrides=list(overrides),
            run_mode=mode,
            validate_sweep_overrides=mode is RunMode.RUN,
        )
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(explain(error, loader, config_name)) from error
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        # Hydra does not check everything that its own grammar lets through.
        raise RequestError(
            f"{' '.join(overrides)}: Hydra refuses this: {one_line(error)}"
        ) from error


def task_config(config: DictConfig) -> dict[str, Any]:
    """The config without Hydra's own section, as plain containers, interpolations resolved.

    Raises:
        RequestError: A missing value or an interpolation that does not resolve.
    """
    try:
        task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        container = OmegaConf.to_container(task, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        reason = str(error).splitlines()[0]
        raise RequestError(f"{key or 'config'}: {reason}") from error
    return {str(key): value for key, value in container.items()}  # type: ignore[union-attr]


def one_line(error: Exception) -> str:
    """What an exception says, on one line; its name if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def explain(error: Exception, loader: ConfigLoader, config_name: str) -> str:
    """One sentence for what Hydra refused: the value, the nearest name, the fix."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_choice(error, loader)
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override}: this override does not parse; quote values with spaces, commas or "
            "quotes inside the shell's quotes: 'key=\"a, b\"'"
        )
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(match.group(1), loader, config_name)
    if match := re.search(
        r"Ambiguous value for argument '(.+?)'$|Sweep parameters '(.+?)' requires",
        text,
        re.MULTILINE,
    ):
        return f"{match.group(1) or match.group(2)}: several values make a sweep; add -m"
    cause = error.__cause__
    detail = f": {str(cause).splitlines()[0]}" if isinstance(cause, OmegaConfBaseException) else ""
    return one_line(error) + detail


def _missing_choice(error: MissingConfigException, loader: ConfigLoader) -> str:
    missing = str(error.missing_cfg_file)
    group, _, name = missing.partition("/")
    options = group_options(loader, group) if name else []
    if not options:
        return f"{missing}: no such config; --help lists what there is"
    return (
        f"{group}={name}: no such choice{did_you_mean(name, options)}; "
        f"choose one of: {listed(options)}"
    )


def _unknown_key(key: str, loader: ConfigLoader, config_name: str) -> str:
    known = _dotted(OmegaConf.to_container(loader.load_configuration(config_name, [], RunMode.RUN)))
    group = key.partition("@")[0]
    if not is_group(loader, group):
        groups = [
            name for name in loader.get_group_options("", ObjectType.GROUP) if name != "hydra"
        ]
        section, _, name = key.rpartition(".")
        beside = [known_key for known_key in known if known_key.rpartition(".")[0] == section]
        near = did_you_mean(
            key if not section else name,
            [*(known_key.rpartition(".")[2] for known_key in beside), *([] if section else groups)],
        ) or did_you_mean(key, [*known, *groups] if not beside else [])
        hint = near or (f"; known here: {listed(beside)}" if beside else "; --help lists the keys")
        return f"{key}: unknown key{hint} (set on the command line)"
    return f"{key}: this config has no choice of that group to override; add it with +{key}=…"


def _dotted(container: Any, prefix: str = "") -> list[str]:
    if not isinstance(container, dict):
        return [prefix]
    found = [] if not prefix else [prefix]
    for key, value in container.items():
        if prefix or key != "hydra":
            found += _dotted(value, f"{prefix}.{key}" if prefix else str(key))
    return found

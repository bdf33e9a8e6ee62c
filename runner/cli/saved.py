"""Saved runs: found, read and made ready to go on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.cli.expand import without_axis_lists
from runner.plan import Plan
from runner.providers.contract import Provider
from runner.providers.registry import make_provider
from runner.record.manifest import read_manifest
from runner.record.paths import RunPaths
from runner.record.reader import Places
from runner.record.state import RunState, load_state
from runner.settings.cell import digest
from runner.settings.errors import RequestError, did_you_mean
from runner.settings.load import read_settings, with_values
from runner.settings.schema import Settings
from runner.settings.secrets import refuse_secret_overrides

CHANGEABLE = ("limits.", "retry.", "reuse=", "output.quiet", "device.")
"""What may be set anew when a saved run goes on: nothing of it belongs to a cell's id."""

_AGAIN = (
    "it was stopped at its very start; give the command that made it again, with "
    "hydra.run.dir set to this folder: what is done is kept"
)


@dataclass(frozen=True, slots=True)
class Saved:
    """A run folder, read back.

    Attributes:
        paths: The folder.
        plan: Its plan, expanded from ``plan.json``.
        providers: One per variant.
        settings: Limits, retries and output: as saved, or as set anew.
        configs: The resolved config of each variant.
        settled: What the run decided about each, by config key.
    """

    paths: RunPaths
    plan: Plan
    providers: tuple[Provider, ...]
    settings: Settings
    configs: tuple[dict[str, Any], ...]
    settled: tuple[Mapping[str, Any], ...]


def run_folder(
    argv: list[str], command: str, *, overrides: bool = False, usage: str = "RUN_DIR"
) -> RunPaths:
    """The run folder that a command names.

    Args:
        argv: What was typed after the command.
        command: Its name.
        overrides: Whether ``key=value`` may stand there too.
        usage: What should have been typed.

    Raises:
        RequestError: None is named, or it is none.
    """
    names = [text for text in argv if not (overrides and "=" in text)]
    if len(names) != 1:
        raise RequestError(f"usage: python -m runner {command} {usage}")
    root = Path(names[0])
    if not (root / "plan.json").is_file():
        near = ""
        if root.parent.is_dir():
            near = did_you_mean(root.name, [path.name for path in root.parent.iterdir()])
        raise RequestError(f"{root}: no run folder (it has no plan.json){near}")
    if not (root / "manifest.json").is_file():
        raise RequestError(f"{root} has a plan.json and no manifest.json: {_AGAIN}")
    return RunPaths(root)


def split_options(argv: list[str], known: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Names, and ``--option value`` or ``--option=value`` by name.

    Raises:
        RequestError: An option that is not known, or without its value.
    """
    names: list[str] = []
    options: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        option, given, value = word.partition("=")
        if not option.startswith("-"):
            names.append(word)
            continue
        if option not in known:
            raise RequestError(f"{option}: no such option{did_you_mean(option, known)}")
        value = value if given else next(words, "")
        if not value:
            raise RequestError(f"{option}: needs a value")
        options[option] = value
    return names, options


def saved_places(paths: RunPaths) -> Places | None:
    """Where the cells of a folder stand in its plan, if that was amended."""
    return places_in(paths, load_state(paths))


def places_in(paths: RunPaths, state: RunState) -> Places | None:
    """:func:`saved_places` by a state that was read before."""
    if len(state.plans) < 2:
        return None
    from runner.engine.run import places_of

    plan = Plan.from_json(json.loads(paths.plan.read_text(encoding="utf-8")), root=paths.root)
    return places_of(plan, state)


def read_saved(paths: RunPaths, overrides: list[str]) -> Saved:
    """Read a run back.

    Args:
        paths: The folder.
        overrides: ``key=value`` for the keys of :data:`CHANGEABLE`.

    Raises:
        RequestError: The folder is damaged, or an override is not allowed here.
    """
    refuse_secret_overrides(overrides)
    for text in overrides:
        if not text.startswith(CHANGEABLE):
            raise RequestError(
                f"{text}: a saved run keeps its plan; only {', '.join(CHANGEABLE)} can be set anew"
            )
    manifest = read_manifest(paths)
    set_anew = {text.partition("=")[0] for text in overrides}
    settled = [
        {key: value for key, value in saved.settled.items() if key not in set_anew}
        for saved in manifest.variants
    ]
    configs = []
    try:
        changes = OmegaConf.from_dotlist(overrides)
        for saved in manifest.variants:
            merged = OmegaConf.merge(OmegaConf.create(dict(saved.config)), changes)
            configs.append(_plain(merged))
    except OmegaConfBaseException as error:
        raise RequestError(f"{paths.manifest}: {error}") from error
    settings = [
        read_settings(without_axis_lists(with_values(config, known)), overrides)
        for config, known in zip(configs, settled, strict=True)
    ]
    plan = Plan.from_json(json.loads(paths.plan.read_text(encoding="utf-8")), root=paths.root)
    if plan.hash != manifest.plan_hash:
        raise RequestError(f"{paths.root} has a newer plan.json than manifest.json: {_AGAIN}")
    providers = tuple(make_provider(one.variant()) for one in settings)
    for variant, provider in zip(plan.variants, providers, strict=True):
        if variant.identity != digest(provider.identity()):
            raise RequestError(
                f"{paths.root}: {variant.name} is no longer what the plan was made for (another "
                "model, revision or native option under the same name); start a new run"
            )
    return Saved(paths, plan, providers, settings[0], tuple(configs), tuple(settled))


def _plain(config: DictConfig | ListConfig) -> dict[str, Any]:
    container = OmegaConf.to_container(config)
    if not isinstance(container, dict):
        raise RequestError("a variant's config in the manifest is not a mapping")
    return {str(key): value for key, value in container.items()}

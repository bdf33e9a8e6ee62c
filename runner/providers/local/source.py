"""Where a model's files lie: built in, in a folder, in one file, or in the Hub's cache.

Imports no torch and goes to no network.
"""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runner.settings.cell import PipelineKind
from runner.settings.errors import PrerequisiteError, RequestError
from runner.settings.load import validate
from runner.settings.schema import ModelSettings

BUILT_IN = frozenset({"builtin", "builtin/shapes"})
"""Names of the model that ships with the package."""

BUILT_IN_EDGES = "builtin/edges"
"""Name of the ControlNet that ships with the package."""

INSTALL = "pip install 'image-batch-runner[local]'"
_PICKLES = frozenset({".ckpt", ".pt", ".pth", ".bin", ".pkl"})
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class LocalTraits(BaseModel):
    """What a local model's file says of it; what other providers read there is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    call: dict[str, Any] = Field(
        default_factory=dict, description="arguments of every call of the pipeline"
    )
    controlnet: str | list[str] | None = Field(
        None, description="the model's own ControlNet, where the config names none"
    )


def read_traits(model: ModelSettings) -> LocalTraits:
    """The traits, typed.

    Raises:
        RequestError: They are wrong.
    """
    return validate(LocalTraits, model.traits, "model.traits")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model was found.

    Attributes:
        name: The name that the user gave.
        folder: Folder with ``model_index.json``; for a single file, the one with its configs.
            ``None``: on the Hub, not downloaded yet.
        file: The single ``.safetensors`` file, if it is one.
        repo: Hub id of :attr:`folder`, if it is the Hub's.
    """

    name: str
    folder: Path | None
    file: Path | None = None
    repo: str | None = None

    @property
    def commit(self) -> str | None:
        """The 40 hex digits of the Hub's commit, read from the cache's folder name."""
        if self.repo is None or self.folder is None or self.folder.parent.name != "snapshots":
            return None
        return self.folder.name


def require_extra() -> None:
    """Check that the libraries are installed, without importing them.

    Raises:
        PrerequisiteError: One is missing.
    """
    for name in ("torch", "diffusers", "transformers", "accelerate"):
        if importlib.util.find_spec(name) is None:
            raise PrerequisiteError(
                f"provider=diffusers needs the package {name}, which is not installed: {INSTALL}"
            )


def find_source(model: ModelSettings) -> Source:
    """Find the files of ``model.name``.

    Raises:
        RequestError: It is neither a folder, nor a file that may be read, nor a Hub id.
        PrerequisiteError: It is on the Hub, not in the cache, and this machine is offline.
    """
    name = model.name
    if name in BUILT_IN:
        return Source(name, _built_in())
    path = Path(name).expanduser()
    if path.suffix.lower() in _PICKLES:
        raise RequestError(
            f"model.name={name!r}: a {path.suffix} file can run code when it is read; only "
            ".safetensors files and folders that hold them are loaded"
        )
    if path.is_dir():
        _require_index(name, path)
        return Source(name, path)
    if path.suffix.lower() == ".safetensors":
        if not path.is_file():
            raise RequestError(f"model.name={name!r}: no such file")
        return _single_file(model, path)
    if path.exists():
        raise RequestError(f"model.name={name!r}: neither a folder nor a .safetensors file")
    if not _HUB_ID.fullmatch(name) or name[0] in ".~":
        raise RequestError(
            f"model.name={name!r}: no such folder or file, and not a Hub id like owner/name"
        )
    return Source(name, _cached(name, revision_of(model, name), "model.name"), repo=name)


def find_controlnets(model: ModelSettings, kind: PipelineKind) -> tuple[Source, ...]:
    """Find the ControlNets of a job: ``model.controlnet``, else the model's own one.

    Raises:
        RequestError: One is neither a folder that holds a model nor a Hub id.
        PrerequisiteError: One is on the Hub, not in the cache, and this machine is offline.
    """
    given = model.controlnet
    if kind == "text2img":
        return ()
    if given is None and kind == "controlnet":
        given = read_traits(model).controlnet
    names = [given] if isinstance(given, str) else given or []
    return tuple(find_part(name, "model.controlnet", model.commits.get(name)) for name in names)


def revision_of(model: ModelSettings, repo: str) -> str | None:
    """What is loaded of a model's own Hub id: the commit that its run has kept, or as asked."""
    return model.commits.get(repo, model.revision)


def cached_commit(repo: str, file: str, revision: str | None) -> str | None:
    """The commit that a revision stands for in the Hub's cache; ``None``: it holds no such file."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, file, revision=revision)
    if not isinstance(found, str):
        return None
    parts = Path(found).parts
    return parts[parts.index("snapshots") + 1]


def find_part(name: str, key: str, commit: str | None = None) -> Source:
    """Find one network that is loaded by itself: a folder with ``config.json``, or a Hub id.

    Args:
        name: Its name.
        key: The setting that names it.
        commit: Of a Hub id, the commit to take; ``None``: the newest.

    Raises:
        RequestError: It is neither.
        PrerequisiteError: It is on the Hub, not in the cache, and this machine is offline.
    """
    if name == BUILT_IN_EDGES:
        from runner.providers.local.builtin import CONTROLNET_DIR

        folder = CONTROLNET_DIR
    else:
        folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise RequestError(f"{key}={name!r}: the folder holds no config.json")
        if not any(folder.glob("*.safetensors")):
            raise RequestError(f"{key}={name!r}: the folder holds no .safetensors file")
        return Source(name, folder)
    if name == BUILT_IN_EDGES:
        raise PrerequisiteError(
            "the built-in ControlNet's weights are missing from this installation; install the "
            "package again, or set model.controlnet to a folder or a Hub id"
        )
    if not _HUB_ID.fullmatch(name) or name[0] in ".~":
        raise RequestError(f"{key}={name!r}: no such folder, and not a Hub id like owner/name")
    return Source(name, _cached(name, commit, key, "config.json"), repo=name)


def is_offline() -> bool:
    """Whether the environment forbids the Hub libraries to go to the network."""
    return any(
        os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def _built_in() -> Path:
    from runner.providers.local.builtin import MODEL_DIR

    if not (MODEL_DIR / "model_index.json").is_file():
        raise PrerequisiteError(
            "the built-in model's weights are missing from this installation; install the package "
            "again, or set model.name to a folder or a Hub id"
        )
    return MODEL_DIR


def _single_file(model: ModelSettings, path: Path) -> Source:
    if model.config is None:
        raise RequestError(
            f"model.name={model.name!r}: a single file does not say which pipeline it is; set "
            "model.config to a folder or Hub id with that pipeline's configs, such as "
            "stabilityai/stable-diffusion-xl-base-1.0 for SDXL"
        )
    folder = Path(model.config).expanduser()
    if folder.is_dir():
        _require_index(model.config, folder, "model.config")
        return Source(model.name, folder, file=path)
    if not _HUB_ID.fullmatch(model.config):
        raise RequestError(f"model.config={model.config!r}: neither a folder nor a Hub id")
    cached = _cached(model.config, revision_of(model, model.config), "model.config")
    return Source(model.name, cached, file=path, repo=model.config)


def _require_index(name: str, folder: Path, key: str = "model.name") -> None:
    if not (folder / "model_index.json").is_file():
        inside = sorted(entry.parent.name for entry in folder.glob("*/model_index.json"))
        raise RequestError(
            f"{key}={name!r}: the folder holds no model_index.json, so it is no diffusers pipeline"
            + (f"; one is in {inside[0]!r}" if inside else "")
        )


def _cached(
    repo: str, revision: str | None, key: str, file: str = "model_index.json"
) -> Path | None:
    """The snapshot in the Hub's cache, or ``None`` if it is still to be downloaded."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, file, revision=revision)
    if isinstance(found, str):
        return Path(found).parent
    if found is not None:
        raise RequestError(
            f"{key}={repo!r}: the Hub's repository holds no {file}, so it is no diffusers "
            + ("pipeline" if file == "model_index.json" else "model")
        )
    if is_offline():
        at = f" at revision {revision!r}" if revision else ""
        named = f"{repo} --revision {revision}" if revision else repo
        raise PrerequisiteError(
            f"{key}={repo!r}: no such folder, and not in the Hub's cache{at} while HF_HUB_OFFLINE "
            f"is set; unset it, or run `hf download {named}` where there is a network"
        )
    return None


def not_fetched(key: str, name: str, error: BaseException) -> PrerequisiteError:
    """What a Hub id cannot be had for, and what helps.

    Args:
        key: The setting that names it.
        name: The Hub id.
        error: What a library raised; it may have wrapped the Hub's own error.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error.__cause__, HfHubHTTPError):
        error = error.__cause__
    # The Hub's errors are OSErrors with long texts; their first line says what happened.
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    reason, help_ = f"could not be fetched from the Hub: {first}", "check the name and the network"
    if isinstance(error, GatedRepoError):
        reason = "this model is gated"
        help_ = "ask for access on its page at the Hub, then run `hf auth login` or set HF_TOKEN"
    elif isinstance(error, RepositoryNotFoundError):
        reason = "the Hub shows no such model"
        help_ = "check the name; a private one needs `hf auth login` or HF_TOKEN"
    elif isinstance(error, RevisionNotFoundError):
        reason = "it has no such revision at the Hub"
        help_ = "check model.revision: a branch, a tag or a whole commit"
    return PrerequisiteError(f"{key}={name!r}: {reason} ({help_})")
